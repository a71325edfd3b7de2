"""What a task, a model under test and a judge say to each other: plain values and small interfaces.

Nothing here knows JAX. A model is anything that continues prompts and scores continuations; a task makes prompts and
grades what came back; the runner stands between them and keeps everything on disk.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ebm_jax.errors import UserError

Message = Mapping[str, str]
"""``role`` (system, user or assistant) and ``content``."""


@dataclass(frozen=True)
class Prompt:
    """What a model is given: plain text to go on from, or the messages of a chat. Exactly one of them is set."""

    text: str | None = None
    messages: tuple[Message, ...] | None = None

    def __post_init__(self) -> None:
        if (self.text is None) == (self.messages is None):
            raise ValueError("a prompt is either a text or a chat")

    @staticmethod
    def chat(user: str, system: str = "") -> "Prompt":
        """A chat with one user turn."""
        turns = [{"role": "system", "content": system}] if system else []
        return Prompt(messages=(*turns, {"role": "user", "content": user}))

    def then(self, answer: str, user: str) -> "Prompt":
        """The chat after the assistant's ``answer`` and a further user turn."""
        turns = ({"role": "assistant", "content": answer}, {"role": "user", "content": user})
        return Prompt(messages=(*(self.messages or ()), *turns))

    def as_json(self) -> str | list[Message]:
        """The text, or the list of messages."""
        return self.text if self.messages is None else list(self.messages)  # type: ignore[return-value]


@dataclass(frozen=True)
class Example:
    """One question of a task."""

    id: str
    """Unique in the task, and the same in every run."""
    prompt: Prompt
    reference: Any = None
    info: Mapping[str, Any] = field(default_factory=dict)
    """What grading needs besides."""
    temperature: float | None = None
    """The published sampling temperature of this one question, where questions differ (MT-Bench)."""


@dataclass(frozen=True)
class Completion:
    """What a model wrote: ``text`` without the prompt, the end-of-text token and the stop string."""

    text: str
    tokens: int = 0
    log_prob: float | None = None
    """Natural logarithm of its probability under the model itself, neither tempered nor cut, where the model tells."""
    finished: bool = True
    """Ended by itself or at a stop string, not by the limit on new tokens."""
    token_log_probs: tuple[float, ...] = ()
    """The same token by token, the one that ended it included; files of samples leave it out."""


@dataclass(frozen=True)
class LogLikelihood:
    """How likely a model finds a continuation."""

    nats: float
    """Natural logarithm of the continuation's probability given the prompt: at most 0."""
    tokens: int
    greedy: bool
    """Whether greedy decoding gives this continuation."""


@dataclass(frozen=True)
class Sample:
    """All that was made of one example once: the completions of its turns, or the likelihood of its continuation."""

    example: str
    index: int
    turns: tuple[Completion, ...] = ()
    likelihood: LogLikelihood | None = None
    skipped: str = ""
    """Why the model was not asked for (the last turn of) it: its completion is empty then, or its likelihood None."""

    @property
    def text(self) -> str:
        """The completion of the last turn."""
        return self.turns[-1].text if self.turns else ""


@dataclass(frozen=True)
class Grade:
    """What a sample is worth; ``score`` is None where none could be found out, and says why in ``info["reason"]``."""

    score: float | None
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graded:
    """An example with its samples and their grades, in the order of the samples."""

    example: Example
    samples: tuple[Sample, ...]
    grades: tuple[Grade, ...]


@dataclass(frozen=True)
class Metric:
    """A figure with the ends of its 95 percent bootstrap interval over examples (None where there is no such thing)."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How completions are drawn; temperature 0 is greedy."""

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    samples: int = 1
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "samples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1")
        if self.temperature < 0 or self.top_k < 0:
            raise UserError(f"temperature={self.temperature} and top_k={self.top_k} must not be negative")
        if not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1:
            raise UserError(f"top_p={self.top_p} must lie in (0, 1] and min_p={self.min_p} in [0, 1]")


class Model(Protocol):
    """What is evaluated; also a judge that runs here."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        samples: int,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int,
        min_p: float,
        stop: Sequence[str],
        seed: int,
    ) -> list[list[Completion]]:
        """For every prompt ``samples`` completions; equal arguments give equal completions."""
        ...

    def log_likelihood(self, pairs: Sequence[tuple[Prompt, str]]) -> list[LogLikelihood]:
        """The likelihood of every continuation given its prompt."""
        ...

    def misfit(self, prompt: Prompt, continuation: str | None = None) -> str:
        """Why it cannot be asked to go on from a prompt, or for the likelihood of a continuation: empty where it can.

        Above all because they are longer than its context.
        """
        ...


class Judge(Protocol):
    """A model that grades; see ``judges`` for what is raised when there is no answer, or none of use."""

    name: str
    at_once: bool
    """Whether several questions may be asked at the same time."""

    def write(self, messages: Sequence[Message], *, max_new_tokens: int, temperature: float = 0.0) -> str:
        """What the judge says."""
        ...

    def choose(self, messages: Sequence[Message], choices: Sequence[str]) -> list[float]:
        """Probabilities of short answers, summing to one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Grading:
    """What tasks have at hand when they grade."""

    judge: Judge | None = None
    workers: int = 2
    """Samples graded at a time: code in sandboxes, questions to a judge's endpoint."""
    unsafe: bool = False
    """Runs code without the sandbox where the system has none."""
    code_seconds: float = 10.0
    """Wall-clock limit of one program."""
    resamples: int = 1000
    """Bootstrap resamples of the examples."""
    seed: int = 0


def cut(text: str, stop: Sequence[str]) -> str:
    """The text up to the first stop string in it."""
    ends = [place for place in (text.find(word) for word in stop) if place >= 0]
    return text[: min(ends)] if ends else text


def json_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def safe_name(name: str) -> str:
    """A task's name as a folder: ``mt:de-en`` is ``mt-de-en``, and a file's folders are left out."""
    head, _, file = name.partition("=")
    if head.startswith("completion:"):
        head, _, file = name.partition(":")
    stem = "-" + Path(file).name if file else ""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in head + stem)
