"""The training loss and its gradient, accumulated step by step, against finite differences and a written-out descent."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.energy.descent import fixed_step_size
from ebm_jax.energy.objective import Descent, descent_objective
from ebm_jax.energy.schedule import DescentConfig, Randomness
from tests.energy import toy
from tests.tiny import assert_trees_close, jit

pytestmark = pytest.mark.usefixtures("x64")

CASES = {
    "every step": {"landscapes": 2},
    "every step, one landscape": {"landscapes": 1},
    "last step": {"landscapes": 2, "loss_on": "last_step"},
    "attached": {"landscapes": 2, "detach": False},
    "softmax on the first landscape": {"landscapes": 3, "normalise": "first_landscape"},
}
REPEATS = {
    "every step": (1, 1), "every step, one landscape": (3,), "last step": (1, 2), "attached": (1, 1),
    "softmax on the first landscape": (1, 1, 1),
}  # fmt: skip


def objective(settings, repeats, *, shared=False, unroll=False, last_differs=False, shift=0.0):
    """``params -> (loss, (state, kept))``; ``repeats`` may be arrays."""
    config = DescentConfig(**settings)
    model = toy.model(config.space, shared=shared, shift=shift)
    sizes = lambda params, draws, shape: fixed_step_size(params)
    descent = Descent(model, config, toy.observer(config.loss_on), sizes, last_differs, unroll)
    draws = Randomness(jax.random.key(0), jnp.arange(toy.ROWS, dtype=jnp.uint32))
    return lambda params, repeats=repeats: descent_objective(descent, params, toy.data(), toy.initial(), repeats, draws)


def with_gradient(function):
    return jit(jax.value_and_grad(function, has_aux=True))


def fixed_random(settings, most):
    """Settings under which ``most`` steps a landscape may be drawn."""
    return settings | {"random_repeats": most - 1}


def naive_arguments(name):
    settings = CASES[name]
    mode = "attach" if not settings.get("detach", True) else "detach"
    return {
        "repeats": REPEATS[name],
        "mode": mode,
        "last_only": settings.get("loss_on") == "last_step",
        "normalise": settings.get("normalise", "every_step"),
    }


@functools.cache
def ours(name):
    settings = fixed_random(CASES[name], max(REPEATS[name]))
    return with_gradient(objective(settings, REPEATS[name]))(toy.parameters())


@functools.cache
def written_out(**arguments):
    return with_gradient(functools.partial(toy.naive_loss, **arguments))(toy.parameters())


def naive(name):
    return written_out(**naive_arguments(name))


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_reverse_over_reverse_of_the_written_out_descent(name):
    (loss, (state, kept)), gradient = ours(name)
    (expected, (_, made)), expected_gradient = naive(name)
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    np.testing.assert_allclose(state, made[-1], rtol=0, atol=1e-12)
    steps = sum(REPEATS[name])
    assert (kept["nll"][steps:] == 0).all()
    logp = jax.nn.log_softmax(jnp.stack(made))
    picked = jnp.take_along_axis(logp, jnp.stack([toy.data()["targets"]] * steps)[..., None], -1)
    np.testing.assert_allclose(kept["nll"][:steps], -picked.sum((1, 2, 3)), rtol=1e-12)
    assert_trees_close(gradient, expected_gradient, 1e-12)


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_the_central_difference(name):
    """Along a random direction; where states are detached they are held at what they were."""
    params, arguments = toy.parameters(), naive_arguments(name)
    direction = toy.parameters(seed=9) | {"step_size": jnp.asarray(0.3), "noise": jnp.zeros(())}
    starts = naive(name)[0][1][0] if arguments["mode"] == "detach" else None
    value = jit(lambda params: toy.naive_loss(params, starts=starts, **arguments)[0])
    h = 1e-5
    up, down = (value(jax.tree.map(lambda p, d, s=s: p + s * h * d, params, direction)) for s in (1, -1))
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), ours(name)[1], direction)))
    np.testing.assert_allclose(slope, (up - down) / (2 * h), rtol=1e-6)


def test_gradient_of_a_detached_descent_is_two_first_order_passes():
    """With v = dJ/dz':  dJ/dtheta = -alpha d/dtheta [d/deps sum E(p + eps v)]  and  dJ/dalpha = -<v, g>."""
    params, model, data = toy.parameters(), toy.model(), toy.data()
    (_, (starts, made)), _ = naive("every step")

    def energy(params, p, m):
        return model.energy(params, model.context(params, data, m), data, p @ params["table"], m).sum()

    @jit
    def two_passes(params, start, after, m):
        p = jax.nn.softmax(start)
        nll = lambda z: -jnp.take_along_axis(jax.nn.log_softmax(z), data["targets"][..., None], -1).sum()
        v = jax.grad(nll)(after) / len(starts)
        along = lambda params: jax.jvp(lambda p: energy(params, p, m), (p,), (v,))[1]
        by_params = jax.tree.map(lambda g: -params["step_size"] * g, jax.grad(along)(params))
        return by_params | {"step_size": -jnp.sum(v * jax.grad(energy, argnums=1)(params, p, m))}

    steps = [two_passes(params, start, after, m) for m, (start, after) in enumerate(zip(starts, made, strict=True))]
    assert_trees_close(ours("every step")[1], jax.tree.map(jnp.add, *steps), 1e-12)


