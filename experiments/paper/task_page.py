"""A page of one of the EBFT paper's tasks: the table, claims, costs, and a picture of accuracy over cross-entropy."""

from collections.abc import Sequence
from typing import Any

from ebm_jax.records import BASE
from ebm_jax.reporting.finetuning import Compared
from ebm_jax.reporting.intervals import Estimate
from experiments.paper.command import deliver
from experiments.paper.comparisons import (
    claims,
    colour,
    costs_table,
    estimate,
    measures_table,
    missing,
    notes,
    request,
)
from experiments.paper.pictures import Draw, Picture, legend
from experiments.paper.published_ebft import Measure

CE = ("nll", "scored")
WARM_START = "start"
"""What the model is called that warm runs begin with."""


def task_page(argv: list[str], about: str, name: str, title: str, measures: Sequence[Measure]) -> int:
    """The script of a task; its config has the script's name."""
    asked = request(argv, about, f"configs/ebft/{name.removeprefix('ebft_')}.py")
    if asked is None:
        return 0
    blocks, panels = [], []
    for number, compared in enumerate(asked.compared):
        start = WARM_START if number else BASE
        blocks += [measures_table(compared, measures, start), claims(compared, start, measures), costs_table(compared)]
        blocks.append(missing(compared, measures))
        panels.append(_panel(compared, measures, start))
    picture = Picture(panels, columns=2, width=5.8, height=3.7)
    deliver(asked.out, name, title, [*blocks, notes(asked.compared)], {name: picture})
    return 0


def _panel(compared: Compared, measures: Sequence[Measure], start: str) -> Draw:
    """Accuracy over cross-entropy: the first measure that was taken of two methods, or else the comparison's own task."""
    own = [Measure(f"held out, {task}", ("tasks", task, "best_of", "1")) for task in compared.tasks]
    several = lambda measure: sum(estimate(m, measure) is not None for m in compared.methods) > 1
    shown = next((m for m in (*(m for m in measures if m.tasks), *own) if several(m)), None)
    ce = next(m for m in measures if m.figure == CE)

    def draw(axes: Any) -> None:
        axes.set(title=compared.name, xlabel=f"{ce.title} (nats)", ylabel=shown.title if shown else "")
        names = [m.name for m in compared.methods]
        for m in compared.methods:
            y = estimate(m, shown) if shown else None
            if y is not None:
                _point(axes, m.mean(*CE), y, colour(m.name, names), start if m.name == BASE else m.name)
        if shown and start == BASE:
            _published(axes, ce, shown, names)
        legend(axes, loc="upper left", bbox_to_anchor=(1, 1))

    return draw


def _point(axes: Any, x: Estimate, y: Estimate, hue: str, label: str) -> None:
    axes.plot(x.value, y.value, "o", color=hue, ms=7, label=label)
    if x.interval is not None:
        axes.hlines(y.value, *x.interval, color=hue, lw=1.1, alpha=0.7)
    if y.interval is not None:
        axes.vlines(x.value, *y.interval, color=hue, lw=1.1, alpha=0.7)


def _published(axes: Any, ce: Measure, shown: Measure, names: Sequence[str]) -> None:
    for name in (name for name in ce.published if name in shown.published):
        x, y = ce.published[name].value, shown.published[name].value
        axes.plot(x, y, "D", color="white", mec=colour(name, names), mew=1.4, ms=6, label=f"{name}, published")
