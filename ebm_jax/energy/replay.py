"""The replay ring: finished chains that later batches continue (EBT, S2 recipe).

A first-in-first-out buffer on the device, part of the training state: sampled and pushed inside the jitted step, saved
with the checkpoint. As in the reference, replayed rows are appended after the fresh ones, and only fresh rows are pushed.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct

from ebm_jax.errors import UserError
from ebm_jax.types import Array, PRNGKey, PyTree


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """How many chains are kept, and how many join each batch."""

    capacity: int = 0
    """Rows in the ring over all devices; 0 turns replay off (192 per 40 GB device in the paper)."""
    fraction: float = 0.0
    """Replayed rows per fresh row: 0.5 makes the batch half as large again."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the stored logits, by far the largest part."""

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise UserError(f"algorithm.replay.fraction={self.fraction} must lie in [0, 1]")
        if self.fraction > 0 and self.capacity <= 0:
            raise UserError(
                f"algorithm.replay.fraction={self.fraction} with algorithm.replay.capacity={self.capacity}: "
                "replay needs a positive capacity (or a fraction of 0)"
            )

    @property
    def enabled(self) -> bool:
        return self.fraction > 0

    def rows(self, batch_size: int) -> int:
        """Replayed rows that join a batch of ``batch_size`` fresh ones."""
        return int(batch_size * self.fraction)


class Ring(struct.PyTreeNode):
    """``records`` with a leading axis of slots; the oldest filled slot is the next to be overwritten once all are full."""

    records: PyTree
    next: Array
    filled: Array

    @property
    def capacity(self) -> int:
        return jax.tree.leaves(self.records)[0].shape[0]


def empty_ring(capacity: int, record: PyTree) -> Ring:
    """A ring of zeros for records of the given shapes (one row, no leading axis)."""
    records = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), record)
    return Ring(records, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def push(ring: Ring, rows: PyTree) -> Ring:
    """Stores rows in order, over the oldest; of more rows than slots the last ones stay."""
    count = jax.tree.leaves(rows)[0].shape[0]
    kept = min(count, ring.capacity)
    slots = (ring.next + (count - kept) + jnp.arange(kept)) % ring.capacity
    records = jax.tree.map(
        lambda old, new: old.at[slots].set(new[count - kept :].astype(old.dtype)), ring.records, rows
    )
    following = (ring.next + count) % ring.capacity
    return Ring(records, following.astype(jnp.int32), jnp.minimum(ring.filled + count, ring.capacity).astype(jnp.int32))


def sample(ring: Ring, key: PRNGKey, count: int) -> tuple[PyTree, Array]:
    """``count`` distinct filled slots at random, and which of the rows are real: fewer while the ring fills."""
    count = min(count, ring.capacity)
    filled = jnp.arange(ring.capacity) < ring.filled
    priority = jnp.where(filled, jax.random.uniform(key, (ring.capacity,)), -1.0)
    best, slots = jax.lax.top_k(priority, count)
    return jax.tree.map(lambda x: x[slots], ring.records), best >= 0
