"""Problems that a program makes: what solves them, and what does not."""

import json

import pytest

from ebm_jax.data.problems import problems, solved, value
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks import make_task
from ebm_jax.evals.tasks.protocol import Completion as Said
from ebm_jax.evals.tasks.protocol import Grading, Sample
from experiments import made_problems


@pytest.mark.parametrize("kind", ["sums", "countdown"])
def test_problems_are_solved_by_their_solutions(kind):
    made = problems(kind, 200, seed=3)
    assert len({one.prompt for one in made}) == 200 and made == problems(kind, 200, seed=3)
    assert all(solved(kind, one.prompt, one.solution) for one in made)
    assert not any(solved(kind, one.prompt, "") or solved(kind, one.prompt, one.solution + "1") for one in made)
    but = frozenset(one.prompt for one in made[:100])
    assert not but & {one.prompt for one in problems(kind, 100, seed=3, but=but)}


@pytest.mark.parametrize(
    ("kind", "prompt", "text", "right"),
    [
        ("sums", "1+2+3=", " 1+2=3 3+3=6\n9+9=18", True),
        ("sums", "1+2+3=", " 1+2=4 4+3=6", True),  # the last result decides
        ("sums", "1+2+3=", " 1+2=3 3+3=6 or so", False),
        ("countdown", "2 3 4 -> 14:", " 2*(3+4)", True),
        ("countdown", "2 3 4 -> 14:", " 3*4+2", True),
        ("countdown", "2 3 4 -> 14:", " 14", False),
        ("countdown", "2 3 4 -> 14:", " 2*(3+4)+4-4", False),
        ("countdown", "2 3 3 -> 8:", " 2+3*2", False),
        ("countdown", "2 3 4 -> 14:", " 2**3+4+2", False),
        ("countdown", "2 3 4 -> 14:", " __import__('os')", False),
    ],
)
def test_what_solves_a_problem(kind, prompt, text, right):
    assert solved(kind, prompt, text) is right


def test_what_is_worth_nothing():
    for text in ("", "1/2", "(1", "1+", "007", "9" * 200, "-1", "1 2"):
        assert value(text) is None, text


def test_what_there_is_not():
    with pytest.raises(UserError, match="'riddles' are not among sums, countdown"):
        problems("riddles", 1, 0)
    with pytest.raises(UserError, match=r"there are not as many as 9 problems of kind sums: 0 were found"):
        problems("sums", 9, 0, but=_Everything())


class _Everything(frozenset):
    def __contains__(self, item):
        return True


def test_tasks_ask_what_training_has_not_seen(tmp_path):
    file = tmp_path / "made.jsonl"
    assert made_problems.main([f"out={file}", "count=50"]) == 0
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 100 and all(row["text"] == row["prompt"] + row["solution"] for row in rows)
    for kind in ("sums", "countdown"):
        task = make_task(kind)
        examples = task.examples()
        assert len(examples) == 500 and not {str(e.prompt.text) for e in examples} & {row["prompt"] for row in rows}
        work = [(e, Sample(e.id, 0, turns=(Said(text),))) for e in examples[:3] for text in (e.reference, "no")]
        assert [grade.score for grade in task.grade(work, Grading())] == [1.0, 0.0] * 3
    only = tmp_path / "sums.jsonl"
    only.write_text("".join(json.dumps(row) + "\n" for row in rows if "=" in row["prompt"]))
    assert len(make_task(f"sums={only}").examples()) == 50
    with pytest.raises(UserError, match=r"made\.jsonl: line 1: .* does not solve .*, which is to be of kind"):
        make_task(f"countdown={file}").examples()
    with pytest.raises(UserError, match="leave the chat away"):
        make_task("sums:chat")
    with pytest.raises(UserError, match="seed 0 is the tasks' own"):
        made_problems.main([f"out={file}", "seed=0"])
