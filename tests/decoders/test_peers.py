"""The peers of a chain, on the toy: those that claim a law have it, the others have the one that can be enumerated."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ebm_jax.decoders.lookahead import ETS, ScalablePower
from ebm_jax.decoders.power import PowerSampling
from ebm_jax.decoders.rejection import SpeculativeRejection
from ebm_jax.decoders.smc import SMC
from ebm_jax.decoders.tempering import Tempering
from ebm_jax.decoding.markov.acceptance import TargetConfig
from ebm_jax.decoding.markov.cuts import CutConfig
from ebm_jax.decoding.sampling import SamplingConfig
from tests.decoders.on_toy import expected, law_of, run, worth
from tests.decoding.markov import toy

PROMPTS = 4000
BOUND = 2 * expected(PROMPTS)
TILT, SQUARE = TargetConfig(inv_temp=toy.INV_TEMP), TargetConfig(inv_temp=0.0, power=2.0)
HALF = SamplingConfig(temperature=0.5)
POWER = PowerSampling(target=SQUARE, sampling=HALF, block=2, steps=30)
SQUARED = toy.normalised(toy.P**2)


def far(method, law, **how) -> float:
    return toy.total_variation(law_of(run(method, range(PROMPTS), **how)[0]), law)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["length", pytest.param("horizon", marks=pytest.mark.slow)])
def test_power_sampling_has_the_power_law(law):
    assert far(replace(POWER, cuts=CutConfig(law=law)), SQUARED, reward=None) < BOUND


@pytest.mark.slow
def test_powers_and_rewards_together():
    both = replace(POWER, target=TargetConfig(inv_temp=0.8, power=2.0))
    assert far(both, toy.normalised(toy.P**2 * np.exp(0.8 * toy.REWARDS))) < BOUND


def released(steps: int) -> dict[tuple[int, ...], float]:
    """The law of the released code's chain by its transition matrix: one stage, proposals no longer than the response."""
    tempered = lambda y, t, cut=0: sum(toy.log_probs(y[:n], t)[y[n]] for n in range(cut, len(y)))
    states = [y for n in range(1, 5) for y in itertools.product(range(3), repeat=n) if toy.END not in y[:-1]]
    at = {y: n for n, y in enumerate(states)}
    moves = np.zeros((len(states), len(states)))
    for y in states:
        for cut in range(len(y)):
            new = [z for z in states if z[:cut] == y[:cut] and cut < len(z) and (len(z) == len(y) or z[-1] == toy.END)]
            for z in (z for z in new if len(z) <= len(y)):
                weight = lambda x, cut=cut: 2 * tempered(x, 1.0, cut) - tempered(x, 0.5, cut)
                chance = np.exp(tempered(z, 0.5, cut)) / len(y)
                taken = min(1.0, np.exp(weight(z) - weight(y[: len(z)])))
                moves[at[y], at[z]] += chance * taken
                moves[at[y], at[y]] += chance * (1 - taken)
    np.testing.assert_allclose(moves.sum(1), 1)
    law = np.zeros(len(states))
    law[[at[y] for y in toy.RESPONSES]] = [np.exp(tempered(y, 0.5)) for y in toy.RESPONSES]
    return dict(zip(states, law @ np.linalg.matrix_power(moves, steps), strict=True))


@pytest.mark.parametrize("steps", [0, 5, pytest.param(50, marks=pytest.mark.slow)])
def test_the_released_code_is_as_its_moves_and_drifts(steps):
    method = replace(POWER, block=toy.HORIZON, steps=steps, compat="rws")
    found, _ = run(method, range(PROMPTS), reward=None)
    law = released(steps)
    counts = Counter(response.tokens for response in found.responses)
    assert sum(abs(counts[y] / PROMPTS - p) for y, p in law.items()) / 2 < BOUND
    assert toy.total_variation(law_of(found), SQUARED) > 0.2


@pytest.mark.slow
def test_in_the_released_code_responses_shrink_for_ever():
    found, _ = run(replace(POWER, block=toy.HORIZON, steps=300, compat="rws"), range(300), reward=None)
    assert np.mean([len(response.tokens) == 1 for response in found.responses]) > 0.8


REWARD_SMC = SMC(target=TILT, particles=64, block=2)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [
    {}, *(pytest.param(other, marks=pytest.mark.slow) for other in (
        {"prefix_rewards": False}, {"moves": 0, "threshold": 1.0}, {"block": 1}
    )),
])  # fmt: skip
def test_reward_smc_nears_the_tilted_law(changes):
    # Resampling by what prefixes are worth here leaves a bias of that order.
    assert far(replace(REWARD_SMC, **changes), toy.PI) < BOUND + 2 / REWARD_SMC.particles


