"""Tasks with one right answer: GSM8K, MATH500, GPQA, LAMBADA and given completions."""

import math
import sys
from pathlib import Path

import pytest

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.options import TaskOptions
from ebm_jax.evals.tasks.registry import make_task
from ebm_jax.evals.tasks.runner import TaskResult, run_task
from tests.evals.tasks.fakes import FakeModel, read_lines, write_rows

OPTIONS = TaskOptions(resamples=50)
TRAIN = [{"question": f"old {n}?", "answer": f"It is <<{n}+0={n}>>{n}.\n#### {n}"} for n in range(9)]
TEST = [{"question": f"What is {n} + {n}?", "answer": f"Twice.\n#### {2 * n}"} for n in (1, 2, 600)]


def values(result: TaskResult) -> dict[str, float]:
    return {name: metric.value for name, metric in result.metrics.items()}


@pytest.fixture
def gsm8k(tmp_path: Path) -> Path:
    write_rows(tmp_path / "gsm8k" / "train.jsonl", TRAIN)
    return write_rows(tmp_path / "gsm8k" / "test.jsonl", TEST)


def test_gsm8k_shows_solved_problems_and_reads_the_marked_answer(gsm8k: Path, tmp_path: Path):
    answers = {
        "What is 1 +": " One and one.\n#### 2\n\nQuestion: next?",
        "What is 2 +": " #### 5",
        "600": "It is $1,200.",
    }
    model = FakeModel(answers)
    task = make_task(f"gsm8k={gsm8k}")
    result = run_task(model, task, tmp_path / "out", OPTIONS)
    text = model.prompts[0].text
    assert text.count("Question: ") == 9 and text.startswith("Question: old 0?\nAnswer: It is 0.\n#### 0\n\n")
    assert text.endswith("Question: old 7?\nAnswer: It is 7.\n#### 7\n\nQuestion: What is 1 + 1?\nAnswer:")
    assert values(result) == {"accuracy": pytest.approx(2 / 3), "parsed": 1.0}
    assert read_lines(tmp_path / "out" / "grades.jsonl")[1]["info"] == {"answer": "5"}
    assert result.record["data"]["shots"] == 8


