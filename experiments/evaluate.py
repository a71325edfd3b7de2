"""Evaluates a trained run: perplexity and bits per byte after every inner step, thinking, and costs.

usage: python -m experiments.evaluate RUN_DIR [key=value ...] [checkpoint=STEP]

  splits=validation,test   splits of the run's corpus          rows=256        rows of each, 0 = all
  steps=8                  inner steps of the curves           extra=false     leave out the config's eval.extra texts
  candidates=1,2,5         numbers of candidates to compare    verify_steps=3  inner steps for them
  checkpoint=STEP          a checkpoint other than the newest

Prints a table and writes RUN_DIR/evaluation.json.
"""

import sys
from pathlib import Path

from ebm_jax import cli
from ebm_jax.errors import UserError
from ebm_jax.evaluation import EvaluationOptions, evaluate_run
from ebm_jax.experiment import open_run
from ebm_jax.overrides import override
from ebm_jax.parallel.multihost import initialize, is_main
from ebm_jax.training.record import write_json


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("checkpoint",))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1:
        raise UserError("one run directory is expected: python -m experiments.evaluate RUN_DIR [key=value ...]")
    workdir = Path(parts.positionals[0])
    options = override(EvaluationOptions(), parts.overrides)
    checkpoint = parts.options.get("checkpoint")
    if checkpoint is not None and not checkpoint.isdigit():
        raise UserError(f"checkpoint={checkpoint!r} is not a step number")
    initialize()
    experiment, params, step = open_run(workdir, int(checkpoint) if checkpoint else None)
    record = evaluate_run(experiment, params, step, options)
    if is_main():
        write_json(workdir / "evaluation.json", record)
        print(table(record))
    return 0


def table(record: dict) -> str:
    """The record's figures for a terminal."""
    lines = [f"{record['name']} at step {record['step']}: {record['parameters']:,} parameters"]
    for name, split in record["splits"].items():
        curve = "  ".join(f"{x:.4f}" for x in split.get("bits_per_byte", split["nll"]))
        lines.append(f"  {name:<12} bits/byte after each inner step: {curve}")
        if "bigram_bits_per_byte" in split:
            lines.append(f"  {'':<12} byte bigram: {split['bigram_bits_per_byte']:.4f}")
        for row in record.get("verification", {}).get(name, []):
            shown = row.get("bits_per_byte", row["nll"])
            candidates = f"best of {row['candidates']} by energy, {row['steps']} steps"
            lines.append(f"  {'':<12} {candidates}: {shown:.4f} ({row['forward_passes']} forward passes)")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(cli.main(main))
