"""The best of N and one of N by weight: the laws that they are known to have."""

import numpy as np
import pytest

from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError
from tests.decoders.on_toy import expected, law_of, run
from tests.decoding.markov import toy

PROMPTS = 3000
EXPECTED = expected(PROMPTS)


def of(**settings):
    found, job = run(BestOfN(**settings), range(PROMPTS))
    return found, job.account


@pytest.mark.parametrize("samples", [1, 4])
def test_the_best_has_the_power_of_the_distribution_function(samples):
    found, account = of(samples=samples)
    order = np.argsort(toy.REWARDS)
    law = np.empty(31)
    law[order] = np.diff(np.cumsum(toy.P[order]) ** samples, prepend=0)
    assert toy.total_variation(law_of(found), law) < 2 * EXPECTED
    divergence = np.sum(law[law > 0] * np.log(law[law > 0] / toy.P[law > 0]))
    assert divergence <= np.log(samples) - (samples - 1) / samples + 1e-12
    assert account.tokens.sum() == pytest.approx(PROMPTS * samples * toy.FACTS["E_p |y|"], rel=0.03)
    assert (account.reward_calls <= samples).all() and account.steps.sum() == 0


@pytest.mark.slow
def test_one_by_weight_nears_the_tilted_law_as_there_are_more():
    run_of = lambda n: of(samples=n, pick="weigh", inv_temp=toy.INV_TEMP)[0]
    far = [toy.total_variation(law_of(run_of(n)), toy.PI) for n in (1, 2, 32)]
    assert far[0] == pytest.approx(toy.FACTS["TV(p, pi)"], abs=2 * EXPECTED) and far[0] > far[1] > 2 * EXPECTED > far[2]


def test_weights_tell_the_normaliser_and_how_many_count():
    found, _ = of(samples=64, pick="weigh", inv_temp=toy.INV_TEMP)
    assert np.log(np.mean(np.exp(found.log["log_z"]))) == pytest.approx(toy.FACTS["log Z"], abs=0.02)
    weight = np.exp(toy.INV_TEMP * toy.REWARDS)
    share = (toy.P @ weight) ** 2 / (toy.P @ weight**2)
    assert found.log["effective"].mean() / 64 == pytest.approx(share, rel=0.1)


def test_choices_that_cannot_be():
    for changes, told in (
        ({"samples": 0}, "samples=0 must be at least 1"),
        ({"sampling": SamplingConfig(temperature=0)}, "samples=16 are all the same"),
        ({"pick": "worst"}, "is not one of best, weigh, likely"),
    ):
        with pytest.raises(UserError, match=told):
            BestOfN(**changes)


def test_the_likeliest_is_by_its_tokens_mean_log_probability():
    found, account = of(samples=64, pick="likely")
    mean = toy.BASE.whole_R / toy.LENGTHS
    assert account.reward_calls.sum() == 0
    assert law_of(found)[np.argmax(mean)] > 0.9
    one = found.responses[0].tokens
    assert found.log["log_prob"][0] == pytest.approx(mean[toy.RESPONSES.index(one)], abs=1e-5)


def test_one_at_no_temperature_is_greedy():
    found, _ = of(samples=1, sampling=SamplingConfig(temperature=0))
    prefix: tuple[int, ...] = ()
    while len(prefix) < toy.HORIZON and toy.END not in prefix:
        prefix = (*prefix, int(np.argmax(toy.logits(prefix))))
    assert {response.tokens for response in found.responses} == {prefix}
