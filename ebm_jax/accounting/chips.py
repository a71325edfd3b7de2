"""TPU chips and the slices that they are handed out in: names, hosts, memory, peak rates.

From the vendor's pages on each generation. ``tpu_scripts/lib.sh`` counts chips and hosts in the same way.
"""

import math
import re
from dataclasses import dataclass

from ebm_jax.accounting.utilisation import PEAK_BF16_FLOPS
from ebm_jax.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One generation of TPU."""

    name: str
    """As in ``v5p-16``."""
    hbm_bytes: float
    hbm_bytes_per_second: float
    ici_bytes_per_second: float
    """Over all links to other chips of the slice, both directions together."""
    dcn_bytes_per_second: float
    """To other slices, its part of its host's network; 0 where none is published."""
    cores: int
    """What the number in an accelerator type counts, for each chip: 2 for TensorCores, 1 for chips."""
    gke_accelerator: str
    """The node label ``cloud.google.com/gke-tpu-accelerator``."""
    runtime_version: str
    """Of a TPU VM on which JAX is installed."""
    topologies: tuple[str, ...]
    """Arrangements of chips, smallest first; of the 3D ones, the first of each size is what an accelerator type gets."""

    @property
    def peak_bf16_flops(self) -> float:
        """Dense matrix FLOP/s."""
        return PEAK_BF16_FLOPS[f"TPU {self.name}"]


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SOLID = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")

CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip(
            name="v4",
            hbm_bytes=32 * 2**30,
            hbm_bytes_per_second=1228e9,
            ici_bytes_per_second=600e9,  # twice the figure for one direction, the only one published
            dcn_bytes_per_second=0.0,
            cores=2,
            gke_accelerator="tpu-v4-podslice",
            runtime_version="tpu-ubuntu2204-base",
            topologies=_SOLID,
        ),
        Chip(
            name="v5e",
            hbm_bytes=16 * 2**30,
            hbm_bytes_per_second=819e9,
            ici_bytes_per_second=400e9,
            dcn_bytes_per_second=3.125e9,
            cores=1,
            gke_accelerator="tpu-v5-lite-podslice",
            runtime_version="v2-alpha-tpuv5-lite",
            topologies=_FLAT,
        ),
        Chip(
            name="v5p",
            hbm_bytes=95 * 2**30,
            hbm_bytes_per_second=2765e9,
            ici_bytes_per_second=1200e9,
            dcn_bytes_per_second=6.25e9,
            cores=2,
            gke_accelerator="tpu-v5p-slice",
            runtime_version="v2-alpha-tpuv5",
            topologies=(*_SOLID, "16x16x16", "16x16x24"),
        ),
        Chip(
            name="v6e",
            hbm_bytes=32 * 2**30,
            hbm_bytes_per_second=1638e9,
            ici_bytes_per_second=800e9,
            dcn_bytes_per_second=0.0,
            cores=1,
            gke_accelerator="tpu-v6e-slice",
            runtime_version="v2-alpha-tpuv6e",
            topologies=_FLAT,
        ),
    )
}
"""By name."""


@dataclass(frozen=True)
class Slice:
    """Chips that are joined by their own links, and the hosts that they hang on."""

    chip: Chip
    topology: str
    chips: int
    hosts: int

    @property
    def chips_per_host(self) -> int:
        return self.chips // self.hosts

    @property
    def accelerator_type(self) -> str:
        """What ``tpu_scripts/create.sh --type`` takes."""
        return f"{self.chip.name}-{self.chips * self.chip.cores}"


def get_chip(name: str) -> Chip:
    """The chip of that name; raises ``UserError`` for another one."""
    if name not in CHIPS:
        raise UserError(f"accelerator={name!r} is none of {', '.join(CHIPS)}")
    return CHIPS[name]


def slice_of_topology(name: str, topology: str) -> Slice:
    """The slice of a chip's name and an arrangement such as ``4x8``; raises ``UserError`` where there is none."""
    chip = get_chip(name)
    sizes = [int(size) for size in topology.split("x")] if re.fullmatch(r"\d+(x\d+)+", topology) else []
    # Larger 3D slices are made of cubes of 4x4x4 in any arrangement.
    solid = len(chip.topologies[0].split("x")) == 3
    of_cubes = solid and len(sizes) == 3 and sizes == sorted(sizes) and all(size and size % 4 == 0 for size in sizes)
    largest = max(_count(known) for known in chip.topologies)
    if topology not in chip.topologies and not (of_cubes and math.prod(sizes) <= largest):
        more = ", and multiples of 4 in ascending order" if solid else ""
        raise UserError(f"topology={topology!r}: {name} has {', '.join(chip.topologies)}{more}")
    chips = math.prod(sizes)
    return Slice(chip, topology, chips, _hosts(chip, chips))


def slice_of_type(accelerator_type: str) -> Slice:
    """The slice of an accelerator type such as ``v5p-16`` or ``v5e-8``; raises ``UserError`` where there is none."""
    name, _, number = accelerator_type.replace("v5litepod", "v5e").partition("-")
    chip = get_chip(name)
    found = [t for t in chip.topologies if number == str(_count(t) * chip.cores)]
    if not found:
        sizes = ", ".join(f"{name}-{_count(t) * chip.cores}" for t in chip.topologies)
        raise UserError(f"type={accelerator_type!r} is none of {sizes}; for another arrangement name its topology")
    return slice_of_topology(name, found[0])


def _count(topology: str) -> int:
    return math.prod(int(size) for size in topology.split("x"))


def _hosts(chip: Chip, chips: int) -> int:
    """Hosts of four chips; v5e and v6e also have hosts of one and eight, for slices of that size alone."""
    return 1 if chip.cores == 1 and chips <= 8 else chips // 4
