"""From next-token logits to a token: temperature, top-k, nucleus (Holtzman et al. 2020), min-p (Nguyen et al. 2024), greedy."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ebm_jax import rng
from ebm_jax.errors import UserError
from ebm_jax.types import Array, PRNGKey


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How the next token is drawn; the filters apply after the temperature: top-k, then top-p, then min-p."""

    temperature: float = 0.8
    """Logits are divided by it; 0 takes the most likely token."""
    top_k: int = 0
    """Draw among the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Draw among the fewest most likely tokens whose probabilities reach p; 1 keeps all."""
    min_p: float = 0.0
    """Draw among tokens at least this share as likely as the most likely one; 0 keeps all."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"sampling temperature={self.temperature} must not be negative, and finite; 0 is greedy")
        if self.top_k < 0:
            raise UserError(f"sampling top_k={self.top_k} must not be negative; 0 keeps all tokens")
        if not 0 < self.top_p <= 1:
            raise UserError(f"sampling top_p={self.top_p} must lie above 0 and at most at 1; 1 keeps all tokens")
        if not 0 <= self.min_p <= 1:
            raise UserError(f"sampling min_p={self.min_p} must lie between 0 and 1; 0 keeps all tokens")


def filtered(logits_BxV: Array, config: SamplingConfig) -> Array:
    """Logits at the temperature, with -inf where a token may not be drawn; at least one token always may.

    Tokens as likely as the last one kept are kept too.
    """
    logits = logits_BxV / config.temperature if config.temperature else logits_BxV
    if config.top_k and config.top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, config.top_k)[0][..., -1:]
        logits = jnp.where(logits >= least, logits, -jnp.inf)
    if config.top_p < 1:
        falling = jnp.sort(logits, axis=-1, descending=True)
        probabilities = jax.nn.softmax(falling, axis=-1)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        least = jnp.min(jnp.where(before < config.top_p, falling, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits >= least, logits, -jnp.inf)
    if config.min_p:
        least = jnp.max(logits, axis=-1, keepdims=True) + jnp.log(config.min_p)
        logits = jnp.where(logits >= least, logits, -jnp.inf)
    return logits


def draw(logits_BxV: Array, config: SamplingConfig, key: PRNGKey, index_B: Array, position_B: Array) -> Array:
    """One token a row, ``[B]``; a function of (key, row, position), however many tokens are made at a time."""
    if config.temperature == 0:
        return jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
    keys = jax.vmap(jax.random.fold_in)(rng.per_row(rng.stream(key, "sample"), index_B), position_B)
    return choose(filtered(logits_BxV, config), jax.vmap(jax.random.uniform)(keys))


def choose(logits_XxV: Array, uniform_X: Array) -> Array:
    """The token at which the cumulative distribution passes ``uniform`` (in [0, 1)), ``[X]``; X stands for any axes.

    One random number a token, where noise on every logit would need V of them. Sums go in two levels, rows of about the root
    of V and then one row, and no token of probability zero is ever taken.
    """
    size = logits_XxV.shape[-1]
    width = 1 << math.ceil(math.log2(size) / 2)
    padding = [(0, 0)] * (logits_XxV.ndim - 1) + [(0, -size % width)]
    logits = jnp.pad(logits_XxV, padding, constant_values=-jnp.inf)
    weights = jnp.exp(logits - jnp.max(logits, -1, keepdims=True))
    weights_XxRxW = weights.reshape(*uniform_X.shape, -1, width)
    sums_XxR = jnp.sum(weights_XxRxW, -1)
    row_X, left_X = _passed(sums_XxR, uniform_X * jnp.sum(sums_XxR, -1))
    row_XxW = jnp.take_along_axis(weights_XxRxW, row_X[..., None, None], axis=-2)[..., 0, :]
    return (row_X * width + _passed(row_XxW, left_X)[0]).astype(jnp.int32)


def _passed(weights_XxN: Array, target_X: Array) -> tuple[Array, Array]:
    """The first entry whose cumulative sum exceeds ``target`` (the last positive one, if rounding leaves none), and what of
    ``target`` is left for it."""
    total = jnp.cumsum(weights_XxN, -1)
    last = weights_XxN.shape[-1] - 1 - jnp.argmax(weights_XxN[..., ::-1] > 0, -1)
    index = jnp.minimum(jnp.sum(total <= target_X[..., None], -1), last)
    before = jnp.where(index > 0, jnp.take_along_axis(total, jnp.maximum(index - 1, 0)[..., None], -1)[..., 0], 0)
    return index, target_X - before
