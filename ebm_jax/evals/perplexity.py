"""Token-weighted perplexity and bits per byte of a split, after every inner step.

    nll = sum_t w_t CE_t / sum_t w_t        perplexity = exp(nll)
    bits/byte = sum_t w_t CE_t / (ln 2 * bytes of the scored tokens)

Sums run over the whole split before anything is divided, so the result does not depend on how it is cut into batches.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax.algorithm import Variables
from ebm_jax.data.splits import SPLITS
from ebm_jax.errors import UserError
from ebm_jax.types import Array, Batch, Params, PRNGKey
from ebm_jax.weighted import WeightedSum

Evaluate = Callable[[Params, Variables, Batch, PRNGKey], dict[str, WeightedSum]]
"""``Algorithm.evaluate``, or it with its thinking chosen."""
Place = Callable[[Mapping[str, Any]], Batch]
"""From this host's rows to a global batch."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What validation during training, and ``experiments.evaluate`` by default, look at."""

    split: str = "validation"
    batch_size: int = 32
    """Rows per batch over all hosts."""
    extra: dict[str, str] = field(default_factory=dict)
    """Further texts by name, as sources of ``data.source``'s form: out-of-distribution sets. Read whole."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UserError(f"eval.split={self.split!r} is not one of {', '.join(SPLITS)}")
        if self.batch_size < 1:
            raise UserError(f"eval.batch_size={self.batch_size} must be at least 1")


class SplitEvaluator:
    """Evaluates batches with one compiled function."""

    def __init__(self, evaluate: Evaluate, byte_lengths_V: np.ndarray, place: Place) -> None:
        lengths_V = jnp.asarray(byte_lengths_V, jnp.float32)

        def sums(params: Params, variables: Variables, batch: Batch, key: PRNGKey) -> dict[str, WeightedSum]:
            size_BxT = lengths_V[batch["targets"]] * batch["weights"]
            bytes_scored = WeightedSum(jnp.sum(size_BxT), jnp.sum(batch["weights"]))
            return evaluate(params, variables, batch, key) | {"bytes": bytes_scored}

        self._sums, self._place = jax.jit(sums), place

    def trace(self, params: Params, variables: Variables, batch: Batch, key: PRNGKey) -> jax.stages.Traced:
        """The function for these shapes."""
        return self._sums.trace(params, variables, batch, key)

    def __call__(
        self, params: Params, variables: Variables, batches: Iterable[Mapping[str, Any]], key: PRNGKey
    ) -> dict[str, float]:
        """Means of every sum, and for each ``nll...`` its ``perplexity...`` and ``bits_per_byte...``.

        Without a number behind them, ``nll``, ``perplexity`` and ``bits_per_byte`` are those of the last inner step.
        """
        totals: dict[str, np.ndarray] = {}
        for batch in batches:
            sums = jax.device_get(self._sums(params, variables, self._place(batch), key))
            for name, value in sums.items():
                totals[name] = totals.get(name, np.zeros(2)) + np.asarray(value, np.float64)
        if not totals:
            raise UserError("there is nothing to evaluate: the split has no rows")
        return summarise(totals)


def summarise(totals: Mapping[str, np.ndarray]) -> dict[str, float]:
    """From (total, weight) pairs to the figures; see ``SplitEvaluator``."""
    means = {name: float(total / weight) if weight else 0.0 for name, (total, weight) in totals.items()}
    text_bytes, tokens = totals["bytes"]
    result = {name: value for name, value in means.items() if name != "bytes"}
    steps = sorted((int(name.removeprefix("nll_step_")), name) for name in means if name.startswith("nll_step_"))
    named = {name.removeprefix("nll"): name for _, name in steps} | ({"": steps[-1][1]} if steps else {})
    for suffix, name in named.items():
        result["nll" + suffix] = means[name]
        result["perplexity" + suffix] = math.exp(min(means[name], 700.0))
        if text_bytes:
            result["bits_per_byte" + suffix] = float(totals[name][0] / (math.log(2) * text_bytes))
    return result | {"tokens": float(tokens), "bytes": float(text_bytes)}


def step_curve(result: Mapping[str, float], name: str = "bits_per_byte") -> list[float]:
    """``[after step 1, after step 2, ...]`` of one figure."""
    found: list[Array | float] = []
    while (key := f"{name}_step_{len(found) + 1}") in result:
        found.append(result[key])
    return [float(value) for value in found]
