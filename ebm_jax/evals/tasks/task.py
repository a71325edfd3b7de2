"""What a task is: where its questions come from, what is asked, and what an answer is worth."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from ebm_jax.evals.tasks.metrics import mean_score
from ebm_jax.evals.tasks.protocol import Example, Grade, Graded, Grading, Metric, Prompt, Sample, Sampling

Work = tuple[Example, Sample]


class Task(Protocol):
    """A benchmark, as the runner sees it."""

    name: str
    kind: Literal["generate", "likelihood"]
    sampling: Sampling
    """The published or usual settings, for all that the user leaves open."""
    judged: bool
    """Whether grading needs a judge."""
    details: Mapping[str, Any]
    """How the figures were computed, where that needs words; known once ``summarise`` was called."""
    provenance: Mapping[str, Any]
    """Where the questions came from and a digest of them; known once ``examples`` was called."""

    def examples(self) -> list[Example]:
        """The questions, always in the same order; UserError that names file and line for a malformed one."""
        ...

    def continuation(self, example: Example) -> str:
        """The text whose likelihood is asked for (``kind`` likelihood)."""
        ...

    def follow_up(self, example: Example, answers: Sequence[str]) -> Prompt | None:
        """The prompt of the next turn after these answers, or None when there is none."""
        ...

    def ready(self, grading: Grading) -> None:
        """Raises UserError for what would keep it from grading, before anything is generated."""
        ...

    def grade(self, work: Sequence[Work], grading: Grading) -> list[Grade]:
        """One grade for each."""
        ...

    def summarise(self, graded: Sequence[Graded], grading: Grading) -> dict[str, Metric]:
        """The task's figures; the first is the headline."""
        ...

    def official(self, graded: Sequence[Graded], model: str) -> Mapping[str, str]:
        """Files in the benchmark's own format by name, for its own programs to read; usually none."""
        ...


class BaseTask:
    """What most tasks do: one turn, no judge, the mean score as the figure."""

    name = ""
    kind: Literal["generate", "likelihood"] = "generate"
    sampling = Sampling()
    judged = False
    headline = "accuracy"

    def __init__(self) -> None:
        self.provenance: Mapping[str, Any] = {}
        self.details: Mapping[str, Any] = {}

    def continuation(self, example: Example) -> str:
        """The text whose likelihood is asked for; only tasks of that kind have one."""
        raise NotImplementedError

    def follow_up(self, example: Example, answers: Sequence[str]) -> Prompt | None:
        return None

    def ready(self, grading: Grading) -> None:
        return None

    def summarise(self, graded: Sequence[Graded], grading: Grading) -> dict[str, Metric]:
        return {self.headline: mean_score(graded, grading)}

    def official(self, graded: Sequence[Graded], model: str) -> Mapping[str, str]:
        return {}
