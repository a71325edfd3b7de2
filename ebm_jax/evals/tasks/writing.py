"""WritingBench (Wu et al. 2025): long writing tasks, each with five criteria of its own, rated from 1 to 10 by a judge.

The questions are ``benchmark_all.jsonl`` as published (``index``, ``query``, ``domain1``, ``checklist`` of criteria): name
it, or put it in ``writingbench`` under ``$EBM_JAX_DATA``. ``score`` is the mean over all criteria of all questions.
The judge's prompt is ours; it asks for a JSON object with ``score`` and ``reason``.

``responses.jsonl`` is what the official program reads.
"""

import json
from collections.abc import Mapping, Sequence

from ebm_jax.evals.tasks.judged import Judged, ask, unreadable
from ebm_jax.evals.tasks.metrics import mean, score_of
from ebm_jax.evals.tasks.protocol import Example, Grade, Graded, Grading, Judge, Metric, Prompt, Sampling, json_lines
from ebm_jax.evals.tasks.rows import Row, read_rows
from ebm_jax.evals.tasks.task import Work

SYSTEM = "You rate a piece of writing by one criterion. You are strict, and you use the whole scale."
TEMPLATE = """A writer was given this task:

<task>
{query}
</task>

and wrote:

<text>
{response}
</text>

Rate the text by this criterion alone, with a whole number from 1 (worst) to 10 (best):

<criterion>
{criterion}
</criterion>

Reply with a JSON object and nothing else: {{"score": NUMBER, "reason": "one or two sentences"}}"""


class WritingBench(Judged):
    """Writing by domain, style, format and length."""

    name = "writingbench"
    headline = "score"

    def __init__(self, file: str = "", form: str = "chat") -> None:
        super().__init__()
        self._file, self._chat = file, form == "chat"
        self.sampling = Sampling(max_new_tokens=4096, temperature=0.7, top_p=0.8, top_k=20)

    def examples(self) -> list[Example]:
        rows = read_rows(self.name, file=self._file, local="writingbench/*.jsonl*")
        self.provenance = {**rows.provenance(), "judge_prompt": "own"}
        return [self._example(row) for row in rows.rows]

    def _example(self, row: Row) -> Example:
        query, criteria = row.text("query"), row.get("checklist", list)
        if not criteria or not all(isinstance(one, dict) and one.get("name") for one in criteria):
            row.refuse("field 'checklist' is not a list of criteria with names")
        prompt = Prompt.chat(query) if self._chat else Prompt(text=f"{query}\n\n")
        info = {"query": query, "criteria": criteria, "domain": row.fields.get("domain1")}
        return Example(str(row.get("index", int)), prompt, info=info)

    def verdict(self, work: Work, judge: Judge) -> Grade:
        example, sample = work
        scores = {}
        for criterion in example.info["criteria"]:
            described = json.dumps(criterion, ensure_ascii=False, indent=1)
            # Models that think aloud end that with a tag; what comes before it is no part of the text.
            text = sample.text.rpartition("</think>")[2].strip()
            user = TEMPLATE.format(query=example.info["query"], response=text, criterion=described)
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]
            score, said = ask(judge, messages, score_in, max_new_tokens=1024)
            if score is None:
                return unreadable(said)
            scores[str(criterion["name"])] = score
        return Grade(sum(scores.values()) / len(scores), {"criteria": scores})

    def failure(self, work: Work) -> Grade:
        return Grade(1.0, {"reason": work[1].skipped})

    def summarise(self, graded: Sequence[Graded], grading: Grading) -> dict[str, Metric]:
        rated = [(one, value) for one in graded if (value := score_of(one)) is not None]
        figures = {"score": mean([value for _, value in rated], grading)}
        for domain in sorted({str(one.example.info["domain"]) for one, _ in rated if one.example.info["domain"]}):
            figures[domain] = mean([value for one, value in rated if one.example.info["domain"] == domain], grading)
        return figures

    def official(self, graded: Sequence[Graded], model: str) -> Mapping[str, str]:
        rows = [{"index": int(one.example.id), "response": one.samples[0].text} for one in graded]
        return {"responses.jsonl": json_lines(rows)}


def score_in(text: str) -> float | None:
    """The score of the first JSON object in the text that has one; None outside 1 to 10."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
        except json.JSONDecodeError:
            found = None
        score = found.get("score") if isinstance(found, dict) else None
        if isinstance(score, int | float) and not isinstance(score, bool):
            return float(score) if 1 <= score <= 10 else None
        start = text.find("{", start + 1)
    return None
