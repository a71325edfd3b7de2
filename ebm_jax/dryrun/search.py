"""Which ways of cutting a training step over a target are worth compiling, and which of them are best."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ebm_jax.dryrun.inspection import Inspection
from ebm_jax.dryrun.topology import Target
from ebm_jax.errors import UserError
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.parallel.mesh import make_mesh

TENSOR = (2, 4, 8)
KEPT = ("full", "dots_no_batch", "dots", "none")
"""Values of ``model.remat`` by how much a block keeps for its backward pass."""
REMAT = ("full", "dots", "none")
SEARCHED = ("mesh", "train.local_gradients", "train.accumulate", "model.remat")
"""Keys, or beginnings of keys, that candidates set, besides ``train.batch_size``, of which they begin with the config's."""
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
        return self._layout == other._layout and rows and self.kept >= other.kept

    def is_no_faster_than(self, other: "Candidate") -> bool:
        """Whether it does the work of ``other`` and some more: the same layout and batch, in no fewer parts, no more kept."""
        parts = self.batch == other.batch and self.accumulate >= other.accumulate
        return self._layout == other._layout and parts and self.kept <= other.kept

    def changes(self, own: "Candidate") -> int:
        """How much differs from ``own``: a mesh, who adds up, and every step of a batch, of its parts and of what is kept."""
        layout = (self.rules, self.mesh) != (own.rules, own.mesh)
        doubled = abs(math.log2(self.batch / own.batch)) + abs(math.log2(self.accumulate / own.accumulate))
        return layout + (self.local != own.local) + math.ceil(doubled) + abs(self.kept - own.kept)

    @property
    def kept(self) -> int:
        """How much blocks keep."""
        return KEPT.index(self.remat)

    @property
    def _layout(self) -> tuple[str, tuple[int, int, int], bool]:
        return self.rules, self.mesh, self.local


def own_candidate(config: ExperimentConfig, target: Target) -> Candidate:
    """The config as it is.

    Raises:
      UserError: its mesh does not fit the target.
    """
    sizes = make_mesh(config.mesh, target.devices).shape
    mesh, train = (sizes["data"], sizes["fsdp"], sizes["tensor"]), config.train
    return Candidate(
        config.mesh.rules, mesh, train.local_gradients, train.batch_size, train.accumulate, config.model.remat
    )


def candidates(config: ExperimentConfig, target: Target) -> list[Candidate]:
    """The config as it is, and candidates whose batches divide, those that change it least first.

    Meshes whose weights are whole (``ddp``), in parts in every slice (``fsdp``), and with heads and hidden units divided too
    (``fsdp_tp``); gradients added up once a step or wherever weights are used; the config's batch and larger ones, in one, two
    or four microbatches; what blocks keep for their backward pass.

    Raises:
      UserError: the mesh does not fit the target, or no batch divides.
    """
    own = own_candidate(config, target)
    meshes = dict.fromkeys([(own.rules, own.mesh), *_meshes(target)])
    batches = [own.batch * growth for growth in GROWTH]
    parts, kept = dict.fromkeys((own.accumulate, *ACCUMULATE)), dict.fromkeys((own.remat, *REMAT))
    ways = itertools.product(meshes, (own.local, not own.local), batches, parts, kept)
    found = [Candidate(rules, mesh, local, *rest) for (rules, mesh), local, *rest in ways]
    fitting = [one for one in found if one.batch % (one.mesh[0] * one.mesh[1] * one.accumulate) == 0]
    if not fitting:
        raise UserError(
            f"train.batch_size={own.batch} does not divide over {len(target.devices)} chips, nor does {batches[-1]}"
        )
    # Among equals, dividing heads comes last: it costs traffic at every layer.
    return sorted(fitting, key=lambda one: (one.changes(own), one.mesh[2]))


def _meshes(target: Target) -> Iterator[tuple[str, tuple[int, int, int]]]:
    chips, slices = len(target.devices), target.slices
    inside = chips // slices
    yield "ddp", (chips, 1, 1)
    yield "fsdp", (slices, inside, 1)
    # What shares rows of a batch is in one process.
    of_a_host = chips // len({device.process_index for device in target.devices})
    for tensor in TENSOR:
        if of_a_host % tensor == 0:
            yield "fsdp_tp", (slices, inside // tensor, tensor)


def search(
    tried: Sequence[Candidate], compile_one: Callable[[Candidate], Inspection | None], tries: int
) -> list[tuple[Candidate, Inspection]]:
    """Compiles at most ``tries`` of the candidates, leaving out what those before it have decided: what needs no less than one
    that did not fit, and what is no faster than one that did. ``compile_one`` returns None for what cannot be compiled.
    """
    found = list[tuple[Candidate, Inspection]]()
    for one in tried:
        if len(found) == tries:
            break
        too_large = [other for other, result in found if result.fits is False]
        fitting = [other for other, result in found if result.fits is not False]
        if any(map(one.needs_no_less_than, too_large)) or any(map(one.is_no_faster_than, fitting)):
            continue
        if (result := compile_one(one)) is not None:
            found.append((one, result))
    return found


def ranked(found: Sequence[tuple[Candidate, Inspection]]) -> list[tuple[Candidate, Inspection]]:
    """What fits, by the least time of a row and then by the memory that a row takes."""
    fitting = [each for each in found if each[1].fits is not False]
    return sorted(
        fitting, key=lambda each: ((each[1].step_seconds or 0.0) / each[0].batch, each[1].memory.total / each[0].batch)
    )