@pytest.mark.slow
def test_with_more_particles_the_bias_of_resampling_is_less():
    few, many = (replace(REWARD_SMC, particles=n, moves=0, threshold=1.0) for n in (8, 64))
    assert far(many, toy.PI) < far(few, toy.PI) - BOUND


@pytest.mark.slow
def test_smc_tells_the_normaliser():
    found, _ = run(replace(REWARD_SMC, threshold=0.9), range(3000))
    assert np.log(np.mean(np.exp(found.log["log_z"]))) == pytest.approx(toy.FACTS["log Z"], abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("ramp", [0, 3])
def test_power_smc_nears_the_power_law(ramp):
    method = SMC(target=SQUARE, sampling=HALF, particles=64, block=1, ramp=ramp, threshold=0.8)
    assert far(method, SQUARED, reward=None) < BOUND


def test_one_particle_is_a_plain_sample():
    assert far(SMC(target=TILT, particles=1, block=2, moves=0, threshold=0.0), toy.P) < BOUND


@pytest.mark.slow
def test_ets_nears_the_tilted_law_and_with_one_block_is_importance_resampling():
    assert far(ETS(inv_temp=toy.INV_TEMP, candidates=24, rollouts=8, block=2), toy.PI) < 1.5 * BOUND
    few = ETS(inv_temp=toy.INV_TEMP, candidates=2, rollouts=1, block=toy.HORIZON)
    weight = np.exp(toy.INV_TEMP * toy.REWARDS)
    pairs = 2 * toy.P[:, None] * toy.P * weight[:, None] / (weight[:, None] + weight)
    assert far(few, pairs.sum(1)) < BOUND < toy.total_variation(pairs.sum(1), toy.PI)


@pytest.mark.parametrize("sampling", [SamplingConfig(temperature=1.0), HALF], ids=["plain", "tempered"])
def test_power_sampling_by_rollouts_nears_the_power_law(sampling):
    method = ScalablePower(power=2.0, sampling=sampling, candidates=24, rollouts=8, block=2, ahead=4)
    assert far(method, SQUARED, reward=None) < 1.5 * BOUND


@pytest.mark.slow
def test_the_jackknife_takes_bias_away():
    few = ScalablePower(
        power=4.0, sampling=SamplingConfig(temperature=1.0), candidates=16, rollouts=2, block=1, ahead=4
    )
    law = toy.normalised(toy.P**4)
    assert far(few, law, reward=None) < far(replace(few, jackknife=False), law, reward=None)


@pytest.mark.slow
def test_tempered_chains_have_the_tilted_law():
    assert far(Tempering(target=TILT, rungs=3, steps=8), toy.PI) < BOUND


@pytest.mark.slow
def test_speculative_rejection_finds_nearly_the_best_for_less():
    of = lambda block: run(SpeculativeRejection(samples=16, block=block), range(500))
    (whole, all_of_it), (early, some) = of(toy.HORIZON), of(1)
    assert some.account.tokens.sum() < 0.8 * all_of_it.account.tokens.sum()
    assert toy.P @ toy.REWARDS < early.rewards.mean() <= whole.rewards.mean()
    assert early.log["left"] == [16, 8, 4, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        POWER,
        REWARD_SMC,
        ETS(inv_temp=1.0, candidates=4, rollouts=2, block=2),
        ScalablePower(power=2.0, candidates=4, rollouts=2, block=2),
        Tempering(target=TILT),
        SpeculativeRejection(samples=8, block=2),
    ],
    ids=lambda method: type(method).__name__,
)
def test_prompts_do_not_depend_on_each_other(method):
    together, _ = run(method, range(4))
    alone, _ = run(method, [2])
    assert alone.responses == together.responses[2:3]


def test_a_twist_that_is_exact_leaves_little_to_resample():
    """With ``E_p[exp(lambda R) | prefix]`` as the worth of a prefix, a few particles are nearly exact."""
    after = {}
    for tokens, p, reward in zip(toy.RESPONSES, toy.P, toy.REWARDS, strict=True):
        for cut in range(len(tokens) + 1):
            sums = after.setdefault(tokens[:cut], [0.0, 0.0])
            sums[0] += p
            sums[1] += p * np.exp(toy.INV_TEMP * reward)

    def twisted(prompt, text, complete):
        if complete or len(text) == toy.HORIZON:
            return worth(prompt, text, complete)
        mass, tilted = after[tuple(map(int, text))]
        return np.log(tilted / mass) / toy.INV_TEMP

    few = SMC(target=TILT, particles=8, block=1, threshold=1.0, moves=0)
    assert far(few, toy.PI, reward=twisted) < far(few, toy.PI)
