"""Trains a model from a config, in a folder that it resumes from.

The folder gets ``run.json`` (config, versions, devices, command), ``metrics.jsonl`` while running, ``checkpoints/``, and
``result.json`` at the end. Starting the same command again goes on where the last checkpoint left off; SIGTERM writes a
checkpoint and exits with status 0.
"""

import sys
from pathlib import Path

from ebm_jax import cli
from ebm_jax.experiment import ExperimentConfig, run_training
from ebm_jax.parallel.processes import initialize, together


def main(argv: list[str]) -> int:
    command = cli.parse(argv, ExperimentConfig, __doc__)
    initialize(command.distributed)
    workdir = command.workdir or Path("runs") / command.config.name
    with together():
        run_training(command.config, workdir, argv)
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(main))
