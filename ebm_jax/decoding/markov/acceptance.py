"""What a chain over responses samples, and which proposals it accepts (EBD, power sampling and all between).

The target is ``pi(y | x) ~ p(y | x)^alpha exp(lambda R(x, y))`` with p the model's law of whole responses: alpha = 1 is
energy-based decoding, lambda = 0 power sampling. A proposal keeps ``y[:c]`` and draws the rest from q, so

    log A =   lambda (R(y') - R(y))
            + sum_{t >= c} (alpha log p - log q)(y'_t) - sum_{t >= c} (alpha log p - log q)(y_t)
            + log kappa(c | y') - log kappa(c | y),

and what stands before the cut cancels. Where q is p and alpha is 1, or where the prior is declared to be q, no log-probability
is left in it. The cut is an auxiliary variable: balance holds for each, and no sum over cuts is needed.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax.numpy as jnp

from ebm_jax.errors import UserError
from ebm_jax.types import Array


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """The law that a chain is to sample."""

    inv_temp: float = 3.5
    """lambda, which multiplies rewards."""
    power: float = 1.0
    """alpha, which multiplies the model's log-probability of a response."""
    prior: Literal["model", "proposal"] = "model"
    """What is tilted: the model at temperature 1, or the law that suffixes are drawn from, temperature, filters and all."""

    def __post_init__(self) -> None:
        if self.prior not in ("model", "proposal"):
            raise UserError(f"target.prior={self.prior!r} is not one of model, proposal")
        if self.power <= 0:
            raise UserError(f"target.power={self.power} must be positive: it multiplies log-probabilities")
        if self.prior == "proposal" and self.power != 1:
            raise UserError(f"target.power={self.power} goes with target.prior=model: proposals are tilted as they are")


class Weighed(NamedTuple):
    """What the acceptance knows of responses."""

    reward_X: Array
    log_cut_X: Array
    """``log kappa(c | y)`` of the cut that was drawn."""
    log_prior_XxH: Array | None = None
    """log p of every token, 0 behind the end; needed where ``needs_log_probs``."""
    log_proposal_XxH: Array | None = None
    """log q of every token, 0 behind the end."""


def needs_log_probs(target: TargetConfig, plain: bool) -> bool:
    """Whether the acceptance reads log-probabilities; ``plain`` proposals are those of the model at temperature 1."""
    return target.prior == "model" and not (plain and target.power == 1)


def log_accept(target: TargetConfig, old: Weighed, new: Weighed, cut_X: Array) -> Array:
    """``log A`` of this module's docstring, ``[X]``; a proposal is accepted where ``log u < log A``."""
    found = target.inv_temp * (new.reward_X - old.reward_X) + new.log_cut_X - old.log_cut_X
    if target.prior == "proposal" or new.log_prior_XxH is None:
        return found
    return found + _suffix(target, new, cut_X) - _suffix(target, old, cut_X)


def _suffix(target: TargetConfig, of: Weighed, cut_X: Array) -> Array:
    assert of.log_prior_XxH is not None and of.log_proposal_XxH is not None
    each = target.power * of.log_prior_XxH - of.log_proposal_XxH
    return jnp.sum(jnp.where(jnp.arange(each.shape[-1]) >= cut_X[..., None], each, 0), -1)


def log_accept_delayed(
    target: TargetConfig, old: Weighed, new: Weighed, cut_X: Array, first: tuple[Array, Array]
) -> tuple[Array, Array]:
    """``log A_1`` by a cheap reward and ``log A_2`` by what the full one adds; a proposal must pass both, one after the other.

    ``A_1`` has all but the full rewards, with ``first`` (the cheap ones of old and new responses) in their place, so the full
    reward is asked for only where the cheap one has accepted (Christen and Fox 2005). Exact: the two ratios multiply to A.
    """
    one = log_accept(target, old._replace(reward_X=first[0]), new._replace(reward_X=first[1]), cut_X)
    gained = (new.reward_X - old.reward_X) - (first[1] - first[0])
    return one, target.inv_temp * gained


def log_swap(inv_temps: tuple[Array, Array], rewards: tuple[Array, Array]) -> Array:
    """``log A`` of exchanging the responses of two chains at two inverse temperatures (parallel tempering); p cancels."""
    (one, two), (first, second) = inv_temps, rewards
    return (one - two) * (second - first)
