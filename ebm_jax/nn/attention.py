"""The attention operation, for one stream and for the candidates of an energy-based transformer.

All forms keep heads in front of time and divide by the softmax's sum after the product with the values: that leaves one
T x S array for the backward pass instead of two. Written in plain ``jax.numpy``, they are differentiable to any order.
Fused kernels are not (their backward pass has no derivative), so ``attend`` dispatches on the order a caller needs.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from ebm_jax.errors import UserError
from ebm_jax.nn.branches import Branches, Sight
from ebm_jax.types import Array

IMPLEMENTATIONS = ("xla", "cudnn")
DIFFERENTIABLE = {"xla": math.inf, "cudnn": 1}
"""How often each implementation can be differentiated."""

WHOLE, PIECE = 2048, 1024
"""Queries that attend at once: up to ``WHOLE`` all of them, else ``PIECE``."""

BRANCH_SCORES, BRANCH_PIECES = 1 << 18, 8
"""Scores of branches with their prompt that exist at once, for each head of a row, but for at most so many pieces of all."""


def require_order(implementation: str, order: int) -> None:
    """Refuses an implementation that cannot be differentiated ``order`` times."""
    if implementation not in IMPLEMENTATIONS:
        raise UserError(f"attention {implementation!r} is not one of {', '.join(IMPLEMENTATIONS)}")
    if order > DIFFERENTIABLE[implementation]:
        raise UserError(
            f"attention {implementation!r} can be differentiated once, and energy descent needs a gradient of a gradient: "
            "use attention='xla'"
        )


def visibility(segments_BxT: Array, window: int | None = None) -> Array:
    """``[B, 1, T, T]``: position i sees j <= i of its own document (and itself, padding included).

    With a ``window``, only j > i - window (Mistral; Jiang et al. 2023).
    """
    length = segments_BxT.shape[-1]
    causal_TxT = jnp.tril(jnp.ones((length, length), bool))
    if window is not None:
        causal_TxT = causal_TxT & ~jnp.tril(jnp.ones((length, length), bool), -window)
    same_BxTxT = segments_BxT[:, :, None] == segments_BxT[:, None, :]
    return (causal_TxT & same_BxTxT)[:, None]


def attend(
    q_BxHxTxC: Array, k_BxGxSxC: Array, v_BxGxSxC: Array, visible_BxHxTxS: Array, implementation: str = "xla"
) -> Array:
    """Softmax attention ``softmax(q k^T / sqrt(C)) v`` over the visible keys, ``[B, H, T, C]``.

    With fewer key-value heads G than heads H, each serves H / G neighbours (Ainslie et al. 2023). More than ``WHOLE`` queries
    take turns in pieces of ``PIECE``, each made again in the backward pass, so that no T x S array of floats exists (Rabe and
    Staats 2021).
    """
    if implementation == "cudnn":
        heads_last = (jnp.swapaxes(x, 1, 2) for x in (q_BxHxTxC, k_BxGxSxC, v_BxGxSxC))
        out = jax.nn.dot_product_attention(*heads_last, mask=visible_BxHxTxS, implementation="cudnn")
        return jnp.swapaxes(out, 1, 2)
    length = q_BxHxTxC.shape[2]
    if length <= WHOLE:
        return _attend(q_BxHxTxC, k_BxGxSxC, v_BxGxSxC, visible_BxHxTxS)
    number = -(-length // PIECE)
    visible_BxHxTxS = jnp.broadcast_to(visible_BxHxTxS, (*visible_BxHxTxS.shape[:2], length, k_BxGxSxC.shape[2]))

    def apart(x: Array) -> Array:
        """[B, H, T, .] -> [N, B, H, P, .]; queries that fill the last piece are copies of the last one."""
        x = jnp.pad(x, ((0, 0), (0, 0), (0, number * PIECE - length), (0, 0)), mode="edge")
        return jnp.moveaxis(x.reshape(*x.shape[:2], number, PIECE, x.shape[-1]), 2, 0)

    piece = jax.checkpoint(lambda part: _attend(part[0], k_BxGxSxC, v_BxGxSxC, part[1]))
    out_NxBxHxPxC = lax.map(piece, (apart(q_BxHxTxC), apart(visible_BxHxTxS)))
    joined = jnp.moveaxis(out_NxBxHxPxC, 0, 2).reshape(*q_BxHxTxC.shape[:2], number * PIECE, -1)
    return joined[:, :, :length]


def _attend(q_BxHxTxC: Array, k_BxGxSxC: Array, v_BxGxSxC: Array, visible_BxHxTxS: Array) -> Array:
    scores = _scores(q_BxHxTxC, k_BxGxSxC, visible_BxHxTxS)
    weights = jnp.exp(scores - lax.stop_gradient(jnp.max(scores, -1, keepdims=True)))
    total = jnp.sum(weights, -1, keepdims=True)
    return (_mixed(weights, v_BxGxSxC) / total).astype(q_BxHxTxC.dtype)


def attend_with_self(
    q_BxHxTxC: Array,
    k_BxGxSxC: Array,
    v_BxGxSxC: Array,
    k_self_BxGxTxC: Array,
    v_self_BxGxTxC: Array,
    visible_BxHxTxS: Array,
) -> Array:
    """Attention of each query over the visible keys *and one key of its own*: candidate i sees the real tokens <= i and itself.

    The same as attending over ``[keys; own keys]`` under a mask whose right half is diagonal, at half the cost
    (EBT, appendix C.4). Shapes as in ``attend``; every query may see its own key only, so no candidate sees another.
    """
    scores = _scores(q_BxHxTxC, k_BxGxSxC, visible_BxHxTxS)
    scale = 1.0 / math.sqrt(q_BxHxTxC.shape[-1])
    k_self, v_self = (_for_every_head(x, q_BxHxTxC.shape[1]) for x in (k_self_BxGxTxC, v_self_BxGxTxC))
    own = jnp.sum(q_BxHxTxC.astype(scores.dtype) * k_self.astype(scores.dtype), -1, keepdims=True) * scale
    top = lax.stop_gradient(jnp.maximum(jnp.max(scores, -1, keepdims=True), own))
    weights, own = jnp.exp(scores - top), jnp.exp(own - top)
    total = jnp.sum(weights, -1, keepdims=True) + own
    return ((_mixed(weights, v_BxGxSxC) + own * v_self) / total).astype(q_BxHxTxC.dtype)


def attend_after_prefix(
    q_XxHxTxC: Array,
    prefix_k_BxGxPxC: Array,
    prefix_v_BxGxPxC: Array,
    k_XxGxSxC: Array,
    v_XxGxSxC: Array,
    prefix_visible: Array,
    visible: Array,
) -> Array:
    """Attention of rows that share prefixes: row x continues prefix ``x // (X / B)``, whose keys are read once for all of them.

    The same as attending over ``[prefix; own keys]`` with the prefix repeated for every row; the two parts meet in one softmax.
    ``prefix_visible`` is for the prefix, ``[B, 1, T, P]`` or, where its rows differ in it, ``[X, 1, T, P]``; ``visible`` is
    for the own keys, ``[X or 1, 1, T, S]``. Returns ``[X, H, T, C]``.
    """
    rows, heads, length, _ = q_XxHxTxC.shape
    prefixes = prefix_k_BxGxPxC.shape[0]

    def by_prefix(x: Array) -> Array:
        """[X, H, T, .] -> [B, H, X/B * T, .]: the rows of a prefix become positions of one."""
        x = x.reshape(prefixes, -1, heads, length, x.shape[-1])
        return jnp.swapaxes(x, 1, 2).reshape(prefixes, heads, -1, x.shape[-1])

    def by_row(x: Array) -> Array:
        x = x.reshape(prefixes, heads, -1, length, x.shape[-1])
        return jnp.swapaxes(x, 1, 2).reshape(rows, heads, length, x.shape[-1])

    if prefix_visible.shape[0] == rows:
        tiled = prefix_visible.reshape(prefixes, 1, -1, prefix_visible.shape[-1])
    else:
        tiled = jnp.tile(prefix_visible, (1, 1, rows // prefixes, 1))
    before = by_row(_scores(by_prefix(q_XxHxTxC), prefix_k_BxGxPxC, tiled))
    scores = _scores(q_XxHxTxC, k_XxGxSxC, visible)
    top = jnp.maximum(jnp.max(before, -1, keepdims=True), jnp.max(scores, -1, keepdims=True))
    before, weights = jnp.exp(before - top), jnp.exp(scores - top)
    total = jnp.sum(before, -1, keepdims=True) + jnp.sum(weights, -1, keepdims=True)
    mixed = by_row(_mixed(by_prefix(before), prefix_v_BxGxPxC)) + _mixed(weights, v_XxGxSxC)
    return (mixed / total).astype(q_XxHxTxC.dtype)


def attend_branches(
    q_BxHxXxC: Array,
    prompt_k_BxGxPxC: Array,
    prompt_v_BxGxPxC: Array,
    k_BxGxMxUxC: Array,
    v_BxGxMxUxC: Array,
    branches: Branches,
    sight: Sight,
) -> Array:
    """Attention of the queries of M = samples x S branches, X = M * T, to their prompt's beginning and their own branch.

    The same as attending over the whole row under a mask; the two parts meet in one softmax. Blocks take turns in pieces, made
    again in the backward pass, so that no array of row by row exists, and where ``branches.reach`` is known a piece reads the
    prompt only as far as its anchors lie: about half of it. Returns ``[B, H, X, C]``.
    """
    (batch, heads, _, width), (groups, places) = q_BxHxXxC.shape, prompt_k_BxGxPxC.shape[1:3]
    blocks, steps = sight.first_BxSxT.shape[1:]
    own_steps = k_BxGxMxUxC.shape[3]
    samples = k_BxGxMxUxC.shape[2] // blocks
    q = q_BxHxXxC.reshape(batch, groups, heads // groups, samples, blocks, steps, width)
    own_k, own_v = (x.reshape(batch, groups, samples, blocks, own_steps, width) for x in (k_BxGxMxUxC, v_BxGxMxUxC))

    def piece(q: Array, k: Array, v: Array, own_k: Array, own_v: Array, anchor: Array, sight: Sight) -> Array:
        dtype, scale = jnp.promote_types(q.dtype, jnp.float32), 1.0 / math.sqrt(width)
        flat = q.reshape(batch, groups, -1, width)
        before = jnp.einsum("bgxc,bgpc->bgxp", flat, k, preferred_element_type=dtype)
        before = before.reshape(*q.shape[:-1], k.shape[2])
        own = jnp.einsum("bgrnstc,bgnsuc->bgrnstu", q, own_k, preferred_element_type=dtype)
        place = jnp.arange(k.shape[2])
        seen = (place >= sight.first_BxSxT[..., None]) & (place < anchor[:, :, None, None])
        before = jnp.where(seen[:, None, None, None], before * scale, -jnp.inf)
        own = jnp.where(sight.own_BxSxTxU[:, None, None, None], own * scale, -jnp.inf)
        top = jnp.maximum(jnp.max(before, -1, keepdims=True), jnp.max(own, -1, keepdims=True))
        before, own = (jnp.exp(x - lax.stop_gradient(top)) for x in (before, own))
        total = jnp.sum(before, -1, keepdims=True) + jnp.sum(own, -1, keepdims=True)
        mixed = jnp.einsum("bgxp,bgpc->bgxc", before.reshape(*flat.shape[:-1], -1).astype(v.dtype), v).reshape(q.shape)
        mixed = mixed + jnp.einsum("bgrnstu,bgnsuc->bgrnstc", own.astype(own_v.dtype), own_v)
        return (mixed / total).astype(q.dtype)

    # For every two samples a piece of its own: with fewer, scores could outgrow an array of row by row.
    least = -(-samples // 2)
    number = min(max(least, -(-samples * blocks * steps * places // BRANCH_SCORES)), max(least, BRANCH_PIECES))
    size = -(-blocks // number)
    if size < blocks:
        piece = jax.checkpoint(piece)
    outputs = []
    for start in range(0, blocks, size):
        part = slice(start, start + size)
        end = places if branches.reach is None else min(places, max(branches.reach[part]))
        seen = jax.tree.map(lambda x, part=part: x[:, part], (branches.anchor_BxS, sight))
        prompt = (prompt_k_BxGxPxC[:, :, :end], prompt_v_BxGxPxC[:, :, :end])
        outputs.append(piece(q[:, :, :, :, part], *prompt, own_k[:, :, :, part], own_v[:, :, :, part], *seen))
    return jnp.concatenate(outputs, axis=4).reshape(q_BxHxXxC.shape)


def _scores(q_BxHxTxC: Array, k_BxGxSxC: Array, visible: Array) -> Array:
    (batch, heads, length, width), groups = q_BxHxTxC.shape, k_BxGxSxC.shape[1]
    dtype = jnp.promote_types(q_BxHxTxC.dtype, jnp.float32)
    if groups == heads:
        scores = jnp.einsum("bhtc,bhsc->bhts", q_BxHxTxC, k_BxGxSxC, preferred_element_type=dtype)
    else:
        # A group's heads are positions of one batched product, so its keys are read once.
        q_BxGxRTxC = q_BxHxTxC.reshape(batch, groups, -1, width)
        scores = jnp.einsum("bgxc,bgsc->bgxs", q_BxGxRTxC, k_BxGxSxC, preferred_element_type=dtype)
        scores = scores.reshape(batch, heads, length, -1)
    return jnp.where(visible, scores * (1.0 / math.sqrt(width)), -jnp.inf)


def _mixed(weights_BxHxTxS: Array, v_BxGxSxC: Array) -> Array:
    (batch, heads, length, _), groups = weights_BxHxTxS.shape, v_BxGxSxC.shape[1]
    weights = weights_BxHxTxS.astype(v_BxGxSxC.dtype)
    if groups == heads:
        return jnp.einsum("bhts,bhsc->bhtc", weights, v_BxGxSxC)
    weights = weights.reshape(batch, groups, -1, weights.shape[-1])
    return jnp.einsum("bgxs,bgsc->bgxc", weights, v_BxGxSxC).reshape(batch, heads, length, -1)


def _for_every_head(x_BxGxTxC: Array, heads: int) -> Array:
    groups = x_BxGxTxC.shape[1]
    return x_BxGxTxC if groups == heads else jnp.repeat(x_BxGxTxC, heads // groups, axis=1)
