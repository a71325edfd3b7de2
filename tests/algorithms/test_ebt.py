"""The EBT's loss: gradients against finite differences and a naive model, padding, packing, rows, replay, precision."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import rng
from ebm_jax.energy.schedule import Randomness, training_step_sizes
from experiments.bench import naive
from tests import tiny
from tests.tiny import LENGTH, VOCAB, assert_trees_close, jit

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(7)

RECIPES = {
    # name: (algorithm, landscapes of the steps, mode of the naive descent, loss on the last step alone)
    "S1": ({"conditioning": "time_embed"}, {}, (0, 1), "detach", False),
    "S2: noise, step sizes per token, last step": (
        {"conditioning": "default"},
        {"landscapes": 1, "random_repeats": 1, "min_repeats": 2, "detach": False, "loss_on": "last_step", "noise": 0.5,
             "step_size_spread": 2.0, "learnable_step_size": False},
        (0, 0), "truncate", True,
    ),
    "attached": ({"conditioning": "adaln"}, {"detach": False}, (0, 1), "attach", False),
    "tied, step sizes per token": (
        {"conditioning": "default", "tied": True}, {"step_size_spread": 2.0}, (0, 1), "detach", False),
}  # fmt: skip


@functools.cache
def algorithm(name):
    settings, descent, *_ = RECIPES[name]
    return tiny.ebt(descent, model={"depth": 2 if name == "S1" else 1}, **settings)


def rows():
    batch = tiny.batch(pads=1)
    start = np.random.default_rng(4).standard_normal((2, LENGTH, VOCAB))
    return batch | {"initial": jnp.asarray(start)}


@functools.cache
def compiled(name):
    """``(params, batch) -> ((loss, metrics), gradient)``."""

    def loss(params, batch):
        output = algorithm(name).loss(params, None, batch, KEY, 0)
        return output.terms["prediction"].value.mean(), output.metrics

    return jit(jax.value_and_grad(loss, has_aux=True))


@functools.cache
def ours(name):
    return compiled(name)(tiny.parameters(algorithm(name)), rows())


@functools.cache
def naive_loss(name):
    settings, _, landscapes, mode, last_only = RECIPES[name]
    config, draws = algorithm(name).config.descent, Randomness(KEY, rows()["index"])
    factor = training_step_sizes(config, jnp.asarray(1.0), draws, (LENGTH, 1))
    langevin = rng.stream(KEY, "langevin")
    noises = [rng.normal_rows(rng.at_step(langevin, k), draws.index_B, (LENGTH, VOCAB), jnp.float64) for k in range(2)]
    return functools.partial(
        naive.loss, conditioning=settings["conditioning"], tied=settings.get("tied", False),
        batch=naive.with_mask(rows(), settings["conditioning"]), z=rows()["initial"], landscapes=landscapes,
        factor=factor, noises=noises if config.noise else [0.0, 0.0], mode=mode, last_only=last_only,
    )  # fmt: skip


@functools.cache
def naive_value(name):
    """``(params, starts) -> (loss, states that the steps begin from)``."""
    loss = naive_loss(name)
    return jit(lambda params, starts=None: loss(params, starts=starts))


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_gradient_is_reverse_over_reverse_of_the_naive_model(name):
    """Both streams in one sequence, gradients in the probabilities, nothing shared between steps."""
    gradient, params, loss = ours(name)[1], tiny.parameters(algorithm(name)), naive_loss(name)
    expected = jit(jax.grad(lambda params: loss(params)[0]))(params) | {"noise": jnp.zeros(())}
    if not algorithm(name).config.descent.learnable_step_size:
        assert gradient["step_size"] == 0
        expected["step_size"] = jnp.zeros(())
    assert_trees_close(gradient, expected, 1e-9, 1e-12)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "S1")) for n in RECIPES])
def test_loss_is_the_naive_one_and_its_gradient_the_central_difference(name):
    """Along a random direction; the states that steps begin from are held where their gradient is cut."""
    params, value = tiny.parameters(algorithm(name)), naive_value(name)
    (loss, _), gradient = ours(name)
    expected, starts = value(params)
    np.testing.assert_allclose(loss, expected, rtol=1e-11)
    learned = {"network"} | ({"step_size"} if algorithm(name).config.descent.learnable_step_size else set())
    direction = {k: v if k in learned else jnp.zeros(()) for k, v in tiny.generic(params, seed=11).items()}
    held = None if RECIPES[name][3] == "attach" else starts
    h = 1e-5
    up, down = (value(jax.tree.map(lambda p, d, s=s: p + s * h * d, params, direction), held)[0] for s in (1, -1))
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)))
    np.testing.assert_allclose(slope, (up - down) / (2 * h), rtol=1e-6)


def test_what_stands_in_the_padding_changes_nothing():
    params, batch = tiny.parameters(algorithm("S1")), rows()
    junk = batch | {
        "inputs": batch["inputs"].at[:, -1].set(9),
        "targets": batch["targets"].at[:, -1].set(3),
        "initial": batch["initial"].at[:, -1].set(2.0),
    }
    (loss, _), gradient = compiled("S1")(params, junk)
    np.testing.assert_allclose(loss, ours("S1")[0][0], rtol=1e-13)
    assert_trees_close(gradient, ours("S1")[1], 1e-11, 1e-13)


def test_packed_documents_have_the_loss_and_gradient_of_documents_alone():
    """Two documents (2 and 3 tokens) in one row beside an empty row, and each in a row of its own."""
    params, batch = tiny.parameters(algorithm("S1")), tiny.batch() | {"initial": rows()["initial"]}
    integers = lambda *values: jnp.asarray(values, jnp.int32)
    scored = lambda *values: jnp.asarray(values, jnp.float32)
    packed = batch | {
        "segments": integers([1, 1, 2, 2, 2], [0] * 5),
        "positions": integers([0, 1, 0, 1, 2], [0] * 5),
        "weights": scored([1] * 5, [0] * 5),
    }
    apart = lambda x: jnp.stack([x[0], jnp.roll(x[0], -2, axis=0)])
    alone = {k: apart(batch[k]) for k in ("inputs", "targets", "initial")} | {
        "segments": integers([1, 1, 0, 0, 0], [1, 1, 1, 0, 0]),
        "positions": integers([0, 1, 0, 0, 0], [0, 1, 2, 0, 0]),
        "weights": scored([1, 1, 0, 0, 0], [1, 1, 1, 0, 0]),
        "index": batch["index"],
    }
    (together, _), gradient = compiled("S1")(params, packed)
    (separate, _), separate_gradient = compiled("S1")(params, alone)
    np.testing.assert_allclose(together, separate, rtol=1e-12)
    assert_trees_close(gradient, separate_gradient, 1e-10, 1e-12)


def test_the_loss_does_not_depend_on_the_length_of_the_padding():
    params, batch = tiny.parameters(algorithm("S1")), rows()
    longer = {k: jnp.pad(v, [(0, 0), (0, 2)] + [(0, 0)] * (v.ndim - 2)) if v.ndim > 1 else v for k, v in batch.items()}
    value = jit(lambda: algorithm("S1").loss(params, None, longer, KEY, 0).terms["prediction"].value.mean())()
    np.testing.assert_allclose(value, ours("S1")[0][0], rtol=1e-12)


def test_metrics_describe_the_first_and_the_last_step():
    (loss, metrics), _ = ours("S1")
    np.testing.assert_allclose((metrics["nll_first"].mean() + metrics["nll"].mean()) / 2, loss, rtol=1e-12)
    assert metrics["inner_steps"].mean() == 2
    assert metrics["step_size"].mean() == 2.0
    assert metrics["nll"].weight == 2 * (LENGTH - 1)


@pytest.mark.slow
def test_smoothed_targets_and_the_contrast_of_energies():
    """Step i of K is smoothed by lambda (K-1-i)/(K-1); E(true) is read on the last landscape, E(found) before its step."""
    smoothing, coef, logit = 0.3, 0.2, 1.5
    model = tiny.ebt(
        label_smoothing=smoothing,
        contrastive_coef=coef,
        contrastive_logit=logit,
        prediction_coef=0.7,
        model={"depth": 1},
    )
    params, batch = tiny.parameters(model), rows()
    wide = naive.with_mask(batch, "time_embed")

    @jit
    def value(params, starts):
        z, total, seen = batch["initial"], 0.0, []
        for k in range(2):
            z = z if starts is None else starts[k]
            seen.append(z)
            z, energy = naive.step(params, "time_embed", False, wide, z, k, params["step_size"])
            uniform = -(jax.nn.log_softmax(z).mean(-1) * batch["weights"]).sum() / batch["weights"].sum()
            s = smoothing * (1 - k)
            total += 0.7 * ((1 - s) * naive.cross_entropy(z, batch) + s * uniform) / 2
        true = jax.nn.softmax(logit * (2 * jax.nn.one_hot(batch["targets"], VOCAB) - 1))
        cells = batch["inputs"], batch["positions"], wide["mask"]
        at_true = naive.energies(params["network"], "time_embed", cells, true @ params["network"]["candidate_embed"], 1)
        contrast = -jax.nn.log_softmax(jnp.stack([-at_true, -energy]), axis=0)[0]
        return total + coef * (contrast * batch["weights"]).sum() / batch["weights"].sum(), seen

    loss = lambda params: model.loss(params, None, batch, KEY, 0).terms["prediction"].value.mean()
    ours, gradient = jit(jax.value_and_grad(loss))(params)
    expected, starts = value(params, None)
    np.testing.assert_allclose(ours, expected, rtol=1e-11)
    direction, h = tiny.generic(params, seed=11) | {"noise": jnp.zeros(())}, 1e-5
    up, down = (value(jax.tree.map(lambda p, d, s=s: p + s * h * d, params, direction), starts)[0] for s in (1, -1))
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)))
    np.testing.assert_allclose(slope, (up - down) / (2 * h), rtol=1e-6)


def test_a_zero_head_starts_at_the_uniform_distribution():
    """E = 0 gives z' = p, whose softmax is nearly uniform: the cross-entropy is ln V, and the head still learns."""
    vocab = 211
    model = tiny.ebt({"landscapes": 1}, head_init="zero", vocab=vocab, model={"depth": 1})
    params, batch = tiny.parameters(model), tiny.batch(vocab=vocab)
    head = jnp.zeros(tiny.WIDTH)

    def loss(head):
        output = model.loss(params | {"network": params["network"] | {"head": head}}, None, batch, KEY, 0)
        return output.terms["prediction"].value.mean()

    value, gradient = jit(jax.value_and_grad(loss))(head)
    assert value == pytest.approx(math.log(vocab), abs=1e-2)
    assert np.abs(gradient).max() > 1e-6
