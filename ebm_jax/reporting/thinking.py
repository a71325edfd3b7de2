"""What thinking gains: more inner steps, and choosing among candidates by their energy (EBT section 4.1.2).

All gains are against *no thinking*, one candidate and the fewest inner steps that training took, as in the paper:

    gain in perplexity = 100 (1 - perplexity / perplexity without thinking)
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ebm_jax.reporting import markup
from ebm_jax.reporting.figures import INK, MUTED, PAPER, colour, key, marker, plot
from ebm_jax.reporting.markup import Html, Row
from ebm_jax.reporting.numbers import fixed, integer, known, signed
from ebm_jax.reporting.runs import Run, split_title, text_title


class Thought(NamedTuple):
    """One way to think and what came of it."""

    candidates: int
    steps: int
    forward_passes: int
    bits_per_byte: float
    perplexity: float


def section(runs: Sequence[Run]) -> Html:
    """The runs of which candidates were compared; without any, the text is left to the inner steps."""
    shown = [(place, run) for place, run in enumerate(runs) if any(verified(run, name) for name in run.splits)]
    parts = [_run(run, place, alone=len(shown) == 1) for place, run in shown]
    return markup.section("thinking", "Thinking", *parts) if any(parts) else Html()


def longer(run: Run, split: str) -> list[Thought]:
    """One candidate with 1, 2, ... inner steps."""
    columns = [run.split_curve(split, name) for name in ("forward_passes", "bits_per_byte", "perplexity")]
    return [Thought(1, step, *values) for step, values in enumerate(zip(*columns, strict=False), start=1)]


def verified(run: Run, split: str) -> list[Thought]:
    """Several candidates of which the one with the lowest energy was kept."""
    entries: list[dict[str, Any]] = (run.evaluation.get("verification") or {}).get(split) or []
    found = [Thought(*(entry.get(name, float("nan")) for name in Thought._fields)) for entry in entries]
    return [t for t in found if t.candidates > 1 and known(t.bits_per_byte) and known(t.perplexity)]


def without_thinking(run: Run, split: str) -> Thought | None:
    """One candidate, the fewest steps of training."""
    return next((thought for thought in longer(run, split) if thought.steps == run.fewest_steps), None)


def gain(thought: Thought, base: Thought) -> float:
    """Percent by which the perplexity falls."""
    return 100 * (1 - thought.perplexity / base.perplexity)


def _run(run: Run, place: int, alone: bool) -> Html:
    names = [name for name in run.splits if without_thinking(run, name) and verified(run, name)]
    if not names:
        return Html()
    panels = [_panel(run, place, name) for name in names]
    caption = (
        "Perplexity gained over no thinking, against the forward passes spent: by more inner steps of one candidate"
        " (line), and by keeping the one of G candidates that has the lowest energy (squares); below zero, thinking hurts."
    )
    entries: list[tuple[object, int | None, str]] = [("more inner steps", place, "line")]
    entries += [("lowest energy of G candidates", None, "dotted")]
    head = Html() if alone else markup.tag("h3", run.label)
    figure = markup.figure(caption, *panels, key=key(entries))
    return markup.join([head, _findings(run, names), figure, _table(run, names)])


def _findings(run: Run, names: Sequence[str]) -> Html:
    words = []
    for name in names:
        base = without_thinking(run, name)
        assert base is not None
        more = [thought for thought in longer(run, name) if thought.steps > base.steps]
        ways = []
        if more:
            best = max(more, key=lambda t: gain(t, base))
            ways.append((gain(best, base), f"with {best.steps} inner steps instead of {base.steps}"))
        best = max(verified(run, name), key=lambda t: gain(t, base))
        how = f"by choosing the lowest energy of {best.candidates} candidates after {best.steps} steps each"
        ways.append((gain(best, base), how))
        words.append(f"On {text_title(name)}, the perplexity of {run.label} {_changes(ways)}.")
    return markup.paragraph(" ".join(words))


def _changes(ways: Sequence[tuple[float, str]]) -> str:
    """``falls by 3.1 % with ..., and 4.0 % by ...``."""
    words, said = [], ""
    for percent, how in ways:
        verb = "falls" if percent >= 0.05 else "rises" if percent <= -0.05 else "stays"
        amount = "where it was" if verb == "stays" else f"by {fixed(abs(percent), 1)} %"
        words.append(f"{amount} {how}" if verb == said else f"{verb} {amount} {how}")
        said = verb
    return ", and ".join(words)


def _panel(run: Run, place: int, name: str) -> Html:
    base, more, chosen = without_thinking(run, name), longer(run, name), verified(run, name)
    assert base is not None

    def draw(axes) -> None:
        gains = [gain(t, base) for t in (*more, *chosen)]
        axes.axhline(0, color=MUTED, lw=0.9, zorder=1)
        style = {"color": colour(place), "marker": marker(place), "markersize": 4.5}
        axes.plot([t.forward_passes for t in more], [gain(t, base) for t in more], zorder=3, **style)
        for steps in sorted({t.steps for t in chosen}):
            group = sorted((t for t in chosen if t.steps == steps), key=lambda t: t.forward_passes)
            x, y = [t.forward_passes for t in group], [gain(t, base) for t in group]
            line = {"marker": "s", "markersize": 6.5, "mfc": PAPER, "mec": INK, "mew": 1.4}
            axes.plot(x, y, color=MUTED, lw=1.5, dashes=(1, 1.6), zorder=4, **line)
            for thought, height in zip(group, y, strict=True):
                label = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center", "fontsize": 8.5}
                axes.annotate(f"G={thought.candidates}", (thought.forward_passes, height), color=INK, **label)
        # A bad first step, before any refinement, must not press the rest flat.
        later = [gain(t, base) for t in (*more, *chosen) if t.candidates > 1 or t.steps >= base.steps]
        reach = max(max(abs(g) for g in later), 0.5)
        bottom = max(min(gains), min(*later, -0.7 * reach))
        axes.set_ylim(bottom - 0.12 * reach, max(max(gains), 0.0) + 0.28 * reach)
        axes.set_xscale("log", base=2)
        passes = [t.forward_passes for t in (*more, *chosen)]
        axes.set_xlim(min(passes) / 1.15, max(passes) * 1.25)
        _pass_axis(axes, max(passes))
        axes.set_xlabel("forward passes per token")
        axes.set_ylabel("perplexity gained, %")

    title = split_title(name)
    about = f"Perplexity gained by thinking on {title} text against forward passes"
    return markup.panel(title[0].upper() + title[1:], plot(f"thinking-{place}-{name}", about, draw))


def _pass_axis(axes, most: int) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.xaxis.set_major_locator(FixedLocator([2**k for k in range(int(most).bit_length() + 1)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))


def _table(run: Run, names: Sequence[str]) -> Html:
    head = ["", "forward passes"]
    for name in names:
        head += [f"{name}, bits/byte", "bits/byte gained", "perplexity gained, %"]
    ways = sorted({(t.candidates, t.steps, t.forward_passes) for name in names for t in verified(run, name)})
    most = max(len(longer(run, name)) for name in names)
    steps = [k for k in range(run.fewest_steps, most + 1) if _worth_showing(k, run, most)]
    rows = [Row("one candidate")] + [_row(run, names, 1, k, None, f"{k} inner steps") for k in steps]
    rows.append(Row("lowest energy of G candidates"))
    rows += [_row(run, names, g, k, n, f"G = {g}, {k} inner steps") for g, k, n in ways]
    caption = f"Gains are against no thinking: one candidate, {run.fewest_steps} inner steps."
    return markup.table(head, rows, caption)


def _worth_showing(step: int, run: Run, most: int) -> bool:
    return step <= run.trained_steps + 1 or step == most or step & (step - 1) == 0


def _row(run: Run, names: Sequence[str], candidates: int, steps: int, passes: int | None, label: str) -> Row:
    cells: list[object] = []
    for name in names:
        base = without_thinking(run, name)
        pool = longer(run, name) if candidates == 1 else verified(run, name)
        found = next((t for t in pool if (t.candidates, t.steps) == (candidates, steps)), None)
        if base is None or found is None:
            cells += ["", "", ""]
            continue
        passes = passes or found.forward_passes
        is_base = found == base
        cells.append(fixed(found.bits_per_byte))
        cells.append("" if is_base else signed(base.bits_per_byte - found.bits_per_byte, 3))
        cells.append("" if is_base else signed(gain(found, base), 1))
    trained = candidates == 1 and steps == run.fewest_steps
    name_cell = markup.join([label, " ", markup.muted("no thinking")]) if trained else label
    return Row(name_cell, [integer(passes), *cells])
