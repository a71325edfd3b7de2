"""Chains from end to end on the toy: what they sample, what they cost, and that they do not depend on each other."""

from dataclasses import replace

import numpy as np
import pytest

from ebm_jax.decoders.ebd import EBD
from ebm_jax.decoders.engine import Engine
from ebm_jax.decoding.markov.acceptance import TargetConfig
from ebm_jax.decoding.markov.cuts import CutConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError
from tests.decoders import toy_model
from tests.decoders.on_toy import KEY, expected, law_of, run, worth
from tests.decoding.markov import toy

TILT = TargetConfig(inv_temp=toy.INV_TEMP)
TOY = EBD(target=TILT, blocks=2, steps=10)
LENGTH = CutConfig(law="length")


CHAINS = 6000
EXPECTED = expected(CHAINS)


_CHAINS = {
    "grid": {},
    "length": {"cuts": LENGTH},
    "prefetched": {"prefetch": 4},
}
_MORE_CHAINS = {
    "multi_try": {"tries": 3, "inits": 1, "steps": 8},
    "horizon": {"cuts": CutConfig(law="horizon"), "steps": 25},
    "entropy": {"cuts": CutConfig(law="scored"), "steps": 25},
    "from_one": {"inits": 1, "steps": 20},
    "resampled": {"tries": 3, "rule": "resample", "inits": 1},
    "iterated": {
        "tries": 4, "rule": "resample", "inits": 1, "cuts": CutConfig(law="horizon"), "blocks": 1, "grid_from": "horizon"
    },
    "delayed": {"delayed": True, "inits": 1, "steps": 30},
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        *(pytest.param(changes, id=name) for name, changes in _CHAINS.items()),
        *(pytest.param(changes, id=name, marks=pytest.mark.slow) for name, changes in _MORE_CHAINS.items()),
    ],
)
def test_chains_sample_the_tilted_law(changes):
    cheap = (lambda *of: 0.5 * worth(*of) + 0.3 * np.sin(len(of[1]))) if changes.get("delayed") else None
    found, _ = run(replace(TOY, chains=CHAINS, **changes), cheap=cheap)
    assert toy.total_variation(law_of(found), toy.PI) < 2 * EXPECTED


@pytest.mark.slow
def test_steps_drawn_at_once_are_the_same_chain():
    # So great an inverse temperature that most steps are rejected.
    method = replace(TOY, target=TargetConfig(inv_temp=8.0), chains=2, steps=11)
    one, job = run(method, range(3))
    for width in (2, 5):
        other, spent = run(replace(method, prefetch=width), range(3))
        assert other.responses == one.responses and (other.rewards == one.rewards).all()
        assert (spent.account.steps == job.account.steps).all() and (
            spent.account.accepted == job.account.accepted
        ).all()
        assert (spent.account.tokens > job.account.tokens).all()
        assert len(other.log["trace"]) < len(one.log["trace"]) == 11
        assert sum(step.accepted_X.sum() for step in other.log["trace"]) == job.account.accepted.sum()


def test_a_cheap_reward_spares_the_full_one():
    asked = {"n": 0}

    def full(*of):
        asked["n"] += 1
        return worth(*of)

    _, job = run(replace(TOY, chains=1, delayed=True, inits=1), range(400), reward=full, cheap=worth)
    assert (job.account.reward_calls > 0).all()
    # The cheap reward is the full one: what it lets through is accepted for good.
    through = job.account.accepted.sum()
    _, plain = run(replace(TOY, chains=1, inits=1), range(400))
    assert through <= plain.account.steps.sum()
    assert job.scorer.calls <= 400 + through and job.scorer.calls < plain.scorer.calls


@pytest.mark.slow
def test_more_steps_compile_nothing_more():
    compiled = []
    for steps in (1, 7):
        _, job = run(replace(TOY, steps=steps), range(3))
        compiled.append(job.engine._run.draw._cache_size())
    assert compiled[0] == compiled[1] <= 2, "one program for the first responses and one for all steps"


@pytest.mark.slow
def test_without_the_cut_s_ratio_they_sample_longer_responses():
    changes = {"chains": CHAINS, "steps": 25, "cuts": LENGTH, "correct_length": False}
    law = law_of(run(replace(TOY, **changes))[0])
    biased = toy.normalised(toy.PI * toy.LENGTHS)
    assert toy.total_variation(law, biased) < 2 * EXPECTED < 0.1 < toy.total_variation(law, toy.PI)


