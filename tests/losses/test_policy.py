"""Policy gradients and penalties against their definitions, expectations by enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.losses.policy import kl_penalty, policy_gradient

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
LOG_PROBS, ADVANTAGES = RNG.standard_normal((2, 3)) - 2, RNG.standard_normal((2, 3))
WEIGHTS = np.array([[1.0, 1, 0], [1, 0, 0]])


def test_the_gradient_is_that_of_reinforce():
    loss = lambda log_probs, advantages: policy_gradient(log_probs, advantages, jnp.asarray(WEIGHTS)).mean()
    value, (by_log_probs, by_advantages) = jax.value_and_grad(loss, (0, 1))(*map(jnp.asarray, (LOG_PROBS, ADVANTAGES)))
    np.testing.assert_allclose(value, -(WEIGHTS * ADVANTAGES).sum() / 3, rtol=1e-14)
    np.testing.assert_allclose(by_log_probs, -WEIGHTS * ADVANTAGES / 3, rtol=1e-14)
    assert not np.asarray(by_advantages).any()


def test_tokens_that_do_not_count_may_be_anything():
    log_probs = np.where(WEIGHTS > 0, LOG_PROBS, -np.inf)
    value, slope = jax.value_and_grad(
        lambda x: policy_gradient(x, jnp.asarray(ADVANTAGES), jnp.asarray(WEIGHTS)).mean()
    )(jnp.asarray(log_probs))
    assert np.isfinite(value) and np.isfinite(np.where(WEIGHTS > 0, slope, 0)).all()
    assert policy_gradient(jnp.asarray(LOG_PROBS), jnp.asarray(ADVANTAGES), jnp.zeros((2, 3))).mean() == 0


def test_penalties_estimate_divergences():
    logits, other = RNG.standard_normal(7), RNG.standard_normal(7)
    p, q = jax.nn.softmax(logits), jax.nn.softmax(other)
    log_q = jnp.log(q)

    def expected(logits, estimator):
        """The mean over samples of p, which are data to the derivative."""
        return jnp.sum(p * kl_penalty(jax.nn.log_softmax(logits), log_q, estimator))

    forward = lambda logits: jnp.sum(jax.nn.softmax(logits) * (jax.nn.log_softmax(logits) - log_q))
    backward = lambda logits: jnp.sum(q * (log_q - jax.nn.log_softmax(logits)))
    np.testing.assert_allclose(expected(logits, "k3"), forward(logits), rtol=1e-12)
    np.testing.assert_allclose(expected(logits, "k2"), jnp.sum(p * (jnp.log(p) - log_q) ** 2) / 2, rtol=1e-12)
    assert (kl_penalty(jnp.log(p), log_q, "k3") >= 0).all()
    for estimator, divergence in (("k2", forward), ("k3", backward)):
        slope = jax.grad(expected)(logits, estimator)
        np.testing.assert_allclose(slope, jax.grad(divergence)(logits), atol=1e-12, err_msg=estimator)


def test_the_reference_gets_no_gradient():
    for estimator in ("k2", "k3"):
        slope = jax.grad(lambda q, estimator=estimator: kl_penalty(jnp.asarray(LOG_PROBS), q, estimator).sum())
        assert not np.asarray(slope(jnp.asarray(ADVANTAGES))).any()
