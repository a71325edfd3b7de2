"""Rewards from models, verifiers and energies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.smoke.ebt import get_config as ebt
from configs.smoke.lm import get_config as lm
from ebm_jax.decoders.reward_kinds import LikelihoodReward, ModelReward, VerifierReward, energy_reward
from ebm_jax.decoders.rewards import Response
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import LogLikelihood, Prompt
from ebm_jax.experiment import run_training
from ebm_jax.grading.rewards import RewardConfig
from ebm_jax.training.config import TrainConfig

SHORT = TrainConfig(steps=2, batch_size=8, log_every=1, eval_every=0, checkpoint_every=2)


def said(*texts: str) -> list[Response]:
    return [Response((), text, True) for text in texts]


def test_reward_models_read_prompts_and_texts():
    seen = []

    class Fake:
        name = "fake"

        def __call__(self, pairs):
            seen.extend(pairs)
            return np.ones(len(pairs))

    reward = ModelReward(Fake())
    assert reward.name == "fake"
    assert reward([Prompt(text="q")] * 2, said("a", "b")).tolist() == [1, 1]
    assert seen == [(Prompt(text="q"), "a"), (Prompt(text="q"), "b")]


def test_verifiers_go_by_a_prompt_s_truth():
    one, two = Prompt(text="1 + 1 ="), Prompt(text="2 + 2 =")
    reward = VerifierReward(RewardConfig(kind="exact"), {one: "2", two: "4"})
    assert reward([one, two, two], said(" 2", " 5", "4")).tolist() == [1, 0, 1]
    with pytest.raises(UserError, match="knows no truth for the prompt '3'"):
        reward([Prompt(text="3")], said("4"))


def test_likelihoods_are_asked_with_the_end_of_what_has_ended():
    class Fake:
        name = "fake"

        def log_likelihood(self, pairs, ended):
            both = zip(pairs, ended, strict=True)
            return [LogLikelihood(-float(len(text) + end), len(text), False) for (_, text), end in both]

    reward = LikelihoodReward(Fake())
    assert reward.name == "log-likelihood of fake"
    responses = [Response((), "abc", True), Response((), "abc", False), Response((), "", True)]
    assert reward([Prompt(text="q")] * 3, responses).tolist() == [-4, -3, -1]


@pytest.fixture(scope="module")
def energy_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ebt")
    run_training(replace(ebt(), train=SHORT), folder)
    return folder


@pytest.mark.slow
def test_an_ebt_s_energy_is_summed_token_by_token(energy_run: Path):
    reward = energy_reward(str(energy_run))
    of = lambda prompt, text: float(reward([Prompt(text=prompt)], said(text))[0])
    # The smoke model reads bytes: two letters are two tokens.
    assert of("def f", "ab") == pytest.approx((of("def f", "a") + of("def fa", "b")) / 2, rel=1e-4)
    prompts = [Prompt(text="def f"), Prompt(text="import o"), Prompt(text="x")]
    together = reward(prompts, said("ab", "s", "= 1, 2"))
    alone = [of("def f", "ab"), of("import o", "s"), of("x", "= 1, 2")]
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert len(set(together.tolist())) == 3


@pytest.mark.slow
def test_energies_that_cannot_be_told(energy_run: Path, tmp_path: Path):
    reward = energy_reward(str(energy_run))
    with pytest.raises(UserError, match=r"a prompt with its response has \d+ tokens and"):
        reward([Prompt(text="x" * 200)], said("y"))
    with pytest.raises(UserError, match="of plain prompts, and this one is a chat"):
        reward([Prompt.chat("hello")], said("y"))
    run_training(replace(lm(), train=SHORT), tmp_path)
    with pytest.raises(UserError, match="has no energy: only ebt does"):
        energy_reward(str(tmp_path))
