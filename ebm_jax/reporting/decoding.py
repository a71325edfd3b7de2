"""The records of ways of decoding, side by side: rewards, what they cost, and differences prompt by prompt."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ebm_jax.errors import UserError
from ebm_jax.reporting.finetuning_text import shown
from ebm_jax.reporting.markdown import markdown_table
from ebm_jax.reporting.paired import Difference, paired

STUDY, DECODED = "study.json", "decoded.json"
AGAINST = "sampling"
"""The method that differences are taken from, where it is there; else the first."""


@dataclass(frozen=True)
class Decoding:
    """A method's records, one for each seed."""

    name: str
    records: list[dict[str, Any]]
    tasks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Records of benchmarks by name."""

    def by_prompt(self, figure: str) -> np.ndarray:
        """The mean over seeds of a figure of every prompt."""
        return np.mean([np.asarray(record["by_prompt"][figure], np.float64) for record in self.records], axis=0)

    def mean(self, figure: str) -> float:
        return float(self.by_prompt(figure).mean())

    def scores(self, task: str) -> dict[str, float]:
        """The mean over seeds of every question's score; {} where no grader was there."""
        records = self.tasks.get(task, [])
        keys = set.intersection(*(set(record["scores"]) for record in records)) if records else set()
        return {key: float(np.mean([record["scores"][key] for record in records])) for key in keys}

    def headline(self, task: str) -> str:
        """The first figure of a benchmark, the mean over seeds."""
        values = [next(iter(record["metrics"].values())) for record in self.tasks.get(task, []) if record["metrics"]]
        return f"{np.mean(values):.3f}" if values else ""

    def about(self, what: Literal["valid", "length"]) -> str:
        """The share of answers that could be read, or the length of answers in tokens, over benchmarks that know it."""
        records = [record for found in self.tasks.values() for record in found]
        values = [record["length"] if what == "length" else record["metrics"].get("parsed") for record in records]
        known = [value for value in values if value is not None]
        return f"{np.mean(known):.{1 if what == 'length' else 3}f}" if known else ""

    def spent(self) -> dict[str, float]:
        """What a prompt of the benchmarks cost in the mean; {} where none was asked."""
        spent = [record["spent"] for found in self.tasks.values() for record in found if record["spent"]]
        prompts = sum(one["prompts"] for one in spent)
        return {key: sum(one[key] for one in spent) / prompts for key in ("tokens", "reward_calls")} if spent else {}

    def knows(self, figure: str) -> bool:
        """Whether all seeds have that figure."""
        return all(figure in record["by_prompt"] for record in self.records)


@dataclass(frozen=True)
class Study:
    """A study's config and its methods, in their order."""

    config: dict[str, Any]
    methods: list[Decoding]

    def difference(self, one: Decoding, other: Decoding, figure: str) -> Difference:
        """A figure of a method less another's, prompt by prompt."""
        values = one.by_prompt(figure) - other.by_prompt(figure)
        return paired(values, np.arange(len(values)))

    @property
    def against(self) -> Decoding:
        named = {method.name: method for method in self.methods}
        return named.get(AGAINST, self.methods[0])


def read_study(folder: Path | str) -> Study:
    """What a study's folder holds.

    Raises:
      UserError: it holds none.
    """
    folder = Path(folder)
    if not (folder / STUDY).is_file():
        raise UserError(f"{folder} has no {STUDY}: make it by python -m experiments.decode CONFIG workdir={folder}")
    config = json.loads((folder / STUDY).read_text(encoding="utf-8"))
    methods = []
    for name in config["methods"]:
        read = lambda pattern, name=name: [
            json.loads(file.read_text(encoding="utf-8")) for file in sorted((folder / name).glob(pattern))
        ]
        records, tasks = read(f"seed=*/{DECODED}"), dict[str, list[dict[str, Any]]]()
        for record in read(f"seed=*/*/{DECODED}"):
            tasks.setdefault(record["task"], []).append(record)
        if records or tasks:
            methods.append(Decoding(name, records, tasks))
    if not methods:
        raise UserError(f"{folder} has no {DECODED} of any method yet: let python -m experiments.decode CONFIG go on")
    return Study(config, methods)


