"""Thinking longer, choosing among candidates, and steps that are taken back."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.energy.descent import descend
from ebm_jax.energy.schedule import S2, DescentConfig, Randomness, initial_state
from ebm_jax.energy.thinking import ThinkingConfig, state_energy, think
from ebm_jax.errors import UserError
from ebm_jax.rng import at_step, stream
from tests.energy import toy
from tests.tiny import jit

pytestmark = pytest.mark.usefixtures("x64")
CONFIG = DescentConfig(landscapes=2, noise=0.3)
SHAPE = (toy.LENGTH, toy.VOCAB)


def draws():
    return Randomness(jax.random.key(5), jnp.arange(toy.ROWS, dtype=jnp.uint32))


@functools.cache
def thought(config=CONFIG, step_size=0.7, **thinking):
    params, keep = toy.parameters(step_size=step_size, noise=config.noise), lambda state: state
    run = lambda params: think(
        toy.model(config.space),
        config,
        ThinkingConfig(**thinking),
        params,
        toy.data(),
        draws(),
        SHAPE,
        jnp.float64,
        keep,
    )
    return jit(run)(params)


@functools.cache
def alone(g):
    """Candidate ``g`` descended by itself: last state, energies of its steps, final energy."""
    own = Randomness(at_step(stream(draws().key, "candidate"), g), draws().index_B)
    model, params = toy.model(), toy.parameters(noise=CONFIG.noise)

    def run(params):
        start = initial_state(CONFIG, own, SHAPE, jnp.float64)
        state, energies = descend(model, CONFIG, params, toy.data(), start, (1, 1), own)
        context = model.context(params, toy.data(), 1)
        return state, energies, state_energy(model, CONFIG, params, context, toy.data(), state, 1)

    return jit(run)(params)


def test_one_candidate_is_plain_descent():
    state, energies, final = alone(0)
    np.testing.assert_allclose(thought().state, state, rtol=0, atol=1e-13)
    np.testing.assert_allclose(thought().energies_IxBxT, energies, rtol=0, atol=1e-13)
    np.testing.assert_allclose(thought().final_energy_BxT, final, rtol=0, atol=1e-13)
    np.testing.assert_allclose(thought().kept[-1], state, rtol=0, atol=1e-13)


@pytest.mark.parametrize("select", ["min", "max", "max_gap"])
def test_every_position_chooses_its_own_candidate(select):
    candidates = [alone(g) for g in range(3)]
    final = np.stack([c[2] for c in candidates])
    gap = np.stack([c[1][0] - c[2] for c in candidates])
    best = {"min": final.argmin(0), "max": final.argmax(0), "max_gap": gap.argmax(0)}[select]
    assert len(np.unique(best)) > 1, "positions differ in what they choose"
    chosen = thought(candidates=3, select=select)
    pick = lambda values: np.take_along_axis(np.stack(values), best[None, ..., None], 0)[0]
    np.testing.assert_allclose(chosen.state, pick([c[0] for c in candidates]), rtol=0, atol=1e-13)
    np.testing.assert_allclose(chosen.final_energy_BxT, np.take_along_axis(final, best[None], 0)[0], rtol=0, atol=1e-13)
    for k in range(2):
        ours, theirs = chosen.energies_IxBxT[k], pick([c[1][k][..., None] for c in candidates])[..., 0]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)
    np.testing.assert_allclose(chosen.kept[-1], chosen.state, rtol=0, atol=1e-13)


def test_more_candidates_never_raise_the_chosen_energy():
    energies = [thought(candidates=g).final_energy_BxT if g > 1 else thought().final_energy_BxT for g in (1, 2, 3, 5)]
    for fewer, more in itertools.pairwise(energies):
        assert (more <= fewer).all()
    assert (energies[-1] < energies[0]).any()


def test_a_step_that_raises_the_energy_is_taken_back():
    """Energies of a landscape never rise, and a rejected position keeps its state, not the softmax of it."""
    config = DescentConfig(landscapes=1, space="mirror", step_size=8.0, noise=0.5)
    careful = thought(config, 8.0, steps=6, accept_lower=True)
    energies = np.concatenate([careful.energies_IxBxT, careful.final_energy_BxT[None]])
    change = np.diff(energies, axis=0)
    assert (change <= 1e-12).all()
    stayed = change == 0
    assert stayed.any() and not stayed.all()
    states = np.asarray(careful.kept)
    same = (states[1:] == states[:-1]).all(-1)
    assert (same == stayed[1:]).all()
    assert (np.diff(thought(config, 8.0, steps=6).energies_IxBxT, axis=0) > 0).any(), "without care some rise"


def test_care_does_not_hinder_steps_that_lower_the_energy():
    config = DescentConfig(landscapes=2, space="mirror", step_size=0.01)
    careful, plain = (thought(config, 0.01, accept_lower=accept) for accept in (True, False))
    np.testing.assert_allclose(careful.state, plain.state, rtol=0, atol=1e-13)
    np.testing.assert_allclose(careful.energies_IxBxT, plain.energies_IxBxT, rtol=0, atol=1e-13)


def test_thinking_is_the_same_every_time():
    again = thought.__wrapped__(candidates=3)
    assert all((a == b).all() for a, b in zip(again, thought(candidates=3), strict=True))


def test_steps_are_given_to_the_landscapes():
    assert ThinkingConfig().repeats(S2) == (3,)
    assert ThinkingConfig(steps=5).repeats(DescentConfig(landscapes=3)) == (1, 1, 3)
    assert ThinkingConfig(steps=2).repeats(DescentConfig(landscapes=3)) == (1, 1)


def test_forward_passes():
    assert ThinkingConfig().forward_passes(S2) == 3
    assert ThinkingConfig(steps=3, candidates=10).forward_passes(S2) == 40
    assert ThinkingConfig(steps=3, accept_lower=True).forward_passes(S2) == 7, "one before the first step, two a step"
    assert ThinkingConfig(steps=3, accept_lower=True, candidates=2).forward_passes(DescentConfig()) == 18


@pytest.mark.parametrize("change", [{"steps": 0}, {"candidates": 0}])
def test_a_bad_setting_is_named(change):
    with pytest.raises(UserError, match=f"{next(iter(change))}=0 must be at least 1"):
        ThinkingConfig(**change)
