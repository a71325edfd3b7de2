"""Rewards from what the project has: reward models, other language models, verifiers, and an EBT's own energy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ebm_jax.algorithms.ebt import EBT
from ebm_jax.decoders.rewards import Response
from ebm_jax.decoding.writer import bucket
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Prompt
from ebm_jax.experiment import Experiment, open_run
from ebm_jax.grading.rewards import Grader, RewardConfig
from ebm_jax.language_model import LanguageModel
from ebm_jax.parallel.rules import use
from ebm_jax.reward import Reward as RewardModel
from ebm_jax.types import Array, Params


@dataclass(frozen=True)
class ModelReward:
    """A sequence classifier with one label (``reward.open_reward``); it reads texts, whatever its vocabulary is."""

    model: RewardModel

    @property
    def name(self) -> str:
        return self.model.name

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> np.ndarray:
        return self.model([(p, response.text) for p, response in zip(prompts, responses, strict=True)])


@dataclass(frozen=True)
class VerifierReward:
    """What a rule says of a response: unit tests in the sandbox, a maths answer, an exact match, BLEU.

    ``truths`` are checks (``tests``) or references by prompt. With those that answers are graded by it is an oracle, no reward.
    """

    config: RewardConfig
    truths: Mapping[Prompt, str] = field(hash=False)

    @property
    def name(self) -> str:
        return self.config.kind

    @cached_property
    def _grader(self) -> Grader:
        return Grader(self.config)

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> np.ndarray:
        for prompt in prompts:
            if prompt not in self.truths:
                raise UserError(f"the reward {self.name} knows no truth for the prompt {str(prompt.as_json())[:80]!r}")
        truths = [self.truths[prompt] for prompt in prompts]
        texts = [response.text for response in responses]
        return np.asarray(self._grader(texts, references=truths, checks=truths).scores, np.float64)


@dataclass(frozen=True)
class LikelihoodReward:
    """``log q(y | x)`` of another language model, the end of a response included: the target is then a product of experts,
    ``p(y | x) q(y | x)^lambda`` (Hinton 2002, "Training Products of Experts by Minimizing Contrastive Divergence")."""

    model: LanguageModel = field(hash=False)

    @property
    def name(self) -> str:
        return f"log-likelihood of {self.model.name}"

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> np.ndarray:
        pairs = [(prompt, response.text) for prompt, response in zip(prompts, responses, strict=True)]
        found = self.model.log_likelihood(pairs, [response.complete for response in responses])
        return np.array([one.nats for one in found], np.float64)


@dataclass(frozen=True)
class EnergyReward:
    """Minus the mean energy that an EBT gives to the tokens of a response, each behind those before it."""

    name: str
    experiment: Experiment
    params: Params = field(hash=False)
    rows: int = 32

    @cached_property
    def _energies(self) -> Any:
        algorithm = self.experiment.algorithm
        assert isinstance(algorithm, EBT)
        return jax.jit(algorithm.true_energies)

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> np.ndarray:
        data, tokenizer = self.experiment.config.data, self.experiment.data.tokenizer
        front = [tokenizer.bos_id] if data.prepend_bos and tokenizer.bos_id is not None else []
        found = np.zeros(len(responses))
        for begin in range(0, len(responses), self.rows):
            part = range(begin, min(begin + self.rows, len(responses)))
            texts = [([*front, *_ids(tokenizer, prompts[n].text)], _ids(tokenizer, responses[n].text)) for n in part]
            found[part.start : part.stop] = self._of(texts, data.context)
        return found

    def _of(self, texts: list[tuple[list[int], list[int]]], context: int) -> np.ndarray:
        longest = max(len(a) + len(b) for a, b in texts)
        if longest > context + 1:
            raise UserError(f"a prompt with its response has {longest} tokens and {self.name} reads {context + 1}")
        width = bucket(longest - 1, context)
        tokens, own = np.zeros((self.rows, width + 1), np.int32), np.zeros((self.rows, width), bool)
        for row, (before, said) in enumerate(texts):
            if not before:
                raise UserError(
                    f"{self.name} reads no text in front of the response: give a prompt of at least one token"
                )
            tokens[row, : len(before) + len(said)] = [*before, *said]
            own[row, len(before) - 1 : len(before) + len(said) - 1] = True
        batch: dict[str, Array | np.ndarray] = {
            "inputs": tokens[:, :-1],
            "targets": tokens[:, 1:],
            "positions": np.broadcast_to(np.arange(width, dtype=np.int32), own.shape),
            "segments": np.ones(own.shape, np.int32),
            "weights": own.astype(np.float32),
        }
        program = self.experiment.program
        with use(program.mesh, program.rules):
            energies = np.asarray(self._energies(self.params, batch), np.float64)
        return -(np.where(own, energies, 0).sum(-1) / np.maximum(own.sum(-1), 1))[: len(texts)]


def energy_reward(folder: str, step: int | None = None) -> EnergyReward:
    """The reward of a trained EBT, by its run's folder.

    Raises:
      UserError: the run is no EBT.
    """
    experiment, params, _ = open_run(Path(folder), step)
    if not isinstance(experiment.algorithm, EBT):
        raise UserError(f"{folder}: algorithm={experiment.config.algorithm.kind} has no energy: only ebt does")
    return EnergyReward(folder, experiment, params)


def _ids(tokenizer: Any, text: str | None) -> list[int]:
    if text is None:
        raise UserError("an EBT's energy is of plain prompts, and this one is a chat")
    return tokenizer.encode(text).tolist()
