"""Studies how a trained run thinks: more steps, more candidates, other ways; in and out of distribution.

usage: python -m experiments.think RUN_DIR [key=value ...]

  steps=8                  the curve over inner steps          rows=128              rows of each text, 0 = all
  candidates=2,5,10        candidates to choose among          verify_steps=3        inner steps for them
  variants=[noise=0, accept_lower=true+noise=0]                further ways of thinking
  history=5                best of 5 at every kept checkpoint; 0 leaves them out
  history_extra=[dyck]     texts that these read beside the validation split
  iterations=11            inner steps of the uncertainty pictures; 0 leaves them out
  extra=[gsm8k, dyck]      of the run's eval.extra, the texts to read

Writes RUN_DIR/thinking.json and RUN_DIR/uncertainty.json, which experiments.paper.* make tables and plots from.
"""

import sys
from pathlib import Path

from ebm_jax import cli
from ebm_jax.algorithms.ebt import EBT
from ebm_jax.errors import UserError
from ebm_jax.experiment import open_run
from ebm_jax.overrides import override
from ebm_jax.parallel.multihost import is_main
from ebm_jax.parallel.processes import initialize, together
from ebm_jax.records import THINKING, UNCERTAINTY
from ebm_jax.study import ThinkingStudy, thinking_record, uncertainty_record
from ebm_jax.training.record import write_json


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("iterations", "distributed"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1:
        raise UserError("one run directory is expected: python -m experiments.think RUN_DIR [key=value ...]")
    workdir, iterations = Path(parts.positionals[0]), parts.options.get("iterations", "11")
    if not iterations.isdigit():
        raise UserError(f"iterations={iterations!r} is not a number of inner steps")
    study = override(ThinkingStudy(), parts.overrides)
    initialize(parts.options.get("distributed"))
    with together():
        experiment, params, step = open_run(workdir)
        record = thinking_record(experiment, params, step, workdir, study)
        if is_main():
            write_json(workdir / THINKING, record)
            print(table(record, step))
        if isinstance(experiment.algorithm, EBT) and int(iterations):
            energies = uncertainty_record(experiment, params, step, int(iterations))
            if is_main():
                write_json(workdir / UNCERTAINTY, energies)
    return 0


def table(record: dict, checkpoint: int) -> str:
    """The last checkpoint's points for a terminal."""
    lines = [f"{record['name']}: perplexity by inner steps and candidates"]
    for point in record["points"]:
        if point["checkpoint"] == checkpoint:
            options = " ".join(f"{key}={value}" for key, value in point["options"].items())
            lines.append(
                f"  {point['split']:<12} {point['steps']:>3} steps  best of {point['candidates']:<3} "
                f"{point['forward_passes']:7.2f} passes  {point['perplexity']:9.4f}  {options}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(cli.main(main))
