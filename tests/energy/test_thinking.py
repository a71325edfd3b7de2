"""Thinking longer, choosing among candidates, and steps that are taken back."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.energy.descent import inner_step, state_energy
from ebm_jax.energy.inner_loop import descend
from ebm_jax.energy.schedule import S2, DescentConfig, Randomness, initial_state
from ebm_jax.energy.thinking import ThinkingConfig, think
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
def thought(config=CONFIG, trained=0.7, **thinking):
    params, keep = toy.parameters(step_size=trained, noise=config.noise), lambda state: state
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
        state, energies, *_ = descend(model, CONFIG, params, toy.data(), start, (1, 1), own)
        context = model.context(params, toy.data(), 1)
        return state, energies, state_energy(model, CONFIG, params, context, toy.data(), state, 1)

    return jit(run)(params)


def test_one_candidate_is_plain_descent():
    state, energies, final = alone(0)
    np.testing.assert_allclose(thought().state, state, rtol=0, atol=1e-13)
    np.testing.assert_allclose(thought().energies_IxBxT, energies, rtol=0, atol=1e-13)
    np.testing.assert_allclose(thought().final_energy_BxT, final, rtol=0, atol=1e-13)
    np.testing.assert_allclose(thought().kept[-1], state, rtol=0, atol=1e-13)


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_side_by_side_or_in_turns():
    """Also where the last group is not full."""
    for at_once in (2, 3):
        together = thought(candidates=3, at_once=at_once)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-13), together, thought(candidates=3))


def test_without_tolerance_every_step_is_taken():
    """A tolerance that nothing misses changes nothing, and 0 is no tolerance."""
    plain, easy = thought(steps=4), thought(steps=4, tolerance=1e-300, patience=5)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), plain, easy)
    assert (plain.passes_BxT == 4).all()


@pytest.mark.parametrize("accept_lower", [False, True])
@pytest.mark.parametrize("patience", [1, 2])
def test_a_position_stops_when_its_energy_stops_falling(patience, accept_lower):
    config = DescentConfig(landscapes=1, space="mirror", step_size=2.0, noise=0.3)
    given = {"steps": 8, "tolerance": 0.05, "patience": patience, "accept_lower": accept_lower}
    full, early = thought(config, 2.0, steps=8, accept_lower=accept_lower), thought(config, 2.0, **given)
    energies = np.concatenate([full.energies_IxBxT, full.final_energy_BxT[None]])
    states = np.concatenate([np.full_like(full.kept[:1], np.nan), full.kept])
    counts = set()
    for b, t in np.ndindex(*energies.shape[1:]):
        quiet, steps, passes = 0, 0, int(accept_lower)
        while steps < 8 and quiet < patience:
            if accept_lower:
                passes, steps = passes + 2, steps + 1
                quiet = quiet + 1 if energies[steps - 1, b, t] - energies[steps, b, t] < 0.05 else 0
            else:
                passes += 1
                quiet = quiet + 1 if steps and energies[steps - 1, b, t] - energies[steps, b, t] < 0.05 else 0
                steps += quiet < patience
        counts.add(steps)
        assert early.passes_BxT[b, t] == passes
        np.testing.assert_allclose(early.state[b, t], states[steps, b, t], rtol=0, atol=1e-13)
        np.testing.assert_array_equal(early.kept[-1, b, t], early.state[b, t])
    assert len(counts) > 1, "positions stop at different steps"


@pytest.mark.slow
def test_step_sizes_are_changed():
    np.testing.assert_allclose(thought(step_size=0.7).state, thought().state, rtol=0, atol=1e-13)
    half = thought(CONFIG, 0.35)
    np.testing.assert_allclose(thought(step_size_scale=0.5).state, half.state, rtol=0, atol=1e-13)
    np.testing.assert_allclose(thought(step_size=0.35).state, half.state, rtol=0, atol=1e-13)
    final_only = thought(step_size=0.35, step_size_final_only=True)
    np.testing.assert_allclose(final_only.kept[0], thought().kept[0], rtol=0, atol=1e-13)
    assert (final_only.kept[1] != thought().kept[1]).all()


@pytest.mark.slow
def test_noise_is_changed():
    silent = thought(DescentConfig(landscapes=2))
    np.testing.assert_allclose(thought(noise=0.0).state, silent.state, rtol=0, atol=1e-13)
    first_only = thought(noise_first_landscape_only=True)
    np.testing.assert_allclose(first_only.kept[0], thought().kept[0], rtol=0, atol=1e-13)
    model, config, params = toy.model(), DescentConfig(), toy.parameters()
    context = model.context(params, toy.data(), 1)
    quiet = inner_step(model, config, params, context, toy.data(), first_only.kept[0], 1, 1, draws(), 0.7)[0]
    np.testing.assert_allclose(first_only.kept[1], quiet, rtol=0, atol=1e-4)


def test_landscapes_may_each_take_many_steps():
    assert thought(steps_per_landscape=2).energies_IxBxT.shape[0] == 4


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
    assert ThinkingConfig(steps=3, accept_lower=True, candidates=2).forward_passes(DescentConfig()) == 16


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"candidates": 0}, "candidates=0 must be at least 1"),
        ({"patience": 0}, "patience=0 must be at least 1"),
        ({"step_size": -1.0}, "step_size=-1.0 must be positive"),
        ({"noise": -1.0}, "noise=-1.0 must not be negative"),
        ({"select": "median"}, "select='median' is not one of min, max, max_gap"),
        ({"steps": 2, "steps_per_landscape": 2}, "give one of them"),
        ({"step_size": 2.0, "curvature": 1.0}, "give one of them"),
        ({"step_size_final_only": True, "curvature": 1.0}, "leave out step_size_final_only"),
    ],
)
def test_a_bad_setting_is_named(change, says):
    with pytest.raises(UserError, match=says):
        ThinkingConfig(**change)
