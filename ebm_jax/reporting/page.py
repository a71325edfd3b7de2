"""The whole report as one file: no scripts, nothing loaded from elsewhere."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ebm_jax.errors import UserError
from ebm_jax.reporting import energy_text, headline, inner_steps, loss_curves, provenance, thinking
from ebm_jax.reporting.markup import Html, join, tag, text
from ebm_jax.reporting.runs import Run, read_runs
from ebm_jax.reporting.theme import style_sheet

SECTIONS = (
    ("training", "Training", loss_curves.section),
    ("steps", "Inner steps", inner_steps.section),
    ("thinking", "Thinking", thinking.section),
    ("energy", "Energy", energy_text.section),
    ("made", "How it was made", provenance.section),
)
"""Anchor, name in the contents, and what makes it; those without anything to show are left out."""


def write_report(folders: Iterable[Path | str], out: Path | str) -> Path:
    """Writes the report on these runs to an HTML file and returns its path.

    Raises ``UserError`` for folders without records, for damaged ones, and where matplotlib is missing.
    """
    out = Path(out)
    if out.is_dir():
        raise UserError(f"out={out} is a folder; name a file, as {out / 'report.html'}")
    html = page(read_runs(folders))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html, encoding="utf-8")
    return out


def page(runs: Sequence[Run]) -> str:
    """The report's HTML."""
    title = headline.title(runs)
    sections = [(anchor, name, make(runs)) for anchor, name, make in SECTIONS]
    shown = [(anchor, name, html) for anchor, name, html in sections if html]
    contents = tag("nav", *(tag("a", name, href=f"#{anchor}") for anchor, name, _ in shown), aria_label="Contents")
    header = tag("header", tag("h1", title), headline.lead(runs), contents)
    main = tag("main", headline.section(runs), *(html for _, _, html in shown))
    footer = tag("footer", "Made by ebm_jax from run.json, metrics.jsonl, result.json and evaluation.json alone.")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{Html(style_sheet())}</style>\n</head>\n"
        f"<body>\n{join([header, main, footer], chr(10))}\n</body>\n</html>\n"
    )
