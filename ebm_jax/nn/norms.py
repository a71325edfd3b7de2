"""Normalisations by name: ``rms``, ``layer``, ``dyt`` (dynamic tanh) and ``none``; statistics in float32 or wider."""

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from ebm_jax.errors import UserError
from ebm_jax.nn.initializers import partitioned
from ebm_jax.types import Array, Params

KINDS = ("rms", "layer", "dyt", "none")
DYT_ALPHA = 0.5


def init_norm(kind: str, width: int):
    """An initialiser ``(key, dtype) -> dict`` of the norm's parameters (empty for ``none``)."""
    if kind not in KINDS:
        raise UserError(f"norm {kind!r} is not one of {', '.join(KINDS)}")

    def init(key, dtype) -> Params:
        ones, zeros = (partitioned(f, "embed") for f in (nn.initializers.ones, nn.initializers.zeros))
        params = {}
        if kind != "none":
            params["scale"] = ones(key, (width,), dtype)
        if kind in ("layer", "dyt"):
            params["bias"] = zeros(key, (width,), dtype)
        if kind == "dyt":
            params["alpha"] = jnp.full((), DYT_ALPHA, dtype)
        return params

    return init


def norm(kind: str, params: Params, x_xD: Array, eps: float) -> Array:
    """Normalises the last axis and applies gain (and shift); the result has the type of ``x``.

    ``rms``: x / sqrt(mean x^2 + eps) * g. ``layer``: (x - mean) / sqrt(var + eps) * g + b. ``dyt``: tanh(alpha x) * g + b.
    """
    if kind == "none":
        return x_xD
    dtype = jnp.promote_types(x_xD.dtype, jnp.float32)
    x = x_xD.astype(dtype)
    if kind == "rms":
        x = x * lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + eps)
    elif kind == "layer":
        x = x - jnp.mean(x, -1, keepdims=True)
        x = x * lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + eps)
    else:
        x = jnp.tanh(params["alpha"].astype(dtype) * x)
    x = x * params["scale"].astype(dtype)
    if "bias" in params:
        x = x + params["bias"].astype(dtype)
    return x.astype(x_xD.dtype)
