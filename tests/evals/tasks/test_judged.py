"""AlpacaEval, MT-Bench and WritingBench with a judge, without one, and with one that dies."""

import json
from pathlib import Path

import pytest

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.alpaca import parse_template
from ebm_jax.evals.tasks.mt_bench import MTBench, rating
from ebm_jax.evals.tasks.options import TaskOptions
from ebm_jax.evals.tasks.registry import make_task
from ebm_jax.evals.tasks.runner import NO_JUDGE, run_task
from ebm_jax.evals.tasks.writing import score_in
from tests.evals.tasks.fakes import FakeJudge, FakeModel, read_lines, write_rows

OPTIONS = TaskOptions(resamples=50, workers=1)
INSTRUCTIONS = [
    {"idx": n, "dataset": "d", "instruction": f"Do {n} {{thing}}", "output": f"reference {n}", "generator": "ref"}
    for n in range(6)
]
QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write a story.", "Make it shorter."]},
    {"question_id": 101, "category": "math", "turns": ["What is 1 + 1?", "And doubled?"]},
]
REFERENCES = [{"question_id": 101, "choices": [{"index": 0, "turns": ["two", "four"]}]}]
PROMPTS = [
    {"name": "single-v1", "system_prompt": "S", "prompt_template": "Q {question} A {answer}"},
    {"name": "single-math-v1", "system_prompt": "S", "prompt_template": "Q {question} R {ref_answer_1} A {answer}"},
    {"name": "single-v1-multi-turn", "system_prompt": "S2", "prompt_template": "{question_2} A {answer_1}|{answer_2}"},
    {
        "name": "single-math-v1-multi-turn",
        "system_prompt": "S2",
        "prompt_template": "{question_2} R {ref_answer_2} A {answer_1}|{answer_2}",
    },
]
CRITERIA = [{"name": "Tone", "criteria_description": "warm"}, {"name": "Length", "criteria_description": "short"}]


@pytest.fixture
def alpaca(tmp_path: Path) -> str:
    return f"alpacaeval={write_rows(tmp_path / 'data' / 'a.jsonl', INSTRUCTIONS)}"


@pytest.fixture
def bench(tmp_path: Path) -> str:
    folder = tmp_path / "data"
    write_rows(folder / "reference_answer_gpt-4.jsonl", REFERENCES)
    write_rows(folder / "judge_prompts.jsonl", PROMPTS)
    return f"mtbench={write_rows(folder / 'question.jsonl', QUESTIONS)}"


def prefer(part: str):
    """A judge that is three to one for the answer with ``part`` in it."""

    def chances(asked: str) -> list[float]:
        first = asked.split("Answer of model M")[0]
        return [0.75, 0.25] if part in first else [0.25, 0.75]

    return chances


def test_the_model_wins_wherever_it_stands(alpaca: str, tmp_path: Path):
    judge = FakeJudge(chances=prefer("ours"))
    model = FakeModel(lambda prompt, number: f"ours to {prompt}")
    result = run_task(model, make_task(alpaca), tmp_path / "out", OPTIONS, judge=judge, model_name="m1")
    assert list(result.metrics) == ["win_rate", "length_controlled_unanchored", "length"]
    assert result.metrics["win_rate"].value == pytest.approx(75.0) and result.problem is None
    assert {grade["info"]["swapped"] for grade in read_lines(tmp_path / "out" / "grades.jsonl")} == {True, False}
    assert "ours to Do 0 {thing}" in judge.asked[0][-1]["content"], "braces of an answer stay what they are"
    assert result.record["judge"] == "fake" and result.record["data"]["judge_prompt"] == "own"
    outputs = json.loads((tmp_path / "out" / "model_outputs.json").read_text())
    assert outputs[1] == {
        "dataset": "d", "instruction": "Do 1 {thing}", "output": "ours to Do 1 {thing}", "generator": "m1"
    }  # fmt: skip


def test_all_samples_of_a_question_count(alpaca: str, bench: str, tmp_path: Path):
    options = TaskOptions(resamples=50, workers=1, samples=2, temperature=1.0)
    model = FakeModel(lambda prompt, number: ("ours", "poor answer")[number])
    worse = lambda asked: prefer("poor" if "poor" in asked else "reference")(asked)[::-1]
    result = run_task(model, make_task(alpaca), tmp_path / "a", options, judge=FakeJudge(chances=worse))
    figures = {name: metric.value for name, metric in result.metrics.items()}
    assert figures["win_rate"] == pytest.approx(50.0) and figures["length"] == 7.5
    judge = FakeJudge()
    judge.write = lambda messages, **_: "[[9]]" if "ours" in messages[-1]["content"] else "[[3]]"
    result = run_task(model, make_task(bench), tmp_path / "b", options, judge=judge)
    assert result.metrics["first_turn"].value == pytest.approx(6.0) and result.counts["samples"] == 4


