"""The blocks of a transformer, their parameters stacked on a leading ``layers`` axis and run by one ``lax.scan``."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from ebm_jax.errors import UserError
from ebm_jax.nn.blocks import Block, BlockShape, KeysValues
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


class Stack(nn.Module):
    """``depth`` equal blocks; parameters ``blocks`` carry a leading layer axis.

    ``unroll`` writes the layers out instead of looping: the same numbers, and XLA's cost analysis then counts each layer.
    """

    depth: int
    shape: BlockShape
    precision: Precision
    remat: str = "none"
    unroll: bool = False

    def setup(self) -> None:
        if self.remat not in REMAT_POLICIES:
            raise UserError(f"model.remat={self.remat!r} is not one of {', '.join(REMAT_POLICIES)}")
        self.blocks = self.param("blocks", self._init_blocks)

    def _init_blocks(self, key) -> Params:
        block = Block(self.shape, self.precision, parent=None)
        # Reading any attribute runs ``setup``, which creates every parameter.
        init = functools.partial(block.init, method=lambda module: module.query)
        stacked = jax.vmap(lambda k: init(k)["params"])(jax.random.split(key, self.depth))
        is_box = lambda x: isinstance(x, nn.meta.AxisMetadata)
        add = lambda x: x.add_axis(0, {nn.PARTITION_NAME: "layers"}) if is_box(x) else x
        return jax.tree.map(add, stacked, is_leaf=is_box)

    def hidden(self, x_BxTxD: Array, turn: Rotation, visible: Array, step_D: Array | None = None) -> Array:
        """The context stream through all blocks, ``[B, T, D]``: an ordinary causal transformer."""
        body = self._method("context", turn, visible, step_D)
        return self._scan(lambda x, p: (body(p, x)[0], None), x_BxTxD, self.blocks)[0]

    def context(self, x_BxTxD: Array, turn: Rotation, visible: Array, step_D: Array | None = None) -> KeysValues:
        """Keys and values of every layer, ``[N, B, H, T, C]``; the last block computes nothing else."""
        body = self._method("context", turn, visible, step_D)
        most = jax.tree.map(lambda w: w[:-1], self.blocks)
        last = jax.tree.map(lambda w: w[-1], self.blocks)
        tail = self._method("keys_values", turn, step_D)
        if self.depth == 1:
            return jax.tree.map(lambda a: a[None], tail(last, x_BxTxD))
        x, kvs = self._scan(lambda x, p: body(p, x), x_BxTxD, most)
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), kvs, tail(last, x))

    def candidate(
        self, x_BxTxD: Array, context: KeysValues, turn: Rotation, visible: Array, step_D: Array | None = None
    ) -> Array:
        """The candidate stream through all blocks against the context's keys and values, ``[B, T, D]``."""
        body = self._method("candidate", turn, visible, step_D)
        return self._scan(lambda x, layer: (body(layer[0], x, layer[1]), None), x_BxTxD, (self.blocks, context))[0]

    def _method(self, name: str, *shared: Any) -> Callable[..., Any]:
        block = Block(self.shape, self.precision, parent=None)

        def apply(params: Params, *args: Array):
            return block.apply({"params": params}, *args, *shared, method=name)

        policy = REMAT_POLICIES[self.remat]
        return apply if policy is None else jax.checkpoint(apply, policy=policy, prevent_cse=self.unroll)

    def _scan(self, body, carry, layers):
        return lax.scan(body, carry, layers, unroll=self.depth if self.unroll else 1)
