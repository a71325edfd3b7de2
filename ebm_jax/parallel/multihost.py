"""Several processes, one program: the rows of each, and agreement between them (``processes`` tells how they meet)."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ebm_jax.errors import UserError
from ebm_jax.parallel.rules import BATCH_AXES
from ebm_jax.types import Array, PyTree


def is_main() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def to_global(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, Array]:
    """Global arrays from this process's rows, which are split over the mesh axes ``data`` and ``fsdp``.

    Raises:
      UserError: the rows do not divide over this process's devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(BATCH_AXES))
    places = sharding.addressable_devices_indices_map((mesh.size,)).values()
    shards = len({place[0].start for place in places if place is not None})
    arrays = {}
    for name, value in batch.items():
        rows = np.asarray(value)
        if rows.shape[0] % shards:
            raise UserError(
                f"batch[{name!r}] has {rows.shape[0]} rows in this process, which do not divide over its {shards} batch"
                " shards; change train.batch_size or the mesh"
            )
        # The one transfer of a step that is meant.
        with jax.transfer_guard_host_to_device("allow"):
            arrays[name] = jax.make_array_from_process_local_data(sharding, rows)
    return arrays


def local_rows_of(array: Array) -> np.ndarray:
    """This process's rows of an array that is split by rows as ``to_global`` splits them."""
    shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(jax.device_get(shards[start])) for start in sorted(shards)])


def to_host(tree: PyTree) -> PyTree:
    """Numpy copies of global arrays, whole in every process; every process must ask."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def any_process(flag: bool) -> bool:
    """Whether ``flag`` is set in any process; every process must ask, and waits for the others."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray([flag]))))
