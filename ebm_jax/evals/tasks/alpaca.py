"""AlpacaEval 2 (Li et al. 2023; Dubois et al. 2024): how often a judge prefers the model's answers to a reference's.

The judge sees both answers as ``m`` and ``M`` in an order drawn by the question's identity and says one letter; the
preference is the probability of the model's letter. ``win_rate`` is 100 times the mean preference;
``length_controlled`` corrects it for length (see ``length_control``); ``length`` is the mean number of characters.

The judge's prompt is ours, so that figures compare models here and not with the public table. ``judge_prompt.txt``
beside the questions replaces it: chat markup (``<|im_start|>role`` ... ``<|im_end|>``) or plain text with
``{instruction}``, ``{output_1}`` and ``{output_2}``. Instruction difficulties and the rows that keep the fit near the
reference are read from ``instruction_difficulty.csv`` and ``df_gamed.csv`` beside the questions. Without them their terms
are left out and the figure is called ``length_controlled_unanchored``: models with short answers come out far better
in it than in the published one.

``model_outputs.json`` is what the official program reads.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ebm_jax.evals.tasks.judged import Judged
from ebm_jax.evals.tasks.length_control import Annotation, length_controlled, read_difficulty, read_gamed
from ebm_jax.evals.tasks.metrics import mean
from ebm_jax.evals.tasks.protocol import Example, Grade, Graded, Grading, Judge, Message, Metric, Prompt, Sampling
from ebm_jax.evals.tasks.rows import RowSet, beside, read_rows
from ebm_jax.evals.tasks.task import Work

LETTERS = ("m", "M")
LENGTH_CONTROLLED = {True: "length_controlled", False: "length_controlled_unanchored"}
SYSTEM = "You compare two answers to an instruction and name the one that most people would find better."
TEMPLATE = """Two models, m and M, were given this instruction:

<instruction>
{instruction}
</instruction>

Answer of model m:

<answer>
{output_1}
</answer>

Answer of model M:

<answer>
{output_2}
</answer>

Which answer follows the instruction better? Reply with one letter and nothing else: m or M."""
_MARKUP = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*?)\n?<\|im_end\|>", re.DOTALL)


class AlpacaEval(Judged):
    """805 instructions with the reference's answers."""

    name = "alpacaeval"
    headline = "win_rate"

    def __init__(self, file: str = "", form: str = "chat") -> None:
        super().__init__()
        self._file, self._chat = file, form == "chat"
        self.sampling = Sampling(max_new_tokens=2048, stop=() if self._chat else ("\n### Instruction:",))
        self._template: tuple[Message, ...] = ()
        self._difficulty: dict[int, float] = {}
        self._gamed: list[Annotation] = []

    def examples(self) -> list[Example]:
        hub = "tatsu-lab/alpaca_eval/alpaca_eval_gpt4_baseline.json"
        rows = read_rows(
            self.name, file=self._file, local="ins_alpacaeval/*.jsonl*", hub=hub, splits=("eval", "test", "train")
        )
        self._read_beside(rows)
        self.provenance = {
            **rows.provenance(),
            "judge_prompt": "judge_prompt.txt" if self._template else "own",
            "instruction_difficulty": bool(self._difficulty),
            "regularised_to_reference": bool(self._gamed),
        }
        examples = []
        for number, row in enumerate(rows.rows):
            text = row.text("instruction")
            prompt = Prompt.chat(text) if self._chat else Prompt(text=f"### Instruction:\n{text}\n\n### Response:\n")
            place = row.get("idx", int) if "idx" in row else number
            info = {"instruction": text, "dataset": row.fields.get("dataset"), "place": place}
            examples.append(Example(str(place), prompt, row.get("output"), info))
        return examples

    def _read_beside(self, rows: RowSet) -> None:
        if path := beside(rows, "judge_prompt.txt"):
            self._template = parse_template(path.read_text(encoding="utf-8"))
        if path := beside(rows, "instruction_difficulty.csv"):
            self._difficulty = read_difficulty(path)
        if path := beside(rows, "df_gamed.csv"):
            self._gamed = read_gamed(path)

    def verdict(self, work: Work, judge: Judge) -> Grade:
        example, sample = work
        swapped = bool(random.Random(f"order:{example.id}:{sample.index}").getrandbits(1))
        first, second = (sample.text, example.reference) if swapped else (example.reference, sample.text)
        names = {"instruction": example.info["instruction"], "output_1": first, "output_2": second}
        template = self._template or ({"role": "system", "content": SYSTEM}, {"role": "user", "content": TEMPLATE})
        asked = [{"role": m["role"], "content": fill(m["content"], names)} for m in template]
        chances = judge.choose(asked, LETTERS)
        return Grade(chances[0 if swapped else 1], {"swapped": swapped})

    def failure(self, work: Work) -> Grade:
        return Grade(0.0, {"reason": work[1].skipped})

    def summarise(self, graded: Sequence[Graded], grading: Grading) -> dict[str, Metric]:
        rows = []
        for one in graded:
            judged = [
                (grade.score, len(sample.text))
                for sample, grade in zip(one.samples, one.grades, strict=True)
                if grade.score is not None
            ]
            if judged:  # an instruction counts once, by the means over its samples
                preference, length = (sum(values) / len(judged) for values in zip(*judged, strict=True))
                difficulty = self._difficulty.get(one.example.info["place"]) if self._difficulty else None
                rows.append(Annotation(preference, length, len(one.example.reference), difficulty))
        return {
            "win_rate": mean([100 * row.preference for row in rows], grading),
            LENGTH_CONTROLLED[bool(self._difficulty and self._gamed)]: length_controlled(rows, self._gamed, grading),
            "length": mean([row.length for row in rows], grading),
        }

    def official(self, graded: Sequence[Graded], model: str) -> Mapping[str, str]:
        rows: list[dict[str, Any]] = [
            {
                "dataset": one.example.info["dataset"],
                "instruction": one.example.info["instruction"],
                "output": one.samples[0].text,
                "generator": model,
            }
            for one in graded
        ]
        return {"model_outputs.json": json.dumps(rows, ensure_ascii=False, indent=2) + "\n"}


def parse_template(text: str) -> tuple[Message, ...]:
    """The messages of a judge prompt in chat markup; a text without markup is one user message."""
    found = [{"role": role, "content": content.strip()} for role, content in _MARKUP.findall(text)]
    return tuple(found) or ({"role": "user", "content": text.strip()},)


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with ``{name}`` replaced for the names given, in one pass: answers may hold braces themselves."""
    return re.sub(r"\{(\w+)\}", lambda match: str(values.get(match[1], match[0])), template)
