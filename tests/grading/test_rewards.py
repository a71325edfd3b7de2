"""Rewards: the right number for every completion, and 0 with a reason for what cannot be graded; nothing raises."""

import gzip
import json
import os
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebm_jax.errors import UserError
from ebm_jax.grading import rewards, sandbox_client
from ebm_jax.grading.rewards import Graded, Grader, RewardConfig
from ebm_jax.grading.sandbox import Outcome
from ebm_jax.serialize import from_dict, to_dict

TESTS = "assert f(1) == 2\nassert f(5) == 6\nassert f(-1) == 0\nassert f(0) == 1\n"
RIGHT = "def f(x):\n    return x + 1\n"


def read_rows(name: str) -> list[dict[str, Any]]:
    path = Path(os.environ.get("EBM_JAX_DATA", "")) / name
    if not path.exists():
        pytest.skip(f"EBM_JAX_DATA has no {name}")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def graded(completions: list[str], truth: str | list[str], **config: Any) -> Graded:
    """Grades by one reference or check for all, or by one for each."""
    truths = [truth] * len(completions) if isinstance(truth, str) else truth
    config = {"seconds": 20.0, **config}
    if config["kind"] == "tests":
        return Grader(RewardConfig(**config))(completions, None, truths)
    return Grader(RewardConfig(**config))(completions, truths)


def scores(*args: Any, **config: Any) -> list[float]:
    return graded(*args, **config).scores.tolist()


# Texts.


def test_bleu_is_that_of_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    said = ["The cat sat on the mat.", "It rains.", "A dog", "the the the the the", "Nothing of the kind!", "Cat\n"]
    meant = "The cat sat on a mat, and it rains."
    bleu = sacrebleu.metrics.BLEU(effective_order=True)
    wanted = [bleu.sentence_score(text, [meant]).score / 100 for text in said]
    result = graded(said, meant, kind="bleu")
    assert result.scores.dtype == np.float32 and result.scores == pytest.approx(wanted) and 0 < max(wanted) < 1
    assert result.failures == {"empty": 0} and result.reasons == ("",) * 6


def test_bleu_of_the_same_text_is_one_and_of_no_text_zero():
    pytest.importorskip("sacrebleu")
    text = "The cat sat, and it rained; 3.5 times, they said."
    result = graded([text, f" {text}\n", "Hello", "", " \n\t", "moo"], [text, text, "Hello", text, "", ""], kind="bleu")
    assert result.scores.tolist() == [1, 1, 1, 0, 0, 0]
    assert result.failures == {"empty": 2} and result.reasons == ("", "", "", "empty", "empty", "")
    assert result.metrics() == {"reward": 0.5, "reward_full": 0.5, "reward_failures/empty": pytest.approx(1 / 3)}


def test_bleu_cuts_words_as_the_language_wants():
    pytest.importorskip("sacrebleu")
    said, meant = ["今天天气很好", "The cat sat on a mat"], ["今天天气很不错", "The cat sat on the mat"]
    chinese, english = scores(said, meant, kind="bleu", language="zh"), scores(said, meant, kind="bleu")
    assert chinese[0] > english[0] and scores(said, meant, kind="bleu", language="auto") == [chinese[0], english[1]]
    assert scores(["これは本です。"], "これは本だ。", kind="bleu", language="auto") == scores(
        ["これは本です。"], "これは本だ。", kind="bleu", language="ja"
    )


def test_exact_wants_the_text():
    assert scores([" yes\n", "Yes", "yes.", "yes yes", ""], "yes", kind="exact") == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("completion", "language", "score"),
    [
        ("Guten Tag.\nEnglish: Good day.", "de", 1),
        ("\n\n  German: Guten Tag.\n", "de", 1),
        ("Translation: Guten Tag.", "de", 1),
        ("Deutsch: Guten Tag.", "de", 0),
        ('"Guten Tag."', "de", 1),
        ("German: Guten Tag.", "en", 0),
        ("German: Guten Tag.", "auto", 1),
        ("Hallo.\nGuten Tag.", "de", 0),
        ("German:\n\n", "de", 0),
    ],
)
def test_the_first_line_alone(completion: str, language: str, score: float):
    assert scores([completion], "Guten Tag.", kind="exact", first_line=True, language=language) == [score]


def test_quotation_marks_that_the_reference_has_stay():
    assert scores(['"Hallo"\n', "Hallo"], '"Hallo"', kind="exact", first_line=True) == [1, 0]


