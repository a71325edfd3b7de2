"""Feature-matching loss by completion length, 1 to 64 tokens, of models that were fine-tuned in several ways.

usage: python -m experiments.paper.ebft_matching FOLDER [FOLDER ...] [other=base] [out=runs/paper]

  FOLDER   folders of comparisons, as python -m experiments.finetune configs/ebft/stories.py makes them
  other=   the method that differences are taken from

Reads comparison.json, finetuned.json and anchors.npz. The loss is the U-statistic of features that are not whitened, at
temperature 1, on the same anchors for all; beside it the paper's own metric, of whitened features (eq. 53). Differences have
95 percent intervals over rows, anchors paired. The paper's figures could not be obtained; it says that EBFT has the lowest
loss at every length and that RLVR raises it above the base model's. Writes OUT/ebft_matching.md and .svg.
"""

import sys
from typing import Any

from ebm_jax import cli
from ebm_jax.records import BASE
from ebm_jax.reporting.finetuning import Compared
from ebm_jax.reporting.numbers import integer, signed
from ebm_jax.reporting.paired import Difference
from experiments.paper.command import deliver
from experiments.paper.comparisons import claims, colour, notes, request
from experiments.paper.pictures import Draw, Picture
from experiments.paper.tables import between, number_of, section

LOSSES = {"matching_loss": "feature-matching loss", "whitened_matching_loss": "of whitened features (eq. 53)"}


def main(argv: list[str]) -> int:
    asked = request(argv, str(__doc__), "configs/ebft/stories.py", ("other",))
    if asked is None:
        return 0
    blocks: list[str] = []
    panels: list[Draw] = []
    for compared in asked.compared:
        other = asked.options.get("other") or compared.methods[0].name
        compared.method(other)
        blocks += [_losses(compared, name) for name in LOSSES]
        blocks += [_differences(compared, other), claims(compared)]
        panels += [_loss_panel(compared), _difference_panel(compared, other)]
    picture = Picture(panels, columns=2, width=5.2, height=3.7)
    title = "Feature-matching loss by completion length"
    deliver(asked.out, "ebft_matching", title, [*blocks, notes(asked.compared)], {"ebft_matching": picture})
    return 0


def _losses(compared: Compared, name: str) -> str:
    lengths = [str(n) for n in compared.lengths]
    rows = [[m.name, *(number_of(m.mean(name, n), 4) for n in lengths)] for m in compared.methods]
    anchors = integer(compared.methods[0].records[0]["anchors"])
    temperature = compared.config["matching"]["temperature"]
    told = f"{anchors} anchors, temperature {temperature:g}." if name == "matching_loss" else ""
    return section(f"{compared.name}: {LOSSES[name]}", ["tokens", *lengths], rows, told)


def _differences(compared: Compared, other: str) -> str:
    names = [m.name for m in compared.methods if m.name != other]
    rows = []
    for n in compared.lengths:
        rows.append([str(n), *(difference(compared.matching_difference(name, other, n)) for name in names)])
    rows.append(["mean of these", *(difference(compared.matching_difference(name, other)) for name in names)])
    rows.append(["cross-entropy", *(difference(compared.nll_difference(name, other)) for name in names)])
    head = [f"less {other}", *names]
    return section(f"{compared.name}: differences, paired", head, rows) if names else ""


def difference(found: Difference) -> str:
    """``−0.0123 [−0.0150, −0.0096]``."""
    return signed(found.value, 4) + between(found.interval, 4)


def _loss_panel(compared: Compared) -> Draw:
    def draw(axes: Any) -> None:
        names = [m.name for m in compared.methods]
        for m in compared.methods:
            found = [m.mean("matching_loss", str(n)) for n in compared.lengths]
            style = {"color": colour(m.name, names), "dashes": (4, 3) if m.name == BASE else (None, None)}
            axes.plot(compared.lengths, [one.value for one in found], marker="o", ms=4, label=m.name, **style)
        _tokens(axes, compared.lengths)
        axes.set(title=compared.name, ylabel=LOSSES["matching_loss"])
        axes.legend(frameon=False, fontsize=8.5)

    return draw


def _difference_panel(compared: Compared, other: str) -> Draw:
    def draw(axes: Any) -> None:
        names = [m.name for m in compared.methods]
        compare = [name for name in names if name != other]
        for place, name in enumerate(compare):
            shift = 1 + 0.05 * (place - (len(compare) - 1) / 2)
            for n in compared.lengths:
                found, hue = compared.matching_difference(name, other, n), colour(name, names)
                if found.interval is not None:
                    axes.vlines(n * shift, *found.interval, color=hue, lw=1.3)
                axes.plot(
                    n * shift, found.value, "o", ms=4, color=hue, label=name if n == compared.lengths[0] else None
                )
        axes.axhline(0, color="#62656c", lw=0.9)
        _tokens(axes, compared.lengths)
        axes.set(title=f"less {other}, 95 % intervals", ylabel="difference")

    return draw


def _tokens(axes: Any, lengths: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [str(n) for n in lengths])
    axes.minorticks_off()
    axes.set_xlabel("tokens of a completion")


if __name__ == "__main__":
    sys.exit(cli.main(main))
