"""One Metropolis-Hastings move of many chains at a time: cut, draw the rest anew, ask for its reward, accept or stay."""

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import rng
from ebm_jax.decoders.engine import Batch
from ebm_jax.decoders.job import Job
from ebm_jax.decoders.rewards import Response
from ebm_jax.decoding.markov.acceptance import TargetConfig, Weighed, log_accept, log_accept_delayed
from ebm_jax.decoding.markov.cuts import CutConfig, entropy_scores, log_cuts
from ebm_jax.decoding.markov.suffixes import Responses
from ebm_jax.decoding.sampling import choose
from ebm_jax.types import Array, PRNGKey


class Chains(NamedTuple):
    """Where all chains are, row by row."""

    batch: Batch
    told: list[Response]
    reward_X: np.ndarray
    cheap_X: np.ndarray | None = None
    """The cheaper reward, where acceptance is delayed."""


class Proposed(NamedTuple):
    """What all rows could become, and how likely they do."""

    cut_X: np.ndarray
    active_X: np.ndarray
    """Whether anything was drawn; else the row was cut behind its end."""
    made: Responses
    chains: Chains
    """As they were, with proposals in the responses' and rewards' places."""
    log_accept_X: np.ndarray
    """``log A``, of both stages together where it is delayed; -inf where nothing was drawn."""
    log_uniform_X: np.ndarray
    accepted_X: np.ndarray
    """Whether a chain of one row would go there."""


class Step(NamedTuple):
    """One move of all chains, for the record."""

    cut_X: np.ndarray
    drawn_X: np.ndarray
    accepted_X: np.ndarray
    proposed_X: np.ndarray
    """Tokens of the proposal, those before the cut included; 0 where nothing was drawn."""
    reward_X: np.ndarray
    """Of the state after the move."""