def test_stop_strings_end_a_completion():
    said = ["yes\n\nQuestion: no", "yes[END]yes", "yes", "[END]yes"]
    result = graded(said, "yes", kind="exact", stop=("[END]", "\n\nQ"))
    assert result.scores.tolist() == [1, 1, 1, 0] and result.failures == {"empty": 1}


# Mathematics.


def test_maths_compares_final_answers():
    pytest.importorskip("math_verify")
    said = {
        "So 6 * 7 = 42.\n#### 42": ("6 times 7 is <<6*7=42>>42\n#### 42", 1),
        "It is \\boxed{\\frac{2}{4}}.": ("\\frac{1}{2}", 1),
        "First 3, then 1,000": ("1000", 1),
        "\\frac{1}{3}": ("\\boxed{\\frac{2}{6}}", 1),
        "The answer is $x^2+2x+1$.": ("(x+1)^2", 1),
        "#### 41": ("42", 0),
        "I take 42, no: \\boxed{41}": ("42", 0),
        "3 \\boxed{x+1}": ("x-1", 0),
    }
    result = graded([*said, "I cannot say.", ""], [truth for truth, _ in said.values()] + ["1", "1"], kind="maths")
    assert result.scores.tolist() == [score for _, score in said.values()] + [0, 0]
    assert result.failures == {"empty": 1, "no_answer": 1, "timeout": 0, "grader": 0}


def test_published_answers_have_the_full_reward():
    pytest.importorskip("math_verify")
    answers = [row["answer"] for row in read_rows("math_gsm8k/train.jsonl.gz")[:500]]
    assert min(scores(answers, answers, kind="maths")) == 1
    numbers = [answer.rpartition("####")[2].strip() for answer in answers]
    assert min(scores([f"That makes ${number}." for number in numbers], answers, kind="maths")) == 1
    assert max(scores(answers, [f"{number}1" for number in numbers], kind="maths")) == 0


def test_a_comparison_without_end_is_a_timeout():
    pytest.importorskip("math_verify")
    result = graded(["\\boxed{9^{9^{9^{9}}}!}", "\\boxed{2x}"], ["x^2-1", "x+x"], kind="maths", seconds=1.0, workers=2)
    assert result.reasons == ("timeout", "") and result.scores.tolist() == [0, 1]


# Programs.

PROGRAMS = {
    "right": (RIGHT, 1, ""),
    "behind_a_space": (" import math\n\ndef f(x):\n    return math.floor(x) + 1", 1, ""),
    "indented": ("    def f(x):\n        return x + 1\n    y = 3", 1, ""),
    "fenced": (f"Here it is:\n\n```python\n{RIGHT}```\nIt adds one.", 1, ""),
    "last_of_two": (f"```\nf = None\n```\nor\n```\n{RIGHT}```", 1, ""),
    "wrong": ("def f(x):\n    return x", 0, ""),
    "no_python": ("Sure! You add one.", 0, ""),
    "raises": ("def f(x):\n    raise ValueError(x)", 0, ""),
    "exits": ("import sys\ndef f(x):\n    sys.exit(0)", 0, ""),
    "exits_at_once": ("raise SystemExit", 0, ""),
    "ends_the_interpreter": ("import os\nos._exit(0)", 0, "crashed"),
    "crashes_the_interpreter": ("import ctypes\nctypes.string_at(0)", 0, "crashed"),
    "kills_itself": ("import os\ndef f(x):\n    os.kill(os.getpid(), 9)", 0, "crashed"),
    "fills_memory": ("x = [bytearray(1 << 20)]\nwhile True:\n    x.append(bytearray(1 << 24))", 0, "memory"),
    "returns_too_much": ("def f(x):\n    return 'x' * (1 << 26)", 0, "output"),
    "a_null": ("def f(x):\n    return x + 1\0", 0, ""),
    "half_a_character": ("def f(x):\n    return '\ud800'", 0, ""),
    "nothing": ("  \n", 0, "empty"),
}


