"""A program compiled ahead of time, and what that tells: memory, work, traffic, and the least time that a step can take.

    time >= max(FLOPs / peak rate, bytes / memory rate, bytes sent in a slice / link rate, and between slices / network rate)

each per chip: everything is taken to overlap, at the vendor's peak rates, so a real step takes longer.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import jax
import numpy as np
from jax.extend import core

from ebm_jax.dryrun.cost import Cost, axes_of, cost_of
from ebm_jax.dryrun.hlo import read_module
from ebm_jax.dryrun.programs import Planned
from ebm_jax.dryrun.topology import Target
from ebm_jax.errors import UserError
from ebm_jax.parallel.mesh import check_slices


@dataclass(frozen=True)
class Memory:
    """Bytes per chip."""

    arguments: float = 0.0
    outputs: float = 0.0
    """Those that do not lie where an argument lay."""
    temporaries: float = 0.0
    code: float = 0.0
    host: float = 0.0
    """Of its host's memory, which does not count."""

    @property
    def total(self) -> float:
        return self.arguments + self.outputs + self.temporaries + self.code


@dataclass(frozen=True)
class Traffic:
    """Collectives of one kind, size and direction in the mesh."""

    kind: str
    axes: str
    """Mesh axes whose chips take part."""
    chips: int
    """In a group."""
    crosses: bool
    """Whether a group spans slices."""
    times: float
    bytes: float
    """What a chip brings to one of them."""
    sent: float
    """What a chip sends in all of them."""


@dataclass(frozen=True)
class Array:
    """What one operation makes, over all chips; it need not be in memory as a whole at any time."""

    bytes: float
    shape: str
    operation: str
    place: str
    """Where in the program: names of modules and loops."""


@dataclass(frozen=True)
class Inspection:
    """One program on one target; figures are per chip unless they say otherwise."""

    program: str
    topology: str
    slices: int
    chips: int
    mesh: dict[str, int]
    compile_seconds: float
    fits: bool | None = None
    """None where it is not known how much memory there is."""
    refused: str = ""
    """What the compiler said where it refused the program for its memory."""
    largest: tuple[Array, ...] = ()
    """The largest arrays that are made, where it does not fit."""
    memory: Memory = field(default_factory=Memory)
    memory_bytes: float = 0.0
    """What a chip has; 0 where it is not known."""
    model_flops: float | None = None
    """Of all chips together, without what ``model.remat`` computes again."""
    flops: float = 0.0
    bytes: float = 0.0
    traffic: tuple[Traffic, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    """The least time of each resource whose rate is known."""
    guessed: int = 0
    """Loops of unknown length, taken to run as often as they can."""

    @property
    def step_seconds(self) -> float | None:
        """The roofline's: no step is faster."""
        return max(self.seconds.values(), default=None)

    @property
    def bound(self) -> str:
        """What it waits for."""
        return max(self.seconds, key=self.seconds.__getitem__, default="")

    @property
    def mfu(self) -> float | None:
        """Utilisation at that time."""
        at_peak = self.seconds.get("compute")
        if not at_peak or not self.flops or self.model_flops is None or self.step_seconds is None:
            return None
        return self.model_flops / self.chips / self.flops * at_peak / self.step_seconds

    def to_json(self) -> dict[str, Any]:
        derived = {
            "total_bytes": self.memory.total,
            "step_seconds": self.step_seconds,
            "bound": self.bound,
            "mfu": self.mfu,
        }
        return asdict(self) | derived

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Inspection":
        """Undoes ``to_json``."""
        own = {field.name: record[field.name] for field in fields(cls)}
        nested = {
            "memory": Memory(**own["memory"]),
            "traffic": tuple(Traffic(**each) for each in own["traffic"]),
            "largest": tuple(Array(**each) for each in own["largest"]),
        }
        return cls(**own | nested)


_ABOUT_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "Ran out of memory")


