"""A model and a judge that say what they are told to say, and count what they are asked."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ebm_jax.evals.tasks.judges import JudgeError
from ebm_jax.evals.tasks.protocol import Completion, LogLikelihood, Prompt


def shown(prompt: Prompt) -> str:
    """The text of a prompt, or of the last user turn of a chat."""
    return prompt.text if prompt.messages is None else prompt.messages[-1]["content"]


class FakeModel:
    """Answers by a rule: ``say(prompt, number of the sample)``; likelihoods by ``rate(prompt, continuation)``."""

    def __init__(
        self,
        say: Callable[[str, int], str] | Mapping[str, str] = lambda prompt, number: "",
        rate: Callable[[str, str], tuple[float, int, bool]] = lambda prompt, text: (-1.0, 1, False),
        breaks_after: int | None = None,
        longest: int = 10**9,
    ) -> None:
        self._say, self._rate, self._breaks_after, self._longest = say, rate, breaks_after, longest
        self.prompts: list[Prompt] = []
        self.calls: list[dict[str, Any]] = []

    def generate(self, prompts: Sequence[Prompt], **settings: Any) -> list[list[Completion]]:
        if self._breaks_after is not None and len(self.calls) >= self._breaks_after:
            raise KeyboardInterrupt
        assert not any(map(self.misfit, prompts))
        self.calls.append(settings)
        self.prompts += prompts
        return [[self._one(prompt, n) for n in range(settings["samples"])] for prompt in prompts]

    def _one(self, prompt: Prompt, number: int) -> Completion:
        if callable(self._say):
            text = self._say(shown(prompt), number)
        else:
            text = next((answer for part, answer in self._say.items() if part in shown(prompt)), "")
        return Completion(text, tokens=len(text.split()), log_prob=-0.5, finished=bool(text))

    def misfit(self, prompt: Prompt, continuation: str | None = None) -> str:
        length = (
            len(prompt.text or "") + sum(len(one["content"]) for one in prompt.messages or ()) + len(continuation or "")
        )
        return f"{length} letters, and the context holds {self._longest}" if length > self._longest else ""

    def log_likelihood(self, pairs: Sequence[tuple[Prompt, str]]) -> list[LogLikelihood]:
        assert not any(self.misfit(*pair) for pair in pairs)
        self.calls.append({"pairs": len(pairs)})
        return [LogLikelihood(*self._rate(shown(prompt), text)) for prompt, text in pairs]


class FakeJudge:
    """Gives the same verdict again and again, or dies after some."""

    at_once = True

    def __init__(self, words: str = "", chances: Callable[[str], list[float]] | None = None, dies_after: int = 10**9):
        self.name, self._words, self._chances, self._left = "fake", words, chances, dies_after
        self.asked: list[list[Mapping[str, str]]] = []

    def _count(self, messages: Sequence[Mapping[str, str]]) -> None:
        if self._left <= 0:
            raise JudgeError("the judge fake does not answer")
        self._left -= 1
        self.asked.append(list(messages))

    def write(self, messages: Sequence[Mapping[str, str]], *, max_new_tokens: int, temperature: float = 0.0) -> str:
        self._count(messages)
        return self._words

    def choose(self, messages: Sequence[Mapping[str, str]], choices: Sequence[str]) -> list[float]:
        self._count(messages)
        assert self._chances is not None
        return self._chances(messages[-1]["content"])


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """JSON lines, with the folders above them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
