"""Logical axis names, the tables that map them to mesh axes, and what follows from both.

Models name the axes of their weights (``flax.linen.with_logical_partitioning``) and of a few activations
(``constrain``); they never name a mesh axis. Which mesh axis a name is split over is data: one of the tables in
``RULES``.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import jax
from flax.core import meta
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from ebm_jax.errors import UserError
from ebm_jax.types import Array, PyTree

MESH_AXES = ("data", "fsdp", "tensor")
"""Axes of every mesh: copies of the model, slices of its weights by width, slices by heads and hidden units."""

BATCH_AXES = ("data", "fsdp")
"""The mesh axes over which the rows of a batch are split, under every rule table."""

WEIGHT_AXES = {
    "vocab": "rows of embedding and unembedding tables",
    "embed": "model width",
    "heads": "attention heads (and key-value heads)",
    "head_dim": "width of one head",
    "mlp": "hidden width of the feed-forward layer",
    "layers": "stacked layers of a scan",
    "landscape": "distinct step embeddings",
    "modulation": "adaLN shifts, scales and gates",
}

ACTIVATION_AXES = {
    "batch": "rows",
    "time": "positions",
    "act_embed": "model width",
    "act_heads": "attention heads",
    "act_mlp": "hidden width of the feed-forward layer",
    "act_vocab": "vocabulary",
}

Rules: TypeAlias = Mapping[str, str | tuple[str, ...] | None]

_REPLICATED: Rules = dict.fromkeys((*WEIGHT_AXES, *ACTIVATION_AXES)) | {"batch": BATCH_AXES}

RULES: dict[str, Rules] = {
    "ddp": _REPLICATED,
    "fsdp": {**_REPLICATED, "embed": "fsdp"},
    "fsdp_tp": {
        **_REPLICATED,
        "embed": "fsdp",
        "heads": "tensor",
        "mlp": "tensor",
        "vocab": "tensor",
        "act_heads": "tensor",
        "act_mlp": "tensor",
        "act_vocab": "tensor",
    },
}
"""``ddp`` copies every weight, ``fsdp`` splits widths, ``fsdp_tp`` heads, hidden units and vocabulary as well."""

_active: contextvars.ContextVar[Rules | None] = contextvars.ContextVar("ebm_jax_rules", default=None)


def get_rules(name: str) -> Rules:
    """The table called ``name``.

    Raises:
      UserError: there is no such table.
    """
    if name not in RULES:
        raise UserError(f"mesh.rules={name!r} is not one of {', '.join(RULES)}")
    return RULES[name]


@contextlib.contextmanager
def use(mesh: Mesh, rules: str | Rules) -> Iterator[None]:
    """Makes ``mesh`` the mesh (``jax.set_mesh``) and ``rules`` the table that ``constrain`` reads.

    The table is read while tracing: a function jitted under one table keeps it.
    """
    token = _active.set(get_rules(rules) if isinstance(rules, str) else rules)
    try:
        with jax.set_mesh(mesh):
            yield
    finally:
        _active.reset(token)


def partition_spec(logical_axes: tuple[str | None, ...], rules: Rules, *, name: str = "array") -> PartitionSpec:
    """The mesh axes of an array whose axes are called ``logical_axes``; ``name`` is for the message.

    Raises:
      UserError: an axis name is unknown, or two axes of the array claim the same mesh axis.
    """
    taken: dict[str, str] = {}
    entries = []
    for logical in logical_axes:
        if logical is not None and logical not in rules:
            raise UserError(f"{name} has the unknown logical axis {logical!r}; known: {', '.join(rules)}")
        entry = None if logical is None else rules[logical]
        for mesh_axis in _axes_of(entry):
            if mesh_axis in taken:
                raise UserError(
                    f"{name}: the logical axes {taken[mesh_axis]!r} and {logical!r} both claim the mesh axis"
                    f" {mesh_axis!r}; rename one of them or map it to another mesh axis"
                )
            taken[mesh_axis] = str(logical)
        entries.append(entry)
    return PartitionSpec(*entries)


def shardings(tree: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """A ``NamedSharding`` for every (possibly boxed) array of ``tree``; boxes become leaves.

    An array without a box is replicated, and so is an axis that its mesh axes do not divide (see ``undivided``).
    """

    def one(path: jax.tree_util.KeyPath, leaf: PyTree) -> NamedSharding:
        return NamedSharding(mesh, _fit(path, leaf, mesh, rules).spec)

    return jax.tree_util.tree_map_with_path(one, tree, is_leaf=is_box)


def placed(boxed: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """Shapes, types and shardings of (possibly boxed) shapes."""
    describe = lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
    return jax.tree.map(describe, unbox(boxed), shardings(boxed, mesh, rules))


def undivided(tree: PyTree, mesh: Mesh, rules: Rules) -> list[str]:
    """One sentence for every axis that stays whole because its mesh axes do not divide it."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_box)
    return [line for path, leaf in leaves for line in _fit(path, leaf, mesh, rules).undivided]