@pytest.mark.usefixtures("sandboxed")
def test_programs_are_worth_what_their_tests_say():
    result = graded([text for text, _, _ in PROGRAMS.values()], TESTS, kind="tests", workers=2)
    found = dict(zip(PROGRAMS, zip(result.scores.tolist(), result.reasons, strict=True), strict=True))
    assert found == {name: (score, reason) for name, (_, score, reason) in PROGRAMS.items()}
    assert result.failures == {
        "empty": 1, "timeout": 0, "memory": 1, "processes": 0, "output": 1, "crashed": 3, "tests": 0, "grader": 0,
    }  # fmt: skip
    assert result.error == "" and result.metrics()["reward_failures/crashed"] == pytest.approx(3 / len(PROGRAMS))


@pytest.mark.usefixtures("sandboxed", "nothing_is_left")
def test_programs_without_end_cost_their_limit_and_no_more():
    fork = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    endless = ["while True:\n    pass", "import time\ndef f(x):\n    time.sleep(1000)", fork, RIGHT]
    grader = Grader(RewardConfig(kind="tests", seconds=1.0, workers=2))
    began = time.monotonic()
    result = grader(endless, None, [TESTS] * 4)
    assert time.monotonic() - began < 15
    assert result.scores.tolist() == [0, 0, 0, 1]
    assert result.reasons[:2] == ("timeout", "timeout") and result.reasons[2] in ("timeout", "processes")


@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize("partial", [False, True])
def test_partial_credit_is_the_share_of_the_tests(partial: bool):
    check = "def check(g):\n    assert g(1) == 2\n    assert g(5) == 6\n\ncheck(f)"
    said = [RIGHT, "def f(x):\n    return 2", "def f(x):\n    return 2 if x > 0 else 0 * x", "f = 3"]
    wanted = [1, 0.25, 0.5, 0] if partial else [1, 0, 0, 0]
    assert scores(said, TESTS, kind="tests", partial=partial) == wanted
    assert scores(said, check, kind="tests", partial=partial) == ([1, 0.5, 0.5, 0] if partial else [1, 0, 0, 0])


@pytest.mark.slow
@pytest.mark.usefixtures("sandboxed")
def test_published_solutions_have_the_full_reward_and_wrong_ones_none():
    said, checks = [], []
    for row in read_rows("code_humaneval/HumanEval.jsonl.gz"):
        said.append(row["prompt"] + row["canonical_solution"])
        checks.append(f"{row['test']}\ncheck({row['entry_point']})")
    for row in read_rows("code_mbpp/mbpp.jsonl.gz"):
        said.append(f"```python\n{row['code']}\n```")
        checks.append(json.dumps([row["test_setup_code"], *row["test_list"]]))
    assert len(said) > 1000
    result = graded(said, checks, kind="tests", partial=True, seconds=60.0)
    assert [n for n, score in enumerate(result.scores) if score < 1] == []
    # No function at all: every test fails, but for those that expect an exception.
    nothing = graded(["pass"] * len(checks[::4]), checks[::4], kind="tests", partial=True, seconds=60.0)
    assert nothing.scores.max() < 1 and nothing.scores.mean() < 0.01


@pytest.mark.usefixtures("sandboxed")
def test_checks_that_test_nothing_reward_nobody():
    checks = [TESTS, '["assert f(1) == 2"]', "def check(f):\n    assert f(1) == 2", "assert f(", ""]
    result = graded([RIGHT] * 5, checks, kind="tests")
    assert result.scores.tolist() == [1, 1, 0, 0, 0] and result.failures["tests"] == 3


# What they have in common.


def test_the_same_is_graded_once(monkeypatch: pytest.MonkeyPatch):
    run: list[tuple[str, str]] = []

    def check_calls(code: str, tests: str, **_: Any) -> Outcome:
        run.append((code, tests))
        return Outcome("x = 1" not in code, "", "", 0.0)

    monkeypatch.setattr(rewards, "check_calls", check_calls)
    grader = Grader(RewardConfig(kind="tests", workers=2))
    run.clear()
    said = [RIGHT, "x = 1", RIGHT, f"```python\n{RIGHT}```", RIGHT, "x = 1"]
    result = grader(said, None, [TESTS] * 4 + ["assert f(9)", TESTS])
    assert len(run) == len(set(run)) == 3 and result.scores.tolist() == [1, 0, 1, 1, 1, 0]


def test_equal_rewards_are_equal():
    pytest.importorskip("sacrebleu")
    result = graded(["The cat sat."] * 8, "The cat sat on a mat.", kind="bleu")
    assert np.ptp(result.scores) == 0 and 0 < result.scores[0] < 1
    for said in ("no", "yes"):
        assert np.ptp(graded([said] * 4, "yes", kind="exact").scores) == 0


