"""Sequential Monte Carlo over growing responses: particles are drawn, weighed, resampled and moved, block after block.

After block k the particles stand for ``gamma_k(y) = p(y)^alpha_k exp(lambda R_k(y))`` over responses of at most kB tokens, and

    log w_k = log w_{k-1} + log gamma_k(y_:kB) - log gamma_{k-1}(y_:(k-1)B) - log q(y_(k-1)B:kB).

R_k is the reward of what is there (``prefix_rewards``), or 0 until a response is complete. Where the effective number of
particles ``(sum w)^2 / sum w^2`` falls below a share of them they are resampled, and moved by Metropolis-Hastings steps that
keep gamma_k. One response is drawn by the last weights: the target as the number of particles grows.

    alpha = 1, lambda > 0   reward SMC ("Sampling for Quality", arXiv 2604.16453, its prefix-only target)
    alpha > 1, lambda = 0   power SMC (arXiv 2602.10273), alpha rising over the first ``ramp`` tokens
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import rng
from ebm_jax.decoders.engine import Batch
from ebm_jax.decoders.job import PLAIN, Cost, Decoded, Job
from ebm_jax.decoders.moves import Chains, Moves
from ebm_jax.decoders.rewards import Response
from ebm_jax.decoders.weights import chosen, effective, log_mean
from ebm_jax.decoding.markov.acceptance import TargetConfig
from ebm_jax.decoding.markov.cuts import CutConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SMC:
    """Defaults are those of reward SMC."""

    kind: ClassVar[str] = "smc"
    target: TargetConfig = field(default_factory=TargetConfig)
    sampling: SamplingConfig = PLAIN
    particles: int = 16
    block: int = 64
    """B, the tokens between two weighings."""
    prefix_rewards: bool = True
    """Asks for the reward of unfinished responses too; else they are worth 0."""
    threshold: float = 0.5
    """Resamples where fewer than this share of the particles are effective."""
    moves: int = 2
    """Steps of every particle after a resampling."""
    ramp: int = 0
    """Tokens over which the power rises from 1."""

    def __post_init__(self) -> None:
        for name, least in (("particles", 1), ("block", 1), ("moves", 0), ("ramp", 0)):
            if getattr(self, name) < least:
                raise UserError(f"decoder.{name}={getattr(self, name)} must be at least {least}")
        if not 0 <= self.threshold <= 1:
            raise UserError(f"decoder.threshold={self.threshold} must lie between 0 and 1")
        if self.target.prior != "model":
            raise UserError("decoder.target.prior=proposal goes with chains: particles are weighed against the model")

    def log_probs(self) -> bool:
        return True

    def cost(self, length: float, horizon: int) -> Cost:
        # As if every other block resampled; a move draws half of what is there anew.
        blocks = max(1, int(np.ceil(length / self.block)))
        moved = self.moves * sum(min(length, k * self.block) for k in range(1, blocks + 1)) / 4
        asked = blocks * (1 + self.moves / 2) if self.prefix_rewards else 1 + self.moves / 2
        return Cost(self.particles * (length + moved), self.particles * asked if self.target.inv_temp else 0)

    def decode(self, job: Job) -> Decoded:
        """One response of every prompt; ``log`` has ``log_z`` and, block by block, the ``effective`` numbers of particles."""
        horizon, prompts, number, counts = job.engine.horizon, len(job.prompts), 0, []
        batch = job.begun(self.particles)
        log_w_PxN, log_z = np.zeros((prompts, self.particles)), np.zeros(prompts)
        gamma_X, log_q_X, reward_X = (np.zeros(batch.rows) for _ in range(3))
        told: list[Response] = job.told(batch)
        for until in [*range(self.block, horizon, self.block), horizon]:
            batch = job.grown(batch, number, until)
            number += 1
            told = job.told(batch)
            reward_X = self._rewards(job, batch, told, until)
            gamma, log_q = self._gamma(batch, reward_X, until), _sum(batch.responses.log_proposal_XxH)
            log_w_PxN = log_w_PxN + (gamma - gamma_X - (log_q - log_q_X)).reshape(prompts, -1)
            gamma_X, log_q_X = gamma, log_q
            counts.append(effective(log_w_PxN))
            if until == horizon or not (again := counts[-1] / self.particles < self.threshold).any():
                continue
            log_z += np.where(again, log_mean(log_w_PxN), 0)
            taken = np.where(again[:, None], _systematic(job, log_w_PxN, number), np.arange(self.particles))
            log_w_PxN = np.where(again[:, None], 0, log_w_PxN)
            rows = (np.arange(prompts)[:, None] * self.particles + taken).reshape(-1)
            batch, told, reward_X = job.engine.take(batch, rows), [told[row] for row in rows], reward_X[rows]
            moves = self._moves(job, until, ~np.repeat(again, self.particles))
            chains = Chains(batch, told, reward_X)
            for _ in range(self.moves):
                chains, _ = moves(chains, number)
                number += 1
            batch, told, reward_X = chains.batch, chains.told, chains.reward_X
            gamma_X, log_q_X = self._gamma(batch, reward_X, until), _sum(batch.responses.log_proposal_XxH)
        picked = np.arange(prompts) * self.particles + chosen(job, log_w_PxN, "pick")
        log_z += log_mean(log_w_PxN)
        return Decoded([told[row] for row in picked], reward_X[picked], {"log_z": log_z, "effective": counts})

    def _power(self, until: int) -> float:
        """alpha_k."""
        rise = min(1.0, until / self.ramp) if self.ramp else 1.0
        return 1 + (self.target.power - 1) * rise

    def _rewards(self, job: Job, batch: Batch, told: list[Response], until: int) -> np.ndarray:
        if not self.target.inv_temp:
            return np.zeros(batch.rows)
        if self.prefix_rewards or until == job.engine.horizon:
            return job.rewards(batch, told)
        found = np.zeros(batch.rows)
        done = np.flatnonzero(np.asarray(batch.responses.ended_X))
        found[done] = job.rewards(batch, told, done)
        return found

    def _gamma(self, batch: Batch, reward_X: np.ndarray, until: int) -> np.ndarray:
        """``log gamma_k`` of every particle."""
        return self._power(until) * _sum(batch.responses.log_prior_XxH) + self.target.inv_temp * reward_X

    def _moves(self, job: Job, until: int, still_X: np.ndarray) -> Moves:
        target = replace(self.target, power=self._power(until))
        cuts = CutConfig(law="length")
        return Moves(job, target, cuts, until=until, still_X=still_X, complete_only=not self.prefix_rewards)


def _sum(log_probs_XxH: jax.Array | None) -> np.ndarray:
    assert log_probs_XxH is not None
    return np.asarray(log_probs_XxH, np.float64).sum(-1)


def _systematic(job: Job, log_w_PxN: np.ndarray, step: int) -> np.ndarray:
    """Which particle every place takes, ``[P, N]``: places evenly spaced from one random offset through the sums of weights."""
    keys = rng.per_row(rng.at_step(rng.stream(job.key, "resample"), step), jnp.asarray(job.numbers))
    offset = np.asarray(jax.vmap(jax.random.uniform)(keys), np.float64)
    w = np.exp(log_w_PxN - log_w_PxN.max(-1, keepdims=True))
    upto, count = np.cumsum(w / w.sum(-1, keepdims=True), -1), w.shape[-1]
    places = (np.arange(count) + offset[:, None]) / count
    return np.minimum((places[:, :, None] >= upto[:, None, :]).sum(-1), count - 1)
