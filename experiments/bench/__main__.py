"""Runs a benchmark.

usage: python -m experiments.bench NAME [key=value ...] [--json]

  ebt_step     FLOPs, memory and time of an EBT training step over those of Transformer++
  data         tokens per second of the loader alone, over what the demo's training step consumes
  vocabulary   how many batch x time x vocabulary arrays a training step keeps at a vocabulary of 50,277
  throughput   tokens per second, MFU and ratio to Transformer++ of a bf16 xs model on an accelerator

--json prints the figures as one JSON object on the last line. Figures of time are medians of interleaved, warm runs.
"""

import importlib
import json
import sys
from typing import Any

from ebm_jax import cli
from ebm_jax.errors import UserError

NAMES = ("ebt_step", "data", "vocabulary", "throughput")


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("repeats", "size", "batch"), flags=("--json",))
    if "--help" in parts.flags or not parts.positionals:
        print(__doc__)
        return 0
    name = parts.positionals[0]
    if name not in NAMES or len(parts.positionals) > 1 or parts.overrides:
        raise UserError(f"unknown benchmark or key {' '.join(argv)!r}: the benchmarks are {', '.join(NAMES)}")
    figures: dict[str, Any] = importlib.import_module(f"experiments.bench.{name}").run(**parts.options)
    for key, value in figures.items():
        print(f"  {key:<28} {value}")
    if "--json" in parts.flags:
        print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(main))
