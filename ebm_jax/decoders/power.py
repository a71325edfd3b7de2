"""Power sampling (Karan and Du, arXiv 2510.14901): chains over growing responses sample ``p(y | x)^alpha``.

Stage k targets ``p(y_:kB)^alpha`` over responses of at most kB tokens: they grow by a block drawn from q, and then ``steps``
times a suffix is drawn anew and accepted by the whole Metropolis-Hastings ratio (``decoding.markov.acceptance``). With q at
temperature 1 / alpha the proposal is close to the target token by token, and what is left to accept are the normalisers of its
next-token laws. Only the last stage decides what is sampled; the others bring the chain near it.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np

from ebm_jax.decoders.job import Cost, Decoded, Job
from ebm_jax.decoders.moves import Chains, Moves
from ebm_jax.decoding.markov.acceptance import TargetConfig
from ebm_jax.decoding.markov.cuts import CutConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PowerSampling:
    """Defaults are the paper's; a reward with ``target.inv_temp`` above 0 is asked for in the last stage alone."""

    kind: ClassVar[str] = "power"
    target: TargetConfig = field(default_factory=lambda: TargetConfig(inv_temp=0.0, power=4.0))
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.25))
    block: int = 192
    """B, the tokens of a stage."""
    steps: int = 10
    """Moves of every stage."""
    chains: int = 1
    cuts: CutConfig = field(default_factory=lambda: CutConfig(law="length"))
    compat: Literal["", "rws"] = ""
    """``rws``: as the released code, which does not sample the power. Proposals are no longer than the response, and what they
    are compared with is cut to their length without a word for it: responses shrink, and one of a single token never leaves.
    They are drawn from the 50 likeliest tokens and weighed as if from all. A response that has ended after a stage is final."""

    def __post_init__(self) -> None:
        for name, least in (("block", 1), ("steps", 0), ("chains", 1)):
            if getattr(self, name) < least:
                raise UserError(f"decoder.{name}={getattr(self, name)} must be at least {least}")
        if not self.sampling.temperature:
            raise UserError("decoder.sampling.temperature=0 draws the same suffix again: a chain needs more than 0")
        if self.compat not in ("", "rws"):
            raise UserError(f"decoder.compat={self.compat!r} is not rws, or nothing")
        if self.compat and self.target.inv_temp:
            raise UserError(f"decoder.compat=rws knows no reward: set target.inv_temp=0, not {self.target.inv_temp}")

    @property
    def drawn(self) -> SamplingConfig:
        """What suffixes are drawn from."""
        return replace(self.sampling, top_k=50) if self.compat else self.sampling

    def log_probs(self) -> bool:
        return True

    def cost(self, length: float, horizon: int) -> Cost:
        stages = np.arange(self.block, horizon + self.block, self.block).clip(max=horizon)
        tokens = length + self.steps * float(np.minimum(stages, length).sum()) / 2
        return Cost(self.chains * tokens, self.chains * self.steps if self.target.inv_temp else 0)

    def decode(self, job: Job) -> Decoded:
        """``chains`` responses of every prompt; ``log`` has the ``trace``, and by how much each stage ``grown``."""
        horizon, number, trace = job.engine.horizon, 0, []
        batch = job.begun(self.chains)
        stages = list(range(self.block, horizon, self.block)) + [horizon]
        done_X, reward_X = np.zeros(batch.rows, bool), np.zeros(batch.rows)
        told, grown = job.told(batch), []
        for until in stages:
            before = batch.lengths
            batch = job.grown(batch, number, until)
            grown.append(batch.lengths - before)
            last = until == horizon
            target = self.target if last else replace(self.target, inv_temp=0.0)
            told = job.told(batch)
            if last and target.inv_temp:
                reward_X = job.rewards(batch, told)
            moves = Moves(
                job, target, self.cuts, until=until, correct_length=not self.compat, as_released=bool(self.compat),
                still_X=done_X,
            )  # fmt: skip
            chains = Chains(batch, told, reward_X)
            for _ in range(self.steps):
                number += 1
                chains, step = moves(chains, number)
                trace.append(step)
            batch, told, reward_X = chains.batch, chains.told, chains.reward_X
            number += 1
            if self.compat:
                done_X = np.asarray(batch.responses.ended_X)
        return Decoded(told, reward_X, {"trace": trace, "grown": grown})
