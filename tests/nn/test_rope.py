"""Rotary positions: consecutive pairs are turned, and only differences of positions matter."""

import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.nn.rope import rotate, rotation

pytestmark = pytest.mark.usefixtures("x64")


def turned(x, positions, theta=10_000.0):
    positions = jnp.asarray(positions, jnp.int32)[None]
    return np.asarray(rotate(jnp.asarray(x)[None, None], rotation(positions, x.shape[-1], theta)))[0, 0]


def test_pairs_are_turned_by_their_angles():
    x = np.random.default_rng(0).standard_normal((3, 6))
    positions = np.array([0, 5, 300])
    angle = positions[:, None] * 100.0 ** (-np.arange(3) / 3)
    z = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * angle)
    expected = np.stack([z.real, z.imag], -1).reshape(3, 6)
    np.testing.assert_allclose(turned(x, positions, 100.0), expected, rtol=0, atol=3e-5)
    assert (turned(x, positions)[0] == x[0]).all()


def test_scores_depend_on_the_distance_alone():
    q, k = np.random.default_rng(1).standard_normal((2, 1, 8))
    score = lambda i, j: float(turned(q, [i])[0] @ turned(k, [j])[0])
    assert score(3, 1) == pytest.approx(score(12, 10), abs=1e-5)
    assert abs(score(3, 1) - score(4, 1)) > 1e-4


def test_lengths_and_types_are_kept():
    x = np.random.default_rng(2).standard_normal((4, 8))
    np.testing.assert_allclose(np.linalg.norm(turned(x, range(4)), axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-6)
    by = rotation(jnp.zeros((1, 4), jnp.int32), 8, 10_000.0)
    assert rotate(jnp.asarray(x, jnp.bfloat16)[None, None], by).dtype == jnp.bfloat16
    assert by.cos.dtype == jnp.float32
