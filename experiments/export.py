"""Writes a trained run's parameters under the names and layouts of the EBT reference implementation.

usage: python -m experiments.export RUN_DIR out=FILE.safetensors [checkpoint=STEP]

FILE may end in .safetensors or .npz. The way back is the config key weights=FILE of experiments.pretrain.
"""

import sys
from pathlib import Path

import numpy as np

from ebm_jax import cli
from ebm_jax.algorithms.ebt import EBT
from ebm_jax.errors import UserError
from ebm_jax.experiment import ExperimentConfig, open_run
from ebm_jax.interop.reference_ebt import Layout, to_reference, write_state


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("out", "checkpoint"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1 or parts.overrides or "out" not in parts.options:
        raise UserError("one run and one file are expected: python -m experiments.export RUN_DIR out=FILE.safetensors")
    checkpoint = parts.options.get("checkpoint")
    if checkpoint is not None and not checkpoint.isdigit():
        raise UserError(f"checkpoint={checkpoint!r} is not a step number")
    experiment, params, step = open_run(Path(parts.positionals[0]), int(checkpoint) if checkpoint else None)
    state = to_reference(params, layout(experiment.config, isinstance(experiment.algorithm, EBT)))
    write_state(parts.options["out"], {name: np.asarray(value, np.float32) for name, value in state.items()})
    print(f"wrote step {step} of {experiment.config.name} to {parts.options['out']}: {len(state)} tensors")
    return 0


def layout(config: ExperimentConfig, is_ebt: bool) -> Layout:
    """Names and shapes of the run's tensors in a reference checkpoint."""
    algorithm, model = config.algorithm, config.model
    return Layout(
        depth=model.resolved_depth,
        heads=model.block().heads,
        conditioning=getattr(algorithm, "conditioning", "default"),
        tied=getattr(algorithm, "tied", False),
        norm=model.norm,
        is_lm=not is_ebt,
    )


if __name__ == "__main__":
    sys.exit(cli.main(main))
