"""Writes problems with their solutions, for a small model to learn: sums, and puzzles of numbers (``data.problems``).

usage: python -m experiments.made_problems out=FILE.jsonl [kinds=sums,countdown] [count=20000] [seed=1]

``count`` of every kind, in turn. A row has prompt, solution and text, which is both. Problems that the tasks of
these names ask are left out.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from ebm_jax import cli
from ebm_jax.data.files import write_rows
from ebm_jax.data.problems import problems
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.made import held_out
from ebm_jax.overrides import override


@dataclass(frozen=True, kw_only=True)
class ProblemOptions:
    """What is written."""

    out: Path
    kinds: tuple[str, ...] = ("sums", "countdown")
    count: int = 20_000
    seed: int = 1


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("out",))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if parts.positionals or "out" not in parts.options:
        raise UserError("out= is expected: python -m experiments.made_problems out=FILE.jsonl")
    options = override(ProblemOptions(out=Path(parts.options["out"])), parts.overrides)
    if options.count < 1 or options.seed < 1:
        raise UserError(f"count={options.count} and seed={options.seed} must be at least 1: seed 0 is the tasks' own")
    of_kinds = [
        problems(kind, options.count, options.seed, frozenset(problem.prompt for problem in held_out(kind)))
        for kind in options.kinds
    ]
    in_turn = (problem for turn in zip(*of_kinds, strict=True) for problem in turn)
    write_rows(options.out, (one._asdict() | {"text": one.prompt + one.solution} for one in in_turn))
    print(f"{options.count} problems each of {', '.join(options.kinds)} in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(main))
