"""What all methods are given, what they give back, and the two draws that all of them are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ebm_jax.decoders.account import Account
from ebm_jax.decoders.engine import Batch, Engine
from ebm_jax.decoders.rewards import Response, Scorer
from ebm_jax.decoding.markov.suffixes import Responses
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Prompt
from ebm_jax.language_model import LanguageModel
from ebm_jax.types import PRNGKey


@dataclass(frozen=True)
class Job:
    """A batch of prompts to be decoded, and all that it takes."""

    engine: Engine
    scorer: Scorer | None
    """The reward; None for methods that ask for none."""
    prompts: Sequence[Prompt]
    tokens: Sequence[Sequence[int]]
    """The prompts as the model reads them."""
    numbers: Sequence[int]
    """Of the prompts in the whole set: they key what is drawn, and are where ``account`` counts."""
    key: PRNGKey
    account: Account
    cheap: Scorer | None = None
    """A cheaper reward that is asked first, for methods that do so."""

    def prompt_of(self, batch: Batch) -> list[Prompt]:
        """The prompt of every row."""
        return [self.prompts[row // batch.each] for row in range(batch.rows)]

    def rewards(
        self, batch: Batch, told: Sequence[Response], rows: np.ndarray | None = None, cheap: bool = False
    ) -> np.ndarray:
        """Rewards of all rows' responses or of some, counted."""
        scorer = self.cheap if cheap else self.scorer
        if scorer is None:
            raise UserError("this way of decoding asks for a reward, and none was given: name one")
        return scorer.counted(self.account, batch.prompt_X, self.prompt_of(batch), told, rows)

    def drawn(self, batch: Batch, rows_X: np.ndarray, cut_X: np.ndarray, made: Responses) -> np.ndarray:
        """Counts what was drawn in the rows where it was, and returns their tokens ``[X]``."""
        new_X = np.where(rows_X, np.asarray(made.length_X) - cut_X, 0)
        self.account.add("tokens", batch.prompt_X, new_X)
        longest = np.zeros_like(self.account.passes)
        np.maximum.at(longest, batch.prompt_X, new_X)
        self.account.passes += longest
        return new_X

    def begun(self, each: int) -> Batch:
        """Empty responses, ``each`` of every prompt; reading the prompts is counted."""
        self.account.add("read", np.asarray(self.numbers), np.array([len(prompt) for prompt in self.tokens]))
        return self.engine.start(self.tokens, self.numbers, each)

    def grown(self, batch: Batch, step: int, until: int | None = None) -> Batch:
        """Responses that have not ended go on, to their ends or to ``until`` tokens; ``step`` numbers the draws."""
        most = until or self.engine.horizon
        length_X, ended_X = batch.lengths, np.asarray(batch.responses.ended_X)
        going_X = ~ended_X & (length_X < most)
        cut_X = np.where(going_X, length_X, self.engine.horizon)
        made, batch = self.engine.propose(batch, cut_X, step, most)
        self.drawn(batch, going_X, cut_X, made)
        return self.engine.settle(batch, made, cut_X, going_X)

    def told(self, batch: Batch) -> list[Response]:
        """The responses of all rows."""
        return self.engine.told(batch, batch.responses)

    def sampled(self, each: int, ask: bool = True) -> tuple[Batch, list[Response], np.ndarray]:
        """``each`` whole responses of every prompt drawn from the model, with their rewards ``[X]``; zeros without ``ask``."""
        batch = self.grown(self.begun(each), 0)
        told = self.told(batch)
        return batch, told, self.rewards(batch, told) if ask else np.zeros(batch.rows)


class Decoded(NamedTuple):
    """What a method gives back: as many responses of every prompt, prompt after prompt."""

    responses: list[Response]
    rewards: np.ndarray
    """Scaled, of every response; zeros where no reward was asked for."""
    log: dict[str, Any]
    """What else there is to know, by the method's own names."""


class Cost(NamedTuple):
    """What a prompt is expected to cost."""

    tokens: float
    reward_calls: float


class Method(Protocol):
    """A way of decoding: a frozen dataclass of its settings."""

    @property
    def sampling(self) -> SamplingConfig:
        """The law that tokens are drawn from."""
        ...

    def log_probs(self) -> bool:
        """Whether it reads log-probabilities of what was drawn."""
        ...

    def cost(self, length: float, horizon: int) -> Cost:
        """Expected cost of a prompt whose responses have ``length`` tokens in the mean, and ``horizon`` at most."""
        ...

    def decode(self, job: Job) -> Decoded: ...


def engine_for(
    method: Method,
    model: LanguageModel,
    horizon: int,
    key: PRNGKey,
    draft: LanguageModel | None = None,
    stop: Sequence[str] = (),
) -> Engine:
    """The engine that a method asks for.

    It may draw from a model that is made of the given one (``prepared``), and weigh its draws by another law than theirs
    (``drawn``).
    """
    model = getattr(method, "prepared", lambda model: model)(model)
    drawn = getattr(method, "drawn", method.sampling)
    weighed = method.sampling if drawn != method.sampling else None
    return Engine(model, drawn, horizon, key, method.log_probs(), weighed, draft, stop)


PLAIN = SamplingConfig(temperature=1.0)
"""The model's own law."""