def inspect(planned: Planned, target: Target) -> Inspection:
    """Compiles a program and reads what came out.

    A program that the compiler refuses for its memory comes back with ``fits=False`` and the compiler's words.

    Raises:
      UserError: weights would be split over slices, or the compiler does not tell what a program needs.
    """
    # Nodes of GPUs that are here tell which one they are of; those that are described do not.
    check_slices(planned.mesh.shape["data"], target.slices)
    began = time.monotonic()
    found = Inspection(
        program=planned.name,
        topology=target.name,
        slices=target.slices,
        chips=planned.mesh.size,
        mesh=dict(planned.mesh.shape),
        compile_seconds=0.0,
        memory_bytes=target.rates.memory_bytes,
        model_flops=planned.model_flops,
    )
    traced = planned.trace()
    try:
        compiled = traced.lower().compile()
    except Exception as error:
        if not any(words in str(error) for words in _ABOUT_MEMORY):
            raise
        largest = largest_arrays(traced.jaxpr.jaxpr)
        seconds = time.monotonic() - began
        return replace(found, fits=False, refused=str(error), largest=largest, compile_seconds=seconds)
    seconds = time.monotonic() - began
    memory = _memory(compiled)
    cost = cost_of(read_module(compiled.as_text() or ""), planned.turns)
    traffic = _traffic(cost, planned, target)
    fits = None if not target.rates.memory_bytes else memory.total <= target.rates.memory_bytes
    return replace(
        found,
        compile_seconds=seconds,
        fits=fits,
        largest=largest_arrays(traced.jaxpr.jaxpr) if fits is False else (),
        memory=memory,
        flops=cost.flops,
        bytes=cost.bytes,
        traffic=traffic,
        seconds=_seconds(cost, traffic, target),
        guessed=cost.guessed,
    )


def _memory(compiled: jax.stages.Compiled) -> Memory:
    told = compiled.memory_analysis()
    if told is None:
        raise UserError("this compiler does not tell how much memory a program needs")
    return Memory(
        arguments=told.argument_size_in_bytes,
        outputs=told.output_size_in_bytes - told.alias_size_in_bytes,
        temporaries=told.temp_size_in_bytes,
        code=told.generated_code_size_in_bytes,
        host=told.host_temp_size_in_bytes + told.host_argument_size_in_bytes,
    )


def _traffic(cost: Cost, planned: Planned, target: Target) -> tuple[Traffic, ...]:
    sizes, order = dict(planned.mesh.shape), {device.id: at for at, device in enumerate(target.devices)}
    places = [order[device.id] for device in planned.mesh.devices.flat]
    total: dict[Traffic, float] = {}
    for collective, times in cost.collectives.items():
        crosses = len({target.slice_of(places[place]) for place in collective.group}) > 1
        axes = "+".join(axes_of(collective.group, sizes)) or "-"
        each = Traffic(collective.kind, axes, len(collective.group), crosses, 0.0, collective.bytes, collective.sent)
        total[each] = total.get(each, 0.0) + times
    found = [replace(each, times=times, sent=each.sent * times) for each, times in total.items()]
    return tuple(sorted(found, key=lambda each: -each.sent))


def _seconds(cost: Cost, traffic: tuple[Traffic, ...], target: Target) -> dict[str, float]:
    rates = target.rates
    work: Mapping[str, tuple[float, float]] = {
        "compute": (cost.flops, rates.flops),
        "memory": (cost.bytes, rates.memory_rate),
        "links": (sum(each.sent for each in traffic if not each.crosses), rates.link_rate),
        "network": (sum(each.sent for each in traffic if each.crosses), rates.network_rate),
    }
    return {name: amount / rate for name, (amount, rate) in work.items() if rate}


def largest_arrays(jaxpr: core.Jaxpr, count: int = 8) -> tuple[Array, ...]:
    """The largest arrays that a program makes, each kind once, loops entered."""
    found = dict[Array, None]()
    for inner in _jaxprs(jaxpr):
        for equation in inner.eqns:
            for made in equation.outvars:
                shape, dtype = getattr(made.aval, "shape", ()), getattr(made.aval, "dtype", None)
                if isinstance(dtype, np.dtype) and (size := math.prod(shape) * dtype.itemsize):
                    place = str(equation.source_info.name_stack) or "the step itself"
                    found[
                        Array(float(size), f"{dtype}[{','.join(map(str, shape))}]", equation.primitive.name, place)
                    ] = None
    return tuple(sorted(found, key=lambda one: -one.bytes)[:count])


def _jaxprs(jaxpr: core.Jaxpr) -> Iterator[core.Jaxpr]:
    yield jaxpr
    for equation in jaxpr.eqns:
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: isinstance(x, core.Jaxpr)):
            inner = value.jaxpr if isinstance(value, core.ClosedJaxpr) else value
            if isinstance(inner, core.Jaxpr):
                yield from _jaxprs(inner)
