"""Reward over cost for every way of decoding, and the judge's reward over the guiding one: where more search stops to help.

usage: python -m experiments.paper.ebd_cost FOLDER [FOLDER ...] [out=runs/paper]

  FOLDER   folders of studies of the same prompts at several budgets, as
           for tokens in 250 500 1000 2000; do
             python -m experiments.decode configs/ebd/stories.py budget.tokens=$tokens workdir=runs/ebd_stories/$tokens; done

Reads study.json and decoded.json. The left picture has the guiding reward, the middle one the judge's, which guided nothing,
over generated tokens; the right one the judge's over the guiding one, point by point of a method: a curve that bends down is
over-optimised. Writes OUT/ebd_cost.md and .svg.
"""

import sys
from pathlib import Path
from typing import Any

from ebm_jax import cli
from ebm_jax.reporting.decoding import Decoding, read_study
from experiments.paper.command import OUT, arguments, deliver
from experiments.paper.pictures import LINES, SHAPES, Draw, Picture, log_ticks
from experiments.paper.tables import section

Point = tuple[float, float, float, float]
"""Tokens, reward calls, guiding reward and the judge's."""


def main(argv: list[str]) -> int:
    parts = arguments(argv, str(__doc__), "no study given: name the folders of studies, as runs/ebd_stories/500")
    if parts is None:
        return 0
    curves: dict[str, list[Point]] = {}
    for folder in parts.positionals:
        for method in read_study(folder).methods:
            curves.setdefault(method.name, []).append(_point(method))
    curves = {name: sorted(points) for name, points in curves.items()}
    rows = [
        [name, f"{tokens:.0f}", f"{calls:.1f}", f"{reward:.3f}", f"{judge:.3f}"]
        for name, points in curves.items()
        for tokens, calls, reward, judge in points
    ]
    table = section("Rewards by cost", ["", "tokens", "reward calls", "reward", "judge"], rows)
    panels = [
        _over(curves, 0, 2, "guiding reward"),
        _over(curves, 0, 3, "judge's reward"),
        _over(curves, 2, 3, "judge's reward"),
    ]
    picture = Picture(panels, width=4.6, height=3.8, shared_legend=True)
    deliver(Path(parts.options.get("out") or OUT), "ebd_cost", "Reward by cost", [table], {"ebd_cost": picture})
    return 0


def _point(method: Decoding) -> Point:
    judge = method.mean("judge") if method.knows("judge") else float("nan")
    return method.mean("tokens"), method.mean("reward_calls"), method.mean("reward"), judge


def _over(curves: dict[str, list[Point]], x: int, y: int, label: str) -> Draw:
    def draw(axes: Any) -> None:
        for place, (name, points) in enumerate(curves.items()):
            style = {"color": LINES[place % len(LINES)], "marker": SHAPES[place % len(SHAPES)], "label": name}
            axes.plot([p[x] for p in points], [p[y] for p in points], **style)
        axes.set(xlabel="tokens of a prompt" if x == 0 else "guiding reward", ylabel=label)
        if x == 0:
            axes.set_xscale("log")
            log_ticks(axes.xaxis)

    return draw


if __name__ == "__main__":
    sys.exit(cli.main(main))
