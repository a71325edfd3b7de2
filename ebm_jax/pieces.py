"""Arrays as wide as a vocabulary, made and used a few positions at a time.

One ``[B, T, V]`` array of 50,000 words outweighs everything else in a training step. Work on such arrays goes piece by
piece along time, so that only what must outlive the piece exists whole. Rows are never cut: they lie on many devices.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ebm_jax.types import Array, PyTree

WIDE = 4096
"""Vocabularies below this are worked on whole: the loop would cost more than it saves."""
MOST = 8


class Pieces(NamedTuple):
    """``number`` pieces of ``size`` positions each; one piece is the whole."""

    number: int
    size: int

    def cut(self, tree: PyTree, piece: int | Array) -> PyTree:
        """Piece ``piece`` of every ``[B, T, ...]`` leaf; leaves without a time axis, or with a broadcast one, stay."""
        length = self.number * self.size

        def one(x: Array) -> Array:
            if self.number == 1 or jnp.ndim(x) < 2 or x.shape[1] != length:
                return x
            return lax.dynamic_slice_in_dim(x, piece * self.size, self.size, axis=1)

        return jax.tree.map(one, tree)

    def paste(self, tree: PyTree, part: PyTree, piece: int | Array) -> PyTree:
        """``tree`` with its piece ``piece`` replaced by ``part``."""
        put = lambda x, y: lax.dynamic_update_slice_in_dim(x, y, piece * self.size, axis=1)
        return part if self.number == 1 else jax.tree.map(put, tree, part)

    def join(self, make: Callable[[int | Array], PyTree]) -> PyTree:
        """The arrays ``[B, T, ...]`` of which ``make(piece)`` gives the pieces."""
        return make(0) if self.number == 1 else self.replace(self.empty(jax.eval_shape(make, 0)), lambda _, k: make(k))

    def replace(self, tree: PyTree, make: Callable[[PyTree, int | Array], PyTree]) -> PyTree:
        """``tree`` with every piece ``p`` replaced by ``make(p, piece)``, in its own memory."""
        if self.number == 1:
            return make(tree, 0)
        body = lambda k, whole: self.paste(whole, make(self.cut(whole, k), k), k)
        return lax.fori_loop(0, self.number, body, tree)

    def empty(self, part: PyTree) -> PyTree:
        """Zeros of the whole's shapes, from the shapes of one piece."""
        whole = lambda x: jnp.zeros((x.shape[0], x.shape[1] * self.number, *x.shape[2:]), x.dtype)
        return jax.tree.map(whole, part)


def pieces_of(shape: tuple[int, ...]) -> Pieces:
    """How to work on an array ``[B, T, V]``: in the largest number of equal pieces up to ``MOST`` if it is wide."""
    length = shape[1]
    if len(shape) != 3 or shape[2] < WIDE:
        return Pieces(1, length)
    number = max(n for n in range(1, MOST + 1) if length % n == 0)
    return Pieces(number, length // number)