def test_no_judge_no_figure_but_the_official_files(alpaca: str, bench: str, tmp_path: Path):
    model = FakeModel(lambda prompt, number: f"on {prompt}")
    result = run_task(model, make_task(alpaca), tmp_path / "a", OPTIONS)
    assert (result.note, result.problem) == (NO_JUDGE, None) and not result.metrics and result.counts["ungraded"] == 6
    assert len(json.loads((tmp_path / "a" / "model_outputs.json").read_text())) == 6
    result = run_task(model, make_task(bench), tmp_path / "b", OPTIONS, model_name="m1")
    (story, maths) = read_lines(tmp_path / "b" / "model_answer.jsonl")
    assert story["choices"] == [{"index": 0, "turns": ["on Write a story.", "on Make it shorter."]}]
    assert (story["question_id"], story["model_id"], maths["question_id"]) == (81, "m1", 101)
    judged = run_task(FakeModel(), make_task(alpaca), tmp_path / "a", OPTIONS, judge=FakeJudge(chances=prefer("on Do")))
    assert judged.metrics["win_rate"].value == pytest.approx(75.0), "a judge that comes later grades the same answers"


def test_a_judge_that_dies_leaves_what_it_said(alpaca: str, tmp_path: Path):
    model = FakeModel(lambda prompt, number: "ours")
    result = run_task(
        model, make_task(alpaca), tmp_path / "out", OPTIONS, judge=FakeJudge(chances=prefer("ours"), dies_after=4)
    )
    assert result.problem == "the judge fake does not answer"
    assert result.counts["graded"] == 4 and result.metrics["win_rate"].value == pytest.approx(75.0)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["problem"] == result.problem
    again = FakeJudge(chances=prefer("ours"))
    result = run_task(FakeModel(), make_task(alpaca), tmp_path / "out", OPTIONS, judge=again)
    assert len(again.asked) == 2 and result.counts["graded"] == 6 and result.problem is None


def test_files_beside_the_instructions(alpaca: str, tmp_path: Path):
    folder = tmp_path / "data"
    (folder / "judge_prompt.txt").write_text(
        "<|im_start|>system\nRank.\n<|im_end|>\n<|im_start|>user\n{instruction}: {output_1} or {output_2}\n<|im_end|>"
    )
    (folder / "instruction_difficulty.csv").write_text("index,d\n" + "".join(f"{n},{n / 10}\n" for n in range(6)))
    judge = FakeJudge(chances=lambda asked: [0.5, 0.5])
    result = run_task(FakeModel(), make_task(alpaca), tmp_path / "out", OPTIONS, judge=judge)
    assert judge.asked[0][0] == {"role": "system", "content": "Rank."}
    assert judge.asked[0][1]["content"] in ("Do 0 {thing}:  or reference 0", "Do 0 {thing}: reference 0 or ")
    assert (
        result.record["data"]["judge_prompt"] == "judge_prompt.txt" and result.record["data"]["instruction_difficulty"]
    )
    (folder / "df_gamed.csv").write_text(
        "index,preference,std_delta_len,instruction_difficulty\n" + "".join(f"{n},0.5,{n - 3},0.1\n" for n in range(6))
    )
    result = run_task(FakeModel(), make_task(alpaca), tmp_path / "anchored", OPTIONS, judge=judge)
    assert list(result.metrics)[1] == "length_controlled"
    assert parse_template("plain {instruction}") == ({"role": "user", "content": "plain {instruction}"},)


def test_two_turns_are_rated_with_references_where_there_are(bench: str, tmp_path: Path):
    model, judge = FakeModel(lambda prompt, number: f"<{prompt}>"), FakeJudge("Fine. Rating: [[8]]")
    result = run_task(model, make_task(bench), tmp_path / "out", OPTIONS, judge=judge)
    assert {name: m.value for name, m in result.metrics.items()} == {
        "score": 8.0, "first_turn": 8.0, "second_turn": 8.0, "math": 8.0, "writing": 8.0
    }  # fmt: skip
    assert [messages[1]["content"] for messages in judge.asked] == [
        "Q Write a story. A <Write a story.>",
        "Make it shorter. A <Write a story.>|<Make it shorter.>",
        "Q What is 1 + 1? R two A <What is 1 + 1?>",
        "And doubled? R four A <What is 1 + 1?>|<And doubled?>",
    ]
    second = next(prompt for prompt in model.prompts if len(prompt.messages) == 3)
    assert [m["role"] for m in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1]["content"] == "<Write a story.>"
    assert [call["temperature"] for call in model.calls] == [0.7, 0.7, 0.0, 0.0]
    own = FakeModel()
    run_task(own, make_task(bench), tmp_path / "own", TaskOptions(temperature=0.3), judge=judge)
    assert {call["temperature"] for call in own.calls} == {0.3}


