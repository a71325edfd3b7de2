"""One transformer block with the two streams of an energy-based transformer.

``h = x + Attention(Norm(x))``, then ``h + W_down(act(W_gate n) * (W_up n))`` with ``n = Norm(h)`` (Llama 2).
The context stream (real tokens) attends causally to itself. The candidate stream attends to the context's keys and values
and to itself, with the same weights. A step embedding may modulate both (adaLN, Peebles and Xie 2023).

Options that published language models differ by: fewer key-value heads (grouped queries), a head width of its own, biases,
normalised queries and keys (per head: Qwen 3; over all heads: OLMo 2), and norms behind attention and feed-forward layer
instead of in front of them (OLMo 2).
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ebm_jax.errors import UserError
from ebm_jax.nn.attention import IMPLEMENTATIONS, attend, attend_after_prefix, attend_branches, attend_with_self
from ebm_jax.nn.branches import Branches, Sight
from ebm_jax.nn.initializers import linear, partitioned, uniform_fan_in
from ebm_jax.nn.norms import init_norm, norm
from ebm_jax.nn.rope import Rotation, rotate
from ebm_jax.parallel.rules import constrain
from ebm_jax.precision import Precision
from ebm_jax.types import Array, Params

ACTIVATIONS = {
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "elu": jax.nn.elu,
}


QK_NORMS = ("none", "head", "all")
NORM_PLACES = ("before", "after")


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """What one block is made of, all sizes resolved."""

    width: int
    heads: int
    hidden: int
    kv_heads: int | None = None
    """Key-value heads; None: one for each head."""
    head_size: int | None = None
    """Width of a head; None: width / heads."""
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: str = "none"
    """``none``, ``head`` (one gain for all heads) or ``all`` (statistics over all heads)."""
    norm_place: str = "before"
    """``before`` attention and feed-forward layer, or ``after``."""
    norm: str = "rms"
    norm_eps: float = 1e-5
    activation: str = "silu"
    init: str = "xavier"
    init_gain: float = 1.0
    modulation: str = "none"
    """``none``, ``adaln`` (framework-default modulation layers) or ``adaln_zero`` (zero)."""
    attention: str = "xla"

    def __post_init__(self) -> None:
        if self.head_size is None and self.width % self.heads:
            raise UserError(
                f"model.heads={self.heads} does not divide model.width={self.width}: choose a divisor, or a head_width"
            )
        if self.head_width % 2:
            raise UserError(f"a head is {self.head_width} wide, and rotary positions need an even width")
        if self.heads % self.groups:
            raise UserError(f"model.kv_heads={self.groups} does not divide model.heads={self.heads}: choose a divisor")
        if self.qk_norm not in QK_NORMS:
            raise UserError(f"model.qk_norm={self.qk_norm!r} is not one of {', '.join(QK_NORMS)}")
        if self.norm_place not in NORM_PLACES:
            raise UserError(f"model.norm_place={self.norm_place!r} is not one of {', '.join(NORM_PLACES)}")
        if self.norm_place == "after" and self.modulation != "none":
            raise UserError(f"modulation={self.modulation!r} needs norms in front: norm_place='before'")
        if self.activation not in ACTIVATIONS:
            raise UserError(f"model.activation={self.activation!r} is not one of {', '.join(ACTIVATIONS)}")
        if self.attention not in IMPLEMENTATIONS:
            raise UserError(f"model.attention={self.attention!r} is not one of {', '.join(IMPLEMENTATIONS)}")

    @property
    def head_width(self) -> int:
        return self.head_size or self.width // self.heads

    @property
    def groups(self) -> int:
        """Key-value heads."""
        return self.kv_heads or self.heads


class KeysValues(NamedTuple):
    """Keys (rotated) and values of a stream, ``[B, G, T, C]`` each, G key-value heads."""

    keys: Array
    values: Array


class Block(nn.Module):
    """The block; its methods are pure in ``params`` and share every weight."""

    shape: BlockShape
    precision: Precision

    def setup(self) -> None:
        s = self.shape
        dtype = self.precision.param_dtype

        def weight(name: str, fan: tuple[int, int], shape: tuple[int, ...], *axes: str):
            return self.param(name, partitioned(linear(s.init, *fan, s.init_gain), *axes), shape, dtype)

        def vector(name: str, init, shape: tuple[int, ...], *axes: str):
            return self.param(name, partitioned(init, *axes), shape, dtype)

        zeros, ones = nn.initializers.zeros, nn.initializers.ones
        queries, keys = (s.heads, s.head_width), (s.groups, s.head_width)
        across, into = (s.width, s.heads * s.head_width), ("embed", "heads", "head_dim")
        self.query = weight("query", across, (s.width, *queries), *into)
        self.key = weight("key", (s.width, s.groups * s.head_width), (s.width, *keys), *into)
        self.value = weight("value", (s.width, s.groups * s.head_width), (s.width, *keys), *into)
        self.out = weight("out", across[::-1], (*queries, s.width), "heads", "head_dim", "embed")
        if s.qkv_bias:
            self.query_bias = vector("query_bias", zeros, queries, "heads", "head_dim")
            self.key_bias = vector("key_bias", zeros, keys, "heads", "head_dim")
            self.value_bias = vector("value_bias", zeros, keys, "heads", "head_dim")
        if s.out_bias:
            self.out_bias = vector("out_bias", zeros, (s.width,), "embed")
        if s.qk_norm == "head":
            self.query_norm = vector("query_norm", ones, queries[1:], "head_dim")
            self.key_norm = vector("key_norm", ones, keys[1:], "head_dim")
        elif s.qk_norm == "all":
            self.query_norm = vector("query_norm", ones, queries, "heads", "head_dim")
            self.key_norm = vector("key_norm", ones, keys, "heads", "head_dim")
        self.gate = weight("gate", (s.width, s.hidden), (s.width, s.hidden), "embed", "mlp")
        self.up = weight("up", (s.width, s.hidden), (s.width, s.hidden), "embed", "mlp")
        self.down = weight("down", (s.hidden, s.width), (s.hidden, s.width), "mlp", "embed")
        if s.mlp_bias:
            self.gate_bias = vector("gate_bias", zeros, (s.hidden,), "mlp")
            self.up_bias = vector("up_bias", zeros, (s.hidden,), "mlp")
            self.down_bias = vector("down_bias", zeros, (s.width,), "embed")
        self.attention_norm = self.param("attention_norm", init_norm(s.norm, s.width), dtype)
        self.mlp_norm = self.param("mlp_norm", init_norm(s.norm, s.width), dtype)
        if s.modulation != "none":
            zero = s.modulation == "adaln_zero"
            init = nn.initializers.zeros if zero else uniform_fan_in(s.width)
            self.modulation_kernel = self.param(
                "modulation_kernel", partitioned(init, "embed", None, "modulation"), (s.width, 6, s.width), dtype
            )
            self.modulation_bias = self.param(
                "modulation_bias", partitioned(init, None, "modulation"), (6, s.width), dtype
            )

    def context(self, x_BxTxD: Array, turn: Rotation, visible: Array, step_D: Array | None) -> tuple[Array, KeysValues]:
        """The real tokens' stream: the block's output and the keys and values that candidates will read."""
        mod = self._modulation(step_D)
        n = self._norm1(x_BxTxD, mod)
        kv = self._keys_values(n, turn)
        mixed = attend(self._queries(n, turn), *kv, visible, self.shape.attention)
        return self._finish(x_BxTxD, mixed, mod), kv

    def go_on(
        self,
        x_XxTxD: Array,
        prefix: KeysValues,
        own: KeysValues,
        at: Array,
        turn: Rotation,
        prefix_visible: Array,
        visible: Array,
    ) -> tuple[Array, KeysValues]:
        """Real tokens of rows that share prefixes (``attend_after_prefix``): the block's output, and the rows' own keys and
        values with the new ones written from column ``at`` on, one for all rows or each row's own (``[X]``)."""
        n = self._norm1(x_XxTxD, None)
        new = self._keys_values(n, turn)
        put = jax.lax.dynamic_update_slice_in_dim
        by_row = jax.vmap(lambda buffer, x, at: put(buffer, x, at, axis=1))
        write = lambda buffer, x: (by_row if at.ndim else partial(put, axis=2))(buffer, x.astype(buffer.dtype), at)
        own = KeysValues(*map(write, own, new))
        mixed = attend_after_prefix(self._queries(n, turn), *prefix, *own, prefix_visible, visible)
        return self._finish(x_XxTxD, mixed, None), own

    def branch(self, x_BxLxD: Array, view: tuple[Rotation, Array], sight: Sight, branches: Branches) -> Array:
        """A row of a prompt and its branches (``nn.branches``): the block's output ``[B, P + M * T, D]``."""
        turn, visible = view
        places, steps = visible.shape[-1], sight.first_BxSxT.shape[-1]
        n = self._norm1(x_BxLxD, None)
        q, kv = self._queries(n, turn), self._keys_values(n, turn)
        prompt = KeysValues(*(x[:, :, :places] for x in kv))
        own = KeysValues(*(x[:, :, places:].reshape(*x.shape[:2], -1, steps, x.shape[-1]) for x in kv))
        mixed_prompt = attend(q[:, :, :places], *prompt, visible, self.shape.attention)
        mixed_own = attend_branches(q[:, :, places:], *prompt, *own, branches, sight)
        return self._finish(x_BxLxD, jnp.concatenate([mixed_prompt, mixed_own], axis=2), None)

    def grow(
        self,
        x_BxMxD: Array,
        prompt: KeysValues,
        own: KeysValues,
        at: Array,
        turn: Rotation,
        sight: Sight,
        branches: Branches,
    ) -> tuple[Array, KeysValues]:
        """One more token of every branch: the block's output, and ``own``, their keys and values ``[B, G, M, T, C]``, with the
        new ones at column ``at``."""
        n = self._norm1(x_BxMxD, None)
        new = self._keys_values(n, turn)
        write = lambda buffer, x: jax.lax.dynamic_update_slice_in_dim(
            buffer, x[:, :, :, None].astype(buffer.dtype), at, axis=3
        )
        own = KeysValues(*map(write, own, new))
        mixed = attend_branches(self._queries(n, turn), *prompt, *own, branches, sight)
        return self._finish(x_BxMxD, mixed, None), own

    def keys_values(self, x_BxTxD: Array, turn: Rotation, step_D: Array | None) -> KeysValues:
        """Only the keys and values: all that candidates need of the last block's context."""
        return self._keys_values(self._norm1(x_BxTxD, self._modulation(step_D)), turn)

    def candidate(
        self, x_BxTxD: Array, context: KeysValues, turn: Rotation, visible: Array, step_D: Array | None
    ) -> tuple[Array, KeysValues]:
        """The candidates' stream: candidate i sees the context where ``visible[i]`` and itself.

        So does a real token that follows the context; its own keys and values, returned too, then join the context's.
        """
        mod = self._modulation(step_D)
        n = self._norm1(x_BxTxD, mod)
        own = self._keys_values(n, turn)
        mixed = attend_with_self(self._queries(n, turn), *context, *own, visible)
        return self._finish(x_BxTxD, mixed, mod), own

    def _cast(self, w: Array) -> Array:
        return w.astype(self.precision.compute_dtype)

    def _heads(self, w_DxHxC: Array, n_BxTxD: Array, bias_HxC: Array | None = None) -> Array:
        heads = jnp.einsum("btd,dhc->bhtc", n_BxTxD, self._cast(w_DxHxC))
        if bias_HxC is not None:
            heads = heads + self._cast(bias_HxC)[:, None]
        return constrain(heads, "batch", "act_heads", "time", None)

    def _queries(self, n_BxTxD: Array, turn: Rotation) -> Array:
        q = self._heads(self.query, n_BxTxD, self.query_bias if self.shape.qkv_bias else None)
        return rotate(q if self.shape.qk_norm == "none" else self._qk_norm(q, self.query_norm), turn)

    def _keys_values(self, n_BxTxD: Array, turn: Rotation) -> KeysValues:
        biases = (self.key_bias, self.value_bias) if self.shape.qkv_bias else (None, None)
        k = self._heads(self.key, n_BxTxD, biases[0])
        k = k if self.shape.qk_norm == "none" else self._qk_norm(k, self.key_norm)
        return KeysValues(rotate(k, turn), self._heads(self.value, n_BxTxD, biases[1]))

    def _qk_norm(self, x_BxHxTxC: Array, gain: Array) -> Array:
        x = x_BxHxTxC.astype(jnp.promote_types(x_BxHxTxC.dtype, jnp.float32))
        axes = (1, 3) if self.shape.qk_norm == "all" else (3,)
        x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axes, keepdims=True) + self.shape.norm_eps)
        x = x * (gain[:, None] if gain.ndim == 2 else gain).astype(x.dtype)
        return x.astype(x_BxHxTxC.dtype)

    def _norm1(self, x_BxTxD: Array, mod: Array | None) -> Array:
        if self.shape.norm_place == "after":
            return x_BxTxD
        n = self._normed(self.attention_norm, x_BxTxD)
        return n if mod is None else n * (1 + mod[1]) + mod[0]

    def _finish(self, x_BxTxD: Array, mixed_BxHxTxC: Array, mod: Array | None) -> Array:
        after = self.shape.norm_place == "after"
        attention = jnp.einsum("bhtc,hcd->btd", mixed_BxHxTxC, self._cast(self.out))
        if self.shape.out_bias:
            attention = attention + self._cast(self.out_bias)
        if after:
            attention = self._normed(self.attention_norm, attention)
        h = x_BxTxD + (attention if mod is None else mod[2] * attention)
        n = h if after else self._normed(self.mlp_norm, h)
        if mod is not None:
            n = n * (1 + mod[4]) + mod[3]
        mlp = self._feed_forward(n)
        if after:
            mlp = self._normed(self.mlp_norm, mlp)
        out = h + (mlp if mod is None else mod[5] * mlp)
        return constrain(out, "batch", "time", "act_embed")

    def _feed_forward(self, n_BxTxD: Array) -> Array:
        gate, up = n_BxTxD @ self._cast(self.gate), n_BxTxD @ self._cast(self.up)
        if self.shape.mlp_bias:
            gate, up = gate + self._cast(self.gate_bias), up + self._cast(self.up_bias)
        hidden = constrain(ACTIVATIONS[self.shape.activation](gate) * up, "batch", "time", "act_mlp")
        mlp = hidden @ self._cast(self.down)
        return mlp + self._cast(self.down_bias) if self.shape.mlp_bias else mlp

    def _normed(self, params: Params, x_BxTxD: Array) -> Array:
        return norm(self.shape.norm, params, x_BxTxD, self.shape.norm_eps)

    def _modulation(self, step_D: Array | None) -> Array | None:
        """Shift, scale and gate of attention, then of the feed-forward layer: ``[6, D]``."""
        if self.shape.modulation == "none":
            return None
        if step_D is None:
            raise ValueError("a modulated block needs a step embedding")
        c = jax.nn.silu(step_D.astype(self.precision.compute_dtype))
        return jnp.einsum("d,dmk->mk", c, self._cast(self.modulation_kernel)) + self._cast(self.modulation_bias)
