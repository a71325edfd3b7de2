"""Several processes, one program: start-up, the rows of each, and agreement between them."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ebm_jax.errors import UserError
from ebm_jax.parallel.rules import BATCH_AXES
from ebm_jax.types import Array, PyTree

ENVIRONMENT = ("EBM_JAX_COORDINATOR", "EBM_JAX_PROCESSES", "EBM_JAX_PROCESS_ID")
"""``host:port`` of process 0, the number of processes, and this process's number; or ``EBM_JAX_COORDINATOR=auto``."""


def initialize(coordinator: str | None = None, process_count: int | None = None, process_id: int | None = None) -> bool:
    """Joins the processes of a run, before anything else touches a device; says whether there are several.

    Arguments that are ``None`` come from ``ENVIRONMENT``. ``coordinator="auto"`` leaves all of them to JAX, which knows
    TPU pods, Slurm and Open MPI. With nothing set there is one process and nothing happens.

    Raises:
      UserError: some but not all of the three are known, or they contradict each other.
    """
    coordinator = coordinator or os.environ.get(ENVIRONMENT[0])
    if coordinator == "auto":
        jax.distributed.initialize()
        return jax.process_count() > 1
    process_count = _number(process_count, ENVIRONMENT[1])
    process_id = _number(process_id, ENVIRONMENT[2])
    known = (coordinator, process_count, process_id)
    if known == (None, None, None) or (process_count == 1 and coordinator is None):
        return False
    if coordinator is None or process_count is None or process_id is None:
        said = ", ".join(f"{name}={value}" for name, value in zip(ENVIRONMENT, known, strict=True))
        raise UserError(f"a run of several processes needs all of {', '.join(ENVIRONMENT)}; got {said}")
    if not 0 <= process_id < process_count:
        raise UserError(f"{ENVIRONMENT[2]}={process_id} must lie in 0..{process_count - 1}")
    jax.distributed.initialize(coordinator, process_count, process_id)
    return process_count > 1


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


def barrier(name: str) -> None:
    """Waits until every process has come to the barrier called ``name``."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_process(flag: bool) -> bool:
    """Whether ``flag`` is set in any process; every process must ask, and waits for the others."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray([flag]))))


def _number(value: int | None, variable: str) -> int | None:
    text = os.environ.get(variable)
    if value is not None or text is None:
        return value
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{variable}={text!r} is not a whole number") from None
