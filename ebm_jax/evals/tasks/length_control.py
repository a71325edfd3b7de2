r"""Length-controlled win rates (Dubois et al. 2024, section 3).

A logistic regression without intercept explains the judge's preference for the model's answer to instruction x::

    logit P = theta + phi * tanh((len_model - len_reference) / std) + psi * difficulty_x

and the win rate is read off with the length term at zero: 100 times the mean over x of sigmoid(theta + psi * difficulty_x).
Preferences are soft labels. As published, the fit is L1-penalised, sum |w| + C * loss, with C the best of ten between
1e-4 and 1e4 by five-fold cross-validation, and rows of the reference with made-up lengths, of weight 0.1 each, keep phi
from explaining too much. Without difficulties psi is left out; without those rows the fit has the model's rows alone.

The interval resamples instructions and refits at the chosen C.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Grading, Metric

PENALTIES = np.logspace(-4, 4, 10)
FOLDS = 5
GAMED_WEIGHT = 0.1
MOST_REFITS = 200


class Annotation(NamedTuple):
    """A preference between 0 and 1 for the model, lengths in characters, and the instruction's difficulty if known."""

    preference: float
    length: float
    reference_length: int
    difficulty: float | None = None
    scaled_length: float | None = None
    """The length difference already divided by its deviation (rows of the reference)."""


def length_controlled(rows: Sequence[Annotation], gamed: Sequence[Annotation], grading: Grading) -> Metric:
    """The length-controlled win rate in percent."""
    if not rows:
        return Metric(float("nan"))
    hard = all(row.difficulty is not None for row in (*rows, *gamed))
    own_ExK, theirs_GxK = _features(rows, hard, 1.0), _features(gamed, hard, 0.0)
    labels_E = np.array([row.preference for row in rows])
    labels_G = np.array([row.preference for row in gamed])
    features, labels = np.concatenate([theirs_GxK, own_ExK]), np.concatenate([labels_G, labels_E])
    weights = np.concatenate([np.full(len(gamed), GAMED_WEIGHT), np.ones(len(rows))])
    penalty = _choose_penalty(features, labels, weights)
    level_ExK = own_ExK.copy()
    level_ExK[:, 0] = 0.0

    def rate(times_E: np.ndarray, start: np.ndarray | None) -> tuple[float, np.ndarray]:
        times = np.concatenate([np.full(len(gamed), GAMED_WEIGHT), times_E])
        fitted = fit(features, labels, times, penalty, start)
        return float(100 * np.average(_sigmoid(level_ExK @ fitted), weights=times_E)), fitted

    value, fitted = rate(np.ones(len(rows)), None)
    if len(rows) < 2 or not grading.resamples:
        return Metric(value)
    rng = np.random.default_rng([grading.seed, len(rows)])
    drawn = [
        rate(np.bincount(rng.integers(0, len(rows), len(rows)), minlength=len(rows)).astype(float), fitted)[0]
        for _ in range(min(grading.resamples, MOST_REFITS))
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Metric(value, float(low), float(high))


def fit(
    features_NxK: np.ndarray,
    labels_N: np.ndarray,
    weights_N: np.ndarray,
    penalty: float,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """The K coefficients that minimise sum |w| + penalty * weighted cross-entropy with soft labels.

    |w| has no derivative at 0, so w is written as the difference of two non-negative parts.
    """
    width = features_NxK.shape[1]

    def loss(parts: np.ndarray) -> tuple[float, np.ndarray]:
        w = parts[:width] - parts[width:]
        logits = features_NxK @ w
        cost = float(np.sum(weights_N * (np.logaddexp(0, logits) - labels_N * logits)))
        slope = features_NxK.T @ (weights_N * (_sigmoid(logits) - labels_N))
        return parts.sum() + penalty * cost, np.concatenate([1 + penalty * slope, 1 - penalty * slope])

    first = np.zeros(width) if start is None else start
    begin = np.concatenate([np.maximum(first, 0), np.maximum(-first, 0)])
    options = {"maxiter": 500, "ftol": 1e-12, "gtol": 1e-8}
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=[(0, None)] * (2 * width), options=options).x
    return found[:width] - found[width:]


def _choose_penalty(features: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    if len(labels) < FOLDS:
        return float(PENALTIES[-1])
    fold = np.arange(len(labels)) % FOLDS
    costs = []
    for penalty in PENALTIES:
        held = []
        for k in range(FOLDS):
            into, out = fold != k, fold == k
            fitted = fit(features[into], labels[into], weights[into], penalty)
            chance = np.clip(_sigmoid(features[out] @ fitted), 1e-15, 1 - 1e-15)
            cross = -(labels[out] * np.log(chance) + (1 - labels[out]) * np.log(1 - chance))
            held.append(float(np.mean(weights[out] * cross)))
        costs.append(np.mean(held))
    return float(PENALTIES[int(np.argmin(costs))])


def _features(rows: Sequence[Annotation], hard: bool, model: float) -> np.ndarray:
    """tanh of the scaled length difference, whether the row is the model's, and the difficulty."""
    gaps = np.array([float(row.length - row.reference_length) for row in rows])
    scale = float(gaps.std(ddof=1)) if len(gaps) > 1 else 0.0
    scaled = gaps / scale if scale else np.zeros_like(gaps)
    scaled = np.array(
        [s if row.scaled_length is None else row.scaled_length for s, row in zip(scaled, rows, strict=True)]
    )
    columns = [np.tanh(scaled), np.full(len(rows), model)]
    if hard:
        columns.append(np.array([float(row.difficulty or 0.0) for row in rows]))
    return np.stack(columns, axis=1) if len(rows) else np.zeros((0, len(columns)))


def read_difficulty(path: Path) -> dict[int, float]:
    """``index, difficulty`` lines under a header, as published."""
    found = {}
    for number, cells in _csv(path):
        try:
            found[int(cells[0])] = float(cells[1])
        except (ValueError, IndexError):
            raise UserError(f"{path}: line {number}: not an index and a difficulty: {','.join(cells)[:80]}") from None
    return found


def read_gamed(path: Path) -> list[Annotation]:
    """The published rows of the reference with made-up lengths, by column names."""
    names: list[str] = []
    rows = []
    for number, cells in _csv(path, names):
        row = dict(zip(names, cells, strict=False))
        try:
            # The published difference is reference minus model.
            scaled = -float(row["std_delta_len"])
            rows.append(Annotation(float(row["preference"]), 0, 0, float(row["instruction_difficulty"]), scaled))
        except (ValueError, KeyError) as error:
            raise UserError(f"{path}: line {number}: {error!r} in columns {names}") from None
    return rows


def _csv(path: Path, names: list[str] | None = None):
    with path.open(newline="", encoding="utf-8") as file:
        for number, cells in enumerate(csv.reader(file), 1):
            if number == 1:
                if names is not None:
                    names.extend(cells)
            elif cells:
                yield number, cells


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))
