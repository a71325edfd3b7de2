"""Transformer++: an ordinary causal language model on the blocks of the EBT."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.tiny import LENGTH

pytestmark = pytest.mark.usefixtures("x64")


@functools.cache
def model():
    algorithm = tiny.lm()
    return algorithm, tiny.generic(tiny.shapes(algorithm).params)


@functools.cache
def logits():
    algorithm, params = model()
    return tiny.jit(lambda *rows: algorithm.model.apply({"params": params}, *rows))


def rows_of(batch):
    return batch["inputs"], batch["positions"], batch["segments"]


def test_a_later_token_changes_nothing_before_it():
    batch = tiny.batch()
    before = logits()(*rows_of(batch))
    changed = batch["inputs"].at[:, 3].set(0)
    after = logits()(changed, *rows_of(batch)[1:])
    assert (before[:, :3] == after[:, :3]).all()
    assert (np.abs(before - after)[:, 3:].max(-1) > 1e-6).all()


def test_packed_documents_have_the_logits_of_documents_alone():
    inputs = tiny.batch()["inputs"]
    packed = logits()(
        inputs, jnp.asarray([[0, 1, 0, 1, 2]] * 2, jnp.int32), jnp.asarray([[1, 1, 2, 2, 2]] * 2, jnp.int32)
    )[0]
    alone = logits()(
        jnp.stack([jnp.pad(inputs[0, :2], (0, 3)), jnp.pad(inputs[0, 2:], (0, 2))]),
        jnp.asarray([[0, 1, 0, 0, 0], [0, 1, 2, 0, 0]], jnp.int32),
        jnp.asarray([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]], jnp.int32),
    )
    np.testing.assert_allclose(packed[:2], alone[0, :2], rtol=0, atol=1e-12)
    np.testing.assert_allclose(packed[2:], alone[1, :3], rtol=0, atol=1e-12)


def test_loss_is_the_mean_over_scored_tokens():
    algorithm, params = model()
    batch = tiny.batch(pads=2)
    output = tiny.jit(lambda: algorithm.loss(params, None, batch, jax.random.key(0), 0))()
    logp = jax.nn.log_softmax(logits()(*rows_of(batch)))
    expected = -np.mean([logp[b, t, batch["targets"][b, t]] for b in range(2) for t in range(LENGTH - 2)])
    np.testing.assert_allclose(output.terms["prediction"].value.mean(), expected, rtol=1e-12)
    assert output.metrics["nll"].weight == 2 * (LENGTH - 2)


def test_label_smoothing_changes_the_loss_and_not_the_metric():
    params, batch = model()[1], tiny.batch()
    run = lambda algorithm: tiny.jit(lambda: algorithm.loss(params, None, batch, jax.random.key(0), 0))()
    plain, smooth = run(tiny.lm()), run(tiny.lm(label_smoothing=0.1))
    assert smooth.metrics["nll"].total == plain.metrics["nll"].total
    assert abs(smooth.terms["prediction"].value.total - plain.terms["prediction"].value.total) > 1e-3
