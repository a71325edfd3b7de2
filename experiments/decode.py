"""Decodes prompts with a frozen model in several ways, guided by a reward, and sets them side by side.

usage: python -m experiments.decode CONFIG [workdir=FOLDER] [only=METHOD,...] [share=I/N] [key=value ...]

CONFIG is a study (configs/ebd/smoke.py): every method decodes every prompt with every seed into WORKDIR/METHOD/seed=N, a judge
that guided nothing grades what came out, and WORKDIR/report.md is written. What is there already is not made again. The workdir
is runs/NAME by default; docs/decoding.md lists the methods.

share=0/4 decodes the first of four shares of the prompts and judges nothing: machines that see one workdir do one each, at the
same time, and the command without share= then judges and reports. Under srun, share=slurm is the task's own.

  budget.tokens=2000             sets the size of every method by what it is expected to cost
  methods.ebd.steps=24           changes one method
  seeds=0,1,2  prompts.count=64  'reward=[{"name": "FOLDER"}]'
"""

import sys
from pathlib import Path

from ebm_jax import cli
from ebm_jax.decoding_study import DecodingStudy, run_study
from ebm_jax.errors import UserError
from ebm_jax.overrides import override
from ebm_jax.reporting.decoding import markdown, read_study
from ebm_jax.share import WHOLE, parse_share
from ebm_jax.training.record import write_atomically


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("workdir", "only", "share"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1:
        raise UserError("one config is expected: python -m experiments.decode CONFIG [key=value ...]")
    study = override(cli.load_config(parts.positionals[0], DecodingStudy), parts.overrides)
    workdir = Path(parts.options.get("workdir") or f"runs/{study.name}")
    only = [name for name in parts.options.get("only", "").split(",") if name]
    share = parse_share(parts.options["share"]) if "share" in parts.options else WHOLE
    run_study(study, workdir, only, share=share)
    if not share.whole:
        print(f"share {share} is done: when all are, the command without share= judges and reports")
        return 0
    text = markdown(read_study(workdir))
    write_atomically(workdir / "report.md", text)
    print(text)
    print(f"written to {workdir / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(main))
