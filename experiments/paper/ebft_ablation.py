"""Variants of EBFT side by side: what each setting is worth, beside what the EBFT paper says of its ablations.

usage: python -m experiments.paper.ebft_ablation FOLDER [FOLDER ...] [length=8] [out=runs/paper]

  FOLDER    comparisons of variants, as python -m experiments.finetune configs/ebft/ablation/small_grid.py makes them
  length=   the completion length whose feature-matching loss is looked at (default: 8, or the nearest that was measured)

Reads comparison.json, finetuned.json and anchors.npz. Settings are those in which the variants differ. Effects are means over
all pairs of variants that differ in one setting alone, with 95 percent intervals over rows, anchors paired. The figures of the
paper could not be obtained. Writes OUT/ebft_ablation.md and a picture of each comparison.
"""

import itertools
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ebm_jax import cli
from ebm_jax.errors import UserError
from ebm_jax.records import BASE
from ebm_jax.reporting.finetuning import Compared
from ebm_jax.reporting.numbers import integer, signed
from ebm_jax.reporting.paired import Difference, paired
from ebm_jax.serialize import flatten
from experiments.paper import published_ebft as published
from experiments.paper.command import deliver
from experiments.paper.comparisons import notes, request
from experiments.paper.pictures import LINES, Draw, Picture
from experiments.paper.tables import between, number_of, section

USUAL_LENGTH = 8
Settings = Mapping[str, Any]


class Effect(NamedTuple):
    """What changing one setting does to the feature-matching loss and to cross-entropy, on average over pairs of variants."""

    setting: str
    before: str
    after: str
    pairs: int
    matching: Difference
    nll: Difference


def main(argv: list[str]) -> int:
    asked = request(argv, str(__doc__), "configs/ebft/ablation/small_grid.py", ("length",))
    if asked is None:
        return 0
    blocks: list[str] = []
    pictures = {}
    for compared in asked.compared:
        length = _length(asked.options.get("length"), compared.lengths)
        settings = differing(compared)
        found = effects(compared, settings, length)
        blocks += [
            _variants(compared, settings, length),
            _from_first(compared, length),
            _effects(compared, found, length),
        ]
        panels = [_panel(compared, "matching_loss", length), _panel(compared, "nll", "scored")]
        height = 1.2 + 0.28 * len(compared.methods)
        pictures[f"ebft_ablation_{compared.name}"] = Picture(panels, columns=2, width=4.8, height=height)
    said = "\n".join(["The paper says:", "", *(f"* {claim}" for claim in published.ABLATIONS)])
    deliver(asked.out, "ebft_ablation", "Ablations of EBFT", [*blocks, said, notes(asked.compared)], pictures)
    return 0


def differing(compared: Compared) -> dict[str, Settings]:
    """Of every variant that was measured, the settings in which some of the variants differ; what a method lacks is None."""
    configs = {m.name: compared.config["methods"][m.name] for m in compared.trained}
    if not configs:
        raise UserError(f"{compared.name}: no variant was measured yet")
    flat = {name: flatten(config["algorithm"], "") for name, config in configs.items()}
    keys = list(dict.fromkeys(key for settings in flat.values() for key in settings))
    several = [key for key in keys if len({str(settings.get(key)) for settings in flat.values()}) > 1]
    if "kind" in several:  # other methods share hardly any settings: their names say what they are
        ours = [name for name, settings in flat.items() if settings["kind"] == published.EBFT]
        several = ["kind", *(k for k in several if k != "kind" and len({str(flat[name].get(k)) for name in ours}) > 1)]
    return {name: {key: settings.get(key) for key in several} for name, settings in flat.items()}


def effects(compared: Compared, settings: Mapping[str, Settings], length: int) -> list[Effect]:
    """Every change of one setting, averaged over the pairs of variants that differ in it alone."""
    found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for one, two in itertools.combinations(settings, 2):
        changed = [key for key in settings[one] if settings[one][key] != settings[two][key]]
        if len(changed) == 1:
            change = (changed[0], shown(settings[one][changed[0]]), shown(settings[two][changed[0]]))
            found.setdefault(change, []).append((one, two))
    at = compared.lengths.index(length)
    order = {key: place for place, key in enumerate(next(iter(settings.values())))}
    found = dict(sorted(found.items(), key=lambda one: order[one[0][0]]))
    return [
        Effect(*change, len(pairs), _matching(compared, pairs, at), _nll(compared, pairs))
        for change, pairs in found.items()
    ]


