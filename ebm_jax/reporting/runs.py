"""One run's records, and what follows from them: labels, totals, curves."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ebm_jax.errors import UserError
from ebm_jax.records import read_evaluation, read_metrics, read_result, read_run_record
from ebm_jax.reporting.numbers import known

T = TypeVar("T")

OWN_SPLITS = {"validation": "validation", "test": "test", "train": "training"}
"""Splits of a run's own corpus; every other text that was evaluated is out of distribution."""


class Curve(NamedTuple):
    """A figure over the updates done so far."""

    step: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Run:
    """What one folder records; any part may be empty."""

    folder: Path
    record: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    """Its name in tables and pictures, unique among the runs of a report."""

    @property
    def config(self) -> dict[str, Any]:
        return self.record.get("config") or {}

    @property
    def launches(self) -> list[dict[str, Any]]:
        return self.record.get("launches") or []

    @property
    def name(self) -> str:
        return str(self._first("name") or self.config.get("name") or self.folder.name)

    @property
    def is_ebt(self) -> bool:
        kind = self._first("kind") or _get(self.config, "algorithm", "kind")
        return kind == "ebt" or (kind is None and "trained_steps" in self.evaluation)

    @property
    def method(self) -> str:
        """``Transformer++``, ``EBT S1`` (loss on every step) or ``EBT S2`` (loss on the last), as in the paper."""
        if not self.is_ebt:
            return "Transformer++"
        loss_on = _get(self.config, "algorithm", "descent", "loss_on")
        return "EBT" if loss_on is None else "EBT S2" if loss_on == "last_step" else "EBT S1"

    @property
    def steps(self) -> int | None:
        """Updates done."""
        last = self.metrics[-1]["step"] if self.metrics else None
        return self._first("step", last)

    @property
    def parameters(self) -> int | None:
        return self._first("parameters")

    @property
    def trained_steps(self) -> int:
        """The most inner steps that training took; 1 for a feed-forward model."""
        return int(self.evaluation.get("trained_steps") or _descent_steps(self.config, most=True) or 1)

    @property
    def fewest_steps(self) -> int:
        """The fewest inner steps that training took: where thinking begins."""
        return min(self.trained_steps, _descent_steps(self.config, most=False) or self.trained_steps)

    @property
    def tokens(self) -> float | None:
        """Scored tokens seen in training."""
        if self.steps and (counted := self.tokens_at(np.array([self.steps]))) is not None:
            return float(counted[0])
        return self.result.get("tokens")

    @property
    def flops(self) -> float | None:
        """Training FLOPs as counted in the program, inner loop included."""
        return self.flops_per_step * self.steps if self.flops_per_step and self.steps else self.result.get("flops")

    @property
    def flops_per_step(self) -> float | None:
        counted, total = _get(self.evaluation, "flops", "per_step"), self.result.get("flops")
        return counted or (total / self.steps if total and self.steps else None)

    def flops_by_rule(self, rule: str) -> float | None:
        """Training FLOPs by a formula per token: ``paper`` or ``corrected``; both are 6N without an inner loop."""
        costs = self.evaluation.get("flops") or {}
        per_token = costs.get(f"{rule}_per_token") or (None if self.is_ebt else costs.get("transformer_per_token"))
        return per_token * self.tokens if per_token and self.tokens else None

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Seconds by phase, as far as they are recorded."""
        phases = {"training steps": self.training_seconds}
        for where, default in ((self.result, "training, all"), (self.evaluation, "evaluation")):
            seconds = where.get("seconds")
            phases |= seconds if isinstance(seconds, dict) else {default: seconds}
        return {phase: float(value) for phase, value in phases.items() if known(value)}

    @cached_property
    def training_seconds(self) -> float | None:
        """Seconds of all updates at the measured rates, without compilation, evaluations and checkpoints."""
        timed = [(line["step"], line["step_time"]) for line in self.metrics if known(line.get("step_time"))]
        if not timed or not self.steps:
            return None
        ends = [step for step, _ in timed[:-1]] + [max(self.steps, timed[-1][0])]
        return float(np.dot(np.diff(ends, prepend=0), [seconds for _, seconds in timed]))

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.training_seconds if self.tokens and self.training_seconds else None

    @property
    def mfu(self) -> float | None:
        found = [line["mfu"] for line in self.metrics if known(line.get("mfu"))]
        return float(np.median(found)) if found else None

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        return self.evaluation.get("splits") or {}

    def bits_per_byte(self, split: str) -> float | None:
        """With the most inner steps of training; without an evaluation, the last one during training."""
        if curve := self.splits.get(split, {}).get("bits_per_byte"):
            return curve[min(self.trained_steps, len(curve)) - 1]
        key = f"{split}/bits_per_byte"
        during = [line[key] for line in self.metrics if known(line.get(key))]
        return (self.result.get("evaluation") or {}).get(key, during[-1] if during else None)

    def split_curve(self, split: str, name: str) -> list[float]:
        """A figure after every inner step, up to the first one that is not finite."""
        return list(takewhile(known, self.splits.get(split, {}).get(name) or []))

    def curve(self, name: str) -> Curve:
        """A metric over updates, where it is finite."""
        found = [(line["step"], line[name]) for line in self.metrics if known(line.get(name))]
        steps, values = zip(*found, strict=True) if found else ((), ())
        return Curve(np.array(steps, float), np.array(values, float))

    def training_curve(self, name: str = "nll") -> Curve:
        """A cross-entropy of training, in bits per byte of text."""
        step, nats = self.curve(name)
        return Curve(step, nats / math.log(2) * self.tokens_per_byte)

    def validation_curve(self) -> Curve:
        """Bits per byte of the split that was evaluated while training."""
        names = {name for line in self.metrics for name in line if name.endswith("/bits_per_byte")}
        split = _get(self.config, "eval", "split")
        wanted = f"{split}/bits_per_byte"
        return self.curve(wanted if wanted in names else min(names, default=wanted))

    def tokens_at(self, steps: np.ndarray) -> np.ndarray | None:
        """Scored tokens seen after that many updates; a step whose line was not kept counts as the next one's."""
        known_steps, tokens = self.curve("tokens")
        if not len(known_steps):
            return None
        totals = np.cumsum(tokens * np.diff(known_steps, prepend=0.0))
        beyond = np.maximum(steps - known_steps[-1], 0) * tokens[-1]
        return np.interp(steps, [0.0, *known_steps], [0.0, *totals]) + beyond

    @property
    def tokens_per_byte(self) -> float:
        """Of scored text; 1 for byte tokens."""
        for split in self.splits.values():
            if split.get("tokens") and split.get("bytes"):
                return split["tokens"] / split["bytes"]
        return 1.0

    def _first(self, key: str, otherwise: Any = None) -> Any:
        return next((part[key] for part in (self.evaluation, self.result) if part.get(key) is not None), otherwise)


