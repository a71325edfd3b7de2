"""How much EBFT gains on models of several sizes, beside figure 8 of the EBFT paper.

usage: python -m experiments.paper.ebft_scale FOLDER [FOLDER ...] [measure=humaneval] [method=ebft] [out=runs/paper]

  FOLDER     a comparison of each size, as python -m experiments.finetune configs/ebft/scale_3b.py makes it
  measure=   humaneval (greedy), a task of the comparisons, ce, or matching:TOKENS, the loss of completions so long
  method=    the method that is set beside the base model

Reads the records of the comparisons and the benchmarks in their runs' folders. Writes OUT/ebft_scale.md and .svg.
"""

import sys
from typing import Any, NamedTuple

from ebm_jax import cli
from ebm_jax.errors import UserError
from ebm_jax.records import BASE
from ebm_jax.reporting.finetuning import Compared
from ebm_jax.reporting.intervals import Estimate
from ebm_jax.reporting.numbers import MISSING, si, signed
from experiments.paper.command import deliver
from experiments.paper.comparisons import colour, estimate, missing, notes, request
from experiments.paper.pictures import PUBLISHED, Picture, legend
from experiments.paper.published_ebft import EBFT, SCALE, Measure, Size
from experiments.paper.tables import number_of, section

HUMANEVAL = Measure("HumanEval, greedy", ("pass@1",), ("humaneval",))


class Point(NamedTuple):
    """One size: the base model and the tuned one."""

    name: str
    parameters: float
    base: Estimate | None
    tuned: Estimate | None
    published: Size | None


def main(argv: list[str]) -> int:
    asked = request(argv, str(__doc__), "configs/ebft/scale_3b.py", ("measure", "method"))
    if asked is None:
        return 0
    method = asked.options.get("method", EBFT)
    measure = _measure(asked.options.get("measure", "humaneval"), asked.compared)
    points = sorted((_point(c, measure, method) for c in asked.compared), key=lambda point: point.parameters)
    rows = []
    for p in points:
        gain = p.tuned.value - p.base.value if p.tuned and p.base else None
        ours = [number_of(p.base, 3), number_of(p.tuned, 3), MISSING if gain is None else signed(gain, 3)]
        theirs = p.published
        given = [f"{theirs.base:.2f}", f"{theirs.ebft:.2f}", signed(theirs.ebft - theirs.base, 2)] if theirs else []
        rows.append([p.name, _billions(p.parameters), *ours, *(given or [MISSING] * 3)])
    head = ["", "parameters", BASE, method, "gain", "published base", "published EBFT", "gain"]
    blocks = [section(f"{measure.title}, by size", head, rows), *(missing(c, [measure]) for c in asked.compared)]
    picture = Picture([lambda axes: _draw(axes, points, measure, method)], width=5.6, height=3.9)
    deliver(asked.out, "ebft_scale", "EBFT by size", [*blocks, notes(asked.compared)], {"ebft_scale": picture})
    return 0


def _measure(name: str, compared: list[Compared]) -> Measure:
    kind, _, length = name.partition(":")
    if name == "humaneval":
        return HUMANEVAL
    if name == "ce":
        return Measure("cross-entropy, scored tokens", ("nll", "scored"))
    if kind == "matching" and all(length in map(str, c.lengths) for c in compared):
        return Measure(f"feature-matching loss, {length} tokens", ("matching_loss", length))
    if all(name in c.tasks for c in compared):
        return Measure(f"held out, {name}", ("tasks", name, "best_of", "1"))
    tasks = ", ".join(sorted({task for c in compared for task in c.tasks}))
    raise UserError(f"measure={name} is not humaneval, ce, matching:TOKENS, or a task of all the comparisons: {tasks}")


def _point(compared: Compared, measure: Measure, method: str) -> Point:
    tuned, names = compared.method(method), [m.name for m in compared.methods]
    base = estimate(compared.method(BASE), measure) if BASE in names else None
    parameters = float(tuned.records[0]["parameters"])
    near = [size for size in SCALE if abs(parameters / size.parameters - 1) < 0.05]
    published = near[0] if near and measure is HUMANEVAL else None
    return Point(published.title if published else compared.name, parameters, base, estimate(tuned, measure), published)


def _billions(parameters: float) -> str:
    return si(parameters).replace("G", "B")


def _draw(axes: Any, points: list[Point], measure: Measure, method: str) -> None:
    for name, hue in ((BASE, colour(BASE, [])), (method, colour(method, [method]))):
        found = [(p.parameters, p.base if name == BASE else p.tuned) for p in points]
        known = [(x, one) for x, one in found if one is not None]
        axes.plot([x for x, _ in known], [one.value for _, one in known], "-o", color=hue, label=name)
        for x, one in known:
            if one.interval is not None:
                axes.vlines(x, *one.interval, color=hue, lw=1.1, alpha=0.7)
    if measure is HUMANEVAL:
        sizes = [size.parameters for size in SCALE]
        style = {"ls": (0, (4, 3)), "color": PUBLISHED, "ms": 5, "mec": "white", "mew": 0.8, "lw": 1.2}
        axes.plot(sizes, [size.base for size in SCALE], marker="s", label="published base", **style)
        axes.plot(sizes, [size.ebft for size in SCALE], marker="D", label="published EBFT", **style)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    ticks = sorted({p.parameters for p in points} | {s.parameters for s in SCALE if measure is HUMANEVAL})
    apart = [x for i, x in enumerate(ticks) if i == 0 or x / ticks[i - 1] > 1.2]
    axes.set_xticks(apart, [_billions(x) for x in apart])
    axes.minorticks_off()
    axes.set(xlabel="parameters", ylabel=measure.title)
    legend(axes, loc="best")


if __name__ == "__main__":
    sys.exit(cli.main(main))
