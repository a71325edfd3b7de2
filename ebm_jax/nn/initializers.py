"""Parameter initialisers, each boxed with the logical axes that the sharding rules know."""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from ebm_jax.errors import UserError
from ebm_jax.types import Array, PRNGKey

Initializer = Callable[..., Any]


def normal(std: float) -> Initializer:
    """Independent normal entries."""
    return nn.initializers.normal(std)


def linear(method: str, fan_in: int, fan_out: int, gain: float = 1.0) -> Initializer:
    """Weights of a linear map: ``xavier`` std = gain sqrt(2 / (in + out)), ``he`` std = gain sqrt(2 / in), or ``zero``."""
    if method == "xavier":
        return normal(gain * math.sqrt(2.0 / (fan_in + fan_out)))
    if method == "he":
        return normal(gain * math.sqrt(2.0 / fan_in))
    if method == "zero":
        return nn.initializers.zeros
    raise UserError(f"initialisation {method!r} is not one of xavier, he, zero")


def uniform_fan_in(fan_in: int) -> Initializer:
    """Uniform in +-1/sqrt(in): what the reference leaves its modulation layers at (``adaln``)."""
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: PRNGKey, shape, dtype) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def partitioned(init: Initializer, *axes: str | None) -> Initializer:
    """``init`` with its result boxed under logical axis names."""
    return nn.with_logical_partitioning(init, axes)
