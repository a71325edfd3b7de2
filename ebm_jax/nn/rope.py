"""Rotary position embedding (Su et al. 2021) in the interleaved pairing of Llama 2's original code."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ebm_jax.types import Array


class Rotation(NamedTuple):
    """Cosines and sines of every position's angles, ``[B or 1, 1, T, C/2]`` in float32."""

    cos: Array
    sin: Array


def rotation(positions_BxT: Array, head_width: int, theta: float) -> Rotation:
    """Angles ``position * theta^(-2c/C)`` for c = 0 .. C/2 - 1."""
    # On the host: an accelerator's float32 power is a few units in the last place off, times the position.
    frequency_C = (1.0 / theta ** (np.arange(0, head_width, 2) / head_width)).astype(np.float32)
    angle = positions_BxT[:, None, :, None].astype(jnp.float32) * frequency_C
    return Rotation(jnp.cos(angle), jnp.sin(angle))


def rotate(x_BxHxTxC: Array, by: Rotation) -> Array:
    """Turns the pairs (x_0, x_1), (x_2, x_3), ... by their angles; computed in float32 or wider."""
    dtype = jnp.promote_types(x_BxHxTxC.dtype, jnp.float32)
    pairs = x_BxHxTxC.astype(dtype).reshape(*x_BxHxTxC.shape[:-1], -1, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    cos, sin = by.cos.astype(dtype), by.sin.astype(dtype)
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(x_BxHxTxC.shape).astype(x_BxHxTxC.dtype)
