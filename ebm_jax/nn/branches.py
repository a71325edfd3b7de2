"""Rows that branch: one prompt, and many continuations of its beginnings, computed in one pass (EBFT).

A branch grows behind the first ``anchor`` tokens of its prompt. Its tokens see those and their own predecessors; a prompt never
sees a branch, nor one branch another. So a row of P prompt tokens and G samples of S branches of T tokens each,

    [prompt | sample 0: branch 0, branch 1, ... | sample 1: ... ],

gives every token the logits that it has behind ``prompt[:anchor]`` and its own predecessors alone. What a token sees of the
prompt is an interval, so no mask of row by row is ever made.
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import struct

from ebm_jax.types import Array


class Branches(struct.PyTreeNode):
    """Where the branches of every row grow, and what their tokens see; the G samples of a branch share all of it."""

    anchor_BxS: Array
    """Prompt tokens before a branch."""
    first_BxSxT: Array
    """The first place of the prompt that a token sees; it sees none where this is not below the anchor."""
    own_BxSxTxT: Array
    """Which tokens of its branch a token sees: itself and earlier ones."""
    position_BxSxT: Array
    """Rotary positions."""
    there_BxS: Array
    """1 for branches that count, 0 for what fills the row's places."""
    reach: tuple[int, ...] | None = struct.field(pytree_node=False, default=None)
    """An upper bound for the anchors of every block, one for all rows, where it is known before the program runs."""

    def until(self, steps: int) -> "Branches":
        """The same branches with their first ``steps`` tokens."""
        cut = slice(None, steps)
        return self.replace(
            first_BxSxT=self.first_BxSxT[..., cut],
            own_BxSxTxT=self.own_BxSxTxT[..., cut, cut],
            position_BxSxT=self.position_BxSxT[..., cut],
        )

    def at(self, step: Array) -> "Branches":
        """What the token ``step`` of every branch sees, as branches of one query and all keys."""
        take = lambda x, axis: jnp.take(x, step[None], axis=axis)
        return self.replace(
            first_BxSxT=take(self.first_BxSxT, 2),
            own_BxSxTxT=take(self.own_BxSxTxT, 2),
            position_BxSxT=take(self.position_BxSxT, 2),
        )


class Sight(NamedTuple):
    """What branches see in one layer: as in ``Branches``, under the layer's window."""

    first_BxSxT: Array
    own_BxSxTxU: Array


def sight(branches: Branches, window: int | None, step: Array | None = None) -> Sight:
    """What the tokens of ``branches`` (of ``branches.at(step)``) see where a layer's window is ``window``."""
    first, own = branches.first_BxSxT, branches.own_BxSxTxT
    if window is None:
        return Sight(first, own)
    t = jnp.arange(first.shape[-1]) if step is None else step[None]
    first = jnp.maximum(first, branches.anchor_BxS[..., None] + t - window + 1)
    return Sight(first, own & (jnp.arange(own.shape[-1]) > t[:, None] - window))


def positions_of(branches: Branches, samples: int) -> Array:
    """Rotary positions of all tokens of the branches in the row's order, ``[B, G * S * T]``."""
    rows = branches.position_BxSxT.shape[0]
    return jnp.tile(branches.position_BxSxT.reshape(rows, -1), (1, samples))
