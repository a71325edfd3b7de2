"""Speculative rejection (arXiv 2410.20290): the best of many, of which the worse half is given up at every checkpoint.

Unfinished responses are scored every ``block`` tokens, and those of the lowest rewards go no further. It is close to the best
of N for rewards that can be told early, at a fraction of its tokens; no law is claimed for it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ebm_jax.decoders.job import PLAIN, Cost, Decoded, Job
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SpeculativeRejection:
    """How many begin, and how many go on."""

    kind: ClassVar[str] = "speculative_rejection"
    samples: int = 64
    keep: float = 0.5
    """Share of the responses that a checkpoint keeps, at least one."""
    block: int = 64
    sampling: SamplingConfig = PLAIN

    def __post_init__(self) -> None:
        for name in ("samples", "block"):
            if getattr(self, name) < 1:
                raise UserError(f"decoder.{name}={getattr(self, name)} must be at least 1")
        if not 0 < self.keep < 1:
            raise UserError(f"decoder.keep={self.keep} must lie between 0 and 1")
        if not self.sampling.temperature:
            raise UserError("decoder.sampling.temperature=0 draws the same response every time: take more")

    def log_probs(self) -> bool:
        return False

    def cost(self, length: float, horizon: int) -> Cost:
        count, tokens, calls = self.samples, 0.0, 0
        for begin in range(0, max(1, int(np.ceil(length))), self.block):
            tokens += count * min(self.block, length - begin)
            calls += count
            count = self._kept(count)
        return Cost(tokens, calls)

    def decode(self, job: Job) -> Decoded:
        """One response of every prompt; ``log`` has how many were ``left`` at every checkpoint."""
        horizon, prompts, count, left = job.engine.horizon, len(job.prompts), self.samples, []
        batch = job.begun(count)
        rows = np.arange(batch.rows)
        for number, until in enumerate([*range(self.block, horizon, self.block), horizon]):
            batch = job.grown(batch, number, until)
            told = job.told(batch)
            reward_X = job.rewards(batch, told)
            left.append(count)
            done = until == horizon or bool(np.asarray(batch.responses.ended_X).all())
            count = 1 if done else self._kept(count)
            # Of equal rewards the first; survivors stay in their order.
            best = np.sort(np.argsort(-reward_X.reshape(prompts, -1), axis=1, kind="stable")[:, :count], axis=1)
            rows = (np.arange(prompts)[:, None] * (batch.rows // prompts) + best).reshape(-1)
            if done:
                return Decoded([told[row] for row in rows], reward_X[rows], {"left": left})
            batch = job.engine.take(batch, rows, batch.chain_X[rows])
        raise AssertionError("the last checkpoint is the horizon")

    def _kept(self, count: int) -> int:
        return max(1, int(count * self.keep))
