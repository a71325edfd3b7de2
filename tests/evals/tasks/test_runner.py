"""The runner writes everything as it goes, and a rerun makes only what is missing."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.evaluate import table
from ebm_jax.evals.tasks.options import TaskOptions
from ebm_jax.evals.tasks.protocol import Example, Grade, Grading, Prompt, Sampling
from ebm_jax.evals.tasks.runner import answer_share, run_task
from ebm_jax.evals.tasks.task import BaseTask, Work
from ebm_jax.share import Share
from tests.evals.tasks.fakes import FakeModel, read_lines


class Doubling(BaseTask):
    """Say twice the number."""

    name = "doubling"
    sampling = Sampling(max_new_tokens=4, stop=("\n",))

    def __init__(self, count: int = 10, digest: str = "a", broken: bool = False) -> None:
        super().__init__()
        self.graded, self._count, self._broken = 0, count, broken
        self.provenance = {"source": "memory", "digest": digest}

    def examples(self) -> list[Example]:
        return [Example(f"q{n}", Prompt(text=str(n)), str(2 * n)) for n in range(self._count)]

    def ready(self, grading: Grading) -> None:
        if self._broken:
            raise UserError("not ready")

    def grade(self, work: Sequence[Work], grading: Grading) -> list[Grade]:
        self.graded += len(work)
        return [Grade(float(s.text.strip() == e.reference), {"said": s.text}) for e, s in work]


def half_right(prompt: str, number: int) -> str:
    return f"{2 * int(prompt)}\nmore" if int(prompt) % 2 == 0 else ""


def test_a_run_from_questions_to_figures(tmp_path: Path):
    lines: list[str] = []
    options = TaskOptions(batch_size=4)
    result = run_task(FakeModel(half_right), Doubling(), tmp_path, options, model_name="half", report=lines.append)
    assert result.metrics["accuracy"].value == 0.5 and result.problem is None
    assert result.counts == {
        "examples": 10, "samples": 10, "graded": 10, "ungraded": 0, "unfinished": 5, "empty": 5,
        "skipped": 0, "tokens": 10
    }  # fmt: skip
    samples = read_lines(tmp_path / "samples.jsonl")
    assert len(samples) == 10 and samples[2]["prompt"] == "2"
    assert samples[2]["turns"] == [{"text": "4", "tokens": 2, "log_prob": -0.5, "finished": True}], (
        "cut at the stop string"
    )
    assert read_lines(tmp_path / "grades.jsonl")[2] == {"id": "q2", "sample": 0, "score": 1.0, "info": {"said": "4"}}
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["metrics"]["accuracy"]["low"] < 0.5 < record["metrics"]["accuracy"]["high"]
    assert record["model"] == "half" and record["sampling"]["max_new_tokens"] == 4 and record["versions"]["numpy"]
    assert set(record["seconds"]) == {"generation", "grading"} and record["data"]["digest"] == "a"
    assert lines[:3] == [f"doubling: {n} of 10 answered" for n in (4, 8, 10)]


def test_a_rerun_makes_and_grades_nothing_again(tmp_path: Path):
    options = TaskOptions(batch_size=4)
    first = run_task(FakeModel(half_right), Doubling(), tmp_path, options)
    model, task = FakeModel(), Doubling()
    second = run_task(model, task, tmp_path, options)
    assert not model.calls and not task.graded and second.metrics == first.metrics
    again = Doubling()
    run_task(model, again, tmp_path, TaskOptions(batch_size=4, regrade=True))
    assert again.graded == 10 and not model.calls and len(read_lines(tmp_path / "grades.jsonl")) == 10


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path):
    options = TaskOptions(batch_size=3)
    with pytest.raises(KeyboardInterrupt):
        run_task(FakeModel(half_right, breaks_after=2), Doubling(), tmp_path, options)
    whole = (tmp_path / "samples.jsonl").read_bytes()
    assert whole.count(b"\n") == 6
    (tmp_path / "samples.jsonl").write_bytes(whole[:-7])  # the last line half-written
    model = FakeModel(half_right)
    result = run_task(model, Doubling(), tmp_path, options)
    assert [prompt.text for prompt in model.prompts] == ["5", "6", "7", "8", "9"]
    assert result.metrics["accuracy"].value == 0.5
    assert [row["id"] for row in read_lines(tmp_path / "samples.jsonl")] == [f"q{n}" for n in range(10)]
    fresh = tmp_path / "fresh"
    assert run_task(FakeModel(half_right), Doubling(), fresh, options).metrics == result.metrics


def test_machines_answer_shares_in_one_folder(tmp_path: Path):
    """The same draws as one machine's, whose questions are asked in the same batches."""
    options, folder = TaskOptions(batch_size=2, samples=2, temperature=0.5), tmp_path / "shared"
    models = [FakeModel(half_right) for _ in range(4)]
    for index in (2, 0):
        answer_share(models[index], Doubling(), folder, options, share=Share(index, 3))
    assert not (folder / "grades.jsonl").exists()
    with (folder / "samples.0-of-3.jsonl").open("a") as file:
        file.write('{"id": "q')  # its machine is writing
    found = run_task(models[3], Doubling(), folder, options)
    assert [prompt.text for prompt in models[3].prompts] == ["2", "3", "8", "9"]
    alone = FakeModel(half_right)
    assert run_task(alone, Doubling(), tmp_path / "alone", options).metrics == found.metrics
    seeds = sorted(call["seed"] for model in models for call in model.calls)
    assert seeds == sorted(call["seed"] for call in alone.calls)
    with pytest.raises(UserError, match="holds samples made otherwise: seed was 0 and is 1"):
        answer_share(alone, Doubling(), folder, replace(options, seed=1), share=Share(1, 3))


