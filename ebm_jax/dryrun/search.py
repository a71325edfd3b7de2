"""Which ways of cutting a training step over a target are worth compiling, and which of them are best."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ebm_jax.dryrun.inspection import Inspection
from ebm_jax.dryrun.topology import Target
from ebm_jax.experiment import ExperimentConfig

TENSOR = (2, 4, 8)
ACCUMULATE = (1, 2, 4)
GROWTH = (1, 2, 4)
"""Batches, in the config's."""


@dataclass(frozen=True)
class Candidate:
    """One way: the mesh, who adds up gradients, the batch and its microbatches, and what blocks keep."""

    rules: str
    mesh: tuple[int, int, int]
    local: bool
    batch: int
    accumulate: int
    remat: str

    def assignments(self) -> list[str]:
        """As ``key=value`` of the config."""
        data, fsdp, tensor = self.mesh
        return [
            f"mesh.rules={self.rules}", f"mesh.data={data}", f"mesh.fsdp={fsdp}", f"mesh.tensor={tensor}",
            f"train.local_gradients={str(self.local).lower()}", f"train.batch_size={self.batch}",
            f"train.accumulate={self.accumulate}", f"model.remat={self.remat}",
        ]  # fmt: skip

    def needs_no_less_than(self, other: "Candidate") -> bool:
        """Whether it needs the memory of ``other`` or more: the same layout, no fewer rows at once, no less kept."""
        rows = self.batch * other.accumulate >= other.batch * self.accumulate
        return self._layout == other._layout and rows and (self.remat == "none" or other.remat == "full")

    def is_no_faster_than(self, other: "Candidate") -> bool:
        """Whether it does the work of ``other`` and some more: the same layout and batch, in no fewer parts, no more kept."""
        parts = self.batch == other.batch and self.accumulate >= other.accumulate
        return self._layout == other._layout and parts and (self.remat == "full" or other.remat == "none")

    @property
    def _layout(self) -> tuple[str, tuple[int, int, int], bool]:
        return self.rules, self.mesh, self.local


def candidates(config: ExperimentConfig, target: Target) -> list[Candidate]:
    """Candidates whose batches divide, those that change the config's step least first.

    Meshes whose weights are whole (``ddp``), in parts in every slice (``fsdp``), and with heads and hidden units divided too
    (``fsdp_tp``); gradients added up once a step or wherever weights are used; the config's batch and larger ones, in one, two
    or four microbatches; blocks recomputed or not.
    """
    found = list[tuple[tuple[int, ...], Candidate]]()
    for rules, mesh in _meshes(target):
        for local in (True, False):
            for growth in GROWTH:
                for accumulate in ACCUMULATE:
                    for remat in ("none", "full"):
                        one = Candidate(rules, mesh, local, growth * config.train.batch_size, accumulate, remat)
                        if one.batch % (mesh[0] * mesh[1] * accumulate):
                            continue
                        changes = (remat == "full") + math.log2(accumulate * growth)
                        # Among equals, what is likely to be fast first: dividing heads costs traffic at every layer.
                        found.append(((int(changes) + int(mesh[2] > 2), mesh[2], growth, not local), one))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _meshes(target: Target) -> Iterator[tuple[str, tuple[int, int, int]]]:
    chips, slices = len(target.devices), target.slices
    inside = chips // slices
    yield "ddp", (chips, 1, 1)
    yield "fsdp", (slices, inside, 1)
    for tensor in TENSOR:
        if inside % tensor == 0:
            yield "fsdp_tp", (slices, inside // tensor, tensor)


def search(
    tried: Sequence[Candidate], compile_one: Callable[[Candidate], Inspection | None], tries: int
) -> list[tuple[Candidate, Inspection]]:
    """Compiles at most ``tries`` of the candidates, leaving out what those before it have decided: what needs no less than one
    that did not fit, and what is no faster than one that did. ``compile_one`` returns None for what cannot be compiled.
    """
    found, compiled = list[tuple[Candidate, Inspection]](), 0
    for one in tried:
        if compiled == tries:
            break
        too_large = [other for other, result in found if result.fits is False]
        fitting = [other for other, result in found if result.fits is not False]
        if any(map(one.needs_no_less_than, too_large)) or any(map(one.is_no_faster_than, fitting)):
            continue
        compiled += 1
        if (result := compile_one(one)) is not None:
            found.append((one, result))
    return found


def ranked(found: Sequence[tuple[Candidate, Inspection]]) -> list[tuple[Candidate, Inspection]]:
    """What fits, by the least time of a row and then by the memory that a row takes."""
    fitting = [each for each in found if each[1].fits is not False]
    return sorted(
        fitting, key=lambda each: ((each[1].step_seconds or 0.0) / each[0].batch, each[1].memory.total / each[0].batch)
    )
