"""Word problems and competition mathematics: GSM8K and MATH500.

``gsm8k`` (Cobbe et al. 2021)
    plain: eight solved problems with their reasoning before the question, as chain-of-thought prompting does
    (Wei et al. 2022); they are the first of the set's own training split, calculator marks removed. ``gsm8k:0shot`` to
    ``gsm8k:8shot`` take another number. chat: the question alone and a request for reasoning and a boxed answer.
``math500`` (Lightman et al. 2023)
    the problem and a request for reasoning and a boxed answer, as a text or as a chat. Without a box, what follows the last
    "the answer is" counts.

A completion is right when its answer is mathematically equal to the reference. ``parsed`` is the share of completions
in which an answer was found at all.
"""

import re
from collections.abc import Sequence

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.metrics import mean, pass_metrics
from ebm_jax.evals.tasks.protocol import Example, Grade, Graded, Grading, Metric, Prompt, Sampling
from ebm_jax.evals.tasks.rows import Row, RowSet, beside, read_file, read_rows
from ebm_jax.evals.tasks.task import BaseTask, Work
from ebm_jax.grading.answers import gsm8k_answer, maths_answer
from ebm_jax.grading.maths import equivalent

MOST_SHOTS = 8
ASK = "Reason step by step, and put the final answer in \\boxed{}."
_MARKS = re.compile(r"<<[^>]*>>")


class _Answers(BaseTask):
    """A task whose answers are compared as mathematics."""

    def answer(self, text: str) -> str | None:
        """The answer a completion gives."""
        raise NotImplementedError

    def grade(self, work: Sequence[Work], grading: Grading) -> list[Grade]:
        grades = []
        for example, sample in work:
            found = self.answer(sample.text)
            right = found is not None and equivalent(found, example.reference)
            grades.append(Grade(float(right), {"answer": found}))
        return grades

    def summarise(self, graded: Sequence[Graded], grading: Grading) -> dict[str, Metric]:
        figures = pass_metrics(graded, grading)
        accuracy = {"accuracy": figures.pop("pass@1")} if figures else {}
        parsed = [sum(g.info.get("answer") is not None for g in one.grades) / len(one.grades) for one in graded]
        return accuracy | figures | {"parsed": mean(parsed, grading)}


class GSM8K(_Answers):
    """Grade-school word problems with whole-number answers."""

    name = "gsm8k"

    def __init__(self, file: str = "", form: str = "plain", shots: int | None = None) -> None:
        super().__init__()
        self._file, self._chat = file, form == "chat"
        self._shots = (0 if self._chat else MOST_SHOTS) if shots is None else shots
        if self._chat and self._shots:
            raise UserError("gsm8k:chat takes no solved problems: leave the number of shots away")
        stop = () if self._chat else ("\nQuestion:", "\n\nQuestion")
        self.sampling = Sampling(max_new_tokens=1024 if self._chat else 400, stop=stop)

    def examples(self) -> list[Example]:
        rows = read_rows(self.name, file=self._file, local="math_gsm8k/test.jsonl*", hub="openai/gsm8k:main")
        solved = self._solved(rows)
        self.provenance = {**rows.provenance(), "shots": self._shots}
        return [self._example(row, number, solved) for number, row in enumerate(rows.rows)]

    def _solved(self, rows: RowSet) -> str:
        if not self._shots:
            return ""
        try:
            near = beside(rows, "train.jsonl") if rows.local else None
            train = (
                read_file(near)
                if near
                else read_rows("gsm8k", local="math_gsm8k/train.jsonl*", hub="openai/gsm8k:main", splits=("train",))
            )
        except UserError as error:
            raise UserError(
                f"gsm8k: the {self._shots} solved problems come from the training split, which is missing: put "
                f"train.jsonl beside the test file, or ask without them (gsm8k:0shot) ({error})"
            ) from error
        first = train.rows[: self._shots]
        return "".join(f"Question: {row.text('question')}\nAnswer: {_reasoned(row)}\n\n" for row in first)

    def _example(self, row: Row, number: int, solved: str) -> Example:
        question, reference = row.text("question"), gsm8k_answer(row.text("answer"), strict=True)
        if reference is None:
            row.refuse("field 'answer' does not end with '#### NUMBER'")
        prompt = Prompt(text=f"{solved}Question: {question}\nAnswer:")
        if self._chat:
            prompt = Prompt.chat(f"{question}\n\n{ASK}")
        return Example(str(number), prompt, reference)

    def answer(self, text: str) -> str | None:
        return gsm8k_answer(text)


def _reasoned(row: Row) -> str:
    return _MARKS.sub("", row.text("answer"))


class Math500(_Answers):
    """500 problems of the MATH test set, by the final answer."""

    name = "math500"

    def __init__(self, file: str = "", form: str = "plain") -> None:
        super().__init__()
        self._file, self._chat = file, form == "chat"
        self.sampling = Sampling(max_new_tokens=2048, stop=() if self._chat else ("\nProblem:",))

    def examples(self) -> list[Example]:
        rows = read_rows(self.name, file=self._file, local="math500/*.jsonl*", hub="HuggingFaceH4/MATH-500")
        self.provenance = rows.provenance()
        return [self._example(row) for row in rows.rows]

    def _example(self, row: Row) -> Example:
        problem = row.text("problem")
        prompt = Prompt.chat(f"{problem}\n\n{ASK}") if self._chat else None
        plain = Prompt(text=f"Problem: {problem}\n{ASK}\nSolution:")
        name = row.text("unique_id", "id")
        return Example(name, prompt or plain, row.text("answer"), {"subject": row.fields.get("subject")})

    def answer(self, text: str) -> str | None:
        return maths_answer(text)
