"""Parallel tempering: chains at a ladder of inverse temperatures that exchange their responses.

Rung l samples ``p(y) exp(lambda_l R(y))`` with ``0 = lambda_0 < ... < lambda_L = lambda``. Neighbours swap with
``min(1, exp((lambda_i - lambda_j)(R_j - R_i)))``: p cancels, and a swap draws nothing. The lowest rung forgets its response at
every step, and what it finds climbs: a restart that keeps the law.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import rng
from ebm_jax.decoders.job import PLAIN, Cost, Decoded, Job
from ebm_jax.decoders.moves import Chains, Moves
from ebm_jax.decoding.markov.acceptance import TargetConfig, log_swap
from ebm_jax.decoding.markov.cuts import CutConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Tempering:
    """The ladder and its steps."""

    kind: ClassVar[str] = "tempering"
    target: TargetConfig = field(default_factory=TargetConfig)
    rungs: int = 4
    steps: int = 12
    cuts: CutConfig = field(default_factory=lambda: CutConfig(law="length"))

    def __post_init__(self) -> None:
        if self.rungs < 2 or self.steps < 1:
            raise UserError(f"decoder.rungs={self.rungs} must be at least 2 and decoder.steps={self.steps} at least 1")
        if self.target.power != 1:
            raise UserError(f"decoder.target.power={self.target.power} is not tempered: only the reward's share is")

    @property
    def sampling(self) -> SamplingConfig:
        return PLAIN

    def log_probs(self) -> bool:
        return self.cuts.law == "scored"

    def cost(self, length: float, horizon: int) -> Cost:
        # The lowest rung draws whole responses, the others half of them.
        return Cost(length * (self.rungs + self.steps * (self.rungs + 1) / 2), self.rungs * (1 + self.steps))

    def decode(self, job: Job) -> Decoded:
        """The top rung's last response of every prompt; ``log`` has the share of ``swaps`` that were made, by rung."""
        prompts = len(job.prompts)
        batch, told, reward_X = job.sampled(self.rungs)
        chains, ladder = Chains(batch, told, reward_X), np.linspace(0, 1, self.rungs)
        share_X, made = np.tile(ladder, prompts), np.zeros(self.rungs - 1)
        # With cuts at the first place alone the lowest rung draws independent responses.
        moves = Moves(job, self.target, self.cuts, share_X=share_X, whole_X=share_X == 0)
        for number in range(1, self.steps + 1):
            chains, _ = moves(chains, number)
            rows, swapped = self._swapped(job, chains.reward_X.reshape(prompts, -1), ladder, number)
            made += swapped
            told = [chains.told[row] for row in rows]
            batch = job.engine.take(chains.batch, rows, chains.batch.chain_X)
            chains = Chains(batch, told, chains.reward_X[rows])
        top = np.arange(prompts) * self.rungs + self.rungs - 1
        tried = np.array([sum(n % 2 == i % 2 for n in range(1, self.steps + 1)) for i in range(self.rungs - 1)])
        log = {"swaps": made / np.maximum(1, prompts * tried)}
        return Decoded([chains.told[row] for row in top], chains.reward_X[top], log)

    def _swapped(
        self, job: Job, reward_PxL: np.ndarray, ladder: np.ndarray, number: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which row every row goes on from, and how many pairs swapped; even pairs and odd ones take turns."""
        keys = rng.per_row(rng.at_step(rng.stream(job.key, "swaps"), number), jnp.asarray(job.numbers))
        draws = jax.vmap(lambda key: jax.random.uniform(key, (self.rungs - 1,)))(keys)
        place = np.tile(np.arange(self.rungs), (len(reward_PxL), 1))
        made = np.zeros(self.rungs - 1)
        for low in range(number % 2, self.rungs - 1, 2):
            temps = [jnp.asarray(self.target.inv_temp * ladder[n]) for n in (low, low + 1)]
            rewards = jnp.asarray(reward_PxL[:, low]), jnp.asarray(reward_PxL[:, low + 1])
            log_a = log_swap((temps[0], temps[1]), rewards)
            swap = np.log(np.asarray(draws)[:, low]) < log_a
            place[:, low], place[:, low + 1] = np.where(swap, low + 1, low), np.where(swap, low, low + 1)
            made[low] = swap.sum()
        return (np.arange(len(reward_PxL))[:, None] * self.rungs + place).reshape(-1), made
