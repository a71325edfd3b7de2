"""The blocks of a transformer, their parameters stacked on a leading ``layers`` axis and run by one ``lax.scan``."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from ebm_jax.errors import UserError
from ebm_jax.nn.blocks import Block, BlockShape, KeysValues
from ebm_jax.nn.branches import Branches, Sight
from ebm_jax.nn.rope import Rotation
from ebm_jax.precision import Precision
from ebm_jax.types import Array, Params

REMAT_POLICIES: dict[str, Any] = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_no_batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
"""What a block keeps for its backward pass: everything, nothing, matrix products, or those without a batch axis."""


Layers = KeysValues | list[KeysValues]
"""Keys and values of all layers: stacked, ``[N, B, G, T, C]``, or one entry a layer where layers are separate."""


class View(NamedTuple):
    """What a layer's attention sees by: how queries and keys are turned, and which keys are visible to which query."""

    turn: Rotation
    visible: Array


class Stack(nn.Module):
    """``depth`` equal blocks; parameters ``blocks`` carry a leading layer axis.

    ``unroll`` writes the layers out instead of looping: the same numbers, and XLA's cost analysis then counts each layer.
    ``separate`` keeps them apart, as ``separate_layers`` gives them, and so come keys and values, one entry a layer: a loop
    over tokens then reads each layer where it lies, where a loop over layers would copy it out of the stack every time.
    ``kinds`` says of every layer which of several views it has (sliding windows in some layers); views then come stacked on a
    leading axis, in ``hidden``, ``hidden_and_context`` and ``go_on``.
    """

    depth: int
    shape: BlockShape
    precision: Precision
    remat: str = "none"
    unroll: bool = False
    separate: bool = False
    kinds: tuple[int, ...] | None = None

    def setup(self) -> None:
        if self.remat not in REMAT_POLICIES:
            raise UserError(f"model.remat={self.remat!r} is not one of {', '.join(REMAT_POLICIES)}")
        if self.separate:
            self.blocks = [self.param(f"block_{n}", lambda key: self._init_blocks(key, 1)) for n in range(self.depth)]
        else:
            self.blocks = self.param("blocks", lambda key: self._init_blocks(key, self.depth))

    def _init_blocks(self, key, count: int) -> Params:
        block = Block(self.shape, self.precision, parent=None)
        # Reading any attribute runs ``setup``, which creates every parameter.
        init = functools.partial(block.init, method=lambda module: module.query)
        if self.separate:
            return init(key)["params"]
        stacked = jax.vmap(lambda k: init(k)["params"])(jax.random.split(key, count))
        is_box = lambda x: isinstance(x, nn.meta.AxisMetadata)
        add = lambda x: x.add_axis(0, {nn.PARTITION_NAME: "layers"}) if is_box(x) else x
        return jax.tree.map(add, stacked, is_leaf=is_box)

    def hidden(self, x_BxTxD: Array, turn: Rotation, visible: Array, step_D: Array | None = None) -> Array:
        """The context stream through all blocks, ``[B, T, D]``: an ordinary causal transformer."""
        body = self._method("context")
        views = self._views(View(turn, visible))
        return self._scan(lambda x, p, kind: (body(p, x, *views(kind), step_D)[0], None), x_BxTxD, *self._layers())[0]

    def hidden_and_context(
        self, x_BxTxD: Array, turn: Rotation, visible: Array, step_D: Array | None = None
    ) -> tuple[Array, Layers]:
        """``hidden``, and the keys and values of every layer."""
        body = self._method("context")
        views = self._views(View(turn, visible))
        return self._scan(lambda x, p, kind: body(p, x, *views(kind), step_D), x_BxTxD, *self._layers())

    def go_on(
        self,
        x_XxTxD: Array,
        prefix: Layers,
        own: Layers,
        at: Array,
        turn: Rotation,
        prefix_visible: Array,
        visible: Array,
    ) -> tuple[Array, Layers]:
        """Further tokens of rows that share prefixes: their stream ``[X, T, D]``, and ``own`` with them written at ``at``."""
        body = self._method("go_on")
        views = self._views((turn, prefix_visible, visible))
        loop = lambda x, p, kind, before, mine: body(p, x, before, mine, at, *views(kind))
        return self._scan(loop, x_XxTxD, *self._layers(), prefix, own)

    def branch(
        self, x_BxLxD: Array, views: tuple[View, Sight], branches: Branches, depths: tuple[int, ...]
    ) -> list[Array]:
        """Rows with branches: their stream ``[B, P + M * T, D]`` after each of the rising ``depths``; nothing deeper is run.

        Blocks beyond the deepest need not exist in the parameters.
        """
        body = self._method("branch", branches)
        view = self._views(views)
        blocks, kinds = self._layers()
        loop = lambda x, p, kind: (body(p, x, *view(kind)), None)
        streams, done = [], 0
        for depth in depths:
            cut = slice(done, depth)
            x_BxLxD = self._scan(loop, x_BxLxD, _cut(blocks, cut), _cut(kinds, cut))[0] if depth > done else x_BxLxD
            streams.append(x_BxLxD)
            done = depth
        return streams

    def grow(
        self, x_BxMxD: Array, prompt: Layers, own: Layers, at: Array, views: tuple[Rotation, Sight], branches: Branches
    ) -> tuple[Array, Layers]:
        """One more token of every branch: its stream ``[B, M, D]``, and ``own`` with it written at ``at``."""
        body = self._method("grow")
        view = self._views(views)
        loop = lambda x, p, kind, before, mine: body(p, x, before, mine, at, *view(kind), branches)
        return self._scan(loop, x_BxMxD, *self._layers(), prompt, own)

    def context(self, x_BxTxD: Array, turn: Rotation, visible: Array, step_D: Array | None = None) -> Layers:
        """Keys and values of every layer, ``[N, B, H, T, C]``; the last block computes nothing else."""
        body = self._method("context", turn, visible, step_D)
        most, last = (_cut(self.blocks, slice(-1)), _cut(self.blocks, -1))
        tail = self._method("keys_values", turn, step_D)
        if self.depth == 1:
            return _append(None, tail(last, x_BxTxD), self.separate)
        x, kvs = self._scan(lambda x, p: body(p, x), x_BxTxD, most)
        return _append(kvs, tail(last, x), self.separate)

    def candidate(
        self, x_BxTxD: Array, context: Layers, turn: Rotation, visible: Array, step_D: Array | None = None
    ) -> Array:
        """The candidate stream through all blocks against the context's keys and values, ``[B, T, D]``."""
        body = self._method("candidate", turn, visible, step_D)
        return self._scan(lambda x, p, kv: (body(p, x, kv)[0], None), x_BxTxD, self.blocks, context)[0]

    def extend(
        self, x_Bx1xD: Array, context: Layers, turn: Rotation, visible: Array, step_D: Array | None = None
    ) -> tuple[Array, Layers]:
        """A real token behind the context: its stream ``[B, 1, D]``, and its own keys and values of every layer."""
        body = self._method("candidate", turn, visible, step_D)
        return self._scan(lambda x, p, kv: body(p, x, kv), x_Bx1xD, self.blocks, context)

    def _method(self, name: str, *shared: Any) -> Callable[..., Any]:
        block = Block(self.shape, self.precision, parent=None)

        def apply(params: Params, *args: Array):
            return block.apply({"params": params}, *args, *shared, method=name)

        policy = REMAT_POLICIES[self.remat]
        if policy is None:
            return apply
        # Once for each derivative: what the first leaves of the forward pass is checkpointed no more, and the second, of the
        # training loss through a gradient of the energy, would keep all of it.
        for _ in range(2 if name == "candidate" else 1):
            apply = jax.checkpoint(apply, policy=policy, prevent_cse=self.unroll)
        return apply

    def _layers(self) -> tuple[Any, Any]:
        """Parameters and kind of every layer, as ``_scan`` takes them."""
        kinds = self.kinds or (0,) * self.depth
        return self.blocks, list(kinds) if self.separate else jnp.asarray(kinds)

    def _views(self, views: Any) -> Callable[[Any], Any]:
        if self.kinds is None:
            return lambda kind: views
        return lambda kind: jax.tree.map(lambda x: x[kind], views)

    def _scan(self, body, carry, blocks, *per_layer):
        """``body(carry, layer's parameters, ...) -> (carry, output)`` over the layers; outputs as ``separate`` has them."""
        if not self.separate:
            loop = lambda carry, layer: body(carry, *layer)
            return lax.scan(loop, carry, (blocks, *per_layer), unroll=self.depth if self.unroll else 1)
        outputs = []
        for layer in zip(blocks, *per_layer, strict=True):
            carry, output = body(carry, *layer)
            outputs.append(output)
        return carry, outputs


def separate_layers(params: Params) -> Params:
    """The parameters of any network with a ``Stack``, for that network with ``separate`` layers."""
    if not isinstance(params, dict):
        return params
    if set(params) == {"blocks"}:
        depth = jax.tree.leaves(params)[0].shape[0]
        return {f"block_{n}": jax.tree.map(lambda w, n=n: w[n], params["blocks"]) for n in range(depth)}
    return {name: separate_layers(value) for name, value in params.items()}


def _cut(blocks: Any, index: Any) -> Any:
    return blocks[index] if isinstance(blocks, list | tuple) else jax.tree.map(lambda w: w[index], blocks)


def _append(layers: Any, last: KeysValues, separate: bool) -> Any:
    if separate:
        return [*(layers or []), last]
    if layers is None:
        return jax.tree.map(lambda a: a[None], last)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), layers, last)
