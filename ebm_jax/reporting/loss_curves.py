"""Training as it went: loss over tokens and over FLOPs, and what only an energy model has."""

from collections.abc import Callable, Sequence

import numpy as np

from ebm_jax.reporting import markup
from ebm_jax.reporting.figures import (
    MUTED,
    PAPER,
    colour,
    key,
    log_quantity_axis,
    marker,
    plot,
    quantity_axis,
    rule,
)
from ebm_jax.reporting.markup import Html
from ebm_jax.reporting.numbers import enumeration, fixed, si
from ebm_jax.reporting.runs import Curve, Run, bigram, split_names

POINTS = 500
"""The most points of a drawn line."""
WINDOW = 0.05
"""Share of a curve that its smooth line averages over."""

Axis = Callable[[np.ndarray], np.ndarray]
"""From updates to what is along x."""


def section(runs: Sequence[Run]) -> Html:
    """Loss curves, and for energy models their first step, energy gap and step size."""
    shown = [(place, run) for place, run in enumerate(runs) if len(run.training_curve().value) > 1]
    if not shown:
        return Html()
    return markup.section("training", "Training", _findings(shown), _losses(shown, runs), _energy_figures(shown))


def replays(run: Run) -> bool:
    """Whether some rows of every update come from the replay buffer."""
    algorithm = run.config.get("algorithm") or {}
    return bool((algorithm.get("replay") or {}).get("fraction"))


def smooth(curve: Curve) -> Curve:
    """A centred running mean; the window shrinks towards both ends."""
    half = max(1, round(len(curve.value) * WINDOW / 2))
    sums = np.concatenate([[0.0], np.cumsum(curve.value)])
    place = np.arange(len(curve.value))
    reach = np.minimum(np.minimum(place, len(place) - 1 - place), half)
    low, high = place - reach, place + reach + 1
    return Curve(curve.step, (sums[high] - sums[low]) / (high - low))


def thin(curve: Curve) -> Curve:
    """At most ``POINTS`` points, evenly chosen, both ends among them."""
    if len(curve.step) <= POINTS:
        return curve
    chosen = np.unique(np.linspace(0, len(curve.step) - 1, POINTS).round().astype(int))
    return Curve(curve.step[chosen], curve.value[chosen])


def _findings(shown: Sequence[tuple[int, Run]]) -> Html:
    base = next((run for _, run in shown if not run.is_ebt and run.flops and run.tokens), None)
    if base is None:
        return Html()
    work = [
        f"{run.label} takes {fixed((run.flops / run.tokens) / (base.flops / base.tokens), 1)} times"
        for _, run in shown
        if run is not base and run.flops and run.tokens and base.flops and base.tokens
    ]
    if not work:
        return Html()
    return markup.paragraph(f"For every token that it learns from, {enumeration(work)} the FLOPs of {base.label}.")


def _losses(shown: Sequence[tuple[int, Run]], runs: Sequence[Run]) -> Html:
    top, bottom, cut = _limits(shown, runs)
    own = next(iter(split_names(runs)), "validation")
    with_tokens = all(run.tokens_at(np.array([1.0])) is not None for _, run in shown)

    def draw(axes, along: Callable[[Run], Axis], log: bool) -> None:
        entered, last = [], []
        for place, run in shown:
            x = along(run)
            _draw_run(axes, run, place, x)
            ends = x(_visible(smooth(run.training_curve()), top))
            entered.append(ends[0])
            last.append(ends[-1])
        rule(axes, bigram(runs, own), f"byte bigram, {fixed(bigram(runs, own), 2)}")
        axes.set_ylim(bottom, top)
        axes.set_ylabel("bits/byte")
        if log:
            axes.set_xscale("log")
            axes.set_xlim(min(entered) * 0.8, max(last) * 1.15)
            log_quantity_axis(axes.xaxis)
            axes.set_xlabel("training FLOPs, inner loop included")
        else:
            axes.set_xlim(0, max(last) * 1.02)
            quantity_axis(axes.xaxis)
            axes.set_xlabel("tokens" if with_tokens else "updates")

    about = "Training loss in bits per byte over "
    panels = [
        markup.panel(
            "For the same text",
            plot("loss-tokens", f"{about} tokens", lambda a: draw(a, _tokens if with_tokens else _updates, False)),
        )
    ]
    if all(run.flops_per_step for _, run in shown):
        panels.append(
            markup.panel("For the same work", plot("loss-flops", f"{about} FLOPs", lambda a: draw(a, _flops, True)))
        )
    caption = "Cross-entropy of the last inner step over the text seen"
    caption += " and over the work done" if len(panels) > 1 else ""
    caption += ": faint lines are single updates, firm lines their running mean, marks the validation text"
    caption += f"; values above {fixed(top, 1)} are cut" if cut else ""
    replayed = [run.label for _, run in shown if replays(run)]
    caption += f"; updates of {enumeration(replayed)} also average over replayed rows." if replayed else "."
    return markup.figure(caption, *panels, key=key([(run.label, place, "line") for place, run in shown]))


