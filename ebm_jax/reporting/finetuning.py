"""Ways to fine-tune one model, side by side, from the records of a comparison alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ebm_jax.errors import UserError
from ebm_jax.reporting.intervals import mean
from ebm_jax.reporting.paired import Difference, paired

BASE, RECORD, ANCHORS, COMPARISON = "base", "finetuned.json", "anchors.npz", "comparison.json"


@dataclass(frozen=True)
class Method:
    """A method's records and figures per anchor, one for each seed."""

    name: str
    records: list[dict[str, Any]]
    anchors: list[Mapping[str, np.ndarray]]

    def figure(self, *path: str) -> list[float]:
        """A figure of every seed."""
        values = []
        for record in self.records:
            value: Any = record
            for key in path:
                value = value[key]
            values.append(float(value))
        return values

    def per_anchor(self, name: str) -> np.ndarray:
        """The mean over seeds of a figure of every anchor."""
        return np.mean([anchors[name] for anchors in self.anchors], axis=0)


@dataclass(frozen=True)
class Compared:
    """A comparison's config and its methods, the base model first where it was measured."""

    config: dict[str, Any]
    methods: list[Method]

    @property
    def lengths(self) -> list[int]:
        return list(self.config["matching"]["lengths"])

    @property
    def tasks(self) -> list[str]:
        return list(self.config["tasks"])

    def method(self, name: str) -> Method:
        """The method of that name; UserError where it was not measured."""
        for method in self.methods:
            if method.name == name:
                return method
        raise UserError(f"{name} was not measured: there are {', '.join(m.name for m in self.methods)}")

    def matching_difference(self, name: str, other: str, length: int) -> Difference:
        """Feature-matching loss of a method less another's at a completion length, anchor by anchor."""
        one, two = self.method(name), self.method(other)
        at = self.lengths.index(length)
        difference = one.per_anchor("matching_AxL")[:, at] - two.per_anchor("matching_AxL")[:, at]
        return paired(difference, one.anchors[0]["row_A"])

    def task_difference(self, name: str, other: str, task: str) -> Difference:
        """Mean reward of a task of a method less another's, question by question."""
        one, two = self.method(name), self.method(other)
        values = [m.per_anchor(f"task/{task}").mean(-1) for m in (one, two)]
        return paired(values[0] - values[1], one.anchors[0][f"task_row/{task}"])


def read_comparison(folder: Path) -> Compared:
    """The records under a comparison's folder; UserError where there are none."""
    file = folder / COMPARISON
    if not file.is_file():
        raise UserError(
            f"{folder} holds no comparison (no {COMPARISON}): run python -m experiments.finetune CONFIG first"
        )
    config = json.loads(file.read_text(encoding="utf-8"))
    methods = []
    for name in (BASE, *config["methods"]):
        places = [folder / BASE] if name == BASE else [folder / name / f"seed={seed}" for seed in config["seeds"]]
        places = [place for place in places if (place / RECORD).is_file()]
        if places:
            records = [json.loads((place / RECORD).read_text(encoding="utf-8")) for place in places]
            methods.append(Method(name, records, [_arrays(place / ANCHORS) for place in places]))
    if not methods:
        raise UserError(f"{folder}: nothing was measured yet")
    return Compared(config, methods)


def _arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def markdown(compared: Compared) -> str:
    """Tables of a comparison: losses, task metrics, differences with intervals, samples."""
    parts = [f"# {compared.config['name']}", _overview(compared), _by_length(compared), _differences(compared)]
    return "\n\n".join([*parts, _samples(compared)]) + "\n"


