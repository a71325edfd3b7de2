"""Which inverse temperature to use: from rewards of plain samples, so that chains move or weights do not collapse.

Scaling a reward is the same as scaling lambda, so a number that suits one reward model suits no other. On a development set,
and then frozen: a lambda that is chosen for each prompt is another target for each.

    effective   the mean over prompts of ``(sum w)^2 / (N sum w^2)`` with ``w_i = exp(lambda R_i)``
    accepted    the chance that a whole response drawn anew is accepted: ``sum_i w_i / W mean_j min(1, w_j / w_i)``
"""

from collections.abc import Callable

import numpy as np

from ebm_jax.errors import UserError

MOST = 1e6


def effective_share(rewards_PxN: np.ndarray, inv_temp: float) -> float:
    """The effective share of N samples, mean over prompts: 1 at ``inv_temp`` 0."""
    w = _weights(rewards_PxN, inv_temp)
    return float(np.mean(w.sum(-1) ** 2 / (w**2).sum(-1)) / w.shape[-1])


def accepted_share(rewards_PxN: np.ndarray, inv_temp: float) -> float:
    """How often a chain at its target accepts a response that is drawn whole, mean over prompts."""
    w = _weights(rewards_PxN, inv_temp)
    gain = inv_temp * (rewards_PxN[:, None, :] - rewards_PxN[:, :, None])
    return float(np.mean((w / w.sum(-1, keepdims=True) * np.exp(np.minimum(gain, 0)).mean(-1)).sum(-1)))


def calibrated(
    rewards_PxN: np.ndarray,
    target: float = 0.3,
    share: Callable[[np.ndarray, float], float] = accepted_share,
) -> float:
    """The inverse temperature at which ``share`` is ``target``, by rewards of N plain samples of every prompt, ``[P, N]``.

    Raises:
      UserError: the target is no share, there are fewer than two samples, or no inverse temperature gets there.
    """
    rewards = np.asarray(rewards_PxN, np.float64)
    if not 0 < target < 1:
        raise UserError(f"target={target} must lie between 0 and 1: it is a share")
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise UserError(f"rewards of shape {rewards.shape}: at least two samples of every prompt are needed")
    if share(rewards, MOST) > target:
        raise UserError(
            f"even the greatest inverse temperature leaves a share of {share(rewards, MOST):.3f}, above target={target}: too"
            " many rewards are equal; draw more samples or give a higher target"
        )
    low, high = 0.0, 1.0
    while share(rewards, high) > target:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if share(rewards, middle) > target else (low, middle)
    return high


def _weights(rewards_PxN: np.ndarray, inv_temp: float) -> np.ndarray:
    scaled = inv_temp * np.asarray(rewards_PxN, np.float64)
    return np.exp(scaled - scaled.max(-1, keepdims=True))


def effective_samples(trace_KxC: np.ndarray) -> float:
    """Independent draws that C chains of K steps are worth, by a figure of their states (Geyer's initial positive sequence).

    ``K C / (1 + 2 sum_t rho_t)`` with the autocorrelations rho of all chains about their common mean, summed in pairs as long
    as these are positive. Chains that never move are worth one draw each.
    """
    trace = np.asarray(trace_KxC, np.float64)
    steps, chains = trace.shape
    centred = trace - trace.mean()
    variance = float(np.mean(centred**2))
    if variance == 0:
        return float(chains)
    lags = [float(np.mean(centred[: steps - t] * centred[t:])) / variance for t in range(steps)]
    total, pairs = 0.0, [lags[t] + lags[t + 1] for t in range(1, steps - 1, 2)]
    for pair in pairs:
        if pair <= 0:
            break
        total += pair
    return min(steps * chains, steps * chains / (1 + 2 * total))
