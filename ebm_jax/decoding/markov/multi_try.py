"""Several suffixes from one cut, and one of them or none taken (EBD section 7: exact for suffixes drawn from the prefix alone).

The tries and the current response share what stands before the cut, and all were drawn from the same law there (the current
one as far as the target goes), so each is the others' reference set and none has to be drawn for it. With
``w_j = A_j`` unclipped, ``log w_j`` being ``acceptance.log_accept`` of try j against the current response, and W their sum:

    multi-try Metropolis:        j is chosen with w_j / W, and taken with min(1, W / (W - w_j + 1));
    iterated resampling (i-SIR): one of all K + 1 is taken, the tries with w_j, the current one with 1.

For one try the first is Metropolis-Hastings, the second Barker's rule.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from ebm_jax.errors import UserError
from ebm_jax.types import Array

RULES = ("metropolis", "resample")


def log_taken(log_weights_XxK: Array, rule: Literal["metropolis", "resample"] = "metropolis") -> Array:
    """Log-probabilities with which each try is taken, and behind them that the chain stays, ``[X, K + 1]``.

    Raises:
      UserError: there is no such rule.
    """
    if rule not in RULES:
        raise UserError(f"tries.rule={rule!r} is not one of {', '.join(RULES)}")
    stays = jnp.zeros_like(log_weights_XxK[..., :1])
    if rule == "resample":
        return jax.nn.log_softmax(jnp.concatenate([log_weights_XxK, stays], -1), axis=-1)
    tries = log_weights_XxK.shape[-1]
    # W - w_j + 1 is the sum of the other tries and of the current response.
    others = jnp.where(jnp.eye(tries, dtype=bool), -jnp.inf, log_weights_XxK[..., None, :])
    others_XxK = jnp.logaddexp(jax.nn.logsumexp(others, axis=-1), 0.0)
    total = jax.nn.logsumexp(log_weights_XxK, axis=-1, keepdims=True)
    # w_j / W * min(1, W / others); nothing is taken where no try has any weight.
    taken = jnp.where(jnp.isneginf(log_weights_XxK), -jnp.inf, log_weights_XxK - jnp.maximum(total, others_XxK))
    left = 1 - jnp.sum(jnp.exp(taken), -1, keepdims=True)
    return jnp.concatenate([taken, jnp.log(jnp.maximum(left, 0))], -1)
