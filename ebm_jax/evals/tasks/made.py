"""Problems that are made here and checked by a program, for models small enough to be trained here.

``sums``        additions written out step by step; right is a last result that is right
``countdown``   three numbers to make a goal of; right is an expression of all of them that is worth it
                (``data.problems``)

Both are 500 problems of seed 0, which ``experiments.made_problems`` leaves out of what it writes for training; ``=FILE`` takes
others, JSON lines with a ``prompt`` and its ``solution``, such as it writes.
"""

from collections.abc import Sequence
from typing import ClassVar

from ebm_jax.data.problems import Problem, problems, solved
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Example, Grade, Grading, Prompt, Sampling
from ebm_jax.evals.tasks.rows import Row, read_rows
from ebm_jax.evals.tasks.task import BaseTask, Work

COUNT, SEED = 500, 0


def held_out(kind: str) -> list[Problem]:
    """The problems that are asked."""
    return problems(kind, COUNT, SEED)


class _Made(BaseTask):
    """Problems of one kind."""

    made: ClassVar[str]

    def __init__(self, file: str = "", form: str = "plain") -> None:
        super().__init__()
        if form == "chat":
            raise UserError(f"{self.made} goes on from a plain text: leave the chat away")
        self._file, self.name = file, self.made
        self.sampling = Sampling(max_new_tokens=64, stop=("\n",))

    def examples(self) -> list[Example]:
        if not self._file:
            self.provenance = {"source": f"data.problems, seed {SEED}", "rows": COUNT}
            return [Example(str(n), Prompt(text=one.prompt), one.solution) for n, one in enumerate(held_out(self.made))]
        rows = read_rows(self.name, file=self._file)
        self.provenance = rows.provenance()
        return [self._example(row, number) for number, row in enumerate(rows.rows)]

    def _example(self, row: Row, number: int) -> Example:
        prompt, solution = row.text("prompt"), row.text("solution")
        try:
            right = solved(self.made, prompt, solution)
        except ValueError:
            right = False
        if not right:
            row.refuse(f"{solution!r} does not solve {prompt!r}, which is to be of kind {self.made}")
        return Example(str(number), Prompt(text=prompt), solution)

    def grade(self, work: Sequence[Work], grading: Grading) -> list[Grade]:
        return [Grade(float(solved(self.made, str(example.prompt.text), sample.text))) for example, sample in work]


class Sums(_Made):
    """Additions."""

    made = "sums"


class Countdown(_Made):
    """Puzzles of three numbers."""

    made = "countdown"