def shown(value: Any) -> str:
    """A setting as users write it."""
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _matching(compared: Compared, pairs: list[tuple[str, str]], at: int) -> Difference:
    for one, two in pairs:
        compared.matching_difference(one, two, compared.lengths[at])  # refuses other anchors
    loss = lambda name: compared.method(name).per_anchor("matching_AxL")[:, at]
    return paired(np.mean([loss(two) - loss(one) for one, two in pairs], 0), _rows(compared, "row_A"))


def _nll(compared: Compared, pairs: list[tuple[str, str]]) -> Difference:
    tokens = lambda name: compared.method(name).per_anchor("scored_Rx2")
    weight = tokens(pairs[0][0])[:, 1]
    some = weight > 0
    change = np.mean([tokens(two)[some, 0] - tokens(one)[some, 0] for one, two in pairs], 0)
    return paired(change / weight[some], _rows(compared, "row_R")[some], weight[some])


def _rows(compared: Compared, name: str) -> np.ndarray:
    return compared.trained[0].anchors[0][name]


def _length(text: str | None, lengths: list[int]) -> int:
    if text is None:
        return min(lengths, key=lambda n: abs(n - USUAL_LENGTH))
    if not text.isdigit() or int(text) not in lengths:
        raise UserError(f"length={text} was not measured; there are {', '.join(map(str, lengths))}")
    return int(text)


def _variants(compared: Compared, settings: Mapping[str, Settings], length: int) -> str:
    keys = list(next(iter(settings.values())))
    lengths = list(dict.fromkeys([compared.lengths[0], length, compared.lengths[-1]]))
    rows = []
    for m in compared.methods:
        own = [shown(settings[m.name][key]) if m.name in settings else "" for key in keys]
        losses = [number_of(m.mean("matching_loss", str(n)), 4) for n in lengths]
        tasks = [number_of(m.mean("tasks", task, "best_of", "1"), 4) for task in compared.tasks]
        rows.append([m.name, *own, *losses, number_of(m.mean("nll", "scored"), 4), *tasks])
    head = ["", *keys, *(f"loss at {n}" for n in lengths), "cross-entropy", *compared.tasks]
    anchors = integer(compared.methods[0].records[0]["anchors"])
    told = f"Losses are feature-matching losses of so many tokens, at {anchors} anchors."
    told += f" {BASE} is the model that all begin with." if compared.methods[0].name == BASE else ""
    return section(compared.name, head, rows, told)


def _from_first(compared: Compared, length: int) -> str:
    first, *others = [m.name for m in compared.trained]
    rows = []
    for name in others:
        found = compared.matching_difference(name, first, length), compared.nll_difference(name, first)
        rows.append([name, *(_signed(d) for d in found)])
    title = f"{compared.name}: less {first}, paired"
    return section(title, ["", f"loss at {length}", "cross-entropy"], rows) if rows else ""


def _effects(compared: Compared, found: list[Effect], length: int) -> str:
    if not found:
        return ""
    rows = []
    for e in found:
        rows.append([f"{e.setting}: {e.before} → {e.after}", str(e.pairs), _signed(e.matching), _signed(e.nll)])
    head = ["", "pairs", f"loss at {length}", "cross-entropy"]
    return section(f"{compared.name}: one setting changed", head, rows, "Below zero: the change is for the better.")


def _signed(found: Difference) -> str:
    return signed(found.value, 4) + between(found.interval, 4)


def _panel(compared: Compared, name: str, of: int | str) -> Draw:
    title = "cross-entropy, scored tokens" if name == "nll" else f"feature-matching loss, completions of {of}"

    def draw(axes: Any) -> None:
        for place, m in enumerate(compared.methods):
            found = m.mean(name, str(of))
            hue = "#4a4a4a" if m.name == BASE else LINES[0]
            if found.interval is not None:
                axes.hlines(place, *found.interval, color=hue, lw=1.3)
            axes.plot(found.value, place, "o", color=hue, ms=5)
        if compared.methods[0].name == BASE:
            axes.axvline(compared.methods[0].mean(name, str(of)).value, color="#4a4a4a", lw=0.9, dashes=(4, 3))
        names = [m.name if name == "matching_loss" else "" for m in compared.methods]
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.xaxis.get_major_locator().set_params(nbins=5)
        axes.set(title=compared.name, xlabel=title)

    return draw


if __name__ == "__main__":
    sys.exit(cli.main(main))