def test_more_questions_and_more_samples_add_to_what_is_there(tmp_path: Path):
    tell = lambda prompt, number: str(2 * int(prompt)) if number == 0 else "no"
    options = {"batch_size": 4, "temperature": 0.5}
    run_task(FakeModel(tell), Doubling(), tmp_path, TaskOptions(limit=2, samples=2, **options))
    model = FakeModel(tell)
    result = run_task(model, Doubling(), tmp_path, TaskOptions(limit=3, samples=4, **options))
    assert [(call["samples"], call["temperature"]) for call in model.calls] == [(2, 0.5), (4, 0.5)]
    assert [prompt.text for prompt in model.prompts] == ["0", "1", "2"]
    assert result.counts["samples"] == 12 and result.metrics["accuracy"].value == pytest.approx((0.5 + 0.5 + 0.25) / 3)
    fewer = run_task(FakeModel(), Doubling(), tmp_path, TaskOptions(limit=2, samples=1, **options))
    assert fewer.metrics["accuracy"].value == 1.0


def test_seeds_differ_between_batches_and_runs(tmp_path: Path):
    seeds = []
    for seed in (0, 1):
        model = FakeModel(half_right)
        run_task(model, Doubling(), tmp_path / str(seed), TaskOptions(batch_size=5, seed=seed))
        seeds += [call["seed"] for call in model.calls]
    assert len(set(seeds)) == 4


@pytest.mark.parametrize(
    ("task", "options", "model", "said"),
    [
        (Doubling(digest="b"), {}, "", r"data was \{'digest': 'a'\} and is \{'digest': 'b'\}"),
        (Doubling(), {"max_new_tokens": 9}, "", r"sampling was .*'max_new_tokens': 4.* and is .*'max_new_tokens': 9"),
        (Doubling(), {"seed": 3}, "", r"seed was 0 and is 3"),
        (Doubling(), {}, "other", r"model was '' and is 'other'"),
    ],
)
def test_samples_made_otherwise_are_not_mixed(tmp_path: Path, task, options, model, said):
    run_task(FakeModel(half_right), Doubling(), tmp_path)
    with pytest.raises(UserError, match=said):
        run_task(FakeModel(half_right), task, tmp_path, TaskOptions(**options), model_name=model)


def test_damaged_files_are_named(tmp_path: Path):
    run_task(FakeModel(half_right), Doubling(), tmp_path)
    path = tmp_path / "samples.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{", *lines[2:]]) + "\n")
    with pytest.raises(UserError, match=r"samples\.jsonl: line 2: not JSON"):
        run_task(FakeModel(half_right), Doubling(), tmp_path)
    path.write_text("\n".join([lines[0], '{"id": "q1"}']) + "\n")
    with pytest.raises(UserError, match=r"samples\.jsonl: line 2: not a sample"):
        run_task(FakeModel(half_right), Doubling(), tmp_path)


def test_mistakes_are_found_before_anything_is_generated(tmp_path: Path):
    model = FakeModel(half_right)
    with pytest.raises(UserError, match="not ready"):
        run_task(model, Doubling(broken=True), tmp_path)
    with pytest.raises(UserError, match="samples=2 at temperature 0 are all the same"):
        run_task(model, Doubling(), tmp_path, TaskOptions(samples=2))
    with pytest.raises(UserError, match="there are no questions"):
        run_task(model, Doubling(count=0), tmp_path)
    twice = [Example("a", Prompt(text="1")), Example("a", Prompt(text="2"))]
    with pytest.raises(UserError, match="two questions are called 'a'"):
        run_task(model, Doubling(), tmp_path, examples=twice)
    assert not model.calls
    for wrong in ({"limit": -1}, {"batch_size": 0}, {"workers": 0}, {"resamples": -1}, {"code_seconds": 0.0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            TaskOptions(**wrong)
    for wrong in ({"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"min_p": 2.0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            run_task(model, Doubling(), tmp_path, TaskOptions(**wrong))


def test_odd_characters_survive_the_disk(tmp_path: Path):
    odd = "\udc80\u2028 \U0001f600"
    model = FakeModel(lambda prompt, number: odd)
    run_task(model, Doubling(count=3), tmp_path)
    again = FakeModel()
    result = run_task(again, Doubling(count=3), tmp_path)
    assert not again.calls and result.counts["samples"] == 3


def test_questions_that_do_not_fit_count_as_failures(tmp_path: Path):
    model = FakeModel(lambda prompt, number: str(2 * int(prompt)), longest=1)
    options = TaskOptions(batch_size=4, samples=2, temperature=1.0)
    result = run_task(model, Doubling(count=12), tmp_path, options)
    assert result.metrics["accuracy"].value == pytest.approx(10 / 12) and result.problem is None
    assert result.counts["skipped"] == 4 and result.counts["graded"] == 24
    said = "2 of 12 questions could not be asked and count as failures; the first: 2 letters, and the context holds 1"
    assert result.note == said and said in table([result]) and result.record["note"] == said
    row = read_lines(tmp_path / "samples.jsonl")[-1]
    assert row["skipped"] == "2 letters, and the context holds 1" and not row["turns"][0]["finished"]
    again = FakeModel()
    rerun = run_task(again, Doubling(count=12), tmp_path, options)
    assert not again.calls and rerun.metrics == result.metrics and rerun.note == said


def test_the_table(tmp_path: Path):
    result = run_task(FakeModel(half_right), Doubling(), tmp_path)
    lines = table([result]).splitlines()
    assert lines[0].split() == ["task", "figure", "value", "95", "%", "interval", "examples"]
    assert lines[2].startswith("doubling  accuracy  0.5000  [0.")
