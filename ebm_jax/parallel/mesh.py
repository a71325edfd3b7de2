"""The device mesh: three axes, always, so that no code asks which of them exist."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from ebm_jax.errors import UserError
from ebm_jax.parallel.rules import BATCH_AXES, MESH_AXES, RULES, Rules, get_rules


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each mesh axis, and the rule table that maps arrays to them."""

    data: int = -1
    """Copies of the model; -1 takes the devices that the other axes leave."""
    fsdp: int = 1
    """Slices of the weights by width; their rows of the batch differ too."""
    tensor: int = 1
    """Slices of the weights by heads, hidden units and vocabulary; they share rows of the batch."""
    rules: str = "ddp"
    """``ddp``, ``fsdp`` or ``fsdp_tp``."""

    def __post_init__(self) -> None:
        table = get_rules(self.rules)
        for axis in MESH_AXES:
            size = getattr(self, axis)
            if size < 1 and size != -1:
                raise UserError(f"mesh.{axis}={size} must be a positive number, or -1 for the devices that are left")
        if sum(getattr(self, axis) == -1 for axis in MESH_AXES) > 1:
            raise UserError("only one of mesh.data, mesh.fsdp and mesh.tensor may be -1")
        if self.tensor != 1 and "tensor" not in table.values():
            raise UserError(
                f"mesh.tensor={self.tensor} does nothing under mesh.rules={self.rules!r}; set mesh.rules=fsdp_tp"
            )


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the axes ``data``, ``fsdp`` and ``tensor`` over ``devices`` (all of them by default).

    A mesh smaller than ``devices`` takes the first ones (with one process only). Over several TPU slices the ``data``
    axis crosses the slices.

    Raises:
      UserError: the mesh needs more devices than there are, or does not divide them.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = _sizes(config, len(devices))
    needed = math.prod(sizes)
    processes = len({device.process_index for device in devices})
    if needed < len(devices) and processes > 1:
        raise UserError(
            f"the mesh {_show(sizes)} uses {needed} of {len(devices)} devices; with {processes} processes it must use"
            " all of them"
        )
    return Mesh(_arrange(sizes, devices[:needed]), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def config_of(mesh: Mesh, rules: Rules) -> MeshConfig:
    """The config of a mesh that ``make_mesh`` made, and of its rules.

    Raises:
      UserError: the rules are no table of ``RULES``.
    """
    names = [name for name, table in RULES.items() if table == rules]
    if not names:
        raise UserError(f"these rules are not one of {', '.join(RULES)}: {dict(rules)}")
    return MeshConfig(**{axis: mesh.shape[axis] for axis in MESH_AXES}, rules=names[0])


def check_slices(data: int, slices: int) -> None:
    """Raises ``UserError`` where the axis ``data`` does not cross all slices of TPUs, or nodes of GPUs."""
    if data % slices:
        raise UserError(
            f"mesh.data={data} must be divisible by the number of slices, or nodes of GPUs, {slices}: weights are split"
            " inside one"
        )


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts the rows of a batch are split."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def _sizes(config: MeshConfig, count: int) -> tuple[int, ...]:
    sizes = tuple(getattr(config, axis) for axis in MESH_AXES)
    fixed = math.prod(size for size in sizes if size != -1)
    if fixed > count:
        raise UserError(
            f"the mesh {_show(sizes)} needs {fixed} devices but there are {count}; make mesh.data, mesh.fsdp or"
            " mesh.tensor smaller"
        )
    if -1 in sizes and count % fixed:
        raise UserError(
            f"{count} devices cannot be shared by the mesh {_show(sizes)}: {count} is not divisible by {fixed}"
        )
    return tuple(count // fixed if size == -1 else size for size in sizes)


def _arrange(sizes: tuple[int, ...], devices: list[jax.Device]) -> np.ndarray:
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    check_slices(sizes[0], slices)
    inside = (sizes[0] // slices, *sizes[1:])
    if slices == 1:
        arranged = mesh_utils.create_device_mesh(inside, devices, allow_split_physical_axes=True)
    else:
        outside = (slices, 1, 1)
        arranged = mesh_utils.create_hybrid_device_mesh(inside, outside, devices, allow_split_physical_axes=True)
    return _by_process(sizes, devices) if _rows_span_processes(arranged) else arranged


def _by_process(sizes: tuple[int, ...], devices: list[jax.Device]) -> np.ndarray:
    """The devices of each process side by side: what shares rows of a batch is then in one process."""
    processes = len({device.process_index for device in devices})
    local = len(devices) // processes
    data, fsdp, tensor = sizes
    narrow = math.gcd(fsdp, local // tensor)
    inside = (local // (tensor * narrow), narrow, tensor)
    if local % tensor or data % inside[0]:
        raise UserError(
            f"the mesh {_show(sizes)} does not divide over processes of {local} devices: mesh.tensor must divide the devices of"
            " one, which all share rows of the batch, and mesh.fsdp or mesh.data what is left of them"
        )
    outside = (data // inside[0], fsdp // narrow, 1)
    return mesh_utils.create_hybrid_device_mesh(
        inside, outside, devices, process_is_granule=True, allow_split_physical_axes=True
    )


def _rows_span_processes(arranged: np.ndarray) -> bool:
    """Whether processes share rows of a batch, where each is to feed its own."""
    groups = arranged.reshape(-1, arranged.shape[-1])
    return any(len({device.process_index for device in group}) > 1 for group in groups)


def _show(sizes: tuple[int, ...]) -> str:
    return " x ".join(f"{axis}={size}" for axis, size in zip(MESH_AXES, sizes, strict=True))
