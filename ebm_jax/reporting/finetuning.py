"""The records of a comparison of ways to fine-tune: its methods, their figures by seed, and differences anchor by anchor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ebm_jax.errors import UserError
from ebm_jax.records import ANCHORS, BASE, FINETUNED, read_compared, read_finetuned
from ebm_jax.reporting.intervals import Estimate, mean
from ebm_jax.reporting.paired import Difference, paired


@dataclass(frozen=True)
class Method:
    """A method's records and figures per anchor, one for each seed."""

    name: str
    folders: list[Path]
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

    def mean(self, *path: str) -> Estimate:
        """The mean of a figure over seeds, with Student's interval where there are several."""
        return mean(self.figure(*path))

    def per_anchor(self, name: str) -> np.ndarray:
        """The mean over seeds of a figure of every anchor, row or question."""
        return np.asarray(np.mean([anchors[name] for anchors in self.anchors], axis=0, dtype=np.float64))


@dataclass(frozen=True)
class Compared:
    """A comparison's config and its methods, the model that they begin with first where it was measured."""

    config: dict[str, Any]
    methods: list[Method]
    left_out: list[str] = field(default_factory=list)
    """Folders whose records are of another evaluation than the config's."""

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def lengths(self) -> list[int]:
        return list(self.config["matching"]["lengths"])

    @property
    def tasks(self) -> list[str]:
        return list(self.config["tasks"])

    @property
    def trained(self) -> list[Method]:
        return [method for method in self.methods if method.name != BASE]

    def method(self, name: str) -> Method:
        """The method of that name; UserError where it was not measured."""
        for method in self.methods:
            if method.name == name:
                return method
        raise UserError(f"{name} was not measured: there are {', '.join(m.name for m in self.methods)}")

    def matching_difference(self, name: str, other: str, length: int | None = None) -> Difference:
        """Feature-matching loss of a method less another's, anchor by anchor, at a completion length or as their mean."""
        one, two = self._both(name, other, "row_A", "anchor_A")
        difference_AxL = one.per_anchor("matching_AxL") - two.per_anchor("matching_AxL")
        difference_A = difference_AxL.mean(-1) if length is None else difference_AxL[:, self.lengths.index(length)]
        return paired(difference_A, one.anchors[0]["row_A"])

    def nll_difference(self, name: str, other: str, tokens: str = "scored") -> Difference:
        """Cross-entropy in nats of a method less another's on the tokens that are ``scored``, or on ``all``, row by row."""
        one, two = self._both(name, other, "row_R")
        a, b = one.per_anchor(f"{tokens}_Rx2"), two.per_anchor(f"{tokens}_Rx2")
        some = a[:, 1] > 0
        difference = (a[some, 0] - b[some, 0]) / a[some, 1]
        return paired(difference, one.anchors[0]["row_R"][some], a[some, 1])

    def task_difference(self, name: str, other: str, task: str) -> Difference:
        """Mean reward of a task of a method less another's, question by question."""
        one, two = self._both(name, other, f"task_row/{task}")
        values = [m.per_anchor(f"task/{task}").mean(-1) for m in (one, two)]
        return paired(values[0] - values[1], one.anchors[0][f"task_row/{task}"])

    def _both(self, name: str, other: str, *places: str) -> tuple[Method, Method]:
        one, two = self.method(name), self.method(other)
        for place in places:
            if any(
                not np.array_equal(one.anchors[0][place], anchors[place]) for anchors in (*one.anchors, *two.anchors)
            ):
                raise UserError(
                    f"{name} and {other} were not measured in the same places ({place}): delete their {FINETUNED} and run"
                    " python -m experiments.finetune CONFIG again"
                )
        return one, two


def read_comparison(folder: Path | str) -> Compared:
    """The records under a comparison's folder; UserError where there are none."""
    folder = Path(folder)
    config = read_compared(folder)
    methods, left_out = [], []
    for name in (BASE, *config["methods"]):
        places = [folder / BASE] if name == BASE else sorted((folder / name).glob("seed=*"), key=_seed)
        read = {place: read_finetuned(place) for place in places if (place / FINETUNED).is_file()}
        same = {place: record for place, record in read.items() if record.get("evaluation") == config.get("evaluation")}
        left_out += [str(place) for place in read if place not in same]
        if same:
            methods.append(Method(name, list(same), list(same.values()), [_arrays(place / ANCHORS) for place in same]))
    if not methods:
        raise UserError(
            f"{folder}: nothing was measured yet; run python -m experiments.finetune CONFIG workdir={folder}"
        )
    return Compared(config, methods, left_out)


def lowest(compared: Compared, names: Sequence[str], other: str) -> list[str]:
    """Those of the methods whose feature-matching loss is below another's at every length, intervals included."""
    below = lambda name: all(compared.matching_difference(name, other, n).sign < 0 for n in compared.lengths)
    return [name for name in names if below(name)]


def _seed(folder: Path) -> tuple[int, str]:
    number = folder.name.removeprefix("seed=")
    return (int(number) if number.isdigit() else 0, number)


def _arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read ({error}): delete the {FINETUNED} beside it to have both made anew"
        ) from error
