"""The attention operation, for one stream and for the candidates of an energy-based transformer.

Both forms keep heads in front of time and divide by the softmax's sum after the product with the values: that leaves one
T x S array for the backward pass instead of two. Written in plain ``jax.numpy``, they are differentiable to any order.
Fused kernels are not (their backward pass has no derivative), so ``attend`` dispatches on the order a caller needs.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from ebm_jax.errors import UserError
from ebm_jax.types import Array

IMPLEMENTATIONS = ("xla", "cudnn")
DIFFERENTIABLE = {"xla": math.inf, "cudnn": 1}
"""How often each implementation can be differentiated."""


def require_order(implementation: str, order: int) -> None:
    """Refuses an implementation that cannot be differentiated ``order`` times."""
    if implementation not in IMPLEMENTATIONS:
        raise UserError(f"attention {implementation!r} is not one of {', '.join(IMPLEMENTATIONS)}")
    if order > DIFFERENTIABLE[implementation]:
        raise UserError(
            f"attention {implementation!r} can be differentiated once, and energy descent needs a gradient of a gradient: "
            "use attention='xla'"
        )


def visibility(segments_BxT: Array) -> Array:
    """``[B, 1, T, T]``: position i sees j <= i of its own document (and itself, padding included)."""
    length = segments_BxT.shape[-1]
    causal_TxT = jnp.tril(jnp.ones((length, length), bool))
    same_BxTxT = segments_BxT[:, :, None] == segments_BxT[:, None, :]
    return (causal_TxT & same_BxTxT)[:, None]


def attend(
    q_BxHxTxC: Array, k_BxHxSxC: Array, v_BxHxSxC: Array, visible_BxHxTxS: Array, implementation: str = "xla"
) -> Array:
    """Softmax attention ``softmax(q k^T / sqrt(C)) v`` over the visible keys, ``[B, H, T, C]``."""
    if implementation == "cudnn":
        heads_last = (jnp.swapaxes(x, 1, 2) for x in (q_BxHxTxC, k_BxHxSxC, v_BxHxSxC))
        out = jax.nn.dot_product_attention(*heads_last, mask=visible_BxHxTxS, implementation="cudnn")
        return jnp.swapaxes(out, 1, 2)
    scores = _scores(q_BxHxTxC, k_BxHxSxC, visible_BxHxTxS)
    weights = jnp.exp(scores - lax.stop_gradient(jnp.max(scores, -1, keepdims=True)))
    total = jnp.sum(weights, -1, keepdims=True)
    mixed = jnp.einsum("bhts,bhsc->bhtc", weights.astype(v_BxHxSxC.dtype), v_BxHxSxC)
    return (mixed / total).astype(q_BxHxTxC.dtype)


def attend_with_self(
    q_BxHxTxC: Array,
    k_BxHxSxC: Array,
    v_BxHxSxC: Array,
    k_self_BxHxTxC: Array,
    v_self_BxHxTxC: Array,
    visible_BxHxTxS: Array,
) -> Array:
    """Attention of each query over the visible keys *and one key of its own*: candidate i sees the real tokens <= i and itself.

    The same as attending over ``[keys; own keys]`` under a mask whose right half is diagonal, at half the cost
    (EBT, appendix C.4). Shapes as in ``attend``; every query may see its own key only, so no candidate sees another.
    """
    scores = _scores(q_BxHxTxC, k_BxHxSxC, visible_BxHxTxS)
    scale = 1.0 / math.sqrt(q_BxHxTxC.shape[-1])
    own = jnp.sum(q_BxHxTxC.astype(scores.dtype) * k_self_BxHxTxC.astype(scores.dtype), -1, keepdims=True) * scale
    top = lax.stop_gradient(jnp.maximum(jnp.max(scores, -1, keepdims=True), own))
    weights, own = jnp.exp(scores - top), jnp.exp(own - top)
    total = jnp.sum(weights, -1, keepdims=True) + own
    mixed = jnp.einsum("bhts,bhsc->bhtc", weights.astype(v_BxHxSxC.dtype), v_BxHxSxC)
    return ((mixed + own * v_self_BxHxTxC) / total).astype(q_BxHxTxC.dtype)


def _scores(q: Array, k: Array, visible: Array) -> Array:
    dtype = jnp.promote_types(q.dtype, jnp.float32)
    scores = jnp.einsum("bhtc,bhsc->bhts", q, k, preferred_element_type=dtype) * (1.0 / math.sqrt(q.shape[-1]))
    return jnp.where(visible, scores, -jnp.inf)
