"""Where a response is cut before its end is drawn anew: laws of the cut, as log-probabilities of every place (EBD).

A cut c keeps ``y[:c]``. Whatever the law, detailed balance asks for its ratio ``kappa(c | y') / kappa(c | y)`` in the
acceptance: where a law depends on the length, the same cut has another probability in a longer response. Left out, a chain
under ``length`` samples its target times ``|y|``, under ``grid`` times the number of blocks of y: responses grow.
"""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from ebm_jax.errors import UserError
from ebm_jax.types import Array

LAWS = ("horizon", "length", "grid", "scored")


@dataclass(frozen=True, kw_only=True)
class CutConfig:
    """How the place is drawn at which a response is cut."""

    law: Literal["horizon", "length", "grid", "scored"] = "grid"
    """``horizon``  every ``block`` tokens up to the longest response, all alike, whatever the length is; behind the end the
                    step is idle;
    ``length``   any token of the response, all alike (QAlign);
    ``grid``     every ``block`` tokens of the response, all alike;
    ``scored``   any token, in proportion to a score of what comes before it (entropy cuts)."""

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise UserError(f"cuts.law={self.law!r} is not one of {', '.join(LAWS)}")


def entropy_scores(entropy_XxH: Array, power: float = 4.0, least: float = 1e-4) -> Array:
    """``max(0, h_c - h_{c-1})^power + least``: cuts where the next token becomes uncertain (Entropy-Cut Metropolis-Hastings).

    ``entropy`` holds h_c, the entropy of the law of token c: it depends on what stands before c alone. ``least`` lets every
    place be cut, the first one too.
    """
    rise = jnp.diff(entropy_XxH, axis=-1, prepend=0)
    return jnp.maximum(rise, 0) ** power + least


def log_cuts(
    config: CutConfig,
    length_X: Array,
    horizon: int,
    block_X: Array | int = 1,
    scores_XxH: Array | None = None,
    until: Array | int | None = None,
) -> Array:
    """``log kappa(c | y)`` for every place c of a response of at most ``horizon`` tokens, ``[X, H]``; -inf where none is cut.

    Args:
      length_X: tokens of every response, its end counted.
      until: what the longest response is while responses grow, where that is less than H; no place behind it is cut.
      block_X: B, the distance of places under ``horizon`` and ``grid``. It may differ between prompts, not along a chain.
      scores_XxH: under ``scored``, nonnegative functions of ``y[:c]`` alone; some below the length must be positive.
    """
    place_H = jnp.arange(horizon)
    block_X = jnp.broadcast_to(jnp.asarray(block_X), length_X.shape)
    inside = place_H < length_X[..., None]
    if config.law == "scored":
        if scores_XxH is None:
            raise ValueError("cuts.law=scored needs scores of every place")
        weights = jnp.where(inside, scores_XxH, 0)
    elif config.law == "length":
        weights = inside
    else:
        weights = place_H % block_X[..., None] == 0
        if config.law == "grid":
            weights = weights & inside
    if until is not None:
        weights = jnp.where(place_H < until, weights, 0)
    weights = weights.astype(jnp.result_type(float))
    return jnp.log(weights) - jnp.log(jnp.sum(weights, -1, keepdims=True))
