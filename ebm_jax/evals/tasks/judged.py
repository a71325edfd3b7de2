"""What the tasks with a judge share: questions side by side, and a judge that falls silent half-way."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import NoReturn

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.judges import JudgeError, OddAnswer, Refusal
from ebm_jax.evals.tasks.protocol import Grade, Grading, Judge, Message
from ebm_jax.evals.tasks.task import BaseTask, Work

ATTEMPTS = 3
"""Times a judge is asked for a verdict that can be read; the first at temperature 0."""


class Silent(JudgeError):
    """The judge stopped answering; ``grades`` are those of the samples before it did, None for the rest."""

    def __init__(self, error: JudgeError, grades: list[Grade | None]) -> None:
        super().__init__(str(error))
        self.grades = grades


class Judged(BaseTask):
    """A task that a judge grades."""

    judged = True

    def verdict(self, work: Work, judge: Judge) -> Grade:
        """The judge's opinion of one sample."""
        raise NotImplementedError

    def failure(self, work: Work) -> Grade:
        """The grade of a sample that the model was not asked for; no judge need see it."""
        raise NotImplementedError

    def grade(self, work: Sequence[Work], grading: Grading) -> list[Grade]:
        judge = grading.judge
        if judge is None:
            raise UserError(f"{self.name} needs a judge to be graded: name one")

        gone = Event()

        def one(item: Work) -> Grade | JudgeError | Refusal | None:
            if gone.is_set():
                return None
            if all(not turn.text for turn in item[1].turns) and item[1].skipped:
                return self.failure(item)
            try:
                return self.verdict(item, judge)
            except Refusal as error:
                return error
            except OddAnswer as error:
                return Grade(None, {"reason": str(error)})
            except JudgeError as error:
                gone.set()
                return error

        with ThreadPoolExecutor(max_workers=grading.workers if judge.at_once else 1) as pool:
            found = list(pool.map(one, work))
        errors = [answer for answer in found if isinstance(answer, JudgeError)]
        refusals = [answer for answer in found if isinstance(answer, Refusal)]
        grades = [answer if isinstance(answer, Grade) else None for answer in found]
        if errors or len(refusals) == len(found) > 0:
            raise Silent(errors[0] if errors else JudgeError(str(refusals[0])), grades)
        return [grade or Grade(None, {"reason": str(said)}) for grade, said in zip(grades, found, strict=True)]


def ask(
    judge: Judge, messages: Sequence[Message], read: Callable[[str], float | None], *, max_new_tokens: int
) -> tuple[float | None, str]:
    """The first verdict that can be read and the judge's words; None with the last words when none can be."""
    words = ""
    for attempt in range(ATTEMPTS):
        words = judge.write(messages, max_new_tokens=max_new_tokens, temperature=0.7 if attempt else 0.0)
        if (value := read(words)) is not None:
            return value, words
    return None, words


def unreadable(words: str) -> Grade:
    """The grade of a sample whose verdict nobody could read."""
    return Grade(None, {"reason": "the judge's verdict cannot be read", "judgement": words})


def no_template(name: str) -> NoReturn:
    """For a task whose judge prompts are missing."""
    raise UserError(f"{name}: judge_prompts.jsonl is not beside its questions: the judge's prompts come from that file")
