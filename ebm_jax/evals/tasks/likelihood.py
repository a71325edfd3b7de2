"""Tasks that read no text of the model but its probabilities: LAMBADA and the cross-entropy of given completions.

``lambada`` (Paperno et al. 2016)
    the last word of a passage given the rest. ``accuracy``: greedy decoding writes exactly that word; ``perplexity``:
    ``exp`` of the mean over passages of the word's negative log-likelihood.
``completion:FILE``
    rows of ``prompt`` and ``completion`` (or ``question`` and ``answer``, or ``messages`` that end with the assistant's).
    ``nats_per_token`` and ``perplexity`` over the completions' tokens, ``bits_per_byte`` over their UTF-8 bytes, which
    compares models with different tokenizers.
"""

import math
from collections.abc import Sequence

import numpy as np

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.metrics import mean, of_sums
from ebm_jax.evals.tasks.protocol import Example, Grade, Graded, Grading, Metric, Prompt
from ebm_jax.evals.tasks.rows import Row, read_rows
from ebm_jax.evals.tasks.task import BaseTask, Work


class _Likelihood(BaseTask):
    kind = "likelihood"

    def continuation(self, example: Example) -> str:
        return str(example.reference)


class Lambada(_Likelihood):
    """The last word of a passage of a novel."""

    name = "lambada"

    def __init__(self, file: str = "", form: str = "plain") -> None:
        super().__init__()
        self._file = file
        _plain_only(self.name, form)

    def examples(self) -> list[Example]:
        rows = read_rows(self.name, file=self._file, local="ood_lambada/*.jsonl*", hub="EleutherAI/lambada_openai:en")
        self.provenance = rows.provenance()
        examples = []
        for number, row in enumerate(rows.rows):
            context, space, word = row.text("text").rstrip().rpartition(" ")
            if not context.strip() or not word:
                row.refuse("a passage of one word: its last word needs words before it")
            examples.append(Example(str(number), Prompt(text=context), space + word))
        return examples

    def grade(self, work: Sequence[Work], grading: Grading) -> list[Grade]:
        found = [sample.likelihood for _, sample in work]
        return [Grade(float(one.greedy), {"nats": one.nats}) if one else Grade(0.0) for one in found]

    def summarise(self, graded: Sequence[Graded], grading: Grading) -> dict[str, Metric]:
        grades = [one.grades[0] for one in graded]
        nats = [grade.info["nats"] for grade in grades if "nats" in grade.info]
        return {
            "accuracy": mean([float(grade.score or 0.0) for grade in grades], grading),
            "perplexity": of_sums([(one, 1.0) for one in nats], lambda s: _exp(-s[..., 0] / s[..., 1]), grading),
        }


class Completions(_Likelihood):
    """How well a model predicts given answers."""

    name = "completion"

    def __init__(self, file: str = "", form: str = "plain") -> None:
        super().__init__()
        if not file:
            raise UserError("completion: name the file of prompts and completions, completion:FILE")
        self._file, self._chat = file, form == "chat"
        self.name = f"completion:{file}"

    def examples(self) -> list[Example]:
        rows = read_rows("completion", file=self._file, splits=("test", "validation", "train"))
        self.provenance = rows.provenance()
        return [self._example(row, number) for number, row in enumerate(rows.rows)]

    def _example(self, row: Row, number: int) -> Example:
        if "messages" in row:
            messages = row.get("messages", list)
            if not all(isinstance(m, dict) and isinstance(m.get("content"), str) and m.get("role") for m in messages):
                row.refuse("field 'messages' is not a list of messages with role and content")
            if len(messages) < 2 or messages[-1]["role"] != "assistant" or not messages[-1]["content"]:
                row.refuse("field 'messages' does not end with what the assistant says")
            kept = tuple({"role": str(m["role"]), "content": m["content"]} for m in messages)
            return Example(str(number), Prompt(messages=kept[:-1]), kept[-1]["content"])
        prompt = row.get("prompt" if "prompt" in row else "question")
        answer = row.get("completion" if "completion" in row else "answer")
        if not answer:
            row.refuse("its completion is empty")
        return Example(str(number), Prompt.chat(prompt) if self._chat else Prompt(text=prompt), answer)

    def grade(self, work: Sequence[Work], grading: Grading) -> list[Grade]:
        grades = []
        for example, sample in work:
            found = sample.likelihood
            if found is None:
                grades.append(Grade(None, {"reason": sample.skipped}))
                continue
            size = len(self.continuation(example).encode("utf-8", "surrogatepass"))
            grades.append(Grade(-found.nats, {"tokens": found.tokens, "bytes": size}))
        return grades

    def summarise(self, graded: Sequence[Graded], grading: Grading) -> dict[str, Metric]:
        first = [one.grades[0] for one in graded if one.grades[0].score is not None]
        sums = [(float(g.score or 0.0), float(g.info["tokens"]), float(g.info["bytes"])) for g in first]
        return {
            "nats_per_token": of_sums(sums, lambda s: s[..., 0] / np.maximum(s[..., 1], 1), grading),
            "perplexity": of_sums(sums, lambda s: _exp(s[..., 0] / np.maximum(s[..., 1], 1)), grading),
            "bits_per_byte": of_sums(sums, lambda s: s[..., 0] / (math.log(2) * s[..., 2]), grading),
        }


def _exp(nats: np.ndarray) -> np.ndarray:
    return np.exp(np.minimum(nats, 700.0))


def _plain_only(name: str, form: str) -> None:
    if form != "plain":
        raise UserError(f"{name} continues a text: it has no {form} form")
