"""Which keys attention lets every query of a row read, found by attending."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax.nn.attention import attend, attend_branches, visibility
from ebm_jax.nn.branches import Branches, sight


def allowed(segments_BxP, branches: Branches, samples: int = 1, window: int | None = None) -> np.ndarray:
    """``[B, L, L]`` for rows ``[prompt | sample 0: branch 0, branch 1, ... | ...]``: all scores are equal and values are the
    rows of an identity, so what comes out is positive where a key is read."""
    return np.asarray(_reads(segments_BxP, branches, samples, window)) > 0


@functools.partial(jax.jit, static_argnums=(2, 3))
def _reads(segments_BxP, branches, samples, window):
    (rows, places), (_, blocks, steps) = segments_BxP.shape, branches.position_BxSxT.shape
    length = places + samples * blocks * steps
    values = jnp.broadcast_to(jnp.eye(length), (rows, 1, length, length))
    queries = jnp.zeros_like(values)
    prompt, own = values[:, :, :places], values[:, :, places:].reshape(rows, 1, samples * blocks, steps, length)
    seen = sight(branches, window)
    reads = jnp.concatenate(
        [
            attend(queries[:, :, :places], prompt, prompt, visibility(segments_BxP, window)),
            attend_branches(queries[:, :, places:], 0 * prompt, prompt, 0 * own, own, branches, seen),
        ],
        axis=2,
    )
    return reads[:, 0]


def step_major(matrix_BxLxL, places: int, blocks: int, steps: int) -> np.ndarray:
    """The same matrix for rows ``[prompt | step 0 of all blocks | step 1 of all blocks | ...]`` of one sample."""
    order = np.arange(blocks * steps).reshape(blocks, steps).T.ravel()
    order = np.concatenate([np.arange(places), places + order])
    return matrix_BxLxL[:, order][:, :, order]