def test_turns_that_do_not_fit_get_the_lowest_rating_and_no_judge(bench: str, tmp_path: Path):
    judge = FakeJudge("Rating: [[9]]")
    model = FakeModel(lambda prompt, number: "x" * 30, longest=40)
    result = run_task(model, make_task(bench), tmp_path / "out", OPTIONS, judge=judge)
    figures = {name: metric.value for name, metric in result.metrics.items()}
    assert (figures["first_turn"], figures["second_turn"], figures["score"]) == (9.0, 1.0, 5.0)
    assert len(judge.asked) == 2 and result.counts["skipped"] == 2 and result.counts["ungraded"] == 0
    answers = read_lines(tmp_path / "out" / "model_answer.jsonl")
    assert answers[0]["choices"][0]["turns"] == ["x" * 30, ""]


def test_instructions_that_do_not_fit_are_lost(alpaca: str, tmp_path: Path):
    judge = FakeJudge(chances=prefer("ours"))
    result = run_task(FakeModel(longest=1), make_task(alpaca), tmp_path / "out", OPTIONS, judge=judge)
    assert result.metrics["win_rate"].value == 0.0 and not judge.asked and result.counts["skipped"] == 6


def test_verdicts_that_nobody_can_read_count_as_ungraded(bench: str, tmp_path: Path):
    judge = FakeJudge("I like it.")
    result = run_task(FakeModel(), make_task(bench), tmp_path / "out", OPTIONS, judge=judge)
    assert result.counts["ungraded"] == 2 and not result.metrics and result.problem is None
    assert len(judge.asked) == 6, "three attempts for each first turn"
    assert read_lines(tmp_path / "out" / "grades.jsonl")[0]["info"]["judgement"] == "I like it."
    assert rating("The list [1] is short. Rating: [[8]]") == 8
    assert rating("[[7.5]] or [[9]]") == 7.5 and rating("score [4]") == 4 and rating("[[11]]") is None


def test_judge_prompts_must_be_there_when_there_is_a_judge(bench: str, tmp_path: Path):
    (tmp_path / "data" / "judge_prompts.jsonl").unlink()
    model = FakeModel()
    with pytest.raises(UserError, match=r"judge_prompts\.jsonl is not beside its questions"):
        run_task(model, make_task(bench), tmp_path / "out", OPTIONS, judge=FakeJudge("[[1]]"))
    assert not model.calls
    assert run_task(model, make_task(bench), tmp_path / "out", OPTIONS).note == NO_JUDGE
    write_rows(tmp_path / "data" / "question.jsonl", [{"question_id": 1, "category": "math", "turns": []}])
    with pytest.raises(UserError, match=r"question\.jsonl: line 1: a question without text"):
        MTBench(str(tmp_path / "data" / "question.jsonl")).examples()


def test_writing_is_rated_by_every_criterion(tmp_path: Path):
    rows = [{"index": n, "query": f"Write {n}", "domain1": "Law", "checklist": CRITERIA} for n in (1, 2)]
    name = f"writingbench={write_rows(tmp_path / 'w.jsonl', rows)}"
    judge = FakeJudge('So: {"score": 6, "reason": "it is {plain}"}')
    model = FakeModel(lambda prompt, number: "<think>hm</think>\n\nDear {reader}")
    result = run_task(model, make_task(name), tmp_path / "out", OPTIONS, judge=judge)
    assert result.metrics["score"].value == 6.0 and result.metrics["Law"].value == 6.0 and len(judge.asked) == 4
    assert "Dear {reader}" in judge.asked[0][1]["content"] and "hm" not in judge.asked[0][1]["content"]
    assert read_lines(tmp_path / "out" / "grades.jsonl")[0]["info"]["criteria"] == {"Tone": 6.0, "Length": 6.0}
    assert read_lines(tmp_path / "out" / "responses.jsonl")[1]["index"] == 2
    assert score_in('{"score": 0}') is None and score_in("[1]") is None and score_in('{"a": {"score": 3}}') == 3.0
    write_rows(tmp_path / "w.jsonl", [{"index": 1, "query": "Write", "checklist": []}])
    with pytest.raises(UserError, match=r"w\.jsonl: line 1: .*'checklist' is not a list of criteria"):
        make_task(name).examples()
