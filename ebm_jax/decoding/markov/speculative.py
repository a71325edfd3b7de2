"""Speculative sampling (Leviathan et al. 2023): a small draft writes ahead, and the model reads all of it at once.

A drafted token v is kept with probability ``min(1, p(v) / d(v))``; the first that is not is drawn from ``max(0, p - d)``,
normalised, and behind a draft that is kept whole one more token comes from p. Every token has the law p, whatever the draft is,
so what a chain samples does not change; which random numbers it comes from does.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from ebm_jax.decoding.markov.suffixes import Memory, Responses, Suffixes
from ebm_jax.decoding.sampling import SamplingConfig, choose, filtered
from ebm_jax.models.lm import TransformerLM
from ebm_jax.nn.stack import Layers
from ebm_jax.types import Array, Params, PRNGKey


class Both(struct.PyTreeNode):
    """Keys and values of the model and of its draft."""

    model: Layers
    draft: Layers


class DraftedSuffixes(Suffixes):
    """``Suffixes`` whose model reads what a draft of the same vocabulary wrote; parameters are ``{"model", "draft"}``."""

    def __init__(
        self,
        network: TransformerLM,
        draft: TransformerLM,
        sampling: SamplingConfig,
        ends: tuple[int, ...],
        horizon: int,
        log_probs: bool = False,
        weighed: SamplingConfig | None = None,
        ahead: int = 4,
    ) -> None:
        """``ahead`` is how many tokens the draft writes before the model reads them."""
        super().__init__(network, sampling, ends, horizon, log_probs, weighed)
        self._draft, self._ahead = draft, ahead
        # Behind the last token a draft may be written that is not kept.
        self._half = horizon + ahead + 1

    def _context(self, params: Params, tokens_BxT: Array, length_B: Array, rows: int) -> tuple[Both, Both]:
        of = self._of(params)
        prefixes = [call(tokens_BxT, length_B, method="read")[1] for call in of]
        return Both(*prefixes), Both(*(net.room(rows, 2 * self._half) for net in (self._network, self._draft)))

    def _of(self, params: Params) -> list[Any]:
        """The two networks with their parameters."""
        pairs = ((self._network, params["model"]), (self._draft, params["draft"]))
        return [partial(network.apply, {"params": own}) for network, own in pairs]

    def draw(
        self, params: Params, memory: Memory, current: Responses, cut_X: Array, key_X: PRNGKey, until: Array | int
    ) -> tuple[Responses, Memory]:
        """As ``Suffixes.draw``, the same law, in rounds that settle up to ``ahead + 1`` tokens."""
        model, _ = self._of(params)
        begun, token_X = self._begun(memory, current, cut_X)

        def goes_on(carry: tuple[Any, ...]) -> Array:
            _, made, _ = carry
            return ~jnp.all(made.ended_X | (made.length_X >= until))

        def settle(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            token_X, made, own = carry
            step_X = made.length_X - cut_X
            tokens_XxA, law_XxAxV, draft = self._drafted(params, memory, own.draft, cut_X, step_X, token_X, key_X)
            read = (memory.prefix.model, memory.length_B, own.model, cut_X, step_X)
            hidden, kept = model(*read, jnp.concatenate([token_X[:, None], tokens_XxA], 1), method="regrown")
            logits_XxTxV = model(hidden, method="logits")
            open_X = jnp.ones(token_X.shape, bool)
            for at in range(self._ahead + 1):
                going_X = open_X & ~made.ended_X & (made.length_X < until)
                wanted_XxV = self._law(logits_XxTxV[:, at])
                uniform_Xx3 = _uniform(key_X, made.length_X)
                if at < self._ahead:
                    found_X, kept_X = _checked(wanted_XxV, law_XxAxV[:, at], tokens_XxA[:, at], uniform_Xx3)
                    open_X = open_X & kept_X
                else:
                    found_X = choose(wanted_XxV, uniform_Xx3[:, 2])
                made = self._with(made, found_X, logits_XxTxV[:, at], wanted_XxV, going_X)
                token_X = jnp.where(going_X, found_X, token_X)
            return token_X, made, Both(kept, draft)

        _, made, own = lax.while_loop(goes_on, settle, (token_X, begun, memory.own))
        return made, memory.replace(own=own)

    def _drafted(
        self, params: Params, memory: Memory, own: Layers, cut_X: Array, step_X: Array, token_X: Array, key_X: PRNGKey
    ) -> tuple[Array, Array, Layers]:
        """What the draft writes behind ``token``, ``[X, A]``, and the laws it is drawn from, ``[X, A, V]``."""
        _, draft = self._of(params)

        def step(carry: tuple[Array, Layers], number: Array) -> tuple[Any, Any]:
            token_X, own = carry
            at = (memory.prefix.draft, memory.length_B, own, cut_X, step_X + number)
            logits_XxV, own = draft(*at, token_X, method="regrow")
            law_XxV = self._law(logits_XxV)
            drawn_X = choose(law_XxV, _uniform(key_X, cut_X + step_X + number)[:, 0])
            return (drawn_X, own), (drawn_X, law_XxV)

        # The last token is read too, to be remembered; what follows it is not used.
        (_, own), (tokens, laws) = lax.scan(step, (token_X, own), jnp.arange(self._ahead + 1))
        tokens, laws = (jnp.moveaxis(x[:-1], 0, 1) for x in (tokens, laws))
        return tokens, laws, own

    def _law(self, logits_XxV: Array) -> Array:
        """Logits of the law that is to be drawn from."""
        if self._sampling.temperature:
            return filtered(logits_XxV, self._sampling)
        best = jnp.argmax(logits_XxV, -1, keepdims=True)
        return jnp.where(jnp.arange(logits_XxV.shape[-1]) == best, 0.0, -jnp.inf)


def _uniform(key_X: PRNGKey, place_X: Array) -> Array:
    """Three numbers for every row's place: of the draft's token, of its acceptance, and of what is drawn in its stead."""
    return jax.vmap(lambda key, place: jax.random.uniform(jax.random.fold_in(key, place), (3,)))(key_X, place_X)


def _checked(wanted_XxV: Array, law_XxV: Array, token_X: Array, uniform_Xx3: Array) -> tuple[Array, Array]:
    """The token that is settled at a place, and whether it is the draft's."""
    p_XxV, d_XxV = jax.nn.softmax(wanted_XxV), jax.nn.softmax(law_XxV)
    of = lambda x: jnp.take_along_axis(x, token_X[:, None], axis=1)[:, 0]
    kept_X = uniform_Xx3[:, 1] * of(d_XxV) < of(p_XxV)
    rest_XxV = jnp.maximum(p_XxV - d_XxV, 0)
    # Of two equal laws nothing is left: a rejection is rounding then.
    rest_XxV = jnp.where(jnp.any(rest_XxV > 0, -1, keepdims=True), rest_XxV, p_XxV)
    return jnp.where(kept_X, token_X, choose(jnp.log(rest_XxV), uniform_Xx3[:, 2])), kept_X
