"""What was trained, on what, at what cost, and how well it does: cards, one table, and the same table as plain text."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ebm_jax.reporting import numbers
from ebm_jax.reporting.markup import Html, Row, join, muted, table, tag
from ebm_jax.reporting.numbers import MISSING, duration, fixed, integer, known, ratio, si
from ebm_jax.reporting.runs import Run, bigram, read_runs, split_names, split_title
from ebm_jax.reporting.theme import SERIES_LIGHT

SOURCES = {
    "stdlib": "the source code of the Python standard library",
    "stdlib-topics": "the English of Python's help topics",
}
"""Corpora in words; any other source stands for itself."""

BIGRAM = "byte bigram"


class _Figure(NamedTuple):
    """One row of the table: a number of each run, and whether to compare it with Transformer++."""

    name: str
    value: Callable[[Run], float | None]
    show: Callable[[float | None], str]
    compared: bool = False


_SIZE = (
    _Figure("parameters", lambda run: run.parameters, integer),
    _Figure("without vocabulary matrices", lambda run: run.evaluation.get("network_parameters"), integer),
    _Figure("inner steps in training, at most", lambda run: run.trained_steps if run.is_ebt else None, integer),
)
_COST = (
    _Figure("updates", lambda run: run.steps, integer),
    _Figure("tokens", lambda run: run.tokens, integer),
    _Figure("FLOPs, counted through all loops", lambda run: run.flops, lambda x: si(x, "FLOP"), True),
    _Figure("FLOPs by the paper’s rule", lambda run: run.flops_by_rule("paper"), lambda x: si(x, "FLOP"), True),
    _Figure("FLOPs by the corrected rule", lambda run: run.flops_by_rule("corrected"), lambda x: si(x, "FLOP"), True),
    _Figure("seconds of training steps", lambda run: run.training_seconds, lambda x: fixed(x, 1), True),
    _Figure("tokens per second", lambda run: run.tokens_per_second, integer, True),
    _Figure("utilisation (MFU), %", lambda run: run.mfu and 100 * run.mfu, lambda x: fixed(x, 1)),
)


def section(runs: Sequence[Run]) -> Html:
    """The cards and the table."""
    return join([_cards(runs), _table(runs)])


def title(runs: Sequence[Run]) -> str:
    """What the page is about."""
    ours, others = ([run.label for run in runs if run.is_ebt is kind] for kind in (True, False))
    if ours and others:
        what = "Energy-Based Transformers" if len(ours) > 1 else "An Energy-Based Transformer"
        return f"{what} beside {numbers.enumeration(others)}"
    return f"{numbers.enumeration(ours or others)}: a report"


def lead(runs: Sequence[Run]) -> Html:
    """One paragraph: models, corpus, device, time."""
    count = ("One model was", "Two models were", "Three models were", "Four models were")
    models = count[len(runs) - 1] if len(runs) <= len(count) else f"{len(runs)} models were"
    words = [f"{models} trained"]
    if corpora := dict.fromkeys(name for run in runs if (name := corpus(run))):
        words.append(f"on {numbers.enumeration(list(corpora))}")
    if devices := dict.fromkeys(text for run in runs if (text := device(run))):
        words.append(f"with {numbers.enumeration(list(devices))}")
    seconds = [run.training_seconds for run in runs]
    if all(known(value) for value in seconds):
        total = duration(sum(value or 0 for value in seconds))
        words.append(f"in {total}" + (" together" if len(runs) > 1 else ""))
    return tag("p", " ".join(words) + ".", *_sizes_of_data(runs), class_="lead")


def corpus(run: Run) -> str | None:
    """The training text in words."""
    source = (run.evaluation.get("data") or {}).get("source") or (run.config.get("data") or {}).get("source")
    return SOURCES.get(str(source), source)


def device(run: Run) -> str | None:
    """Number and kind of devices of the last launch, as ``2 TPU v4 chips``."""
    found = run.launches[-1].get("devices") if run.launches else None
    if not isinstance(found, dict) or not found.get("kind"):
        return None
    if found.get("platform") == "cpu":
        cores = (run.launches[-1].get("host") or {}).get("cpus")
        return f"a CPU of {numbers.plural(cores, 'core')}" if cores else "a CPU"
    kind, count = found["kind"], found.get("count") or 1
    return f"one {kind}" if count == 1 else f"{count} × {kind}"


def summary_table(folders: Iterable[Path | str]) -> str:
    """Sizes, costs and results of runs as a table in plain text; raises ``UserError`` as ``read_runs`` does."""
    runs = read_runs(folders)
    names = split_names(runs) or ["validation"]
    head = ["", *(run.label for run in runs)] + ([BIGRAM] if _with_bigram(runs) else [])
    rows: list[list[str]] = []
    for figure in (*_SIZE, *_COST):
        if any(known(figure.value(run)) for run in runs):
            rows.append([figure.name, *(figure.show(figure.value(run)) for run in runs)])
    for name in names:
        cells = [fixed(run.bits_per_byte(name)) for run in runs]
        rows.append([f"bits/byte, {split_title(name)}", *cells, *_bigram_cell(runs, name)])
    rows = [[*row, *[""] * (len(head) - len(row))] for row in rows]
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    lines = [_line(line, widths) for line in [head, *rows]]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([cells[0].ljust(widths[0]), *rest])


def _cards(runs: Sequence[Run]) -> Html:
    return tag("div", *(_card(runs, place) for place in range(len(runs))), class_="cards")


def _card(runs: Sequence[Run], place: int) -> Html:
    run = runs[place]
    own, *others = split_names(runs) or ["validation"]
    bits, baseline = run.bits_per_byte(own), bigram(runs, own)
    lines = [tag("b", run.label), tag("div", fixed(bits), " ", tag("small", "bits/byte"), class_="big")]
    lines.append(tag("div", f"{split_title(own)} text"))
    if known(bits) and known(baseline):
        than = "fewer" if bits <= baseline else "more"
        lines.append(tag("div", f"{fixed(abs(1 - bits / baseline) * 100, 0)} % {than} than the {BIGRAM}"))
    lines += [tag("div", f"{fixed(run.bits_per_byte(name))} on {split_title(name)}") for name in others]
    return tag("div", *lines, class_="card", style=f"--hue:var(--c{place % len(SERIES_LIGHT)})")


def _table(runs: Sequence[Run]) -> Html:
    feed_forward = next((run for run in runs if not run.is_ebt), None)
    baseline = _with_bigram(runs)
    head = ["", *(_head(run) for run in runs)] + ([BIGRAM] if baseline else [])
    rows: list[Row] = []
    for title_, figures in (("model", _SIZE), ("training", _COST)):
        found = [figure for figure in figures if any(known(figure.value(run)) for run in runs)]
        rows += [Row(title_)] if found else []
        for figure in found:
            cells = [_cell(figure, run, feed_forward) for run in runs]
            rows.append(Row(figure.name, cells + [""] * baseline))
    if names := split_names(runs) or ["validation"]:
        rows.append(Row("bits per byte, with the inner steps of training"))
    for name in names:
        cells = [fixed(run.bits_per_byte(name)) for run in runs]
        rows.append(Row(split_title(name), [*cells, *_bigram_cell(runs, name)], emphasis=True))
    note = ""
    if feed_forward is not None and len(runs) > 1:
        note = (
            f"Small figures with × are multiples of {feed_forward.label}’s. The counted FLOPs include attention and the"
        )
        note += " vocabulary matrices, the two rules do not."
    return table(head, rows, note)


def _head(run: Run) -> object:
    return run.label if run.name == run.label else join([run.label, Html("<br>"), muted(run.name)])


def _cell(figure: _Figure, run: Run, base: Run | None) -> object:
    shown = figure.show(figure.value(run))
    compare = figure.compared and base is not None and run is not base
    factor = ratio(figure.value(run), figure.value(base)) if compare and base is not None else ""
    return join([tag("span", factor, class_="factor"), shown]) if factor else shown


def _with_bigram(runs: Sequence[Run]) -> bool:
    return any(known(bigram(runs, name)) for name in split_names(runs))


def _bigram_cell(runs: Sequence[Run], name: str) -> list[str]:
    return [fixed(bigram(runs, name))] if _with_bigram(runs) else []


def _sizes_of_data(runs: Sequence[Run]) -> list[object]:
    data: dict[str, Any] = next((found for run in runs if (found := run.evaluation.get("data"))), {})
    stats = {name: found for name, found in (data.get("stats") or {}).items() if isinstance(found, dict)}
    train, words = stats.get("train"), []
    if not train:
        return []
    if known(train.get("documents")) and known(train.get("tokens")):
        tokens = f"{si(train['tokens']).replace(MISSING, '')} tokens".replace("\u00a0 ", " ")
        words.append(f"The training split has {numbers.plural(train['documents'], 'document')} and {tokens}")
    passes = [(run.tokens or 0) / train["tokens"] for run in runs if run.tokens and train.get("tokens")]
    if words and passes:
        seen = _spread([run.tokens for run in runs if run.tokens], si)
        words.append(f"{'the model' if len(runs) == 1 else 'each model'} saw {seen} tokens")
        if max(passes) >= 0.01:
            words[-1] += f", {_spread(passes, lambda x: fixed(x, 2))} times the split"
    return [f" {'; '.join(words)}."] if words else []


def _spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    low, high = min(values), max(values)
    return show(low) if high / low < 1.02 else f"{show(low)} to {show(high)}"


def data_note(runs: Sequence[Run]) -> Html:
    """Sizes of every split, as a table; empty where they are not recorded."""
    data: dict[str, Any] = next((found for run in runs if (found := run.evaluation.get("data"))), {})
    stats = {name: found for name, found in (data.get("stats") or {}).items() if isinstance(found, dict)}
    if not stats:
        return Html()
    columns = [
        name for name in ("documents", "tokens", "bytes", "rows") if any(name in found for found in stats.values())
    ]
    rows = [Row(name, [integer(found.get(column)) for column in columns]) for name, found in stats.items()]
    source, digest = data.get("source"), data.get("fingerprint")
    told = [f"Source {source}" if source else "", f"fingerprint {str(digest)[:16]}" if digest else ""]
    return join(
        [tag("h3", "Data ", muted(", ".join(filter(None, told))), class_="apart"), table(["split", *columns], rows)]
    )
