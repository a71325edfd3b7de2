"""The decoder-only language model: Transformer++ on the blocks of the EBT, and published models as options of it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.nn.attention import visibility
from ebm_jax.nn.blocks import KeysValues
from ebm_jax.nn.branches import Branches, Sight, positions_of, sight
from ebm_jax.nn.initializers import linear, normal, partitioned
from ebm_jax.nn.norms import init_norm, norm
from ebm_jax.nn.rope import NO_SCALING, Rotation, rotation
from ebm_jax.nn.stack import Layers, Stack, View
from ebm_jax.parallel.rules import constrain
from ebm_jax.precision import Precision
from ebm_jax.types import Array, Params


class TransformerLM(nn.Module):
    """Tokens to next-token logits: embedding, blocks, final norm, linear head (the token table's transpose where tied)."""

    config: TransformerConfig
    vocab_size: int
    precision: Precision = Precision()
    separate_layers: bool = False
    """For decoding: parameters as ``nn.stack.separate_layers`` gives them."""

    def setup(self) -> None:
        self._trunk()
        c, dtype = self.config, self.precision.param_dtype
        width = c.block().width
        self.final_norm = self.param("final_norm", init_norm(c.norm, width), dtype)
        if not c.tied:
            head = partitioned(linear(c.init, width, self.vocab_size, c.init_gain), "embed", "vocab")
            self.head = self.param("head", head, (width, self.vocab_size), dtype)

    def _trunk(self) -> None:
        """Token table and blocks."""
        c, shape = self.config, self.config.block()
        table, dtype = (self.vocab_size, shape.width), self.precision.param_dtype
        self.embed = self.param("embed", partitioned(normal(c.embed_std), "vocab", "embed"), table, dtype)
        windows = self._windows()
        kinds = tuple(windows.index(w) for w in c.layer_windows) if len(windows) > 1 else None
        self.stack = Stack(
            c.resolved_depth, shape, self.precision, c.remat, c.unroll_layers, self.separate_layers, kinds
        )

    def __call__(self, tokens_BxT: Array, positions_BxT: Array, segments_BxT: Array) -> Array:
        """Logits ``[B, T, V]`` in float32 or wider."""
        return self.logits(self.hidden(tokens_BxT, positions_BxT, segments_BxT))

    def hidden(self, tokens_BxT: Array, positions_BxT: Array, segments_BxT: Array) -> Array:
        """The last block's output after the final norm, ``[B, T, D]``."""
        x = self.stack.hidden(self._embedded(tokens_BxT), *self._views(positions_BxT, segments_BxT))
        return self._normed(x)

    def logits(self, hidden_BxTxD: Array) -> Array:
        """Scores of every token from ``hidden``, ``[B, T, V]`` in float32 or wider."""
        dtype, reduce = self.precision.compute_dtype, self.precision.reduce_dtype
        if self.config.tied:
            logits = jnp.einsum("btd,vd->btv", hidden_BxTxD, self.embed.astype(dtype), preferred_element_type=reduce)
        else:
            logits = jnp.matmul(hidden_BxTxD, self.head.astype(dtype), preferred_element_type=reduce)
        return constrain(logits, "batch", "time", "act_vocab")

    def read(self, tokens_BxT: Array, length_B: Array) -> tuple[Array, Layers]:
        """Reads prompts of ``length`` tokens, padded behind.

        Returns the next token's logits ``[B, V]`` and the keys and values of every layer.
        """
        positions, segments = (
            jnp.broadcast_to(jnp.arange(tokens_BxT.shape[1]), tokens_BxT.shape),
            jnp.ones_like(tokens_BxT),
        )
        x, layers = self.stack.hidden_and_context(self._embedded(tokens_BxT), *self._views(positions, segments))
        last_Bx1xD = jnp.take_along_axis(x, (length_B - 1)[:, None, None], axis=1)
        return self.logits(self._normed(last_Bx1xD))[:, 0], layers

    def room(self, rows: int, columns: int) -> Layers:
        """Empty buffers for ``columns`` further tokens of ``rows`` rows, as ``go_on`` fills them."""
        shape = self.config.block()
        empty = jnp.zeros((rows, shape.groups, columns, shape.head_width), self.precision.compute_dtype)
        empty = constrain(empty, "batch", "act_heads", None, None)
        return [KeysValues(empty, empty) for _ in range(self.config.resolved_depth)]

    def go_on(self, prefix: Layers, length_B: Array, own: Layers, made: Array, token_X: Array) -> tuple[Array, Layers]:
        """One more token of every row, behind its prefix and the ``made`` tokens in ``own``.

        Row x continues prefix ``x // (X / B)``, of which the first ``length`` entries count. Returns the next token's
        logits ``[X, V]`` and ``own`` with the token in column ``made``.
        """
        prefix_room, room = (jax.tree.leaves(layers)[0].shape[-2] for layers in (prefix, own))
        each = token_X.shape[0] // length_B.shape[0]
        place_B = length_B + made
        before, mine = jnp.arange(prefix_room), jnp.arange(room)

        def view(window: int | None) -> tuple[Rotation, Array, Array]:
            prefix_visible, visible = before < length_B[:, None], mine <= made
            if window is not None:
                prefix_visible &= before > (place_B - window)[:, None]
                visible &= mine > made - window
            turn = self._turn(jnp.repeat(place_B, each)[:, None], window)
            return turn, prefix_visible[:, None, None], visible[None, None, None]

        x, own = self.stack.go_on(self._embedded(token_X[:, None]), prefix, own, made, *self._by_kind(view))
        return self.logits(self._normed(x))[:, 0], own

    def regrow(
        self, prefix: Layers, length_B: Array, own: Layers, cut_X: Array, step: Array, token_X: Array
    ) -> tuple[Array, Layers]:
        """One more token of every row, as ``regrown`` reads it: the next token's logits ``[X, V]`` and ``own`` with it in."""
        hidden, own = self.regrown(prefix, length_B, own, cut_X, step, token_X[:, None])
        return self.logits(hidden)[:, 0], own

    def regrown(
        self, prefix: Layers, length_B: Array, own: Layers, cut_X: Array, step: Array, tokens_XxT: Array
    ) -> tuple[Array, Layers]:
        """Further tokens of every row behind the first ``cut`` of its old ones: what stood there is drawn anew.

        The buffers ``own`` (``room``) have two halves, the first for a row's old tokens, place by place, the second for
        its new ones, of which number n stands ``cut + n`` places behind the prefix. The tokens are numbers ``step`` and
        up: one for all rows, which then write to the same columns wherever they were cut, or each row's own, ``[X]``.
        Row x continues prefix ``x // (X / B)``, of which the first ``length`` entries count. Returns the last block's
        output after the final norm, ``[X, T, D]``, and ``own`` with the tokens in it.
        """
        prefix_room, room = (jax.tree.leaves(layers)[0].shape[-2] for layers in (prefix, own))
        each, half = tokens_XxT.shape[0] // length_B.shape[0], room // 2
        before, column = jnp.arange(prefix_room), jnp.arange(room)
        begin_X = jnp.repeat(length_B, each)
        number_XxT = jnp.reshape(step, (-1, 1)) + jnp.arange(tokens_XxT.shape[1])
        place_XxT = (begin_X + cut_X)[:, None] + number_XxT
        new, by_row = column >= half, self._windows() != (None,)
        seen_XxTxS = jnp.where(new, column - half <= number_XxT[..., None], column < cut_X[:, None, None])

        def view(window: int | None) -> tuple[Rotation, Array, Array]:
            # Rows of one prompt see all of it; under a window each sees what its place leaves.
            prefix_visible, visible = before < (begin_X if by_row else length_B)[:, None, None], seen_XxTxS
            if window is not None:
                where_XxS = begin_X[:, None] + jnp.where(new, cut_X[:, None] + column - half, column)
                visible = visible & (where_XxS[:, None] > place_XxT[..., None] - window)
                prefix_visible = prefix_visible & (before > place_XxT[..., None] - window)
            shape = (prefix_visible.shape[0], 1, tokens_XxT.shape[1], prefix_room)
            prefix_visible = jnp.broadcast_to(prefix_visible[:, None], shape)
            return self._turn(place_XxT, window), prefix_visible, visible[:, None]

        embedded = self._embedded(tokens_XxT)
        x, own = self.stack.go_on(embedded, prefix, own, half + step, *self._by_kind(view))
        return self._normed(x), own

    def branched(
        self,
        tokens_BxP: Array,
        positions_BxP: Array,
        segments_BxP: Array,
        continuations_BxGxSxT: Array,
        branches: Branches,
    ) -> tuple[Array, Array]:
        """Prompts and their branches in one pass: the last block's output after the final norm.

        Returns ``[B, P, D]`` for the prompts and ``[B, G, S, T, D]`` for the branches.
        """
        rows = (tokens_BxP, positions_BxP, segments_BxP)
        if not continuations_BxGxSxT.size:  # continuations of one token, whose last token nothing follows
            hidden = self.hidden(*rows)
            return hidden, jnp.zeros((*continuations_BxGxSxT.shape, hidden.shape[-1]), hidden.dtype)
        ((prompt, own),) = self.streams(*rows, continuations_BxGxSxT, branches, (self.config.resolved_depth,))
        return self._normed(prompt), self._normed(own)

    def streams(
        self,
        tokens_BxP: Array,
        positions_BxP: Array,
        segments_BxP: Array,
        continuations_BxGxSxT: Array,
        branches: Branches,
        depths: tuple[int, ...],
    ) -> list[tuple[Array, Array]]:
        """The residual stream of prompts and branches after each of the rising ``depths``, without the final norm."""
        (rows, places), shape = tokens_BxP.shape, continuations_BxGxSxT.shape
        tokens = jnp.concatenate([tokens_BxP, continuations_BxGxSxT.reshape(rows, -1)], axis=1)
        positions = jnp.concatenate([positions_BxP, positions_of(branches, shape[1])], axis=1)

        def views(window: int | None) -> tuple[View, Sight]:
            view = View(self._turn(positions, window), visibility(segments_BxP, window))
            return view, sight(branches, window)

        streams = self.stack.branch(self._embedded(tokens), self._by_kind(views), branches, depths)
        return [(x[:, :places], x[:, places:].reshape(*shape, -1)) for x in streams]

    def read_anchors(
        self, tokens_BxP: Array, positions_BxP: Array, segments_BxP: Array, branches: Branches
    ) -> tuple[Array, Layers]:
        """Reads prompts once: the logits ``[B, S, V]`` of every branch's first token, and keys and values of every layer."""
        x, layers = self.stack.hidden_and_context(self._embedded(tokens_BxP), *self._views(positions_BxP, segments_BxP))
        x_BxSxD = jnp.take_along_axis(x, branches.anchor_BxS[..., None] - 1, axis=1)
        return self.logits(self._normed(x_BxSxD)), layers

    def branch_room(self, rows: int, count: int, steps: int) -> KeysValues:
        """Empty buffers for ``steps`` tokens of ``count`` branches of ``rows`` prompts, as ``grow`` fills them."""
        shape = self.config.block()
        sizes = (rows, shape.groups, count, steps, shape.head_width)
        empty = jnp.zeros((self.config.resolved_depth, *sizes), self.precision.compute_dtype)
        empty = constrain(empty, None, "batch", "act_heads", None, None, None)
        return KeysValues(empty, empty)

    def grow(
        self, prompt: Layers, own: Layers, step: Array, token_BxGxS: Array, branches: Branches
    ) -> tuple[Array, Layers]:
        """Token number ``step`` of every branch, behind those in ``own``.

        Returns the next token's logits ``[B, G, S, V]`` and ``own`` with the token in column ``step``.
        """
        rows, samples, blocks = token_BxGxS.shape
        query = branches.at(step)

        def view(window: int | None) -> tuple[Rotation, Sight]:
            return self._turn(positions_of(query, samples), window), sight(query, window, step)

        x = self._embedded(token_BxGxS.reshape(rows, -1))
        x, own = self.stack.grow(x, prompt, own, step, self._by_kind(view), query)
        logits = self.logits(self._normed(x))
        return logits.reshape(rows, samples, blocks, -1), own

    def _windows(self) -> tuple[int | None, ...]:
        """The layers' distinct windows."""
        return tuple(dict.fromkeys(self.config.layer_windows))

    def _by_kind(self, view):
        """``view(window)``, or those of several windows stacked."""
        views = [view(window) for window in self._windows()]
        return views[0] if len(views) == 1 else jax.tree.map(lambda *xs: jnp.stack(xs), *views)

    def _views(self, positions_BxT: Array, segments_BxT: Array) -> View:
        return self._by_kind(lambda window: View(self._turn(positions_BxT, window), visibility(segments_BxT, window)))

    def _turn(self, positions_BxT: Array, window: int | None) -> Rotation:
        c = self.config
        scaled = c.scaled_layers == "all" or window is None
        scaling = c.rope_scaling if scaled else NO_SCALING
        return rotation(positions_BxT, c.block().head_width, c.rope_theta, scaling)

    def _embedded(self, tokens_BxT: Array) -> Array:
        # Whole in width before rows are read: to split rows that come in slices of it, XLA would copy all of them everywhere.
        table_VxD = constrain(self.embed, "vocab", None)
        x = jnp.take(table_VxD, tokens_BxT, axis=0).astype(self.precision.compute_dtype)
        return constrain(x, "batch", "time", "act_embed")

    def _normed(self, x_BxTxD: Array) -> Array:
        return norm(self.config.norm, self.final_norm, x_BxTxD, self.config.norm_eps)


def tables_of(params: Params) -> Params:
    """All but the blocks: what is needed in front of them and behind them."""
    return {name: value for name, value in params.items() if name != "stack"}


def with_whole_tables(params: Params, dtype: Any) -> Params:
    """Parameters whose token tables are whole in width, in ``dtype``: for loops that would gather them in every turn.

    Not for gradients, which would be added up in ``dtype``.
    """
    axes = {"embed": ("vocab", None), "head": (None, "vocab")}
    whole = {name: constrain(params[name].astype(dtype), *axes[name]) for name in axes if name in params}
    return {**params, **whole}


def parameter_shapes(network: TransformerLM) -> Params:
    """Boxed shapes of a network's parameters."""
    zeros = jnp.zeros((1, 2), jnp.int32)
    return jax.eval_shape(lambda: network.init(jax.random.key(0), zeros, zeros, zeros)["params"])