def constrain(x: Array, *logical_axes: str | None) -> Array:
    """Splits an activation as the active table says; without a mesh, or on one device, ``x`` itself.

    An axis that its mesh axes do not divide is left to the compiler, and so are axes inside ``shard_map``.
    """
    rules, mesh = _active.get(), jax.sharding.get_abstract_mesh()
    if rules is None or mesh.empty or mesh.size == 1:
        return x
    if len(logical_axes) != x.ndim:
        raise ValueError(f"constrain: {logical_axes} does not name the {x.ndim} axes of shape {x.shape}")
    manual = {axis for axis, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Manual}
    entries = []
    for size, entry in zip(x.shape, partition_spec(logical_axes, rules, name="activation"), strict=True):
        free = entry is None or (not manual & set(_axes_of(entry)) and size % _ways(entry, mesh) == 0)
        entries.append(entry if free else PartitionSpec.UNCONSTRAINED)
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*entries))


def by_rows(function: Callable[..., PyTree], weights: PyTree, *rows: PyTree) -> PyTree:
    """``function(weights, *rows)``, row by row of a batch: every device does its own rows, with whole weights.

    Weights come to a device once and their gradients are added up once, also where ``function`` loops; left to itself, the
    partitioner does both in every turn. ``rows`` and results have a leading row axis. Where rows do not divide, and without a
    mesh, it is the plain call.
    """
    rules, mesh = _active.get(), jax.sharding.get_abstract_mesh()
    shards = 1 if mesh.empty else _ways(BATCH_AXES, mesh)
    divided = all(x.shape[0] % shards == 0 for x in jax.tree.leaves(rows))
    if rules is None or shards == 1 or not divided or AxisType.Manual in mesh.axis_types:
        return function(weights, *rows)
    own = PartitionSpec(BATCH_AXES)
    mapped = jax.shard_map(
        function,
        in_specs=(PartitionSpec(), *[own] * len(rows)),
        out_specs=own,
        axis_names=set(BATCH_AXES),
        check_vma=False,
    )
    return mapped(weights, *rows)


def is_box(leaf: PyTree) -> bool:
    """Whether ``leaf`` is an array boxed with the names of its axes."""
    return isinstance(leaf, meta.Partitioned)


def unbox(tree: PyTree) -> PyTree:
    """``tree`` with plain arrays in place of boxes."""
    return jax.tree.map(lambda leaf: leaf.value if is_box(leaf) else leaf, tree, is_leaf=is_box)


@dataclass(frozen=True)
class _Fit:
    spec: PartitionSpec
    undivided: tuple[str, ...] = ()


def _fit(path: jax.tree_util.KeyPath, leaf: PyTree, mesh: Mesh, rules: Rules) -> _Fit:
    if not is_box(leaf):
        return _Fit(PartitionSpec())
    name, shape = jax.tree_util.keystr(path, simple=True, separator="/"), leaf.value.shape
    if len(leaf.names) != len(shape):
        raise ValueError(f"{name}: axis names {leaf.names} do not fit the shape {shape}")
    entries, lines = [], []
    for logical, size, entry in zip(leaf.names, shape, partition_spec(leaf.names, rules, name=name), strict=True):
        ways = _ways(entry, mesh)
        if size % ways:
            lines.append(
                f"{name}: axis {logical!r} of size {size} is not divisible by {ways} ({entry}) and stays whole"
            )
        entries.append(None if size % ways else entry)
    return _Fit(PartitionSpec(*entries), tuple(lines))


def _axes_of(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def _ways(entry: str | tuple[str, ...] | None, mesh: Mesh | AbstractMesh) -> int:
    return math.prod(mesh.shape[axis] for axis in _axes_of(entry))
