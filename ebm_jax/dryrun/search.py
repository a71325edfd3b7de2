"""Which ways of dividing a training step over a target are worth compiling, and which of them are best."""

from collections.abc import Sequence

from ebm_jax.dryrun.inspection import Inspection
from ebm_jax.dryrun.topology import Target
from ebm_jax.experiment import ExperimentConfig

TENSOR = (1, 2, 4, 8)
REMAT = ("none", "full")


def candidates(config: ExperimentConfig, target: Target) -> list[list[str]]:
    """Assignments to the config, the likeliest to be fast first.

    Meshes whose weights are whole (``ddp``), in parts in every slice (``fsdp``), and with heads and hidden units divided too
    (``fsdp_tp``); blocks recomputed or not; one, two or four microbatches. What does not divide the batch is left out.
    """
    found = list[tuple[tuple[int, int, int], list[str]]]()
    for rules, meshes in _meshes(target).items():
        for data, fsdp, tensor in meshes:
            shards = data * fsdp
            for accumulate in (1, 2, 4):
                if config.train.batch_size % (shards * accumulate):
                    continue
                for remat in REMAT:
                    keys = [
                        f"mesh.rules={rules}", f"mesh.data={data}", f"mesh.fsdp={fsdp}", f"mesh.tensor={tensor}",
                        f"train.accumulate={accumulate}", f"model.remat={remat}",
                    ]  # fmt: skip
                    # Recomputing costs a third, dividing by heads traffic, microbatches little; small changes first.
                    likely = (int(tensor > 1), (remat == "full") + (accumulate > 1), accumulate + tensor)
                    found.append((likely, keys))
    return [keys for _, keys in sorted(found, key=lambda one: one[0])]


def _meshes(target: Target) -> dict[str, list[tuple[int, int, int]]]:
    chips, slices = len(target.devices), target.slices
    inside = chips // slices
    return {
        "fsdp": [(slices, inside, 1)],
        "ddp": [(chips, 1, 1)],
        "fsdp_tp": [(slices, inside // tensor, tensor) for tensor in TENSOR[1:] if inside % tensor == 0],
    }


def ranked(found: Sequence[tuple[list[str], Inspection]]) -> list[tuple[list[str], Inspection]]:
    """What fits, by the least time of a step and then by memory."""
    fitting = [one for one in found if one[1].fits is not False]
    return sorted(fitting, key=lambda one: (one[1].step_seconds or 0.0, one[1].memory.total))
