"""Fine-tunes a model in several ways and sets them side by side.

usage: python -m experiments.finetune CONFIG [workdir=FOLDER] [only=METHOD,...] [key=value ...]

CONFIG is a comparison (configs/ebft/stories.py): every method is trained with every seed in WORKDIR/METHOD/seed=N, measured
beside the model that all begin with, and WORKDIR/report.md is written. What is there already is not made again; only=
trains some of the methods, for one machine of several that share the folder. An ordinary config (configs/ebft/smoke.py) is
trained alone. The workdir is runs/NAME by default.

  optim.peak_lr=1e-5        changes the config of every method
  sft.optim.peak_lr=1e-5    changes that of one
  seeds=0,1,2  matching.anchors=4096  tasks.bleu.rows=64    change the comparison
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from ebm_jax import cli
from ebm_jax.comparison import Comparison, run_comparison
from ebm_jax.errors import NonFiniteError, UserError
from ebm_jax.experiment import ExperimentConfig, run_training
from ebm_jax.overrides import override, split_assignment
from ebm_jax.parallel.multihost import is_main
from ebm_jax.parallel.processes import initialize, together
from ebm_jax.reporting.finetuning import read_comparison
from ebm_jax.reporting.finetuning_text import markdown
from ebm_jax.training.record import write_atomically


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("workdir", "only", "distributed"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1:
        raise UserError("one config is expected: python -m experiments.finetune CONFIG [key=value ...]")
    found = cli.load_and_call(parts.positionals[0], "get_config")
    if isinstance(found, ExperimentConfig):
        if "only" in parts.options:
            raise UserError(f"only= goes with a comparison: {parts.positionals[0]} is one run")
        config = override(found, parts.overrides)
        initialize(parts.options.get("distributed"))
        with together():
            run_training(config, Path(parts.options.get("workdir") or f"runs/{config.name}"), argv)
        return 0
    if not isinstance(found, Comparison):
        raise UserError(
            f"{parts.positionals[0]}: get_config() returned {type(found).__name__}, no config or comparison"
        )
    comparison = changed(found, parts.overrides)
    workdir = Path(parts.options.get("workdir") or f"runs/{comparison.name}")
    only = [name for name in parts.options.get("only", "").split(",") if name]
    initialize(parts.options.get("distributed"))
    with together():
        outcome = run_comparison(comparison, workdir, argv, only)
    if is_main() and not outcome.stopped:
        text = markdown(read_comparison(workdir))
        write_atomically(workdir / "report.md", text)
        print(text)
        print(f"written to {workdir / 'report.md'}")
        for run in outcome.failed:
            print(f"failed: {run}", file=sys.stderr)
    return NonFiniteError.exit_status if outcome.failed else 0


def changed(comparison: Comparison, assignments: Sequence[str]) -> Comparison:
    """The comparison with ``key=value`` applied to itself, to one method (``METHOD.key``) or else to every one."""
    own = {field.name for field in dataclasses.fields(Comparison)}
    full: list[str] = []
    for assignment in assignments:
        key, _ = split_assignment(assignment)
        one = max((name for name in comparison.methods if assignment.startswith(f"{name}.")), key=len, default=None)
        if key.partition(".")[0] in own:
            full.append(assignment)
        elif one is not None:
            full.append(f"methods.{assignment}")
        else:
            full += [f"methods.{name}.{assignment}" for name in comparison.methods]
    try:
        return override(comparison, full)
    except UserError as error:
        names = ", ".join(comparison.methods)
        raise UserError(f"{error} (KEY=VALUE changes every method, METHOD.KEY=VALUE one of {names})") from error


if __name__ == "__main__":
    sys.exit(cli.main(main))
