"""Log-probabilities of tokens from hidden states, a piece of the positions at a time."""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from ebm_jax.models.lm import TransformerLM, tables_of
from ebm_jax.parallel.rules import by_rows
from ebm_jax.pieces import WIDE
from ebm_jax.types import Array, Params

ROWS = 512
"""Positions whose logits exist at once where the vocabulary is wide."""


class TokenLogProbs(NamedTuple):
    """Of the tempered policy ``softmax(logits / temperature)``."""

    log_probs_BxTxK: Array
    entropy_BxT: Array | None


def token_log_probs(
    network: TransformerLM,
    params: Params,
    hidden_BxTxD: Array,
    targets_BxTxK: Array,
    temperature: float = 1.0,
    entropy: bool = False,
) -> TokenLogProbs:
    """Log-probabilities of K targets behind every hidden state, and the entropy if asked for.

    Logits of wide vocabularies are made ``ROWS`` positions at a time, and again in the backward pass.
    """

    def piece(tables: Params, hidden_BxRxD: Array, targets_BxRxK: Array) -> TokenLogProbs:
        logits = cast(Array, network.apply({"params": tables}, hidden_BxRxD, method="logits")) / temperature
        total = jax.nn.logsumexp(logits, -1, keepdims=True)
        chosen = jnp.take_along_axis(logits, targets_BxRxK, -1) - total
        if not entropy:
            return TokenLogProbs(chosen, None)
        log_probs = logits - total
        return TokenLogProbs(chosen, -jnp.sum(jnp.exp(log_probs) * log_probs, -1))

    length = hidden_BxTxD.shape[1]
    number = -(-length // ROWS)
    if network.vocab_size < WIDE or number <= 1:
        return piece(params, hidden_BxTxD, targets_BxTxK)
    size = -(-length // number)

    def apart(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (0, number * size - length), (0, 0)))
        return jnp.moveaxis(x.reshape(x.shape[0], number, size, x.shape[-1]), 1, 0)

    join = lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], number * size, *x.shape[3:])[:, :length]

    def in_pieces(tables: Params, hidden_BxTxD: Array, targets_BxTxK: Array) -> TokenLogProbs:
        loop = lambda both: jax.checkpoint(piece)(tables, *both)
        return jax.tree.map(join, lax.map(loop, (apart(hidden_BxTxD), apart(targets_BxTxK))))

    return cast(TokenLogProbs, by_rows(in_pieces, tables_of(params), hidden_BxTxD, targets_BxTxK))
