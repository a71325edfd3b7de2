"""Folders of comparisons with made-up records that obey known laws, for what reads them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ebm_jax.comparison import Comparison
from ebm_jax.records import ANCHORS, BASE, COMPARISON, FINETUNED
from ebm_jax.serialize import to_dict

ROWS, PER_ROW, QUESTIONS = 50, 5, 40
LEVEL, CE = 0.6, 2.0


class Law(NamedTuple):
    """How a method differs from the model that all begin with."""

    loss: float = 0.0
    """Feature-matching loss, the same at every length."""
    nll: float = 0.0
    task: float = 0.0


def made(
    folder: Path,
    comparison: Comparison,
    laws: Mapping[str, Law],
    *,
    seeds: int = 3,
    identity: str = "made",
    parameters: int = 1_000_000,
    begun: bool = True,
) -> Path:
    """Records of the methods that have a law. Differences are the law's but for noise of a hundredth of an anchor's."""
    folder.mkdir(parents=True)
    put(folder / COMPARISON, to_dict(comparison) | {"evaluation": identity})
    if begun:
        measured(folder / BASE, comparison, Law(), 0, {"method": BASE, "evaluation": identity})
    for name, law in laws.items():
        for seed in range(seeds):
            told = {"method": name, "seed": seed, "step": 100, "flops": 1e12, "flops_per_step": 1e10}
            told |= {"evaluation": identity, "parameters": parameters}
            place = folder / name / f"seed={seed}"
            measured(place, comparison, law, seed + 1, told)
            put(place / "run.json", {"config": to_dict(comparison.methods[name]), "launches": []})
            put(place / "result.json", {"step": 100, "seconds": {"training, of the last launch": 1800.0 + seed}})
    return folder


def measured(folder: Path, comparison: Comparison, law: Law, noise: int, told: Mapping[str, Any]) -> None:
    """``finetuned.json`` and ``anchors.npz``: rows vary together, lengths rise by a tenth."""
    shared, own = np.random.default_rng(7), np.random.default_rng([noise, round(1e6 * (law.loss + 1)), len(told)])
    lengths = comparison.matching.lengths
    row = np.repeat(np.arange(ROWS), PER_ROW)
    anchor = LEVEL + np.repeat(shared.normal(0, 0.1, ROWS), PER_ROW) + shared.normal(0, 0.2, ROWS * PER_ROW)
    matching = anchor[:, None] + 0.1 * np.arange(len(lengths)) + law.loss
    matching = matching + own.normal(0, 0.002, matching.shape)
    weight = shared.integers(20, 200, ROWS).astype(float)
    ce = CE + law.nll + shared.normal(0, 0.3, ROWS) + own.normal(0, 0.003, ROWS)
    scored = np.stack([ce * weight, weight], 1)
    every = np.stack([(ce + 0.5) * 2 * weight, 2 * weight], 1)
    arrays = {
        "row_A": row,
        "anchor_A": shared.integers(0, 100, len(row)),
        "matching_AxL": matching,
        "row_R": np.arange(ROWS),
        "scored_Rx2": scored,
        "all_Rx2": every,
    }
    tasks = {}
    for name, task in comparison.tasks.items():
        reward = np.clip(shared.uniform(0.2, 0.6, (QUESTIONS, 1)) + law.task, 0, 1) + np.zeros((1, task.samples))
        reward = reward + own.normal(0, 0.002, reward.shape)
        arrays |= {f"task/{name}": reward, f"task_row/{name}": np.arange(QUESTIONS) // 2}
        best = {str(k): float(reward.mean() + 0.01 * (k - 1)) for k in (1, 2, 4, 8, 16) if k <= task.samples}
        tasks[name] = {"best_of": best, "questions": QUESTIONS, "failures": {"empty": 0, "timeout": noise}}
    folder.mkdir(parents=True)
    np.savez_compressed(folder / ANCHORS, allow_pickle=False, **arrays)
    by_length = lambda x: {str(n): float(value) for n, value in zip(lengths, x, strict=True)}
    means, repeats = matching.mean(0), np.linspace(0.3, 0.0, len(lengths))
    sample = {"prompt": "def f(", "truth": "x):\n    return x", "written": f"| {told['method']}"}
    put(folder / FINETUNED, {
        **told,
        "anchors": len(row),
        "temperature": 1.0,
        "matching_loss": by_length(means),
        "whitened_matching_loss": by_length(-means),
        "duplicates": by_length(repeats),
        "ended": by_length(1 - repeats),
        "sampler_gap": 1e-7,
        "nll": {"scored": scored[:, 0].sum() / scored[:, 1].sum(), "all": every[:, 0].sum() / every[:, 1].sum()},
        "tasks": tasks,
        "samples": [sample] * 5 if tasks else [],
        "continuations": [],
    })  # fmt: skip


def asked(folder: Path, task: str, *, temperature: float = 0.0, place: str = "tasks", **figures: float) -> Path:
    """A benchmark's ``result.json``; figures are by name, ``pass_1`` for ``pass@1``."""
    inside = folder / place / task.replace(":", "-")
    inside.mkdir(parents=True, exist_ok=True)
    metrics = {name.replace("_", "@"): {"value": value, "low": None, "high": None} for name, value in figures.items()}
    put(inside / "result.json", {"task": task, "metrics": metrics, "sampling": {"temperature": temperature}})
    return folder


def put(file: Path, record: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record))