@dataclass(frozen=True)
class Moves:
    """How the chains of a job move."""

    job: Job
    target: TargetConfig
    cuts: CutConfig
    _: KW_ONLY
    block_X: np.ndarray | int = 1
    """The distance between places of a grid, of every row."""
    until: int | None = None
    """What responses grow to, where that is less than the horizon."""
    as_released: bool = False
    """The moves of the released code of power sampling (``PowerSampling.compat``), which are biased."""
    correct_length: bool = True
    """Without it the law of the cut is left out of the acceptance, which is biased (``EBDConfig``)."""
    share_X: np.ndarray | float = 1.0
    """What of the inverse temperature is every row's own (tempering)."""
    still_X: np.ndarray | bool = False
    """Rows that do not move any more."""
    whole_X: np.ndarray | None = None
    """Rows that draw whole responses anew, whatever the law of the cut is."""
    complete_only: bool = False
    """Unfinished responses are worth 0, and their rewards are not asked for."""
    tries: int = 1
    """Rows of a chain, which are all in one state and share their cuts."""

    def proposed(self, chains: Chains, number: int | np.ndarray) -> Proposed:
        """Proposals of all rows for their steps ``number``; the chains' batch is used up, that of the proposals replaces it."""
        batch, horizon = chains.batch, self.job.engine.horizon
        law_XxH = self._law(batch.responses)
        cut_X, first_X, second_X = self._random(batch, law_XxH, number)
        active_X = (cut_X < batch.lengths) & ~np.broadcast_to(self.still_X, batch.rows)
        # Rows that draw nothing are cut behind the last place, where there is nothing to draw.
        cut_X = np.where(active_X, cut_X, horizon)
        until = batch.lengths if self.as_released else self.until or horizon
        made, batch = self.job.engine.propose(batch, cut_X, number, until)
        self.job.drawn(batch, active_X, cut_X, made)
        rows, told = np.flatnonzero(active_X), list(chains.told)
        for row, response in zip(rows, self.job.engine.told(batch, made, rows), strict=True):
            told[row] = response
        sides = self._side(chains.batch.responses, made, law_XxH, cut_X), self._side(made, made, self._law(made), cut_X)
        chances = (np.log(first_X), np.log(second_X))
        decide = self._decided if chains.cheap_X is None else self._decided_in_two
        new, log_accept_X, accepted_X = decide(
            chains, chains._replace(batch=batch, told=told), sides, cut_X, active_X, chances
        )
        log_accept_X = np.where(active_X, log_accept_X, -np.inf)
        return Proposed(cut_X, active_X, made, new, log_accept_X, chances[0], accepted_X)

    def _decided(self, old, new, sides, cut_X, active_X, chances) -> tuple[Chains, np.ndarray, np.ndarray]:
        """Rewards of the proposals, ``log A`` and who accepts."""
        new = new._replace(reward_X=self._rewards(new, active_X, old.reward_X))
        weighed = self._with(sides, old.reward_X, new.reward_X)
        log_a_X = np.asarray(log_accept(self.target, *weighed, jnp.asarray(cut_X)), np.float64)
        return new, log_a_X, active_X & (chances[0] < log_a_X)

    def _decided_in_two(self, old, new, sides, cut_X, active_X, chances) -> tuple[Chains, np.ndarray, np.ndarray]:
        """The same where the full reward is asked for only of what the cheap one lets through."""
        cheap_X = self._rewards(new, active_X, old.cheap_X, cheap=True)
        first = jnp.asarray(self.share_X * old.cheap_X), jnp.asarray(self.share_X * cheap_X)
        ratios = lambda reward_X: log_accept_delayed(
            self.target, *self._with(sides, old.reward_X, reward_X), jnp.asarray(cut_X), first
        )
        one_X = np.asarray(ratios(old.reward_X)[0], np.float64)
        through_X = active_X & (chances[0] < one_X)
        reward_X = self._rewards(new, through_X, old.reward_X)
        two_X = np.asarray(ratios(reward_X)[1], np.float64)
        log_a_X = np.minimum(one_X, 0) + np.where(through_X, np.minimum(two_X, 0), -np.inf)
        new = new._replace(reward_X=reward_X, cheap_X=cheap_X)
        return new, log_a_X, through_X & (chances[1] < two_X)

    def _rewards(self, new: Chains, rows_X: np.ndarray, old_X: np.ndarray, cheap: bool = False) -> np.ndarray:
        """Rewards of the rows' new responses, and the old rewards elsewhere."""
        found, rows = old_X.copy(), np.flatnonzero(rows_X)
        if not self.target.inv_temp:
            return found
        if self.complete_only:
            found[rows] = 0
            rows = rows[[new.told[row].complete for row in rows]]
        found[rows] = self.job.rewards(new.batch, new.told, rows, cheap)
        return found

    def settled(
        self, chains: Chains, proposed: Proposed, accepted_X: np.ndarray, used_X: np.ndarray | bool = True
    ) -> Chains:
        """The chains after rows went where they were allowed to; moves that are ``used`` are counted."""
        job, new = self.job, proposed.chains
        prompt_X, active_X = new.batch.prompt_X, proposed.active_X
        job.account.add("steps", prompt_X, active_X & used_X)
        job.account.add("idle", prompt_X, ~active_X & used_X)
        job.account.add("accepted", prompt_X, accepted_X)
        batch = job.engine.settle(new.batch, proposed.made, proposed.cut_X, accepted_X)
        told = [b if taken else a for a, b, taken in zip(chains.told, new.told, accepted_X, strict=True)]
        cheap_X = chains.cheap_X
        if new.cheap_X is not None and cheap_X is not None:
            cheap_X = np.where(accepted_X, new.cheap_X, cheap_X)
        return Chains(batch, told, np.where(accepted_X, new.reward_X, chains.reward_X), cheap_X)

    def __call__(self, chains: Chains, number: int) -> tuple[Chains, Step]:
        """One move of chains of one row each."""
        proposed = self.proposed(chains, number)
        after = self.settled(chains, proposed, proposed.accepted_X)
        return after, told_step(proposed, proposed.accepted_X, after.reward_X)

    def _law(self, responses: Responses) -> Array:
        scores = None if self.cuts.law != "scored" else entropy_scores(_known(responses.entropy_XxH))
        horizon = self.job.engine.horizon
        law = _log_cuts(self.cuts, responses.length_X, horizon, jnp.asarray(self.block_X), scores, self.until)
        if self.whole_X is None:
            return law
        return jnp.where(jnp.asarray(self.whole_X)[:, None], jnp.where(jnp.arange(horizon) == 0, 0.0, -jnp.inf), law)

    def _side(self, of: Responses, made: Responses, law_XxH: Array, cut_X: np.ndarray) -> Weighed:
        """What the acceptance knows of responses, but for their rewards."""
        log_cut_X = jnp.zeros(len(cut_X))
        if self.correct_length:
            at = jnp.minimum(jnp.asarray(cut_X), law_XxH.shape[1] - 1)
            log_cut_X = jnp.take_along_axis(law_XxH, at[:, None], axis=1)[:, 0]
        log_probs = of.log_prior_XxH, of.log_proposal_XxH
        if self.as_released:
            # Compared up to the end of the proposal, which is no longer than the response.
            within = jnp.arange(law_XxH.shape[1]) < made.length_X[:, None]
            log_probs = jax.tree.map(lambda x: jnp.where(within, x, 0), log_probs)
        return Weighed(jnp.zeros(len(cut_X)), log_cut_X, *log_probs)

    def _with(self, sides: tuple[Weighed, Weighed], old_X: np.ndarray, new_X: np.ndarray) -> tuple[Weighed, Weighed]:
        """Both sides with their rewards."""
        one, two = (
            side._replace(reward_X=jnp.asarray(self.share_X * reward_X))
            for side, reward_X in zip(sides, (old_X, new_X), strict=True)
        )
        return one, two

    def _random(
        self, batch: Batch, law_XxH: Array, number: int | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The cut of every row and two uniform numbers, by prompt, chain and step alone; tries of a chain share them."""
        chain_X, step_X = batch.chain_X // self.tries, np.broadcast_to(np.asarray(number, np.int32), batch.rows)
        cut_X, uniform_Xx2 = _cuts(self.job.key, batch.prompt_X, chain_X, step_X, law_XxH)
        found = np.asarray(uniform_Xx2, np.float64)
        return np.asarray(cut_X), found[:, 0], found[:, 1]


_log_cuts = jax.jit(log_cuts, static_argnums=(0, 2))


@jax.jit
def _cuts(key: PRNGKey, prompt_X: Array, chain_X: Array, step_X: Array, law_XxH: Array) -> tuple[Array, Array]:
    fold = jax.vmap(jax.random.fold_in)
    rows = fold(fold(rng.per_row(rng.stream(key, "moves"), prompt_X), chain_X), step_X)
    uniform_Xx3 = jax.vmap(lambda one: jax.random.uniform(one, (3,)))(rows)
    return choose(law_XxH, uniform_Xx3[:, 0]), uniform_Xx3[:, 1:]


def told_step(proposed: Proposed, accepted_X: np.ndarray, reward_X: np.ndarray) -> Step:
    """The record of a move."""
    lengths = np.where(proposed.active_X, np.asarray(proposed.made.length_X), 0)
    return Step(proposed.cut_X, proposed.active_X, accepted_X, lengths, reward_X.copy())


def one_state(job: Job, chains: Chains, chosen: np.ndarray, each: int) -> Chains:
    """All ``each`` rows of every chain go to the state of one of them; ``chosen`` are those rows, one for each chain."""
    rows = np.repeat(chosen, each)
    batch = job.engine.take(chains.batch, rows, chains.batch.chain_X)
    cheap_X = None if chains.cheap_X is None else chains.cheap_X[rows]
    return Chains(batch, [chains.told[row] for row in rows], chains.reward_X[rows], cheap_X)


def _known(array: Array | None) -> Array:
    if array is None:
        raise ValueError("entropies are read, and the engine was made without log_probs")
    return array