def _overview(compared: Compared) -> str:
    head = ["", "seeds", "CE, scored", "CE, all", *compared.tasks, "duplicates", "log-prob gap", "FLOPs"]
    rows = []
    longest = str(compared.lengths[-1])
    for m in compared.methods:
        best = [_mean(m.figure("tasks", task, "best_of", "1"), 4) for task in compared.tasks]
        flops = f"{np.mean(m.figure('flops')):.2e}" if "flops" in m.records[0] else ""
        rows.append([
            m.name, str(len(m.records)), _mean(m.figure("nll", "scored"), 4), _mean(m.figure("nll", "all"), 4), *best,
            _mean(m.figure("duplicates", longest), 4), f"{np.mean(m.figure('sampler_gap')):.1e}", flops,
        ])  # fmt: skip
    decides = compared.config["headline"]
    note = f"Cross-entropy in nats at temperature 1. The task named beforehand is {decides}." if decides else ""
    return "\n\n".join(filter(None, ["## Side by side", table(head, rows), note, _best_of(compared)]))


def _best_of(compared: Compared) -> str:
    parts = []
    for task in compared.tasks:
        numbers = list(compared.methods[0].records[0]["tasks"][task]["best_of"])
        if len(numbers) < 2:
            continue
        rows = [[m.name, *(_mean(m.figure("tasks", task, "best_of", k), 4) for k in numbers)] for m in compared.methods]
        parts.append(f"Best of k samples, {task}:\n\n" + table(["", *(f"k={k}" for k in numbers)], rows))
    return "\n\n".join(parts)


def _by_length(compared: Compared) -> str:
    head = ["", *map(str, compared.lengths)]
    rows = [
        [m.name, *(_mean(m.figure("matching_loss", str(n)), 4) for n in compared.lengths)] for m in compared.methods
    ]
    anchors = compared.methods[0].records[0]["anchors"]
    temperature = compared.config["matching"]["temperature"]
    note = (
        f"U-statistic, not whitened, at temperature {temperature:g}, features of the base model, {anchors:,} anchors, the same"
        " for all; means over seeds."
    )
    return "\n\n".join(["## Feature-matching loss by completion length", table(head, rows), note])


def _differences(compared: Compared) -> str:
    names = [m.name for m in compared.methods]
    parts = ["## Differences, paired, with 95 percent intervals"]
    for other in names[:1] if names[0] == BASE else []:
        parts.append(_against(compared, names[1:], other))
    trained = [name for name in names if name != BASE]
    parts += [_against(compared, [trained[0]], other) for other in trained[1:]]
    parts.append("Below zero: less feature-matching loss. Intervals cluster anchors by row; seeds are averaged first.")
    return "\n\n".join(part for part in parts if part)


def _against(compared: Compared, names: Sequence[str], other: str) -> str:
    head = [f"less {other}", *map(str, compared.lengths), *compared.tasks]
    rows = []
    for name in names:
        row = [name]
        row += [shown(compared.matching_difference(name, other, n)) for n in compared.lengths]
        row += [shown(compared.task_difference(name, other, task)) for task in compared.tasks]
        rows.append(row)
    return table(head, rows) if rows else ""


def _samples(compared: Compared) -> str:
    parts = ["## Samples"]
    first = compared.methods[0].records[0]["samples"]
    for number, sample in enumerate(first[:4]):
        parts.append(f"**{_line(sample['prompt'])}** {_line(sample['truth'])}")
        lines = []
        for m in compared.methods:
            if number < len(m.records[0]["samples"]):
                lines.append(f"* {m.name}: {_line(m.records[0]['samples'][number]['written'])}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) if first else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are as wide as what they hold."""
    lines = [list(head), *map(list, rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    pad = lambda line: [
        line[0].ljust(widths[0]),
        *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (pad(lines[0]), rule, *map(pad, lines[1:])))


def shown(difference: Difference) -> str:
    """``-0.0123 [-0.0150, -0.0096]``."""
    if difference.interval is None:
        return f"{difference.value:+.4f}"
    return f"{difference.value:+.4f} [{difference.interval.low:+.4f}, {difference.interval.high:+.4f}]"


def _mean(values: Sequence[float], digits: int) -> str:
    estimate = mean(values)
    if estimate.interval is None:
        return f"{estimate.value:.{digits}f}"
    half = (estimate.interval.high - estimate.interval.low) / 2
    return f"{estimate.value:.{digits}f} ± {half:.{digits}f}"


def _line(text: str) -> str:
    return text.replace("\n", "⏎ ").replace("|", "\\|").strip()