def _updates(run: Run) -> Axis:
    return lambda steps: steps


def _tokens(run: Run) -> Axis:
    return lambda steps: np.zeros(0) if (counted := run.tokens_at(steps)) is None else counted


def _flops(run: Run) -> Axis:
    return lambda steps: steps * (run.flops_per_step or 0)


def _draw_run(axes, run: Run, place: int, along: Axis) -> None:
    raw, mean = thin(run.training_curve()), thin(smooth(run.training_curve()))
    axes.plot(along(raw.step), raw.value, color=colour(place), lw=0.7, alpha=0.28, zorder=2)
    axes.plot(along(mean.step), mean.value, color=colour(place), zorder=3)
    seen = run.validation_curve()
    if len(seen.step):
        style = {"markersize": 6, "mec": PAPER, "mew": 1.0, "zorder": 4}
        axes.plot(along(seen.step), seen.value, linestyle="none", marker=marker(place), color=colour(place), **style)


def _visible(curve: Curve, top: float) -> np.ndarray:
    """The updates between which the curve has come into view."""
    inside = np.flatnonzero(curve.value <= top)
    return curve.step[[inside[0] if len(inside) else 0, -1]]


def _limits(shown: Sequence[tuple[int, Run]], runs: Sequence[Run]) -> tuple[float, float, bool]:
    """Top and bottom that leave room to tell the ends of the curves apart, and whether the top cuts some."""
    values = [np.concatenate([smooth(run.training_curve()).value, run.validation_curve().value]) for _, run in shown]
    best, most = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    last = max(float(v[-1]) for v in values)
    baseline = next((bigram(runs, name) for name in split_names(runs)), None) or 0.0
    top = min(most, max(1.3 * baseline, 1.7 * best, 1.15 * last))
    low = min(best, baseline) if baseline else best
    return top + 0.02 * (top - low), low - 0.06 * (top - low), most > top


def _energy_figures(shown: Sequence[tuple[int, Run]]) -> Html:
    ebts = [(place, run) for place, run in shown if run.is_ebt and len(run.curve("nll_first").value) > 1]
    if not ebts:
        return Html()

    def axis(axes) -> None:
        axes.set_xlabel("updates")
        axes.set_xlim(left=0)
        quantity_axis(axes.xaxis)

    def refinement(axes) -> None:
        tops = []
        for place, run in ebts:
            for name, dashes in (("nll_first", (3, 2)), ("nll", (1, 0))):
                curve = thin(smooth(run.training_curve(name)))
                axes.plot(curve.step, curve.value, color=colour(place), dashes=dashes)
                tops.append(np.percentile(curve.value[len(curve.value) // 20 :], 90))
        axes.set_ylim(top=max(tops) * 1.1)
        axes.set_ylabel("bits/byte")
        axis(axes)

    def gap(axes) -> None:
        for place, run in ebts:
            curve = thin(smooth(run.curve("energy_gap")))
            axes.plot(curve.step, curve.value, color=colour(place))
        axes.axhline(0, **_zero)
        axes.set_ylabel("energy, first − last")
        axis(axes)

    def size(axes) -> None:
        for place, run in ebts:
            curve = thin(run.curve("step_size"))
            if len(curve.value) and curve.value[0]:
                axes.plot(curve.step, curve.value / curve.value[0], color=colour(place))
        axes.axhline(1, **_zero)
        axes.set_ylabel("α over its first value")
        axis(axes)

    small = {"width": 3.5, "height": 2.7}
    panels = [markup.panel("After the first and the last inner step", plot("first-last", "", refinement, **small))]
    if any(len(run.curve("energy_gap").value) for _, run in ebts):
        panels.append(markup.panel("How far the energy falls", plot("energy-gap", "Energy gap", gap, **small)))
    if any(len(run.curve("step_size").value) for _, run in ebts):
        panels.append(
            markup.panel(
                markup.join(["Step size α ", _step_sizes(ebts)]), plot("step-size", "Step size", size, **small)
            )
        )
    caption = (
        "What lies between the loss after the first inner step (dashed) and after the last (solid) is what descending the"
        " energy is worth; beside it, how far the energy falls on the way, and the step size of the descent."
    )
    return markup.figure(caption, *panels, key=key([(run.label, place, "line") for place, run in ebts]))


def _step_sizes(ebts: Sequence[tuple[int, Run]]) -> Html:
    ends = []
    for _, run in ebts:
        values = run.curve("step_size").value
        if len(values):
            first, last = si(values[0]), si(values[-1])
            ends.append(f"{run.label}: {first}" + (f" → {last}" if first != last else ""))
    return markup.muted(f"({', '.join(ends)})")


_zero = {"color": MUTED, "lw": 0.8, "zorder": 1}
