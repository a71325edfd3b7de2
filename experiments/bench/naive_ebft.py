"""EBFT the way of its published code: every sample a row of its own, under one dense mask, and no cache.

A row is ``[prompt | token 0 of all blocks | token 1 of all blocks | ...]``, the prompt repeated for every sample. A token of a
block sees the prompt before its anchor and its own block's tokens so far. Rollouts read the whole row again for every token,
and every pass gives the logits of all positions. Layers are the package's own, so that nothing but the way differs.
"""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ebm_jax.models.lm import TransformerLM
from ebm_jax.nn.blocks import Block
from ebm_jax.nn.norms import norm
from ebm_jax.nn.rope import rotation
from ebm_jax.types import Array, Params, PRNGKey


class Layout(NamedTuple):
    """Where the tokens of a row stand, and who sees whom; L = P + S * T."""

    anchor_S: np.ndarray
    position_L: np.ndarray
    visible_LxL: np.ndarray


def layout(places: int, prefix: int, stride: int, steps: int) -> Layout:
    """Strided blocks of ``steps`` tokens in a prompt of ``places`` tokens, entry by entry."""
    anchor_S = np.arange(prefix, places - steps + 1, stride)
    blocks = len(anchor_S)
    length = places + blocks * steps
    position_L, visible_LxL = np.arange(length), np.tril(np.ones((length, length), bool))
    visible_LxL[places:] = False
    for t in range(steps):
        for k, anchor in enumerate(anchor_S):
            row = places + t * blocks + k
            position_L[row] = anchor + t
            visible_LxL[row, :anchor] = True
            visible_LxL[row, places + k : row + 1 : blocks] = True
    return Layout(anchor_S, position_L, visible_LxL)


def forward(
    model: TransformerLM, params: Params, tokens_RxL: Array, layout: Layout, remat: bool = False
) -> tuple[Array, Array]:
    """Streams behind every layer, ``[N, R, L, D]``, and the logits of all positions; ``remat`` makes each layer again in the
    backward pass. Rows may end before the layout does."""
    config, length = model.config, tokens_RxL.shape[1]
    block = Block(config.block(), model.precision, parent=None)
    positions = jnp.broadcast_to(layout.position_L[:length], tokens_RxL.shape)
    turn = rotation(positions, config.block().head_width, config.rope_theta, config.rope_scaling)
    visible = jnp.asarray(layout.visible_LxL)[None, None, :length, :length]

    def layer(x, weights):
        x = block.apply({"params": weights}, x, turn, visible, None, method="context")[0]
        return x, x

    x = jnp.take(params["embed"], tokens_RxL, axis=0).astype(model.precision.compute_dtype)
    x, streams = lax.scan(jax.checkpoint(layer) if remat else layer, x, params["stack"]["blocks"])
    x = norm(config.norm, params["final_norm"], x, config.norm_eps)
    return streams, cast(Array, model.apply({"params": params}, x, method="logits"))


def rollout(
    model: TransformerLM,
    params: Params,
    tokens_BxP: Array,
    key: PRNGKey,
    layout: Layout,
    samples: int,
    steps: int,
    temperature: float,
) -> Array:
    """Continuations ``[B, G, S, T]`` by one whole pass over the growing row for every token; temperature 0 is greedy."""
    rows_RxL, places = jnp.repeat(tokens_BxP, samples, axis=0), tokens_BxP.shape[1]
    for step in range(steps):
        logits_RxLxV = forward(model, params, rows_RxL, layout)[1]
        logits_RxSxV = before(logits_RxLxV, layout, places, step)
        if temperature:
            made = jax.random.categorical(jax.random.fold_in(key, step), logits_RxSxV / temperature)
        else:
            made = jnp.argmax(logits_RxSxV, -1)
        rows_RxL = jnp.concatenate([rows_RxL, made.astype(rows_RxL.dtype)], axis=1)
    return blocks_of(rows_RxL[:, places:], samples, len(layout.anchor_S))


def before(x_RxLxZ: Array, layout: Layout, places: int, step: int) -> Array:
    """What stands in front of token ``step`` of every block, ``[R, S, Z]``."""
    if not step:
        return x_RxLxZ[:, layout.anchor_S - 1]
    begin = places + (step - 1) * len(layout.anchor_S)
    return x_RxLxZ[:, begin : begin + len(layout.anchor_S)]


def features(
    streams_NxRxLxD: Array, layout: Layout, samples: int, places: int, depths: tuple[int, ...]
) -> tuple[Array, Array]:
    """Unit vectors of the last tokens of sampled and of true continuations, ``[B, G, S, E]`` each; of the true ones, every
    sample's row has a copy."""
    blocks = len(layout.anchor_S)
    steps = (streams_NxRxLxD.shape[2] - places) // blocks
    x_RxLxE = jnp.concatenate([streams_NxRxLxD[depth - 1] for depth in depths], axis=-1)
    x_RxLxE = x_RxLxE / jnp.linalg.norm(x_RxLxE, axis=-1, keepdims=True)
    apart = lambda x: x.reshape(-1, samples, blocks, x.shape[-1])
    return apart(x_RxLxE[:, places + (steps - 1) * blocks :]), apart(x_RxLxE[:, layout.anchor_S + steps - 1])


def loss(
    model: TransformerLM,
    params: Params,
    tokens_BxP: Array,
    made_BxGxSxT: Array,
    advantages_BxGxSxT: Array,
    layout: Layout,
    temperature: float,
    gamma: float,
) -> Array:
    """The policy's loss and ``gamma`` times the cross-entropy of the prompt, which every sample's row has a copy of."""
    samples, blocks, steps = made_BxGxSxT.shape[1:]
    places = tokens_BxP.shape[1]
    flat = lambda x: jnp.swapaxes(x, 2, 3).reshape(-1, steps * blocks)
    rows_RxL = jnp.concatenate([jnp.repeat(tokens_BxP, samples, axis=0), flat(made_BxGxSxT)], axis=1)
    logits_RxLxV = forward(model, params, rows_RxL, layout, remat=True)[1]
    fronts = jnp.concatenate([before(logits_RxLxV, layout, places, step) for step in range(steps)], axis=1)
    log_probs = _chosen(fronts / temperature, rows_RxL[:, places:])
    policy = -jnp.exp(log_probs - lax.stop_gradient(log_probs)) * flat(advantages_BxGxSxT)
    text = -_chosen(logits_RxLxV[:, : places - 1], rows_RxL[:, 1:places])
    return jnp.mean(policy) + gamma * jnp.mean(text)


def blocks_of(made_RxL: Array, samples: int, blocks: int) -> Array:
    """Tokens in the order of steps as ``[B, G, S, T]``."""
    return jnp.swapaxes(made_RxL.reshape(-1, samples, made_RxL.shape[1] // blocks, blocks), 2, 3)


def _chosen(logits: Array, tokens: Array) -> Array:
    return jnp.take_along_axis(jax.nn.log_softmax(logits, -1), tokens[..., None], -1)[..., 0]