def test_gsm8k_as_a_chat_and_with_fewer_shots(gsm8k: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("EBM_JAX_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)
    chat = make_task(f"gsm8k:chat={gsm8k}").examples()[0].prompt
    assert chat.messages[0]["content"].startswith("What is 1 + 1?") and "boxed" in chat.messages[0]["content"]
    assert make_task(f"gsm8k:2shot={gsm8k}").examples()[0].prompt.text.count("Question: ") == 3
    assert make_task(f"gsm8k:0shot={gsm8k}").examples()[0].prompt.text == "Question: What is 1 + 1?\nAnswer:"
    (gsm8k.parent / "train.jsonl").unlink()
    with pytest.raises(UserError, match=r"put train\.jsonl beside the test file, or ask without them"):
        make_task(f"gsm8k={gsm8k}").examples()
    write_rows(gsm8k, [{"question": "q", "answer": "no mark"}])
    with pytest.raises(UserError, match=r"test\.jsonl: line 1: field 'answer' does not end with '#### NUMBER'"):
        make_task(f"gsm8k:0shot={gsm8k}").examples()
    with pytest.raises(UserError, match="gsm8k:chat takes no solved problems"):
        make_task(f"gsm8k:chat:3shot={gsm8k}")


def test_math500_compares_boxed_answers(tmp_path: Path):
    rows = [
        {"problem": "Half?", "answer": r"\frac{1}{2}", "id": "a"},
        {"problem": "Third?", "answer": r"\frac{1}{3}", "unique_id": "b"},
        {"problem": "None?", "answer": "4", "id": "c"},
        {"problem": "Said?", "answer": r"\frac{1}{4}", "id": "d"},
    ]
    path = write_rows(tmp_path / "m.jsonl", rows)
    model = FakeModel(
        {
            "Half": r"So \boxed{0.5}.",
            "Third": r"\boxed{\frac13}",
            "None": "It is 4.",
            "Said": "The final answer is $1/4$.",
        }
    )
    result = run_task(model, make_task(f"math500={path}"), tmp_path / "out", OPTIONS)
    assert values(result) == pytest.approx({"accuracy": 3 / 4, "parsed": 3 / 4})


def test_gpqa_shuffles_by_the_question_and_reads_the_letter(tmp_path: Path):
    rows = [
        {
            "Record ID": f"r{n}", "Question": f"Why {n}?", "Correct Answer": "right",
            **{f"Incorrect Answer {k}": f"wrong {k}" for k in (1, 2, 3)},
        }
        for n in range(24)
    ]  # fmt: skip
    path = write_rows(tmp_path / "g.jsonl", rows)
    task = make_task(f"gpqa={path}")
    examples = task.examples()
    assert {one.reference for one in examples} == set("ABCD")
    for one in examples:
        assert f"{one.reference}) right" in one.prompt.messages[0]["content"]
    assert [one.reference for one in make_task(f"gpqa={path}").examples()] == [one.reference for one in examples]
    always_a = run_task(FakeModel(lambda p, n: "Hm.\nANSWER: A"), task, tmp_path / "out", OPTIONS)
    assert values(always_a)["accuracy"] == sum(one.reference == "A" for one in examples) / 24
    silent = run_task(FakeModel(), make_task(f"gpqa:plain={path}"), tmp_path / "plain", OPTIONS)
    assert values(silent) == {"accuracy": 0.0, "parsed": 0.0}
    write_rows(path, [{"Question": "?", "Correct Answer": "x"}])
    with pytest.raises(UserError, match=r"g\.jsonl: line 1: no field 'Incorrect Answer 1'"):
        make_task(f"gpqa={path}").examples()


def test_lambada_by_hand(tmp_path: Path):
    path = write_rows(tmp_path / "l.jsonl", [{"text": "the cat sat down"}, {"text": "a dog ran off\n"}])
    asked = []

    def rate(prompt: str, text: str) -> tuple[float, int, bool]:
        asked.append((prompt, text))
        return (-1.0, 1, True) if text == " down" else (-3.0, 2, False)

    result = run_task(FakeModel(rate=rate), make_task(f"lambada={path}"), tmp_path / "out", OPTIONS)
    assert asked == [("the cat sat", " down"), ("a dog ran", " off")]
    assert values(result) == pytest.approx({"accuracy": 0.5, "perplexity": math.exp(2.0)})
    assert result.metrics["perplexity"].low == pytest.approx(math.e) and result.counts["tokens"] == 3
    again = FakeModel()
    assert run_task(again, make_task(f"lambada={path}"), tmp_path / "out", OPTIONS).metrics == result.metrics
    assert not again.calls
    write_rows(path, [{"text": "alone"}])
    with pytest.raises(UserError, match=r"l\.jsonl: line 1: a passage of one word"):
        make_task(f"lambada={path}").examples()
    with pytest.raises(UserError, match="lambada continues a text: it has no chat form"):
        make_task("lambada:chat")


def test_passages_that_do_not_fit_have_no_likelihood(tmp_path: Path):
    path = write_rows(tmp_path / "l.jsonl", [{"text": "a b"}, {"text": "a very long passage"}])
    model = FakeModel(rate=lambda prompt, text: (-2.0, 1, True), longest=5)
    result = run_task(model, make_task(f"lambada={path}"), tmp_path / "l", OPTIONS)
    assert values(result) == pytest.approx({"accuracy": 0.5, "perplexity": math.exp(2.0)})
    assert result.counts["skipped"] == 1 and result.note.startswith(
        "1 of 2 questions could not be asked and count as wrong"
    )
    write_rows(path, [{"prompt": "a", "completion": "b"}, {"prompt": "a very long", "completion": "b"}])
    result = run_task(model, make_task(f"completion:{path}"), tmp_path / "c", OPTIONS)
    assert values(result)["nats_per_token"] == 2.0 and (result.counts["graded"], result.counts["skipped"]) == (1, 1)
    alone = run_task(FakeModel(longest=0), make_task(f"completion:{path}"), tmp_path / "none", OPTIONS)
    assert not alone.metrics and alone.note.startswith("2 of 2 questions")


def test_cross_entropy_of_completions_by_hand(tmp_path: Path):
    rows = [
        {"prompt": "p", "completion": "äb"},
        {"question": "q", "answer": "cde"},
        {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "fgh"}]},
    ]
    path = write_rows(tmp_path / "c.jsonl", rows)
    rate = lambda prompt, text: (-float(len(text)), {"p": 1, "q": 3, "u": 4}[prompt], False)
    result = run_task(FakeModel(rate=rate), make_task(f"completion:{path}"), tmp_path / "out", OPTIONS)
    assert values(result) == pytest.approx(
        {"nats_per_token": 8 / 8, "perplexity": math.e, "bits_per_byte": 8 / (math.log(2) * 9)}
    )
    for row, said in [
        ({"prompt": "p", "completion": ""}, "its completion is empty"),
        ({"prompt": "p"}, "no field 'answer'"),
        ({"messages": [{"role": "user", "content": "u"}]}, "does not end with what the assistant says"),
        ({"messages": [{"role": "user"}, 1]}, "not a list of messages"),
    ]:
        write_rows(path, [row])
        with pytest.raises(UserError, match=rf"c\.jsonl: line 1: .*{said}"):
            make_task(f"completion={path}").examples()
