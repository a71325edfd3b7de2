"""Runs a benchmark.

usage: python -m experiments.bench NAME [key=value ...] [--json]

  ebt_step     FLOPs, memory and time of an EBT training step over those of Transformer++
  generate     time per generated token against a cache, over refining all positions for every token
  lm_generate  time per token of a language model beside transformers (after `make peers`)
  hf_import    time and peak memory of reading a published checkpoint
  data         tokens per second of the loader alone, over what the demo's training step consumes
  vocabulary   how many batch x time x vocabulary arrays a training step keeps at a vocabulary of 50,277
  throughput   tokens per second, MFU and ratio to Transformer++ of a bf16 xs model on an accelerator
  ebft_rollout time and FLOPs of whole passes over every sample's row for every token, over EBFT's rollouts
  ebft_step    FLOPs of an EBFT training step over those of the published code's way, and whitening's share of its time
  ebd          time of chains one prompt at a time and without a cache, over energy-based decoding of 16 prompts
  power        the same for power sampling
  draft        time of sampling over that with a small draft model ahead

keys: repeats (runs that a median is taken of; not for vocabulary), batch (generate, throughput), size (throughput),
rows and hidden (ebft_rollout, ebft_step: prompts of a step, width of feed-forward layers), context and vocab (the same),
many (ebft_step: samples of a second measurement)

--json prints the figures as one JSON object on the last line. Figures of time are medians of interleaved, warm runs.
"""

import importlib
import json
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any

from ebm_jax import cli
from ebm_jax.errors import UserError
from ebm_jax.overrides import parse, split_assignment

NAMES = (
    "ebt_step",
    "generate",
    "lm_generate",
    "hf_import",
    "data",
    "vocabulary",
    "throughput",
    "ebft_rollout",
    "ebft_step",
    "ebd",
    "power",
    "draft",
)


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, flags=("--json",))
    if "--help" in parts.flags or not parts.positionals:
        print(__doc__)
        return 0
    name, *others = parts.positionals
    if name not in NAMES or others:
        raise UserError(f"{' '.join(parts.positionals)!r} is not a benchmark: they are {', '.join(NAMES)}")
    run = importlib.import_module(f"experiments.bench.{name}").run
    options = _options(name, run, parts.overrides)
    print(f"python -m experiments.bench {' '.join(argv)}")
    figures: dict[str, Any] = run(**options)
    for key, value in figures.items():
        print(f"  {key:<28} {value}")
    if "--json" in parts.flags:
        print(json.dumps(figures))
    return 0


def _options(name: str, run: Callable[..., Any], assignments: Sequence[str]) -> dict[str, Any]:
    """``key=value`` as arguments of ``run``, by their annotations."""
    hints = {key: hint for key, hint in typing.get_type_hints(run).items() if key != "return" and hint in (int, str)}
    options = {}
    for assignment in assignments:
        key, text = split_assignment(assignment)
        if key not in hints:
            raise UserError(f"{assignment}: bench {name} takes {', '.join(hints) or 'no keys'}")
        options[key] = parse(text, hints[key], key)
    return options


if __name__ == "__main__":
    sys.exit(cli.main(main))