def markdown(study: Study) -> str:
    """The page of a study."""
    parts = [f"# {study.config['name']}", _tasks(study)]
    if all(method.records for method in study.methods):
        parts += [_overview(study), _differences(study), _samples(study)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _tasks(study: Study) -> str:
    """The first figure of every benchmark, means over seeds, what a prompt cost, and differences question by question."""
    asked = [method for method in study.methods if method.tasks]
    if not asked:
        return ""
    names = list(study.config["tasks"])
    rows = []
    for m in asked:
        spent = m.spent()
        costs = [f"{spent[key]:.1f}" for key in ("tokens", "reward_calls")] if spent else ["", ""]
        rows.append([m.name, *(m.headline(name) for name in names), m.about("valid"), m.about("length"), *costs])
    head = ["", *names, "valid", "length", "tokens of a prompt", "reward calls"]
    note = "Means over seeds and, behind the benchmarks, over these. Valid: the share of answers that could be read, where a"
    parts = [markdown_table(head, rows), note + " benchmark tells it; length: tokens of the answers."]
    against = next((m for m in asked if m.name == "greedy"), asked[0])
    others = [[m.name, *(_less(m, against, name) for name in names)] for m in asked if m is not against]
    if others:
        parts.append(f"Less {against.name}, paired, with 95 percent intervals over questions:")
        parts.append(markdown_table(["", *names], others))
    return "\n\n".join(["## Benchmarks", *parts])


def _less(one: Decoding, other: Decoding, task: str) -> str:
    """The difference of scores of the questions that both have."""
    ours, theirs = one.scores(task), other.scores(task)
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        return ""
    return shown(paired(np.array([ours[key] - theirs[key] for key in both]), np.arange(len(both))), 3)


def _figures(study: Study) -> list[str]:
    return [name for name in ("judge", "reward") if all(method.knows(name) for method in study.methods)]


def _overview(study: Study) -> str:
    figures = _figures(study)
    head = ["", "seeds", *figures, "tokens", "reward calls", "steps in a row", "length", "complete", "accepted"]
    rows = []
    for m in study.methods:
        accepted = [record["accepted"] for record in m.records if record["accepted"] is not None]
        row = [m.name, str(len(m.records)), *(f"{m.mean(name):.3f}" for name in figures)]
        row += [f"{m.mean(name):.1f}" for name in ("tokens", "reward_calls", "passes", "length")]
        rows.append([*row, f"{m.mean('complete'):.2f}", f"{np.mean(accepted):.2f}" if accepted else ""])
    prompts = len(study.methods[0].records[0]["by_prompt"]["length"])
    note = f"Means over {prompts} prompts; tokens are those drawn, steps in a row the longest wait. The reward guides"
    note += ", the judge does not." if "judge" in figures else "."
    return "\n\n".join([markdown_table(head, rows), note])


def _differences(study: Study) -> str:
    others = [method for method in study.methods if method is not study.against]
    figures = _figures(study)
    if not others or not figures:
        return ""
    rows = [[m.name, *(shown(study.difference(m, study.against, name), 3) for name in figures)] for m in others]
    table = markdown_table([f"less {study.against.name}", *figures], rows)
    return "\n\n".join(["## Differences, paired, with 95 percent intervals over prompts", table])


def _samples(study: Study, count: int = 2) -> str:
    blocks = ["## Samples"]
    for place in range(min(count, *(len(m.records[0]["samples"]) for m in study.methods))):
        prompt = study.methods[0].records[0]["samples"][place]["prompt"]
        lines = [f"> {_short(prompt)}", "", *(f"* {m.name}: {_short(_said(m, place))}" for m in study.methods)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _said(method: Decoding, place: int) -> str:
    return str(method.records[0]["samples"][place]["text"])


def _short(text: str | None, most: int = 200) -> str:
    flat = " ".join((text or "").split())
    return flat if len(flat) <= most else flat[:most] + " ..."
