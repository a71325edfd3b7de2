"""Devices to compile for that need not be here: ``v5e:16x16``, slices of it, nodes of GPUs, ``h100:4x8``, or some of this
machine's CPU devices.

TPU programs are compiled by ``libtpu``, which the extra ``tpu`` installs and which needs no TPU for it; GPU programs by the
plugin of the extra ``gpu``, from a description of the GPU, without the tuning of kernels that it does on the device.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.experimental import topologies

from ebm_jax.accounting.chips import CHIPS, Chip, slice_of_topology
from ebm_jax.accounting.gpus import GPUS
from ebm_jax.errors import UserError

HOW = "use topology=CHIP:SIZES (v5e:16x16, v5p:4x4x4, ...), topology=GPU:NODESxGPUS (h100:4x8) or topology=cpu:NUMBER"

POOL = 0.75
"""What JAX takes of a GPU's memory; the variable XLA_PYTHON_CLIENT_MEM_FRACTION changes it."""


@dataclass(frozen=True)
class Rates:
    """What a chip has and can do at best; 0 where it is not known."""

    memory_bytes: float = 0.0
    flops: float = 0.0
    """Dense bf16 matrix FLOP/s."""
    memory_rate: float = 0.0
    """Bytes a second of its main memory."""
    link_rate: float = 0.0
    """Bytes a second that it sends to the chips of its slice, over all links."""
    network_rate: float = 0.0
    """Bytes a second that it sends to other slices: its part of its host's network."""


@dataclass(frozen=True)
class Target:
    """Devices to compile for."""

    name: str
    slices: int
    """Slices of TPUs, or nodes of GPUs."""
    devices: tuple[Any, ...]
    rates: Rates

    def slice_of(self, place: int) -> int:
        """The slice of the device at a place of ``devices``."""
        return place * self.slices // len(self.devices)


def find_target(topology: str, num_slices: int = 1, memory_bytes: float | None = None) -> Target:
    """The devices of ``topology``, ``num_slices`` times; ``memory_bytes`` is what a program may take of one, if not all.

    Raises:
      UserError: there is no such topology, the compiler is not installed, or the devices are not here.
    """
    kind, colon, sizes = topology.partition(":")
    if not colon or num_slices < 1:
        raise UserError(f"topology={topology!r} num_slices={num_slices}: {HOW}, and num_slices of at least 1")
    if kind == "cpu":
        found = _of_cpu(topology, kind, sizes, num_slices)
    elif kind in CHIPS:
        found = _of_tpu(topology, kind, sizes, num_slices)
    elif kind in GPUS:
        found = _of_gpu(topology, kind, sizes, num_slices)
    else:
        raise UserError(f"topology={topology!r} is not one of {', '.join((*CHIPS, *GPUS))}, cpu")
    return found if memory_bytes is None else replace(found, rates=replace(found.rates, memory_bytes=memory_bytes))


def _of_cpu(topology: str, kind: str, number: str, num_slices: int) -> Target:
    here = jax.devices(kind)
    if num_slices != 1 or not re.fullmatch(r"[1-9]\d*", number):
        raise UserError(f"topology={topology!r} num_slices={num_slices}: CPU devices are cpu:NUMBER, in one slice")
    if int(number) > len(here):
        raise UserError(
            f"topology={topology!r}: this process has {len(here)} CPU devices; for more, set"
            f" XLA_FLAGS=--xla_force_host_platform_device_count={number}"
        )
    return Target(topology, 1, tuple(here[: int(number)]), Rates())


def _of_tpu(topology: str, kind: str, sizes: str, num_slices: int) -> Target:
    part = slice_of_topology(kind, sizes)
    # Else libtpu asks the cloud's metadata server what machine this is, and lets one process at a time compile.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    options: dict[str, Any] = {"num_slices": num_slices} if num_slices > 1 else {}
    if part.hosts == 1:
        bounds = [int(size) for size in sizes.split("x")]
        options["chips_per_host_bounds"] = (*bounds, *(1,) * (3 - len(bounds)))
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=f"{kind}:{sizes}", **options)
    except Exception as error:
        raise UserError(
            f"topology={topology!r}: there is no compiler for TPUs here ({str(error).splitlines()[0]});"
            " install it: pip install 'ebm_jax[tpu]'"
        ) from error
    chips = part.chips * num_slices
    return Target(topology, num_slices, tuple(_one_per_chip(described.devices, chips)), rates_of(part.chip))


def _of_gpu(topology: str, kind: str, sizes: str, num_slices: int) -> Target:
    counted = re.fullmatch(r"(?:([1-9]\d*)x)?([1-9]\d*)", sizes)
    if counted is None or num_slices != 1:
        raise UserError(f"topology={topology!r} num_slices={num_slices}: GPUs are {kind}:GPUS or {kind}:NODESxGPUS")
    nodes, each, gpu = int(counted[1] or 1), int(counted[2]), GPUS[kind]
    # Kernels are tuned on the device, which is not here.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0".strip()
    try:
        described = topologies.get_topology_desc(
            platform="cuda", topology=f"{nodes}x1x{each}", target_config=gpu.target_config()
        )
    except Exception as error:
        raise UserError(
            f"topology={topology!r}: there is no compiler for GPUs here ({str(error).splitlines()[0]});"
            " install it: pip install 'ebm_jax[gpu]'"
        ) from error
    rates = Rates(
        memory_bytes=gpu.hbm_bytes * float(os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", POOL)),
        flops=gpu.peak_bf16_flops,
        memory_rate=gpu.hbm_bytes_per_second,
        link_rate=gpu.nvlink_bytes_per_second,
        network_rate=gpu.network_bytes_per_second,
    )
    return Target(topology, nodes, tuple(described.devices), rates)


def rates_of(chip: Chip) -> Rates:
    """Those of the vendor's pages."""
    return Rates(
        memory_bytes=chip.hbm_bytes,
        flops=chip.peak_bf16_flops,
        memory_rate=chip.hbm_bytes_per_second,
        link_rate=chip.ici_bytes_per_second / 2,
        network_rate=chip.dcn_bytes_per_second,
    )


def _one_per_chip(devices: Sequence[Any], chips: int) -> Sequence[Any]:
    if len(devices) != chips:
        raise UserError(f"the compiler sees {len(devices)} devices where {chips} chips are expected")
    return devices
