"""Pairs for a reward model of answers: of a model's own attempts at a task's questions, one that is right and one that is not.

usage: python -m experiments.graded_pairs MODEL task=NAME[=FILE],... out=FILE.jsonl.gz [count=2000] [samples=8] [most=2]
                                          [seed=0] [max_new_tokens=64] [at_once=64] [steps='"TEXT"']

The first ``count`` questions of every task are asked ``samples`` times at temperature 1, and at most ``most`` pairs are made
of each, no two with the same wrong answer. A question that no attempt solves gives its reference as the right one, where that
is one. A row of FILE has prompt, chosen and rejected: data.source=pairs:FILE data.examples.prompt={prompt}. Such a classifier
is an outcome reward model (Cobbe et al. 2021): it never sees the grader, and the questions should be others than those it is
used on.

With ``steps``, what stands between the steps of an answer, both texts of a pair end with the first step in which the wrong
answer leaves the right one that it follows furthest. The classifier of such pairs reads beginnings, which is a process reward
model whose steps nobody had to label: ``RewardChoice.steps``.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from ebm_jax import cli
from ebm_jax.data.files import write_rows
from ebm_jax.data.paths import expand
from ebm_jax.decoders.as_model import DecodedModel
from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.rewards import beginnings
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks import make_task
from ebm_jax.evals.tasks.protocol import Completion, Example, Grading, Sample
from ebm_jax.evals.tasks.registry import split_names
from ebm_jax.evals.tasks.task import Task
from ebm_jax.language_model import open_model
from ebm_jax.overrides import override


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """What is asked, and how often."""

    task: str
    out: Path
    count: int = 2000
    samples: int = 8
    most: int = 2
    seed: int = 0
    max_new_tokens: int = 64
    at_once: int = 64
    steps: str = ""


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("task", "out"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1 or not parts.options.keys() >= {"task", "out"}:
        raise UserError(
            "a model, task= and out= are expected: python -m experiments.graded_pairs MODEL task=NAME out=FILE"
        )
    given = PairOptions(task=parts.options["task"], out=Path(parts.options["out"]))
    options = override(given, parts.overrides)
    model = DecodedModel(open_model(str(expand(parts.positionals[0]))), BestOfN(samples=1), at_once=options.at_once)
    rows = [row for name in split_names(options.task) for row in _pairs(model, make_task(name), options)]
    if not rows:
        raise UserError(f"{options.task}: no question was answered both rightly and wrongly: ask more often (samples=)")
    np.random.default_rng(options.seed).shuffle(rows)
    write_rows(options.out, rows)
    print(f"{len(rows)} pairs in {options.out}")
    return 0


def _pairs(model: DecodedModel, task: Task, options: PairOptions) -> list[dict[str, str]]:
    examples = task.examples()[: options.count]
    attempts = model.generate(
        [example.prompt for example in examples],
        samples=options.samples,
        max_new_tokens=options.max_new_tokens,
        stop=task.sampling.stop,
        seed=options.seed,
    )
    rng, rows, share = np.random.default_rng(options.seed), [], []
    for example, made in zip(examples, attempts, strict=True):
        solved = _worth(task, example, [completion.text for completion in made])
        share.append(np.mean(solved))
        good = sorted({one.text for one, is_right in zip(made, solved, strict=True) if is_right})
        bad = sorted({one.text for one, is_right in zip(made, solved, strict=True) if not is_right})
        if not good and example.reference and _worth(task, example, [example.reference])[0]:
            good = [example.reference]
        # There are often fewer ways to be right than to be wrong.
        for right, wrong in zip(cycle(rng.permutation(good).tolist()), rng.permutation(bad).tolist()[: options.most]):
            chosen, rejected = _parted(good, wrong, options.steps) if options.steps else (right, wrong)
            rows.append({"prompt": str(example.prompt.text), "chosen": chosen, "rejected": rejected})
    print(f"{task.name}: {np.mean(share):.3f} of the attempts are right")
    return rows


def _parted(good: Sequence[str], wrong: str, separator: str) -> tuple[str, str]:
    """The right answer that a wrong one follows furthest, and the wrong one, each to the end of the step where they part."""
    taken = beginnings(wrong, separator)
    shared = lambda right: sum(a == b for a, b in zip(beginnings(right, separator), taken, strict=False))
    right = max(good, key=shared)
    upto = lambda text: (beginnings(text, separator)[: shared(right) + 1] or [text])[-1]
    return upto(right), upto(wrong)


def _worth(task: Task, example: Example, texts: Sequence[str]) -> list[bool]:
    work = [(example, Sample(example.id, n, turns=(Completion(text, 0),))) for n, text in enumerate(texts)]
    return [bool(grade.score) for grade in task.grade(work, Grading())]


if __name__ == "__main__":
    sys.exit(cli.main(main))
