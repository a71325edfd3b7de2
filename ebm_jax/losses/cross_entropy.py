"""Cross-entropy of next tokens, and the contrast of two energies."""

import jax
import jax.numpy as jnp

from ebm_jax.types import Array


def cross_entropy(logits_BxTxV: Array, targets_BxT: Array, smoothing: float | Array = 0.0) -> Array:
    """-log softmax(logits)[target] in nats, ``[B, T]`` in float32 or wider.

    With ``smoothing`` s the target distribution is (1 - s) one-hot + s uniform.
    """
    logits = logits_BxTxV.astype(jnp.promote_types(logits_BxTxV.dtype, jnp.float32))
    norm_BxT = jax.nn.logsumexp(logits, axis=-1)
    nll_BxT = norm_BxT - jnp.take_along_axis(logits, targets_BxT[..., None], axis=-1)[..., 0]
    if isinstance(smoothing, float) and smoothing == 0.0:
        return nll_BxT
    uniform_BxT = norm_BxT - jnp.mean(logits, axis=-1)
    return (1 - smoothing) * nll_BxT + smoothing * uniform_BxT


def energy_contrast(true_energy_BxT: Array, found_energy_BxT: Array) -> Array:
    """Cross-entropy of choosing the true candidate by low energy: ``softplus(E_true - E_found)``."""
    return jax.nn.softplus(true_energy_BxT - found_energy_BxT)
