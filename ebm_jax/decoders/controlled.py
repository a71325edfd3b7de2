"""Decoding from a model whose next tokens are moved (``decoders.guided``), and by blocks of the most value."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from ebm_jax.data.paths import expand
from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.guided import guided, proxied
from ebm_jax.decoders.job import PLAIN, Cost, Decoded, Job
from ebm_jax.decoders.values import load_head
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError
from ebm_jax.language_model import LanguageModel, open_model
from ebm_jax.parallel.mesh import MeshConfig, config_of
from ebm_jax.precision import Precision


@dataclass(frozen=True, kw_only=True)
class _Moved:
    """One response from a model that is not the plain one."""

    sampling: SamplingConfig = PLAIN

    def log_probs(self) -> bool:
        return False

    def cost(self, length: float, horizon: int) -> Cost:
        return Cost(length, 0)

    def decode(self, job: Job) -> Decoded:
        return BestOfN(samples=1, sampling=self.sampling).decode(job)


@dataclass(frozen=True, kw_only=True)
class ControlledDecoding(_Moved):
    """``p(z | y) exp(inv_temp Q(y, z))``, token by token."""

    kind: ClassVar[str] = "controlled"
    inv_temp: float = 3.5
    head: str = ""
    """The file of a value head (``values.fit_head``, ``values.save_head``)."""

    def prepared(self, model: LanguageModel) -> LanguageModel:
        if not self.head:
            raise UserError("decoder.head names no value head: train one (experiments.values) and give its file")
        return guided(model, load_head(self.head, model), self.inv_temp)


@dataclass(frozen=True, kw_only=True)
class ProxyTuning(_Moved):
    """The model's logits and what a small expert's differ by from those of its own base."""

    kind: ClassVar[str] = "proxy"
    expert: str = ""
    other: str = ""
    """The model that the expert was tuned from."""
    weight: float = 1.0

    def prepared(self, model: LanguageModel) -> LanguageModel:
        if not self.expert or not self.other:
            raise UserError(
                "decoder.expert and decoder.other name two models: the small expert, and what it was tuned from"
            )
        how = config_of(model.mesh, model.rules), model.network.precision
        return proxied(model, _opened(self.expert, *how), _opened(self.other, *how), self.weight)


@lru_cache(maxsize=2)
def _opened(name: str, mesh: MeshConfig, precision: Precision) -> LanguageModel:
    """A model that stays open for the next seed, or another weight: an expert and its base are held, and no more."""
    return open_model(str(expand(name)), mesh=mesh, precision=precision)


@dataclass(frozen=True, kw_only=True)
class BlockwiseControl:
    """Of several next blocks the one whose text so far has the most reward: a prefix value, or the reward itself."""

    kind: ClassVar[str] = "blockwise"
    candidates: int = 16
    block: int = 16
    sampling: SamplingConfig = PLAIN

    def __post_init__(self) -> None:
        if self.candidates < 1 or self.block < 1:
            raise UserError(f"decoder.candidates={self.candidates} and decoder.block={self.block} must be at least 1")

    def log_probs(self) -> bool:
        return False

    def cost(self, length: float, horizon: int) -> Cost:
        blocks = max(1, int(np.ceil(length / self.block)))
        return Cost(self.candidates * length, self.candidates * blocks)

    def decode(self, job: Job) -> Decoded:
        """One response of every prompt."""
        horizon, prompts = job.engine.horizon, len(job.prompts)
        batch, reward_X, told = job.begun(1), np.zeros(prompts), []
        for number, until in enumerate([*range(self.block, horizon, self.block), horizon]):
            if np.asarray(batch.responses.ended_X).all():
                break
            tried = job.engine.take(batch, np.repeat(np.arange(prompts), self.candidates))
            tried = job.grown(tried, number, until)
            found = job.told(tried)
            rewards = job.rewards(tried, found)
            rows = np.arange(prompts) * self.candidates + np.argmax(rewards.reshape(prompts, -1), -1)
            batch, reward_X, told = job.engine.take(tried, rows), rewards[rows], [found[row] for row in rows]
        return Decoded(told, reward_X, {})
