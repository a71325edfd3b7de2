"""Rewards as decoders ask them: once, checked, scaled; what is no reward is refused by name."""

import itertools

import numpy as np
import pytest

from ebm_jax.decoders.rewards import CallableReward, Response, ScaleConfig, Scorer, StepReward, SumReward
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Prompt

PROMPT = Prompt(text="q")
COUNT = itertools.count()


def responses(*texts: str, complete: bool = True) -> list[Response]:
    return [Response(tuple(text.encode()), text, complete) for text in texts]


def ask(scorer: Scorer, *texts: str, number: int = 0, complete: bool = True) -> np.ndarray:
    made = responses(*texts, complete=complete)
    return scorer([number] * len(made), [PROMPT] * len(made), made)


def length(prompt: Prompt, text: str, complete: bool) -> float:
    return float(len(text))


def test_every_response_is_asked_for_once():
    seen = []
    scorer = Scorer(CallableReward(lambda prompt, text, complete: seen.append(text) or float(len(text))))
    np.testing.assert_array_equal(ask(scorer, "a", "bb", "a"), [1, 2, 1])
    assert sorted(seen) == ["a", "a", "bb", "bb"], "twice each: the first are checked"
    np.testing.assert_array_equal(ask(scorer, "bb", "ccc"), [2, 3])
    assert (scorer.calls, scorer.tokens) == (3, 6) and seen.count("bb") == 2
    ask(scorer, "bb", number=1)
    assert scorer.calls == 4, "another prompt's answer is another one"


def test_scales_are_explicit():
    scorer = Scorer(CallableReward(length), ScaleConfig(shift=1.0, scale=2.0, least=0.0, most=1.0, cut_off=-0.5))
    np.testing.assert_array_equal(ask(scorer, "", "a", "bb", "cccccc"), [0, 0, 0.5, 1])
    np.testing.assert_array_equal(ask(scorer, "dd", complete=False), [0.0])
    for settings, told in (({"scale": 0.0}, "must be positive"), ({"least": 1.0, "most": 0.0}, "must lie below")):
        with pytest.raises(UserError, match=told):
            ScaleConfig(**settings)


def test_rewards_add_up():
    both = SumReward(((2.0, CallableReward(length, "length")), (-1.0, CallableReward(lambda *_: 1.0, "one"))))
    np.testing.assert_array_equal(ask(Scorer(both), "a", "bbb"), [1, 5])
    assert both.name == "2 length + -1 one"
    with pytest.raises(UserError, match="needs at least one"):
        SumReward(())


def fails(*_):
    raise KeyError("x")


class Misshapen:
    name = "misshapen"

    def __call__(self, prompts, responses):
        return np.zeros((len(responses), 1))


@pytest.mark.parametrize(
    ("reward", "told"),
    [
        (CallableReward(lambda *_: float("nan"), "judge"), "the reward judge gave nan for 'a': rewards must be finite"),
        (CallableReward(lambda *_: float("-inf"), "judge"), "gave -inf for 'a'"),
        (CallableReward(fails, "judge"), "the reward judge failed: KeyError: 'x'"),
        (Misshapen(), r"the reward misshapen gave an array of shape \(2, 1\) for 2 responses"),
        (
            CallableReward(lambda *_: next(COUNT), "judge"),
            "gave .* and then .* it must depend on nothing but",
        ),
    ],
)
def test_what_is_no_reward_is_named(reward, told):
    with pytest.raises(UserError, match=told):
        ask(Scorer(reward), "a", "bb")


def test_a_reward_of_steps_reads_beginnings_once():
    asked = []

    class Fake:
        name = "fake"

        def __call__(self, prompts, responses):
            asked.extend(response.text for response in responses)
            return np.array([len(response.text) for response in responses], float)

    prompt, texts = Prompt(text="q"), [" 1+2=3 3+4=7", " 1+2=3  3+4=8", "", "one"]
    responses = [Response((), text, True) for text in texts]
    assert StepReward(Fake(), " ")([prompt] * 4, responses).tolist() == [6 + 12, 6 + 13, 0, 3]
    assert asked == [" 1+2=3", " 1+2=3 3+4=7", " 1+2=3  3+4=8", "", "one"]
    least = StepReward(Fake(), " ", "least")
    assert least([prompt] * 4, responses).tolist() == [6, 6, 0, 3] and least.name == "least over steps of fake"
    asked.clear()
    assert least([prompt], [Response((), " 1+2=3 3+5=8", True)]).tolist() == [6] and asked == [" 1+2=3 3+5=8"]
    for wrong in ({"separator": ""}, {"separator": " ", "over": "mean"}):
        with pytest.raises(UserError, match=r"reward\.(steps is empty|over='mean' is not one of sum, least)"):
            StepReward(Fake(), **wrong)
