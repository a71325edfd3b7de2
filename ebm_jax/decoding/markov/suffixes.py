"""Responses whose ends are drawn anew, many at a time: a chain's proposals against a cache that is never recomputed (EBD).

Every row keeps the keys and values of its current response beside those of the proposal. A proposal reads the former up to its
cut and fills the latter, one column a step for all rows, wherever they were cut; a rejection forgets them, an acceptance moves
them into their places. The token before the cut is read once more, for the logits behind it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from ebm_jax import rng
from ebm_jax.decoding.sampling import SamplingConfig, choose, filtered
from ebm_jax.models.lm import TransformerLM
from ebm_jax.types import Array, Params, PRNGKey


class Responses(struct.PyTreeNode):
    """Responses of at most H tokens, of which an end is the last one and counts; behind it stand zeros."""

    tokens_XxH: Array
    length_X: Array
    ended_X: Array
    """Whether it ends with an end; else it was cut off at H."""
    log_prior_XxH: Array | None = None
    """Log-probability of every token under the model at temperature 1, in float32 or wider."""
    log_proposal_XxH: Array | None = None
    """Under the law that it was drawn from."""
    entropy_XxH: Array | None = None
    """Nats of the law that the token was drawn from: a function of what stands before it alone."""


class Memory(struct.PyTreeNode):
    """Keys and values: of prompts, shared by their rows, and of every row's response and proposal."""

    prefix: Any
    """Of all tokens of the prompts but the last."""
    length_B: Array
    last_X: Array
    """The prompts' last tokens."""
    own: Any


