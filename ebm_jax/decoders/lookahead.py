"""Blocks chosen by what comes after them: energy-guided test-time scaling, and power sampling by rollouts.

Candidates for the next block are drawn from q, and each is gone on from several times. The kernel that samples the target block
by block is ``p*(s | y) ~ p(s | y) E_{rollout ~ p}[f(whole response)]``; a candidate's weight estimates it, and one is drawn:

    ETS (arXiv 2601.21484)              w = mean_k exp(lambda R(rollout_k)), rollouts to the end, q = p
    scalable power (arXiv 2601.21590)   w = (p^alpha / q)(block) mean_k (p^alpha / q)(rollout_k), rollouts of ``ahead`` tokens;
                                        with q = p the rollouts' weight is p^(alpha - 1)

Both are biased for finite candidates and rollouts; the jackknife over rollouts takes the bias of the normalised weights from
order 1 / rollouts to its square.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ebm_jax.decoders.engine import Batch
from ebm_jax.decoders.job import PLAIN, Cost, Decoded, Job
from ebm_jax.decoders.rewards import Response
from ebm_jax.decoders.weights import chosen, log_mean
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Lookahead:
    """What both have."""

    candidates: int = 15
    """M, the blocks that one is chosen of."""
    rollouts: int = 3
    """K of every candidate."""
    block: int = 64

    def __post_init__(self) -> None:
        for name in ("candidates", "rollouts", "block"):
            if getattr(self, name) < 1:
                raise UserError(f"decoder.{name}={getattr(self, name)} must be at least 1")

    def decode(self, job: Job) -> Decoded:
        """One response of every prompt."""
        horizon, prompts, number = job.engine.horizon, len(job.prompts), 0
        batch = job.begun(1)
        for until in [*range(self.block, horizon, self.block), horizon]:
            if np.asarray(batch.responses.ended_X).all():
                break
            each = np.repeat(np.arange(prompts), self.candidates)
            before = batch.lengths
            tried = job.grown(job.engine.take(batch, each), number, until)
            log_w_PxM = self._weights(job, tried, np.repeat(before, self.candidates), number + 1, until)
            picked = np.arange(prompts) * self.candidates + chosen(job, log_w_PxM, "pick", number)
            batch, number = job.engine.take(tried, picked), number + 2
        told = job.told(batch)
        return Decoded(told, self._final(job, batch, told), {})

    def _rolled(self, job: Job, tried: Batch, step: int, until: int) -> Batch:
        """Rollouts of every candidate."""
        each = np.repeat(np.arange(tried.rows), self.rollouts)
        return job.grown(job.engine.take(tried, each), step, until)

    def _weights(self, job: Job, tried: Batch, before_X: np.ndarray, step: int, until: int) -> np.ndarray:
        """Log weights ``[P, M]`` of every prompt's candidates.

        Args:
          tried: the candidates, prompt after prompt: ``X = P M`` responses of at most ``until`` tokens.
          before_X: tokens in front of the block.
          step: numbers the draws of rollouts.
        """
        raise NotImplementedError

    def _final(self, job: Job, batch: Batch, told: list[Response]) -> np.ndarray:
        """Rewards ``[P]`` of the responses that are given back, one of every prompt; zeros where none is asked for."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ETS(Lookahead):
    """Energy-guided test-time scaling."""

    kind: ClassVar[str] = "ets"
    inv_temp: float = 3.5

    @property
    def sampling(self) -> SamplingConfig:
        return PLAIN

    def log_probs(self) -> bool:
        return False

    def cost(self, length: float, horizon: int) -> Cost:
        blocks = max(1, int(np.ceil(length / self.block)))
        # Candidates of every block, and rollouts of what is left behind it.
        ahead = sum(max(0.0, length - k * self.block) for k in range(1, blocks + 1))
        whole = self.candidates * self.rollouts
        return Cost(self.candidates * length + whole * ahead, whole * (blocks - 1) + self.candidates)

    def _weights(self, job: Job, tried: Batch, before_X: np.ndarray, step: int, until: int) -> np.ndarray:
        rolled = self._rolled(job, tried, step, job.engine.horizon)
        log_w = self.inv_temp * job.rewards(rolled, job.told(rolled))
        return log_mean(log_w.reshape(len(job.prompts), self.candidates, self.rollouts))

    def _final(self, job: Job, batch: Batch, told: list[Response]) -> np.ndarray:
        return job.rewards(batch, told)


@dataclass(frozen=True, kw_only=True)
class ScalablePower(Lookahead):
    """Power sampling without a chain. Defaults are the paper's."""

    kind: ClassVar[str] = "scalable_power"
    candidates: int = 8
    rollouts: int = 8
    block: int = 192
    power: float = 4.0
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.25))
    ahead: int = 192
    """Tokens of a rollout."""
    jackknife: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.power <= 0 or self.ahead < 1:
            raise UserError(f"decoder.power={self.power} must be positive and decoder.ahead={self.ahead} at least 1")

    def log_probs(self) -> bool:
        return True

    def cost(self, length: float, horizon: int) -> Cost:
        blocks = max(1, int(np.ceil(length / self.block)))
        ahead = sum(min(self.ahead, max(0.0, length - k * self.block)) for k in range(1, blocks + 1))
        return Cost(self.candidates * (length + self.rollouts * ahead), 0)

    def _weights(self, job: Job, tried: Batch, before_X: np.ndarray, step: int, until: int) -> np.ndarray:
        of = tried.responses
        own_PxM = self._behind(of, before_X).reshape(len(job.prompts), -1)
        rolled = self._rolled(job, tried, step, min(job.engine.horizon, until + self.ahead))
        future = self._behind(rolled.responses, np.repeat(tried.lengths, self.rollouts))
        log_w = own_PxM[..., None] + future.reshape(*own_PxM.shape, self.rollouts)
        return _jackknifed(log_w) if self.jackknife and self.rollouts > 1 else log_mean(log_w)

    def _behind(self, responses, from_X: np.ndarray) -> np.ndarray:
        """``log p^alpha / q`` of all tokens from a place on."""
        each = self.power * np.asarray(responses.log_prior_XxH, np.float64) - np.asarray(responses.log_proposal_XxH)
        return np.where(np.arange(each.shape[-1]) >= from_X[:, None], each, 0).sum(-1)

    def _final(self, job: Job, batch: Batch, told: list[Response]) -> np.ndarray:
        return np.zeros(batch.rows)


def _jackknifed(log_w_PxMxK: np.ndarray) -> np.ndarray:
    """Log of ``K p - (K - 1) / K sum_k p_(k)``, p the normalised mean weights and p_(k) the same without rollout k."""
    rollouts = log_w_PxMxK.shape[-1]
    w = np.exp(log_w_PxMxK - log_w_PxMxK.max((-1, -2), keepdims=True))
    total = w.sum(-1)
    share = lambda mean: mean / mean.sum(-2 if mean.ndim == 3 else -1, keepdims=True)
    without = total[..., None] - w
    # A rollout may carry all the weight there is.
    without = np.where(without.sum(-2, keepdims=True) > 0, without, w)
    found = rollouts * share(total) - (rollouts - 1) / rollouts * share(without).sum(-1)
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(found, 0))
