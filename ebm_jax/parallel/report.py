"""What lies where: a table of every array, its partition and its bytes on each device."""

import math

import jax
from jax.sharding import NamedSharding

from ebm_jax.types import PyTree


def bytes_per_device(tree: PyTree) -> int:
    """Bytes that one device holds of ``tree`` (arrays, or shapes with shardings)."""
    return sum(_local_bytes(leaf) for leaf in jax.tree.leaves(tree))


def sharding_report(params: PyTree, undivided: list[str] | None = None, **others: PyTree) -> str:
    """A table of ``params`` and one line for each of ``others`` (optimizer state, carry), all with shardings.

    ``undivided`` are the sentences of ``rules.undivided``; they follow the table.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    rows = [("array", "shape", "type", "partition", "bytes/device")]
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rows.append((name, _shape(leaf), str(leaf.dtype), _spec(leaf), f"{_local_bytes(leaf):,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_pad(row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    count = sum(math.prod(leaf.shape) for _, leaf in leaves)
    lines.append(f"parameters: {count:,} values, {bytes_per_device(params):,} bytes/device")
    for name, tree in others.items():
        lines.append(f"{name.replace('_', ' ')}: {bytes_per_device(tree):,} bytes/device")
    lines.append(f"total: {bytes_per_device((params, others)):,} bytes/device")
    lines += [f"note: {sentence}" for sentence in undivided or []]
    return "\n".join(lines)


def _pad(row: tuple[str, ...], widths: list[int]) -> list[str]:
    *texts, number = row
    return [text.ljust(width) for text, width in zip(texts, widths, strict=False)] + [number.rjust(widths[-1])]


def _shape(leaf: jax.ShapeDtypeStruct) -> str:
    return "x".join(map(str, leaf.shape)) or "scalar"


def _spec(leaf: jax.ShapeDtypeStruct) -> str:
    if not isinstance(leaf.sharding, NamedSharding):
        return "one device"
    entries = [
        "-" if axis is None else "+".join([axis] if isinstance(axis, str) else axis) for axis in leaf.sharding.spec
    ]
    return ", ".join(entries) if any(entry != "-" for entry in entries) else "replicated"


def _local_bytes(leaf: jax.ShapeDtypeStruct) -> int:
    shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
    return math.prod(shape) * leaf.dtype.itemsize