def read_run(folder: Path | str) -> Run:
    """A run's records; those that are not there yet are empty. Raises ``UserError`` where there are none at all."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folders of runs, as runs/demo/ebt_s1")
    record = _if_there(folder, "run.json", read_run_record)
    evaluation = _if_there(folder, "evaluation.json", read_evaluation)
    if not record and not evaluation:
        raise UserError(f"{folder} holds no run: neither run.json nor evaluation.json is there")
    metrics = _if_there(folder, "metrics.jsonl", read_metrics) or []
    return Run(folder, record or {}, metrics, _if_there(folder, "result.json", read_result) or {}, evaluation or {})


def read_runs(folders: Iterable[Path | str]) -> list[Run]:
    """The records of several runs, each labelled by its method, or by its name where methods repeat."""
    runs = [read_run(folder) for folder in folders]
    if not runs:
        raise UserError("no run to report on: give at least one folder")
    for describe in (lambda run: run.method, lambda run: run.name, lambda run: str(run.folder)):
        labels = [describe(run) for run in runs]
        if len(set(labels)) == len(labels):
            break
    counts = Counter(run.method for run in runs)
    if labels != [run.method for run in runs]:
        labels = [run.method if counts[run.method] == 1 else label for run, label in zip(runs, labels, strict=True)]
    return [replace(run, label=label) for run, label in zip(runs, labels, strict=True)]


def split_names(runs: Sequence[Run]) -> list[str]:
    """Every split that some run was evaluated on, the runs' own before others."""
    names = list(dict.fromkeys(name for run in runs for name in run.splits))
    return sorted(names, key=lambda name: name not in OWN_SPLITS)


def split_title(name: str) -> str:
    """``validation``, or ``topics (out of distribution)``."""
    return OWN_SPLITS.get(name, f"{name} (out of distribution)")


def text_title(name: str) -> str:
    """As ``split_title``, for prose: ``the validation text``."""
    return f"the {OWN_SPLITS[name]} text" if name in OWN_SPLITS else split_title(name)


def bigram(runs: Sequence[Run], split: str) -> float | None:
    """Bits per byte of the byte-bigram model on a split."""
    found = (run.splits.get(split, {}).get("bigram_bits_per_byte") for run in runs)
    return next((value for value in found if known(value)), None)


def _if_there(folder: Path, name: str, read: Callable[[Path], T]) -> T | None:
    return read(folder) if (folder / name).exists() else None


def _get(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _descent_steps(config: dict[str, Any], *, most: bool) -> int | None:
    """Inner steps of one training step, as the descent's settings imply them."""
    descent = _get(config, "algorithm", "descent")
    if not isinstance(descent, dict) or "landscapes" not in descent:
        return None
    repeats = descent.get("random_repeats", 0) + 1 if most else descent.get("min_repeats", 1)
    landscapes = descent["landscapes"]
    return landscapes - 1 + repeats if descent.get("random_final_only") else landscapes * repeats
