"""Energy-Based Decoding: a chain over whole responses, begun at the best of a few, samples ``p(y | x) exp(lambda R(x, y))``.

``steps`` times a response is cut, what follows is drawn anew from the model, and the proposal is accepted by its reward
(``decoding.markov``): one suffix and one reward a step. The grid of cuts is fixed by the lengths of the first responses; given
it, every step keeps the target. The best-of-n start changes where the chain begins, not what it samples.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np

from ebm_jax.decoders.answers import least_risk, most_common
from ebm_jax.decoders.job import PLAIN, Cost, Decoded, Job
from ebm_jax.decoders.moves import Chains, Moves, Proposed, Step, one_state, told_step
from ebm_jax.decoders.rewards import Response
from ebm_jax.decoding.markov.acceptance import TargetConfig, needs_log_probs
from ebm_jax.decoding.markov.cuts import CutConfig
from ebm_jax.decoding.markov.multi_try import log_taken
from ebm_jax.decoding.sampling import SamplingConfig, choose
from ebm_jax.errors import UserError

OUTPUTS = ("last", "best", "majority", "least_risk")


@dataclass(frozen=True, kw_only=True)
class EBD:
    """The chain; defaults are what is told of the paper, and ours where nothing is."""

    kind: ClassVar[str] = "ebd"
    target: TargetConfig = field(default_factory=TargetConfig)
    cuts: CutConfig = field(default_factory=CutConfig)
    sampling: SamplingConfig = PLAIN
    """What suffixes are drawn from. Other than the model's own law it is corrected for, or made the prior
    (``target.prior=proposal``)."""
    inits: int = 4
    """Responses that a chain begins at the best of."""
    steps: int = 12
    blocks: int = 12
    """Blocks that a grid cuts a response of usual length into."""
    grid_from: Literal["inits", "horizon"] = "inits"
    """What is of usual length: the median of a prompt's first responses, or the longest response."""
    chains: int = 1
    """Independent chains of every prompt."""
    output: Literal["last", "best", "majority", "least_risk"] = "last"
    """The state that a chain ends with; or the one of most reward that it saw, which is no sample of the target; or of all
    that it saw, weighed by the chance that it went or stayed there, the most common answer or that of least expected risk."""
    correct_length: bool = True
    """Without it the cut's probabilities are left out of the acceptance, as naive accounts have it: longer responses are
    sampled too often, in proportion to their length under ``cuts.law=length`` and to their blocks under ``grid``."""
    tries: int = 1
    """Suffixes of one cut, of which one is taken or none (``decoding.markov.multi_try``)."""
    rule: Literal["metropolis", "resample"] = "metropolis"
    delayed: bool = False
    """Asks a cheaper reward first, and the full one only of what that accepts."""
    prefetch: int = 1
    """Steps that are drawn at once, each as if those before it were rejected: the same chain in fewer, wider steps."""

    def __post_init__(self) -> None:
        for name, least in (("inits", 1), ("steps", 0), ("blocks", 1), ("chains", 1), ("tries", 1), ("prefetch", 1)):
            if getattr(self, name) < least:
                raise UserError(f"decoder.{name}={getattr(self, name)} must be at least {least}")
        for name, known in (
            ("grid_from", ("inits", "horizon")), ("output", OUTPUTS), ("rule", ("metropolis", "resample")),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise UserError(f"decoder.{name}={getattr(self, name)!r} is not one of {', '.join(known)}")
        if self.tries > 1 and (self.prefetch > 1 or self.delayed):
            raise UserError(f"decoder.tries={self.tries} goes with prefetch=1 and without delayed: choose one of them")
        if not self.sampling.temperature:
            raise UserError("decoder.sampling.temperature=0 draws the same suffix again: a chain needs more than 0")

    def log_probs(self) -> bool:
        return needs_log_probs(self.target, self.sampling == PLAIN) or self.cuts.law == "scored"

    def cost(self, length: float, horizon: int) -> Cost:
        # A cut at one of M places draws (M + 1) / (2 M) of a response anew, in the mean.
        usual = length if self.grid_from == "inits" else horizon
        width = max(1.0, usual / self.blocks) if self.cuts.law in ("grid", "horizon") else 1.0
        places = max(1.0, length / width)
        share = (places + 1) / (2 * places)
        if self.cuts.law == "horizon":
            share *= min(1.0, length / horizon)
        moves = self.steps * self.tries
        return Cost(
            self.chains * length * (self.inits + share * moves), self.chains * (self.inits + moves)
        )  # fmt: skip

    def decode(self, job: Job) -> Decoded:
        """``chains`` responses of every prompt.

        ``log`` has the ``trace``, a ``Step`` for every move of all rows; and of every prompt the lengths of its ``first``
        responses and the ``block`` of its grid.
        """
        chains, moves, first, block = self._begin(job)
        seen = _Seen(chains, self.tries * self.prefetch)
        if self.prefetch > 1:
            chains, trace = self._prefetched(job, chains, moves, seen)
        elif self.tries > 1 or self.rule == "resample":
            chains, trace = self._several(job, chains, moves, seen)
        else:
            trace = []
            for number in range(1, self.steps + 1):
                proposed = moves.proposed(chains, number)
                seen.add(chains, proposed, _chance(proposed), 1 - _chance(proposed))
                chains = moves.settled(chains, proposed, proposed.accepted_X)
                trace.append(told_step(proposed, proposed.accepted_X, chains.reward_X))
        log = {"trace": trace, "block": block, "first": first}
        if self.output == "last":
            rows = np.arange(0, len(chains.told), self.tries * self.prefetch)
            return Decoded([chains.told[row] for row in rows], chains.reward_X[rows], log)
        return Decoded(*seen.chosen(self.output), log)

    def _begin(self, job: Job) -> tuple[Chains, Moves, np.ndarray, np.ndarray]:
        """The best of the first responses of every chain, in each of its rows."""
        prompts, each = len(job.tokens), self.tries * self.prefetch
        batch, told, reward_X = job.sampled(self.chains * self.inits, self.inits > 1 or bool(self.target.inv_temp))
        # Of equal rewards the first.
        best = np.argmax(reward_X.reshape(-1, self.inits), axis=1)
        rows = np.arange(len(best)) * self.inits + best
        first = batch.lengths.reshape(prompts, -1)
        usual = np.median(first, axis=1)
        usual = usual if self.grid_from == "inits" else np.full(prompts, job.engine.horizon)
        block = np.ceil(np.maximum(usual, 1) / self.blocks).astype(np.int32)
        rows = np.repeat(rows, each)
        chain_X = np.arange(self.chains * each)
        if self.prefetch > 1:
            # All rows of a chain draw as it does, each for another step.
            chain_X = chain_X // each
        batch = job.engine.take(batch, rows, np.tile(chain_X, prompts))
        told, reward_X = [told[row] for row in rows], reward_X[rows]
        cheap_X = job.rewards(batch, told, cheap=True) if self.delayed else None
        moves = Moves(
            job,
            self.target,
            self.cuts,
            block_X=np.repeat(block, self.chains * each),
            correct_length=self.correct_length,
            tries=self.tries,
        )
        return Chains(batch, told, reward_X, cheap_X), moves, first, block

    def _several(self, job: Job, chains: Chains, moves: Moves, seen: "_Seen") -> tuple[Chains, list[Step]]:
        """Moves of chains that try several suffixes at a time."""
        trace, count = list[Step](), chains.batch.rows // self.tries
        for number in range(1, self.steps + 1):
            proposed = moves.proposed(chains, number)
            law = log_taken(jnp.asarray(proposed.log_accept_X.reshape(count, self.tries)), self.rule)
            # All rows of a chain have one uniform number.
            taken = np.asarray(choose(law, jnp.asarray(np.exp(proposed.log_uniform_X[:: self.tries]))))
            accepted_X = (np.arange(self.tries) == taken[:, None]).reshape(-1) & proposed.active_X
            chance = np.exp(np.asarray(law))
            stays = np.where(np.arange(self.tries) == 0, chance[:, -1:], 0)
            seen.add(chains, proposed, chance[:, :-1].reshape(-1), stays.reshape(-1))
            after = moves.settled(chains, proposed, accepted_X)
            chosen = np.arange(count) * self.tries + np.where(taken < self.tries, taken, 0)
            chains = one_state(job, after, chosen, self.tries)
            trace.append(told_step(proposed, accepted_X, chains.reward_X))
        return chains, trace

    def _prefetched(self, job: Job, chains: Chains, moves: Moves, seen: "_Seen") -> tuple[Chains, list[Step]]:
        """Moves of chains that draw several steps at once and keep them up to the first that is accepted."""
        width, trace = self.prefetch, list[Step]()
        count, slot_X = chains.batch.rows // width, np.tile(np.arange(width), chains.batch.rows // width)
        done = np.zeros(count, int)
        while (done < self.steps).any():
            number_X = np.repeat(done, width) + slot_X + 1
            proposed = moves.proposed(chains, number_X)
            in_time = number_X <= self.steps
            hit = (proposed.accepted_X & in_time).reshape(count, width)
            first = np.where(hit.any(1), hit.argmax(1), width)
            used_X = in_time & (slot_X <= np.repeat(first, width))
            accepted_X = used_X & (slot_X == np.repeat(first, width))
            spent = proposed._replace(active_X=proposed.active_X & used_X)
            chance_X = _chance(proposed)
            seen.add(chains, spent, np.where(used_X, chance_X, 0), np.where(used_X, 1 - chance_X, 0))
            after = moves.settled(chains, spent, accepted_X, used_X)
            chosen = np.arange(count) * width + np.where(first < width, first, 0)
            chains = one_state(job, after, chosen, width)
            trace.append(told_step(spent, accepted_X, chains.reward_X))
            done = np.minimum(done + np.minimum(first + 1, width), self.steps)
        return chains, trace


class _Seen:
    """All that chains saw, each with the chance that they went or stayed there, which has less noise than what they did."""

    def __init__(self, chains: Chains, each: int) -> None:
        self._each = each
        first = range(0, len(chains.told), each)
        self._of = [[(chains.told[row], float(chains.reward_X[row]), 1.0)] for row in first]

    def add(self, before: Chains, proposed: Proposed, goes_X: np.ndarray, stays_X: np.ndarray) -> None:
        """A move: the chance of every row's proposal, and of staying in its old state; both 0 where a row says nothing."""
        for row in np.flatnonzero((goes_X > 0) | (stays_X > 0)):
            chain = self._of[row // self._each]
            if proposed.active_X[row]:
                chain.append((proposed.chains.told[row], float(proposed.chains.reward_X[row]), float(goes_X[row])))
            chain.append((before.told[row], float(before.reward_X[row]), float(stays_X[row])))

    def chosen(self, output: str) -> tuple[list[Response], np.ndarray]:
        """One response of every chain."""
        found = []
        for states in self._of:
            responses, rewards, weights = map(list, zip(*states, strict=True))
            if output == "best":
                place = int(np.argmax(rewards))
            else:
                texts = [response.text for response in responses]
                place = (most_common if output == "majority" else least_risk)(texts, weights)
            found.append((responses[place], rewards[place]))
        return [response for response, _ in found], np.array([reward for _, reward in found])


def _chance(proposed: Proposed) -> np.ndarray:
    """That every row's proposal is accepted."""
    return np.exp(np.minimum(proposed.log_accept_X, 0))
