"""Cross-entropy of tokens from the last hidden states, without all logits at once where the vocabulary is wide."""

from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

from ebm_jax.losses.cross_entropy import cross_entropy
from ebm_jax.models.lm import TransformerLM, tables_of
from ebm_jax.parallel.rules import by_rows
from ebm_jax.pieces import pieces_of
from ebm_jax.types import Array, Params


def token_nll(network: TransformerLM, params: Params, hidden_BxTxD: Array, targets_BxT: Array) -> Array:
    """Cross-entropy of every target, ``[B, T]`` in nats; wide vocabularies in pieces, made again in the backward pass."""

    def piece(tables: Params, hidden_BxSxD: Array, targets_BxS: Array) -> Array:
        logits = cast(Array, network.apply({"params": tables}, hidden_BxSxD, method="logits"))
        return cross_entropy(logits, targets_BxS)

    pieces = pieces_of((*targets_BxT.shape, network.vocab_size))
    if pieces.number == 1:
        return piece(params, hidden_BxTxD, targets_BxT)
    apart = lambda x: jnp.moveaxis(x.reshape(x.shape[0], pieces.number, pieces.size, *x.shape[2:]), 1, 0)

    def in_pieces(tables: Params, hidden_BxTxD: Array, targets_BxT: Array) -> Array:
        loop = lambda both: jax.checkpoint(piece)(tables, *both)
        nll_PxBxS = lax.map(loop, (apart(hidden_BxTxD), apart(targets_BxT)))
        return jnp.moveaxis(nll_PxBxS, 0, 1).reshape(targets_BxT.shape)

    return by_rows(in_pieces, tables_of(params), hidden_BxTxD, targets_BxT)
