"""Wide states in pieces of time: the same noise, states, losses and gradients as whole ones, and less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import pieces, rng
from ebm_jax.algorithm import Variables
from ebm_jax.energy.inner_loop import descend
from ebm_jax.energy.objective import Descent, descent_objective
from ebm_jax.energy.schedule import DescentConfig, Randomness
from ebm_jax.losses.cross_entropy import cross_entropy
from ebm_jax.pieces import Pieces, pieces_of
from tests import tiny
from tests.energy import toy

pytestmark = pytest.mark.usefixtures("x64")

CASES = {
    "every step": {},
    "last step, noisy": {"loss_on": "last_step", "noise": 0.5},
    "clamped": {"clamp_gradient": 0.05, "clamp_state": 0.6, "temperature": 0.5},
    "logit": {"space": "logit"},
    "softmax on the first landscape": {"normalise": "first_landscape"},
    "attached": {"detach": False},
    "learned noise": {"noise": 0.5, "learnable_noise": True},
}


def make_wide(monkeypatch, vocab):
    """Lets this vocabulary count as wide."""
    monkeypatch.setattr(pieces, "WIDE", vocab)


def observe(params, context, step, data, last):
    """Adds up positions, as an additive observer must."""
    nll = cross_entropy(step.state, data["targets"]).sum()
    is_last = jnp.asarray(step.number == step.total - 1)
    return nll / step.total + jnp.where(is_last, nll, 0.0), {"nll": nll, "energy": step.energies.sum()}


def function_of(settings):
    """``params -> ((loss, (state, kept)), gradient)`` of a descent with random step sizes, and its states without loss."""
    config = DescentConfig(landscapes=2, random_repeats=1, **settings)
    model, repeats, draws = toy.model(config.space), (1, 2), Randomness(jax.random.key(0), jnp.arange(toy.ROWS))

    def sizes(params, draws, shape):
        return params["step_size"] * rng.uniform_rows(draws.key, draws.index_B, (shape[1], 1), jnp.float64)

    descent = Descent(model, config, observe, sizes, additive=True)
    start = (toy.data(), toy.initial(), repeats, draws)
    trained = jax.value_and_grad(lambda p: descent_objective(descent, p, *start), has_aux=True)
    return lambda params: (trained(params), descend(model, config, params, *start))


EVERY_DAY = ("every step", "last step, noisy", "clamped")


@pytest.mark.parametrize("case", [pytest.param(c, marks=[pytest.mark.slow] * (c not in EVERY_DAY)) for c in CASES])
def test_pieces_give_what_the_whole_gives(case, monkeypatch):
    params = toy.parameters(noise=0.5)
    whole = tiny.jit(function_of(CASES[case]))(params)
    make_wide(monkeypatch, toy.VOCAB)
    assert pieces_of(toy.initial().shape).number == toy.LENGTH
    tiny.assert_trees_close(tiny.jit(function_of(CASES[case]))(params), whole, 1e-12)


@pytest.mark.slow
def test_an_ebt_in_pieces_is_the_ebt(monkeypatch):
    """With its own loss: softened labels, padding, random step sizes, a shared context and candidates to choose from."""
    descent = {"landscapes": 2, "noise": 0.5, "step_size_spread": 2.0}
    algorithm = tiny.ebt(descent, conditioning="default", label_smoothing=0.2, model={"depth": 1})
    params, batch, key = tiny.parameters(algorithm), tiny.batch(length=4, pads=1), jax.random.key(3)

    def loss(params):
        output = algorithm.loss(params, Variables(params), batch, key, 0)
        return output.terms["prediction"].value.mean(), output.metrics

    def results():
        both = lambda p: (jax.value_and_grad(loss, has_aux=True)(p), algorithm.think(p, batch, key))
        return tiny.jit(both)(params)

    whole = results()
    make_wide(monkeypatch, tiny.VOCAB)
    tiny.assert_trees_close(results(), whole, 1e-12)


def test_no_array_is_made_whole_where_pieces_suffice(monkeypatch):
    """Of arrays as wide as the state, the program of a gradient has those that live from piece to piece, and no others."""
    make_wide(monkeypatch, toy.VOCAB)
    trained = lambda params: function_of({"noise": 0.5})(params)[0]
    text = str(jax.make_jaxpr(trained)(toy.parameters()))
    shape = f"f64[{toy.ROWS},{toy.LENGTH},{toy.VOCAB}] = "
    made = {line.split(shape)[1].split()[0].split("[")[0] for line in text.splitlines() if shape in line}
    assert made <= {"broadcast_in_dim", "dynamic_update_slice", "scan"}, made


@pytest.mark.slow
def test_a_part_of_a_row_has_the_noise_of_the_whole():
    key, index = jax.random.key(1), jnp.arange(3, dtype=jnp.uint32)
    for draw in (rng.normal_rows, rng.uniform_rows):
        all_of_it = draw(key, index, (6, 5), jnp.float32)
        assert (draw(key, index, (2, 5), jnp.float32, 3) == all_of_it[:, 3:5]).all()
        assert (draw(key, index[1:2], (6, 5), jnp.float32) == all_of_it[1:2]).all()
    values = np.asarray(rng.normal_rows(key, index, (50, 40), jnp.float32))
    assert abs(values.mean()) < 0.05 and abs(values.std() - 1) < 0.05
    assert len(np.unique(values)) > 0.99 * values.size


def test_pieces_divide_the_time_of_wide_arrays_only():
    assert pieces_of((4, 256, 50277)) == Pieces(8, 32)
    assert pieces_of((4, 30, 50277)) == Pieces(6, 5)
    assert pieces_of((4, 257, 50277)) == Pieces(1, 257), "a prime length stays whole"
    assert pieces_of((4, 256, 256)) == Pieces(1, 256)
    assert pieces_of((4, 64, 64, 50277)) == Pieces(1, 64), "pixels have no time axis"


def test_joining_and_replacing():
    cut = Pieces(3, 2)
    x = jnp.arange(12.0).reshape(1, 6, 2)
    doubled = cut.join(lambda piece: 2 * cut.cut(x, piece))
    np.testing.assert_array_equal(doubled, 2 * x)
    added = cut.replace(x, lambda own, piece: own + piece)
    np.testing.assert_array_equal(added[0, :, 0] - x[0, :, 0], [0, 0, 1, 1, 2, 2])
    rows, shared = jnp.zeros(1), jnp.zeros((1, 1, 2))
    kept = cut.cut({"rows": rows, "shared": shared}, 1)
    assert kept["rows"] is rows and kept["shared"] is shared