class Suffixes:
    """Pure functions that draw responses and their ends, for one model and one way of sampling."""

    def __init__(
        self,
        network: TransformerLM,
        sampling: SamplingConfig,
        ends: tuple[int, ...],
        horizon: int,
        log_probs: bool = False,
        weighed: SamplingConfig | None = None,
    ) -> None:
        """``horizon`` is H; with ``log_probs``, responses carry those of their tokens.

        ``weighed`` is the law whose log-probabilities stand for the proposal's, if not the one that is drawn from.
        """
        self._network, self._sampling, self._ends = network, sampling, ends
        self._weighed = weighed
        self.horizon, self._log_probs = horizon, log_probs
        self._half = horizon

    def read(self, params: Params, tokens_BxT: Array, length_B: Array, each: int) -> tuple[Responses, Memory]:
        """Reads prompts of ``length`` tokens, padded behind, for ``each`` rows of every one; responses are empty yet."""
        rows = each * len(length_B)
        prefix, own = self._context(params, tokens_BxT, length_B, rows)
        last_B = jnp.take_along_axis(tokens_BxT, (length_B - 1)[:, None], axis=1)[:, 0]
        memory = Memory(prefix, length_B - 1, jnp.repeat(last_B, each), own)
        nothing = jnp.zeros((rows, self.horizon), jnp.int32)
        log_probs = jnp.zeros(nothing.shape) if self._log_probs else None
        none = jnp.zeros((rows,), jnp.int32)
        return Responses(nothing, none, none > 0, log_probs, log_probs, log_probs), memory

    def _context(self, params: Params, tokens_BxT: Array, length_B: Array, rows: int) -> tuple[Any, Any]:
        """Keys and values of the prompts, and empty buffers for the rows."""
        _, prefix = self._apply(params, tokens_BxT, length_B, method="read")
        return prefix, self._network.room(rows, 2 * self._half)

    def draw(
        self, params: Params, memory: Memory, current: Responses, cut_X: Array, key_X: PRNGKey, until: Array | int
    ) -> tuple[Responses, Memory]:
        """The current responses up to their cuts, and ends drawn behind these; a token is a function of (key, place).

        ``cut`` is at most the length. Nothing is drawn from ``until`` on, which is at most H, for all rows or each (``[X]``):
        rows cut there stay as they are.
        """
        begun, token_X = self._begun(memory, current, cut_X)

        def goes_on(carry: tuple[Any, ...]) -> Array:
            _, _, made, _ = carry
            return ~jnp.all(made.ended_X | (made.length_X >= until))

        def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            number, token_X, made, own = carry
            logits_XxV, own = self._apply(
                params, memory.prefix, memory.length_B, own, cut_X, number, token_X, method="regrow"
            )
            keys = jax.vmap(jax.random.fold_in)(key_X, made.length_X)
            drawable_XxV = filtered(logits_XxV, self._sampling)
            if self._sampling.temperature:
                drawn_X = choose(drawable_XxV, jax.vmap(jax.random.uniform)(keys))
            else:
                drawn_X = jnp.argmax(logits_XxV, -1).astype(jnp.int32)
            going_X = ~made.ended_X & (made.length_X < until)
            return number + 1, drawn_X, self._with(made, drawn_X, logits_XxV, drawable_XxV, going_X), own

        start = (jnp.zeros((), jnp.int32), token_X, begun, memory.own)
        _, _, made, own = lax.while_loop(goes_on, step, start)
        return made, memory.replace(own=own)

    def _begun(self, memory: Memory, current: Responses, cut_X: Array) -> tuple[Responses, Array]:
        """What is kept of the responses, and the tokens before the cuts."""
        kept = jnp.arange(self.horizon) < cut_X[:, None]
        begun = current.replace(length_X=cut_X, ended_X=jnp.zeros(cut_X.shape, bool))
        begun = jax.tree.map(lambda x: jnp.where(kept, x, 0) if x.ndim == 2 else x, begun)
        before_X = jnp.take_along_axis(current.tokens_XxH, jnp.maximum(cut_X - 1, 0)[:, None], axis=1)[:, 0]
        return begun, jnp.where(cut_X > 0, before_X, memory.last_X)

    def front(self, params: Params, memory: Memory, current: Responses) -> tuple[Array, Memory]:
        """Logits ``[X, V]`` of the token behind every response, at temperature 1 and with no filter.

        To go on from them, ``keep`` the memory with cuts at the lengths, and give ``with_token`` the tokens.
        """
        cut_X = jnp.minimum(current.length_X, self.horizon - 1)
        before_X = jnp.take_along_axis(current.tokens_XxH, jnp.maximum(cut_X - 1, 0)[:, None], axis=1)[:, 0]
        token_X, first = jnp.where(cut_X > 0, before_X, memory.last_X), jnp.zeros((), jnp.int32)
        logits_XxV, own = self._apply(
            params, memory.prefix, memory.length_B, memory.own, cut_X, first, token_X, method="regrow"
        )
        return logits_XxV, memory.replace(own=own)

    def with_token(self, made: Responses, token_X: Array, logits_XxV: Array) -> Responses:
        """One more token, chosen by the caller, in the rows that have not ended; ``logits`` are those of ``front``."""
        going_X = ~made.ended_X & (made.length_X < self.horizon)
        return self._with(made, token_X, logits_XxV, filtered(logits_XxV, self._sampling), going_X)

    def _with(self, made: Responses, token_X: Array, logits_XxV: Array, drawable_XxV: Array, going: Array) -> Responses:
        """One more token in the rows that go on."""
        here = going[:, None] & (jnp.arange(self.horizon) == made.length_X[:, None])
        ends = jnp.isin(token_X, jnp.asarray(self._ends, jnp.int32)) if self._ends else jnp.zeros_like(going)
        new = made.replace(
            tokens_XxH=jnp.where(here, token_X[:, None], made.tokens_XxH),
            length_X=made.length_X + going,
            ended_X=made.ended_X | (going & ends),
        )
        if made.log_prior_XxH is None or made.log_proposal_XxH is None or made.entropy_XxH is None:
            return new
        of = lambda law: jnp.take_along_axis(law, token_X[:, None], axis=1)
        if self._weighed is not None:
            drawable_XxV = filtered(logits_XxV, self._weighed)
        prior_XxV, proposal_XxV = jax.nn.log_softmax(logits_XxV), jax.nn.log_softmax(drawable_XxV)
        entropy_X = -jnp.sum(jnp.exp(proposal_XxV) * jnp.where(jnp.isneginf(proposal_XxV), 0, proposal_XxV), -1)
        return new.replace(
            log_prior_XxH=jnp.where(here, of(prior_XxV), made.log_prior_XxH),
            log_proposal_XxH=jnp.where(here, of(proposal_XxV), made.log_proposal_XxH),
            entropy_XxH=jnp.where(here, entropy_X[:, None], made.entropy_XxH),
        )

    def keep(self, memory: Memory, cut_X: Array, accepted_X: Array) -> Memory:
        """What is remembered of the responses that a step ends with: of proposals where they were accepted."""
        half = self._half
        column = jnp.arange(half)
        moved = jnp.clip(column - cut_X[:, None], 0, half - 1)[:, None, :, None]
        taken = (accepted_X[:, None] & (column >= cut_X[:, None]))[:, None, :, None]

        def one(buffer: Array) -> Array:
            old, new = buffer[..., :half, :], buffer[..., half:, :]
            old = jnp.where(taken, jnp.take_along_axis(new, moved, axis=-2), old)
            return jnp.concatenate([old, new], axis=-2)

        return memory.replace(own=jax.tree.map(one, memory.own))

    def _apply(self, params: Params, *args: Any, method: str) -> Any:
        return self._network.apply({"params": params}, *args, method=method)


def merged(old: Responses, new: Responses, accepted_X: Array) -> Responses:
    """The new responses where they were accepted."""
    at = lambda x: accepted_X.reshape(-1, *(1,) * (x.ndim - 1))
    return jax.tree.map(lambda a, b: jnp.where(at(a), b, a), old, new)


def row_keys(key: PRNGKey, prompt_X: Array, chain_X: Array, step: Array | int) -> PRNGKey:
    """A key for every row of its step, by the numbers of its prompt and chain alone: what runs beside it does not matter."""
    fold = jax.vmap(jax.random.fold_in)
    keys_X = fold(rng.per_row(rng.stream(key, "suffixes"), prompt_X), chain_X)
    return jax.vmap(rng.at_step)(keys_X, jnp.broadcast_to(step, prompt_X.shape))