@pytest.mark.usefixtures("sandboxed")
def test_grading_is_the_same_every_time_with_any_number_of_workers():
    said = [f"def f(x):\n    return x + {n % 3}" for n in range(12)]
    first = graded(said, TESTS, kind="tests", workers=1)
    for workers in (1, 4):
        again = graded(said, TESTS, kind="tests", workers=workers)
        assert again.scores.tolist() == first.scores.tolist() and again.reasons == first.reasons


def test_no_completions():
    result = graded([], [], kind="exact")
    assert result.scores.shape == (0,) and result.metrics()["reward"] == 0


@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize("error", [UserError("the sandbox failed twice"), OSError(24, "too many open files")])
def test_a_sandbox_that_fails_is_counted(error: Exception, monkeypatch: pytest.MonkeyPatch):
    grader = Grader(RewardConfig(kind="tests", workers=2))
    check_calls = rewards.check_calls

    def failing(code: str, tests: str, **others: Any) -> Any:
        if "bad" in code:
            raise error
        return check_calls(code, tests, **others)

    monkeypatch.setattr(rewards, "check_calls", failing)
    result = grader([RIGHT, "bad = 1\n" + RIGHT, RIGHT], None, [TESTS] * 3)
    assert result.scores.tolist() == [1, 0, 1] and result.reasons == ("", "grader", "")
    assert result.failures["grader"] == 1 and str(error) in result.error


@pytest.mark.usefixtures("sandboxed")
def test_a_launcher_that_died_is_started_again():
    grader = Grader(RewardConfig(kind="tests"))
    process = sandbox_client.launcher(isolated=True)._process
    process.kill()
    process.wait()
    assert grader([RIGHT], None, [TESTS]).scores.tolist() == [1]


def test_without_a_sandbox_it_says_so_at_once(monkeypatch: pytest.MonkeyPatch):
    sandbox_client.close()
    tried_out = sandbox_client._tried_out

    def refuse(isolated: bool, readable: tuple[str, ...]) -> sandbox_client.Launcher:
        if isolated:
            raise sandbox_client.SandboxUnavailable(sandbox_client._explanation("unshare: Operation not permitted"))
        return tried_out(isolated, readable)

    monkeypatch.setattr(sandbox_client, "_tried_out", refuse)
    try:
        with pytest.raises(UserError, match=r"(?s)reward.kind=tests.*not permitted.*reward.unsafe=true"):
            Grader(RewardConfig(kind="tests"))
        unsafe = Grader(RewardConfig(kind="tests", unsafe=True, seconds=20.0))
        assert unsafe([RIGHT, "f = 3"], None, [TESTS] * 2).scores.tolist() == [1, 0]
    finally:
        sandbox_client.close()


def test_packages_that_are_missing_are_named_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    with pytest.raises(UserError, match=r"ebm_jax\[eval\]"):
        Grader(RewardConfig(kind="bleu"))


def test_configs_survive_storage():
    config = RewardConfig(kind="tests", partial=True, stop=("\n\n", "```"), workers=3)
    assert from_dict(RewardConfig, to_dict(config)) == config == pickle.loads(pickle.dumps(config))
    assert replace(config, kind="exact", partial=False).kind == "exact"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "rouge"}, "reward.kind='rouge' is not one of bleu, exact, maths, tests"),
        ({"kind": "bleu", "language": "chinese"}, "give a code such as en or zh, or auto"),
        ({"kind": "maths", "first_line": True}, "reads the whole completion"),
        ({"kind": "bleu", "partial": True}, "reward.kind=bleu has none"),
        ({"kind": "bleu", "stop": ("",)}, "every completion would end"),
        ({"kind": "tests", "seconds": 0.0}, r"reward.seconds=0.0 must be"),
        ({"kind": "tests", "seconds": float("nan")}, "reward.seconds=nan must be"),
        ({"kind": "tests", "workers": 0}, "reward.workers=0 must be at least 1"),
    ],
)
def test_mistakes_in_the_config_are_named(config: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        RewardConfig(**config)


def test_what_is_missing_in_the_data_is_named():
    exact = Grader(RewardConfig(kind="exact"))
    with pytest.raises(UserError, match="grades by references, and there are none"):
        exact(["x"], None, ["assert f()"])
    with pytest.raises(UserError, match="2 completions and 1 references"):
        exact(["x", "y"], ["x"])
