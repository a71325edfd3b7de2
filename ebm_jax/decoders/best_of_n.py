"""The best of N responses, and one of N by its weight: the peers of a chain at the same cost.

``best``    argmax of R: its reward has the distribution function ``F^N``, and ``KL(law || p) <= log N - (N - 1) / N``;
``weigh``   one is drawn with ``w_i ~ exp(lambda R_i)`` (importance resampling, SIR): the chain's target as N grows, with a bias
            of order 1 / N. ``log mean w`` estimates log Z, and ``(sum w)^2 / sum w^2`` is the effective number of responses;
``likely``  argmax of the mean log-probability of a token: no reward is asked.

One sample, which is the first of N, is plain sampling; at temperature 0 it is greedy decoding.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ebm_jax.decoders.engine import log_prob_of
from ebm_jax.decoders.job import PLAIN, Cost, Decoded, Job
from ebm_jax.decoders.weights import chosen, effective, log_mean
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError

PICKS = ("best", "weigh", "likely")


@dataclass(frozen=True, kw_only=True)
class BestOfN:
    """How many, and which of them."""

    kind: ClassVar[str] = "best_of_n"
    samples: int = 16
    """N."""
    pick: Literal["best", "weigh", "likely"] = "best"
    inv_temp: float = 3.5
    """lambda, where they are weighed."""
    sampling: SamplingConfig = PLAIN

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"decoder.samples={self.samples} must be at least 1")
        if self.pick not in PICKS:
            raise UserError(f"decoder.pick={self.pick!r} is not one of {', '.join(PICKS)}")
        if not self.sampling.temperature and self.samples > 1:
            raise UserError(f"decoder.samples={self.samples} are all the same at sampling.temperature=0: take 1")

    def log_probs(self) -> bool:
        return self.pick == "likely"

    def cost(self, length: float, horizon: int) -> Cost:
        asks = self.samples > 1 and self.pick != "likely"
        return Cost(self.samples * length, self.samples if asks else 0)

    def decode(self, job: Job) -> Decoded:
        """One response of every prompt; ``log`` has ``log_z`` and ``effective`` of each."""
        prompts = len(job.prompts)
        if self.samples == 1 or self.pick == "likely":
            batch = job.grown(job.begun(self.samples), 0)
            told = job.told(batch)
            if self.samples == 1:
                return Decoded(told, np.zeros(prompts), {})
            each = np.asarray(log_prob_of(batch.responses)) / batch.lengths
            rows = np.arange(prompts) * self.samples + np.argmax(each.reshape(prompts, -1), -1)
            return Decoded([told[row] for row in rows], np.zeros(prompts), {"log_prob": each[rows]})
        batch, told, reward_X = job.sampled(self.samples)
        reward_PxN = reward_X.reshape(prompts, self.samples)
        log_w_PxN = self.inv_temp * reward_PxN
        picked = np.argmax(reward_PxN, -1) if self.pick == "best" else chosen(job, log_w_PxN, "pick")
        rows = np.arange(prompts) * self.samples + picked
        log = {"log_z": log_mean(log_w_PxN), "effective": effective(log_w_PxN)}
        return Decoded([told[row] for row in rows], reward_X[rows], log)