def test_truncating_is_detaching_where_the_step_size_is_fixed():
    """Un-detached and truncated == detached with the loss on the last step; un-truncated differs."""

    def but_alpha(tree):
        return {k: v for k, v in tree.items() if k != "step_size"}

    arguments = {"repeats": REPEATS["last step"], "last_only": True}
    truncated, attached = (
        jit(jax.grad(lambda p, mode=mode: toy.naive_loss(p, mode=mode, **arguments)[0]))(toy.parameters())
        for mode in ("truncate", "attach")
    )
    gradient = ours("last step")[1]
    assert_trees_close(but_alpha(gradient), but_alpha(truncated), 1e-12)
    assert np.abs(gradient["mix"] - attached["mix"]).max() > 1e-3
    settings = fixed_random(CASES["last step"] | {"detach": False}, 2)
    undetached = with_gradient(objective(settings, REPEATS["last step"]))(toy.parameters())[1]
    assert_trees_close(undetached, gradient, 0, 0)


@pytest.mark.parametrize("name", ["every step", "last step", "attached"])
def test_drawn_counts_are_those_counts_written_out(name):
    """Two landscapes of one to three steps in one program: loss, gradient, last state, observations."""
    drawn = with_gradient(objective(CASES[name] | {"random_repeats": 2}, None))
    for repeats in (REPEATS[name], (2, 1)):
        (loss, (state, kept)), gradient = drawn(toy.parameters(), tuple(jnp.int32(r) for r in repeats))
        arguments = naive_arguments(name) | {"repeats": repeats}
        (expected, (_, made)), expected_gradient = written_out(**arguments)
        np.testing.assert_allclose(loss, expected, rtol=1e-13)
        np.testing.assert_allclose(state, made[-1], rtol=0, atol=1e-13)
        assert_trees_close(gradient, expected_gradient, 1e-12)
        assert kept["nll"].shape == (6,)
        for values in kept.values():
            assert (values[: sum(repeats)] != 0).all()
            assert (values[sum(repeats) :] == 0).all()
    assert drawn._cache_size() == 1


def test_drawn_counts_share_a_context():
    settings = CASES["every step"] | {"random_repeats": 2}
    drawn = with_gradient(objective(settings, None, shared=True))(toy.parameters(), (jnp.int32(2), jnp.int32(1)))
    written = with_gradient(objective(settings, (2, 1), shared=True))(toy.parameters())
    assert_trees_close(drawn, written, 1e-12)


def test_drawn_counts_of_three_landscapes():
    settings = CASES["every step"] | {"landscapes": 3, "random_repeats": 2}
    drawn = with_gradient(objective(settings, None))(toy.parameters(), tuple(jnp.int32(r) for r in (2, 1, 3)))
    written = written_out(**naive_arguments("every step") | {"repeats": (2, 1, 3)})
    np.testing.assert_allclose(drawn[0][0], written[0][0], rtol=1e-13)
    assert_trees_close(drawn[1], written[1], 1e-12)


@pytest.mark.parametrize("name", ["every step", pytest.param("attached", marks=pytest.mark.slow)])
def test_only_the_last_landscape_repeats(name):
    settings = CASES[name] | {"landscapes": 3, "random_repeats": 2, "random_final_only": True}
    (loss, _), gradient = with_gradient(objective(settings, None))(toy.parameters(), (1, 1, jnp.int32(2)))
    (expected, _), expected_gradient = written_out(**naive_arguments(name) | {"repeats": (1, 1, 2)})
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    assert_trees_close(gradient, expected_gradient, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("shared", "loss_on"), [(False, "last_step"), (True, "every_step")])
def test_unrolled_steps_are_the_loop(shared, loss_on):
    settings = fixed_random({"landscapes": 3, "loss_on": loss_on}, 2)
    both = [
        with_gradient(objective(settings, (1, 1, 2), shared=shared, unroll=unroll))(toy.parameters())
        for unroll in (False, True)
    ]
    assert_trees_close(both[0], both[1], 1e-13)


def test_writing_the_last_step_out_changes_nothing():
    settings = fixed_random({"landscapes": 2}, 2)
    both = [with_gradient(objective(settings, (1, 2), last_differs=apart))(toy.parameters()) for apart in (False, True)]
    assert_trees_close(both[0], both[1], 1e-13)


@pytest.mark.parametrize("name", ["every step", "attached"])
def test_the_loss_alone_is_the_loss_with_a_gradient(name):
    alone = jit(objective(CASES[name], REPEATS[name]))(toy.parameters())
    assert_trees_close(alone, ours(name)[0], 1e-13)


def test_a_jitted_objective_can_be_differentiated_from_outside():
    """Counts then arrive as arrays."""
    function = jax.jit(objective(fixed_random(CASES["last step"], 2), REPEATS["last step"]))
    gradient = jax.grad(lambda p: function(p)[0])(toy.parameters())
    assert_trees_close(gradient, ours("last step")[1], 1e-12)


def test_a_constant_added_to_the_energy_gets_no_gradient():
    (loss, (state, _)), gradient = with_gradient(objective(CASES["every step"], (1, 1), shift=5.0))(toy.parameters())
    (expected, (expected_state, _)), expected_gradient = ours("every step")
    np.testing.assert_allclose(loss, expected, rtol=1e-14)
    np.testing.assert_allclose(state, expected_state, rtol=0, atol=1e-14)
    assert_trees_close(gradient, expected_gradient, 1e-13)


def test_the_state_carries_no_gradient():
    function = objective(CASES["attached"], (1, 1))
    gradient = jit(jax.grad(lambda p: function(p)[1][0].sum()))(toy.parameters())
    assert all((g == 0).all() for g in jax.tree.leaves(gradient))