@pytest.mark.slow
def test_powers_and_tempered_proposals_are_corrected():
    config = replace(
        TOY,
        chains=CHAINS,
        steps=40,
        inits=1,
        target=TargetConfig(inv_temp=0.8, power=2.0),
        cuts=LENGTH,
        sampling=SamplingConfig(temperature=0.7),
    )
    found, _ = run(config)
    law = toy.normalised(toy.P**2 * np.exp(0.8 * toy.REWARDS))
    assert toy.total_variation(law_of(found), law) < 2.5 * EXPECTED


def test_no_steps_are_the_best_of_the_first():
    found, job = run(replace(TOY, steps=0, chains=CHAINS))
    order = np.argsort(toy.REWARDS)
    cumulative = np.cumsum(toy.P[order])
    law = np.empty(31)
    law[order] = np.diff(cumulative**4, prepend=0)
    assert toy.total_variation(law_of(found), law) < 2 * EXPECTED
    assert job.account.steps.sum() == 0 and found.log["trace"] == []


@pytest.mark.slow
def test_a_great_inverse_temperature_finds_the_best_response():
    found, _ = run(replace(TOY, chains=2, inits=3000, steps=20, target=TargetConfig(inv_temp=1e6), cuts=LENGTH))
    assert {response.tokens for response in found.responses} == {toy.RESPONSES[np.argmax(toy.REWARDS)]}


@pytest.mark.slow
def test_prompts_do_not_depend_on_each_other():
    config = replace(TOY, chains=3)
    together, _ = run(config, range(4))
    alone, _ = run(config, [2])
    assert alone.responses == together.responses[6:9]


@pytest.mark.slow
def test_the_account_is_that_of_the_trace():
    found, job = run(replace(TOY, chains=50, cuts=CutConfig(law="horizon")), range(3))
    account, scorer, trace = job.account, job.scorer, found.log["trace"]
    drawn = np.zeros(3, np.int64)
    prompt_X = np.repeat(np.arange(3), 50)
    for step in trace:
        np.add.at(drawn, prompt_X, np.where(step.drawn_X, step.proposed_X - step.cut_X, 0))
    first = account.tokens - drawn
    assert (first >= 50 * TOY.inits).all() and (first <= 50 * TOY.inits * toy.HORIZON).all()
    assert (account.steps + account.idle == 50 * TOY.steps).all()
    assert account.accepted.sum() == sum(step.accepted_X.sum() for step in trace)
    assert account.reward_calls.sum() == scorer.calls <= 3 * 31 and account.reward_tokens.sum() == scorer.tokens
    np.testing.assert_array_equal(trace[-1].reward_X, found.rewards)
    assert found.rewards == pytest.approx([toy.reward(r.tokens) for r in found.responses])


@pytest.mark.slow
def test_the_expected_cost_is_near_the_true_one():
    for changes in ({}, {"cuts": LENGTH}, {"cuts": CutConfig(law="horizon"), "blocks": 4, "grid_from": "horizon"}):
        method = replace(TOY, target=TargetConfig(inv_temp=0.0), steps=20, **changes)
        _, job = run(method, range(300))
        told = method.cost(toy.FACTS["E_p |y|"], toy.HORIZON)
        assert job.account.tokens.mean() == pytest.approx(told.tokens, rel=0.25)


@pytest.mark.slow
def test_of_all_that_was_seen_the_most_common_answer():
    found, _ = run(replace(TOY, chains=40, steps=40, output="majority"))
    last, _ = run(replace(TOY, chains=40, steps=40))
    texts = lambda of: [response.text for response in of.responses]
    # Whatever their chains end with, most have been longest at the mode of the target.
    assert np.mean([text == "1" for text in texts(found)]) > np.mean([text == "1" for text in texts(last)])


@pytest.mark.slow
def test_the_best_state_is_no_worse_than_the_last():
    last, best = (run(replace(TOY, chains=200, output=output))[0] for output in ("last", "best"))
    assert (best.rewards >= last.rewards).all() and (best.rewards > last.rewards).any()


@pytest.mark.parametrize(
    "change", [{"inits": 0}, {"steps": -1}, {"output": "mean"}, {"grid_from": "text"}, {"tries": 2, "prefetch": 2}]
)
def test_chains_that_cannot_be(change):
    with pytest.raises(UserError, match=next(iter(change))):
        EBD(**change)


def test_prompts_without_room_are_refused():
    engine = Engine(toy_model.model(), SamplingConfig(temperature=1.0), 60, KEY)
    with pytest.raises(UserError, match=r"prompt 3 has 5 tokens, which leaves no room .* shorten it by 1"):
        engine.start([[1] * 5], [2], 1)
    with pytest.raises(UserError, match="prompt 1 is empty"):
        engine.start([[]], [0], 1)
