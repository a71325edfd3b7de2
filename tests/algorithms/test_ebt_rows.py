"""Rows keep their randomness and their share of every sum however a batch is cut; replay continues stored chains."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.algorithm import Variables
from ebm_jax.algorithms.ebt import REPLAYED_ROW
from ebm_jax.energy.replay import ReplayConfig
from ebm_jax.energy.schedule import Randomness, initial_state
from ebm_jax.energy.thinking import ThinkingConfig
from ebm_jax.precision import Precision
from ebm_jax.training.step import gradients
from tests import tiny
from tests.tiny import LENGTH, VOCAB, assert_trees_close, jit

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(7)
S2_LIKE = {"landscapes": 1, "random_repeats": 2, "min_repeats": 2, "detach": False, "loss_on": "last_step", "noise": 0.5,
               "step_size_spread": 2.0, "learnable_step_size": False}  # fmt: skip


@functools.cache
def replaying(capacity=3):
    return tiny.ebt(
        S2_LIKE, conditioning="default", model={"depth": 1}, replay=ReplayConfig(capacity=capacity, fraction=0.5)
    )


def cut(batch, rows):
    return {name: value[rows] for name, value in batch.items()}


HALVES = (slice(0, 2), slice(2, 4))


def test_a_row_s_descent_does_not_depend_on_the_batch_that_holds_it():
    """Initial state, noise and step sizes belong to the global row; the number of steps to the training step."""
    algorithm = replaying()
    params, batch = tiny.parameters(algorithm), tiny.batch(rows=4, pads=1)
    run = jit(lambda batch: algorithm.loss(params, None, batch, KEY, 0))
    whole, halves = run(batch), [run(cut(batch, rows)) for rows in HALVES]
    for rows, half in zip(HALVES, halves, strict=True):
        np.testing.assert_allclose(half.records["state"], whole.records["state"][rows], rtol=0, atol=1e-12)
        assert half.metrics["inner_steps"].mean() == whole.metrics["inner_steps"].mean()
    assert (np.ptp(whole.records["state"], axis=0).max(-1) > 1e-3).all(), "rows differ among themselves"
    for name in ("nll", "nll_first", "energy_first", "energy_gap"):
        first, second = (half.metrics[name] for half in halves)
        assert_trees_close(whole.metrics[name], first + second, 1e-12)
    terms = [half.terms["prediction"].value for half in halves]
    assert_trees_close(whole.terms["prediction"].value, terms[0] + terms[1], 1e-12)


@pytest.mark.slow
def test_perplexity_does_not_depend_on_how_validation_is_batched():
    algorithm = tiny.ebt({"noise": 0.5}, thinking=ThinkingConfig(candidates=2), model={"depth": 1})
    params, batch = tiny.parameters(algorithm), tiny.batch(rows=4, pads=1)
    batch["weights"] = batch["weights"].at[0, 1:].set(0.0)
    run = jit(lambda batch: algorithm.evaluate(params, None, batch, KEY))
    whole, halves = run(batch), [run(cut(batch, rows)) for rows in HALVES]
    summed = {name: halves[0][name] + halves[1][name] for name in whole}
    assert_trees_close(whole, summed, 1e-12)
    steps = {"nll_step_1", "nll_step_2", "energy_step_1", "energy_step_2"}
    assert set(whole) == steps | {"energy_final", "forward_passes"}
    assert whole["nll_step_2"].weight == 1 + 3 * (LENGTH - 1)
    means = np.mean([h["nll_step_2"].mean() for h in halves])
    assert abs(whole["nll_step_2"].mean() - means) > 1e-6, "a mean of means is another number"
    assert_trees_close(run(batch), whole, 0, 0)


def test_replay_appends_stored_chains_and_stores_fresh_rows_only():
    algorithm = replaying()
    carry = tiny.fresh(algorithm, rows=2).carry
    augment = jit(lambda carry, batch, key: algorithm.augment(Variables(None, carry=carry), batch, key, 0))
    absorb = jit(
        lambda carry, batch, state: algorithm.absorb(Variables(None, carry=carry), batch, {"state": state}, KEY, 0)
    )
    stored = {}
    for step in range(3):
        batch = tiny.batch(seed=step) | {"index": jnp.asarray([2 * step, 2 * step + 1], jnp.uint32)}
        key = jax.random.key(step)
        joined = augment(carry, batch, key)
        for name, value in batch.items():
            np.testing.assert_array_equal(joined[name][:2], value, err_msg=f"{name}: fresh rows come first")
        assert joined["index"][2] == joined["index"][0] + REPLAYED_ROW
        if step == 0:
            assert (joined["weights"][2] == 0).all(), "nothing is stored yet"
        else:
            inputs = joined["inputs"][2].tobytes()
            assert inputs in stored
            np.testing.assert_array_equal(joined["initial"][2], stored[inputs])
            assert (joined["weights"][2] == 1).all()
        final = jnp.asarray(np.random.default_rng(step).standard_normal((3, LENGTH, VOCAB)), jnp.float32)
        carry = absorb(carry, joined, final)
        for b in range(2):
            stored[batch["inputs"][b].tobytes()] = final[b]
    held = [row.tobytes() for row in np.asarray(carry.records["inputs"])]
    newest = list(stored)[-3:]
    assert sorted(held) == sorted(newest), "first in, first out, and no replayed row among them"


def test_a_fresh_row_starts_the_same_with_and_without_replay():
    algorithm, batch = replaying(), tiny.batch()
    carry = tiny.fresh(algorithm, rows=2).carry
    joined = jit(lambda: algorithm.augment(Variables(None, carry=carry), batch, KEY, 0))()
    draws, config = Randomness(KEY, batch["index"]), algorithm.config.descent
    expected = jit(lambda: initial_state(config, draws, (LENGTH, VOCAB), jnp.float64))()
    np.testing.assert_array_equal(joined["initial"][:2], expected)


def test_replaying_is_training_on_rows_that_start_from_the_stored_logits():
    algorithm, batch = replaying(), tiny.batch(rows=3)
    batch["initial"] = jnp.asarray(np.random.default_rng(0).standard_normal((3, LENGTH, VOCAB)))
    plain = tiny.ebt(S2_LIKE, conditioning="default", model={"depth": 1})
    programs = [
        str(jax.make_jaxpr(jax.grad(lambda p, a=a: a.loss(p, None, batch, KEY, 0).terms["prediction"].value.mean()))(
            tiny.parameters(plain))) for a in (algorithm, plain)
    ]  # fmt: skip
    assert programs[0] == programs[1]


def test_a_ring_smaller_than_the_rows_it_should_give():
    algorithm, batch = replaying(capacity=1), tiny.batch(rows=4)
    variables = Variables(None, carry=tiny.generic(tiny.shapes(algorithm, rows=4).carry))
    joined = jit(lambda: algorithm.augment(variables, batch, KEY, 0))()
    assert {name: value.shape[0] for name, value in joined.items()} == dict.fromkeys(joined, 5)
    carry = jit(lambda: algorithm.absorb(variables, joined, {"state": jnp.zeros((5, LENGTH, VOCAB))}, KEY, 0))()
    assert (carry.records["inputs"][0] == batch["inputs"][3]).all()


@pytest.mark.slow
def test_microbatches_have_the_gradient_and_records_of_the_whole():
    """Noise, per-token step sizes and a random number of steps included."""
    algorithm = replaying()
    params, batch = tiny.parameters(algorithm), tiny.batch(rows=4, pads=1)
    batch["weights"] = batch["weights"].at[0, 1:].set(0.0)
    batch["initial"] = jnp.asarray(np.random.default_rng(0).standard_normal((4, LENGTH, VOCAB)))
    loss = lambda params, part: algorithm.loss(params, None, part, KEY, 0)
    whole, parts = (jit(lambda p, n=n: gradients(loss, p, batch, n))(params) for n in (1, 2))
    assert_trees_close(parts[0], whole[0], 1e-10, 1e-12)
    assert_trees_close(parts[1].terms, whole[1].terms, 1e-12)
    assert_trees_close(parts[1].records, whole[1].records, 1e-12)


def test_half_precision_runs_and_stays_close():
    """Parameters and products in bfloat16; step size, energies and losses in float32."""
    with jax.enable_x64(False):
        settings = {"descent": {"landscapes": 1}, "conditioning": "default", "model": {"depth": 1}}
        half = tiny.ebt(**settings, precision=Precision(param="bfloat16", compute="bfloat16"))
        single = tiny.ebt(**settings, precision=Precision())
        shapes = tiny.shapes(half).params
        assert shapes["step_size"].dtype == jnp.float32
        assert shapes["network"]["embed"].dtype == jnp.bfloat16
        params, batch = tiny.generic(shapes) | {"step_size": jnp.float32(2), "noise": jnp.float32(0)}, tiny.batch()
        loss = lambda p: half.loss(p, None, batch, KEY, 0).terms["prediction"].value.mean()
        value, gradient = jit(jax.value_and_grad(loss))(params)
        wide = jax.tree.map(lambda p: p.astype(jnp.float32), params)
        expected = jit(lambda p: single.loss(p, None, batch, KEY, 0).terms["prediction"].value.mean())(wide)
    assert value.dtype == jnp.float32
    assert value == pytest.approx(float(expected), rel=0.05)
    assert all(np.isfinite(np.asarray(g, np.float32)).all() for g in jax.tree.leaves(gradient))
    assert gradient["network"]["embed"].dtype == jnp.bfloat16


def test_the_step_size_has_a_group_of_its_own():
    algorithm = tiny.ebt({"step_size_lr_multiplier": 9.0})
    assert algorithm.groups(None) == {"network": "default", "step_size": "step_size", "noise": "noise"}
    options = algorithm.group_options()
    assert (options["step_size"].lr_multiplier, options["step_size"].weight_decay) == (9.0, 0.0)
    assert options["step_size"].trainable and not options["noise"].trainable
    assert not tiny.ebt({"learnable_step_size": False}).group_options()["step_size"].trainable


def test_known_lengths_cover_the_range_that_is_drawn():
    lengths = [a.config.descent for a in replaying().fixed_lengths()]
    assert [(d.min_repeats, d.max_steps) for d in lengths] == [(2, 2), (3, 3)]
    assert len(tiny.ebt().fixed_lengths()) == 1
