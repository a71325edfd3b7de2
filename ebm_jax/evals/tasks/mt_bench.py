"""MT-Bench (Zheng et al. 2023): 80 questions of two turns, each answer rated from 1 to 10 by a judge.

The second turn goes on from the model's own first answer. Questions of mathematics, reasoning and coding are judged
beside a reference answer. All the judge's prompts come from ``judge_prompts.jsonl`` beside the questions. Without a
``temperature`` of the user's, every category is sampled at its published one. ``score`` is the mean over both turns.

``model_answer.jsonl`` is what the official program reads.
"""

import re
import time
import uuid
from collections.abc import Mapping, Sequence

from ebm_jax.evals.tasks.alpaca import fill
from ebm_jax.evals.tasks.judged import Judged, ask, no_template, unreadable
from ebm_jax.evals.tasks.metrics import mean
from ebm_jax.evals.tasks.protocol import Example, Grade, Graded, Grading, Judge, Metric, Prompt, Sampling, json_lines
from ebm_jax.evals.tasks.rows import Row, RowSet, beside, read_file, read_rows
from ebm_jax.evals.tasks.task import Work

TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
"""Of the categories that are not answered greedily."""
WITH_REFERENCE = {"math", "reasoning", "coding"}
TEMPLATES = {  # by (turn, with a reference answer)
    (1, False): "single-v1",
    (1, True): "single-math-v1",
    (2, False): "single-v1-multi-turn",
    (2, True): "single-math-v1-multi-turn",
}
LOWEST = 1.0
"""The rating of an answer that the model was not asked for."""
_RATINGS = (re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]"), re.compile(r"\[(\d+(?:\.\d+)?)\]"))


class MTBench(Judged):
    """Two-turn questions of eight categories."""

    name = "mtbench"
    headline = "score"

    def __init__(self, file: str = "", form: str = "chat") -> None:
        super().__init__()
        self._file = file
        self.sampling = Sampling(max_new_tokens=1024)
        self._prompts: dict[str, tuple[str, str]] = {}

    def examples(self) -> list[Example]:
        hub = "HuggingFaceH4/mt_bench_prompts"
        rows = read_rows(
            self.name, file=self._file, local="ins_mtbench/question.jsonl*", hub=hub, splits=("test", "train")
        )
        self.provenance = rows.provenance()
        if path := beside(rows, "judge_prompts.jsonl"):
            for row in read_file(path).rows:
                self._prompts[row.text("name")] = row.get("system_prompt"), row.text("prompt_template")
        references = _references(rows)
        return [_example(row, references) for row in rows.rows]

    def ready(self, grading: Grading) -> None:
        if grading.judge is not None and not set(TEMPLATES.values()) <= self._prompts.keys():
            no_template(self.name)

    def follow_up(self, example: Example, answers: Sequence[str]) -> Prompt | None:
        turns = example.info["turns"]
        if len(answers) >= len(turns):
            return None
        prompt = Prompt.chat(turns[0])
        for answer, question in zip(answers, turns[1:], strict=False):
            prompt = prompt.then(answer, question)
        return prompt

    def verdict(self, work: Work, judge: Judge) -> Grade:
        example, sample = work
        answers, scores, words = [turn.text for turn in sample.turns], [], []
        for turn in range(1, len(answers) + 1):
            if sample.skipped and not answers[turn - 1]:
                scores.append(LOWEST)
                words.append(sample.skipped)
                continue
            system, user = self._judge_prompt(example, answers, turn)
            messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
            score, said = ask(judge, messages, rating, max_new_tokens=2048)
            if score is None:
                return unreadable(said)
            scores.append(score)
            words.append(said)
        return Grade(sum(scores) / len(scores), {"turns": scores, "judgement": words})

    def _judge_prompt(self, example: Example, answers: Sequence[str], turn: int) -> tuple[str, str]:
        referenced = example.info["category"] in WITH_REFERENCE and bool(example.reference)
        system, template = self._prompts[TEMPLATES[turn, referenced]]
        values = {"question": example.info["turns"][0], "answer": answers[0]}
        for number in range(turn):
            values[f"question_{number + 1}"] = example.info["turns"][number]
            values[f"answer_{number + 1}"] = answers[number]
        for number, reference in enumerate(example.reference or (), 1):
            values[f"ref_answer_{number}"] = reference
        return system.strip(), fill(template, values)

    def failure(self, work: Work) -> Grade:
        _, sample = work
        return Grade(LOWEST, {"turns": [LOWEST] * len(sample.turns), "reason": sample.skipped})

    def summarise(self, graded: Sequence[Graded], grading: Grading) -> dict[str, Metric]:
        rated = []
        for one in graded:
            samples = [grade.info["turns"] for grade in one.grades if grade.score is not None]
            if samples:  # a question counts once, by the means over its samples
                rated.append((one, [sum(scores) / len(scores) for scores in zip(*samples, strict=True)]))
        figures = {"score": mean([sum(turns) / len(turns) for _, turns in rated], grading)}
        for place, name in enumerate(("first_turn", "second_turn")):
            figures[name] = mean([turns[place] for _, turns in rated if len(turns) > place], grading)
        for category in sorted({one.example.info["category"] for one, _ in rated}):
            own = [sum(turns) / len(turns) for one, turns in rated if one.example.info["category"] == category]
            figures[category] = mean(own, grading)
        return figures

    def official(self, graded: Sequence[Graded], model: str) -> Mapping[str, str]:
        rows = [
            {
                "question_id": one.example.info["question_id"],
                "answer_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{model}:{one.example.id}")),
                "model_id": model,
                "choices": [{"index": s.index, "turns": [turn.text for turn in s.turns]} for s in one.samples],
                "tstamp": time.time(),
            }
            for one in graded
        ]
        return {"model_answer.jsonl": json_lines(rows)}


def rating(text: str) -> float | None:
    """The number in double square brackets, else in single ones; None outside 1 to 10."""
    # Single brackets may be a footnote or an item of a list before the rating.
    match = next((found for pattern in _RATINGS if (found := pattern.search(text))), None)
    value = float(match[1]) if match else None
    return value if value is not None and 1 <= value <= 10 else None


def _example(row: Row, references: Mapping[str, Sequence[str]]) -> Example:
    turns = row.texts("turns" if "turns" in row else "prompt")
    if not turns or not all(turn.strip() for turn in turns):
        row.refuse("a question without text")
    number, category = row.get("question_id" if "question_id" in row else "prompt_id", int), row.text("category")
    info = {"turns": turns, "category": category, "question_id": number}
    # Published answers are a file of their own; a row's own reference is a hint for people and stands in for them.
    own = row.fields.get("reference") if category in WITH_REFERENCE else None
    given = references.get(str(number)) if references else own or None
    return Example(str(number), Prompt.chat(turns[0]), given, info, TEMPERATURES.get(category, 0.0))


def _references(rows: RowSet) -> dict[str, list[str]]:
    path = beside(rows, "reference_answer_gpt-4.jsonl") or beside(rows, "reference_answer.jsonl")
    if path is None:
        return {}
    found = {}
    for row in read_file(path).rows:
        choices = row.get("choices", list)
        if not choices or not isinstance(choices[0], dict):
            row.refuse("field 'choices' holds no answer")
        found[str(row.get("question_id", int))] = Row(choices[0], row.where).texts("turns")
    return found
