"""Bits per byte against the number of inner steps: what descending the energy is worth, in and out of distribution."""

from collections.abc import Sequence

from ebm_jax.reporting import markup
from ebm_jax.reporting.figures import colour, key, marker, plot, rule, step_axis
from ebm_jax.reporting.markup import Html, Row
from ebm_jax.reporting.numbers import MISSING, fixed, integer, known
from ebm_jax.reporting.runs import OWN_SPLITS, Run, bigram, split_names, split_title, text_title

Placed = tuple[int, Run]
"""A run and its place in the report, which decides its colour."""


def section(runs: Sequence[Run]) -> Html:
    """A panel a split, and the numbers with their forward passes."""
    placed = [(place, run) for place, run in enumerate(runs) if any(_bits(run, name) for name in run.splits)]
    names = [name for name in split_names(runs) if any(_bits(run, name) for _, run in placed)]
    if not any(run.is_ebt for _, run in placed) or not names:
        return Html()
    panels = [_panel(name, placed, runs) for name in names]
    marks = [(run.label, place, "line") for place, run in placed]
    caption = (
        "Each curve shows the text’s bits per byte after every inner step; the ring marks the most steps that training"
        " took, and what lies right of it is thinking longer than trained for."
    )
    figure = markup.figure(caption, *panels, key=key([*marks, ("most steps in training", None, "mark")]))
    return markup.section("steps", "Inner steps", _findings(placed, names), figure, _numbers(placed, names, runs))


def _bits(run: Run, split: str) -> list[float]:
    return run.split_curve(split, "bits_per_byte")


def _panel(name: str, placed: Sequence[Placed], runs: Sequence[Run]) -> Html:
    most = max(len(_bits(run, name)) for _, run in placed)

    def draw(axes) -> None:
        lowest, highest = [], []
        for place, run in placed:
            bits = _bits(run, name)
            if not bits:
                continue
            if not run.is_ebt:
                axes.axhline(bits[-1], color=colour(place), zorder=2)
                continue
            steps = range(1, len(bits) + 1)
            axes.plot(steps, bits, color=colour(place), marker=marker(place), markersize=4.5, zorder=3)
            at = min(run.trained_steps, len(bits))
            ring = {"marker": "o", "markersize": 11, "mfc": "none", "mec": colour(place), "mew": 1.5}
            axes.plot([at], [bits[at - 1]], linestyle="none", zorder=4, **ring)
            lowest.append(min(bits))
            highest.append(max(bits))
        flat = [bits[-1] for _, run in placed if not run.is_ebt and (bits := _bits(run, name))]
        baseline = bigram(runs, name)
        rule(axes, baseline, f"byte bigram, {fixed(baseline, 2)}")
        shown = [*lowest, *highest, *flat, *([baseline] if baseline else [])]
        # The first step may lie far above all others; it must not press them flat.
        top = min(max(shown), 1.6 * max([*lowest, *flat, baseline or 0.0]))
        margin = 0.07 * (top - min(shown)) or 0.1
        axes.set_ylim(min(shown) - margin, top + 1.3 * margin)
        axes.set_ylabel("bits/byte")
        step_axis(axes, most, "inner steps" + (", a forward pass each" if _one_pass_a_step(placed, name) else ""))

    title = split_title(name)
    about = f"Bits per byte of the {title} text against inner steps"
    return markup.panel(title[0].upper() + title[1:], plot(f"steps-{name}", about, draw))


def _one_pass_a_step(placed: Sequence[Placed], name: str) -> bool:
    passes = [run.splits.get(name, {}).get("forward_passes") or [] for _, run in placed if run.is_ebt]
    return all(list(counts) == list(range(1, len(counts) + 1)) for counts in passes)


def _findings(placed: Sequence[Placed], names: Sequence[str]) -> Html:
    own = [name for name in names if name in OWN_SPLITS] or names
    words = []
    for _, run in placed:
        bits = _bits(run, own[0])
        if not run.is_ebt or len(bits) < 2:
            continue
        best = min(range(len(bits)), key=bits.__getitem__)
        words.append(
            f"{run.label} goes from {fixed(bits[0])} bits/byte after its first step to {fixed(bits[best])} at best,"
            f" after step {best + 1}."
        )
    return markup.paragraph(f"On {text_title(own[0])}, {' '.join(words)}") if words else Html()


def _numbers(placed: Sequence[Placed], names: Sequence[str], runs: Sequence[Run]) -> Html:
    ebts = [(place, run) for place, run in placed if run.is_ebt]
    rest = [(place, run) for place, run in placed if not run.is_ebt]
    columns = [(name, run) for name in names for _, run in ebts]
    head = ["inner steps", "forward passes"]
    head += [f"{run.label}, {name}" for name, run in columns]
    most = max(len(_bits(run, name)) for name, run in columns)
    rows = []
    for step in range(1, most + 1):
        passes = {found[step - 1] for name, run in columns if len(found := _passes(run, name)) >= step}
        cells = [" / ".join(integer(count) for count in sorted(passes)) or MISSING]
        cells += [fixed(bits[step - 1]) if len(bits := _bits(run, name)) >= step else MISSING for name, run in columns]
        rows.append(Row(str(step), cells, emphasis=step in {run.trained_steps for _, run in ebts}))
    flat = [
        f"{run.label}, one forward pass: "
        + ", ".join(f"{fixed(_bits(run, n)[-1])} on {n}" for n in names if _bits(run, n))
        for _, run in rest
    ]
    flat += [f"byte bigram: {', '.join(f'{fixed(bigram(runs, n))} on {n}' for n in names)}"] * any(
        known(bigram(runs, n)) for n in names
    )
    caption = "Bits per byte; bold rows are the most steps of training. " + "; ".join(flat) + "."
    return markup.details("All numbers, with forward passes", markup.table(head, rows, caption))


def _passes(run: Run, name: str) -> list[int]:
    return run.splits.get(name, {}).get("forward_passes") or []
