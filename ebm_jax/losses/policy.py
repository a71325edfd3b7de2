"""Policy gradients and what keeps a policy near another one, as sums over tokens."""

import jax
import jax.numpy as jnp

from ebm_jax.types import Array
from ebm_jax.weighted import WeightedSum, weighted_sum

KL_ESTIMATORS = ("k2", "k3")


def policy_gradient(log_probs: Array, advantages: Array, weights: Array) -> WeightedSum:
    """REINFORCE: the gradient of ``-sum_t w_t A_t log p_t`` (Williams 1992), the value of ``-sum_t w_t A_t``.

    Written with the ratio ``p_t / stop_gradient(p_t)``, which is 1: samples are on policy. Advantages are constants.
    """
    ratio = jnp.exp(log_probs - jax.lax.stop_gradient(log_probs))
    return weighted_sum(-ratio * jax.lax.stop_gradient(advantages), weights)


def kl_penalty(log_probs: Array, reference: Array, estimator: str) -> Array:
    """An estimate of KL(policy || reference) from each sampled token, made to be differentiated (Schulman 2020).

    ``k2``  ``(log p - log q)^2 / 2``, whose gradient is on average that of KL(policy || reference);
    ``k3``  ``q / p - 1 - log(q / p)``, never negative and an unbiased value, whose gradient is on average that of
            KL(reference || policy).
    """
    difference = log_probs - jax.lax.stop_gradient(reference)
    if estimator == "k2":
        return difference**2 / 2
    return jnp.expm1(-difference) + difference
