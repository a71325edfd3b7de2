"""Sums and their weights, never means.

A loss is ``total / weight``. Both are sums over tokens (or rows, or pairs), so microbatches, devices and packed rows add
up exactly, and a mean is taken once, at the end.
"""

from typing import NamedTuple

import jax.numpy as jnp

from ebm_jax.types import Array


class WeightedSum(NamedTuple):
    """A sum and the weight it is to be divided by; ``weight`` depends on the batch only, never on parameters."""

    total: Array
    weight: Array

    def __add__(self, other: "WeightedSum") -> "WeightedSum":  # type: ignore[override]
        return WeightedSum(self.total + other.total, self.weight + other.weight)

    def mean(self) -> Array:
        """``total / weight``, and 0 where the weight is 0."""
        empty = self.weight == 0
        return jnp.where(empty, 0.0, self.total / jnp.where(empty, 1, self.weight))


class Term(NamedTuple):
    """One summand of a loss: ``coef * value.total / value.weight``."""

    coef: float
    value: WeightedSum


def weighted_sum(values: Array, weights: Array) -> WeightedSum:
    """Sums ``values * weights`` and ``weights`` over all axes in float32 (float64 stays float64)."""
    dtype = jnp.promote_types(values.dtype, jnp.float32)
    values, weights = values.astype(dtype), weights.astype(dtype)
    # A masked value may be infinite (an impossible pad); 0 * inf must not reach the sum.
    return WeightedSum(jnp.sum(jnp.where(weights != 0, values, 0) * weights), jnp.sum(weights))
