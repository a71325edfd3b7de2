"""Cross-entropy and the contrast of energies against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.losses.cross_entropy import cross_entropy, energy_contrast

pytestmark = pytest.mark.usefixtures("x64")
LOGITS = np.random.default_rng(0).standard_normal((2, 3, 5)) * 3
TARGETS = np.random.default_rng(1).integers(0, 5, (2, 3)).astype(np.int32)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_values_and_gradients(smoothing):
    target = (1 - smoothing) * np.eye(5)[TARGETS] + smoothing / 5
    expected = -(target * np.log(softmax(LOGITS))).sum(-1)
    ours = lambda logits: cross_entropy(logits, jnp.asarray(TARGETS), smoothing)
    np.testing.assert_allclose(ours(jnp.asarray(LOGITS)), expected, rtol=1e-12)
    gradient = jax.grad(lambda logits: ours(logits).sum())(jnp.asarray(LOGITS))
    np.testing.assert_allclose(gradient, softmax(LOGITS) - target, rtol=0, atol=1e-14)


def test_a_traced_smoothing_of_zero_is_none():
    plain = cross_entropy(jnp.asarray(LOGITS), jnp.asarray(TARGETS))
    np.testing.assert_allclose(
        cross_entropy(jnp.asarray(LOGITS), jnp.asarray(TARGETS), jnp.asarray(0.0)), plain, rtol=1e-13
    )


def test_large_logits_and_half_precision_are_safe():
    logits = jnp.asarray(LOGITS * 1e4, jnp.bfloat16)
    values = cross_entropy(logits, jnp.asarray(TARGETS))
    assert values.dtype == jnp.float32
    assert np.isfinite(values).all()


def test_contrast_is_the_cross_entropy_of_choosing_by_low_energy():
    true, found = np.array([[0.3, -2.0]]), np.array([[1.0, -3.0]])
    pair = np.stack([-true, -found], -1)
    np.testing.assert_allclose(energy_contrast(jnp.asarray(true), jnp.asarray(found)), -np.log(softmax(pair))[..., 0])
    assert np.isfinite(energy_contrast(jnp.asarray([[1e6]]), jnp.asarray([[0.0]]))).all()
