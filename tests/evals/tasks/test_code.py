"""Programs of a model: HumanEval, MBPP, puzzles and MultiPL-E, run in real sandboxes."""

import shutil
from pathlib import Path

import pytest

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks import multipl_e
from ebm_jax.evals.tasks.code import typed
from ebm_jax.evals.tasks.options import TaskOptions
from ebm_jax.evals.tasks.programs import trusted_part
from ebm_jax.evals.tasks.protocol import Grading
from ebm_jax.evals.tasks.registry import make_task
from ebm_jax.evals.tasks.runner import run_task
from ebm_jax.grading.sandbox import check_calls
from tests.evals.tasks.fakes import FakeModel, read_lines, write_rows

OPTIONS = TaskOptions(resamples=50, code_seconds=5.0)
HEAD = 'import math\n\ndef half(x):\n    return x / 2\n\ndef third(x: int) -> float:\n    """A third of x."""\n'
HUMANEVAL = [
    {
        "task_id": "HumanEval/0",
        "prompt": HEAD,
        "entry_point": "third",
        "canonical_solution": "    return x / 3\n",
        "test": "def check(f):\n    assert f(3) == 1\n    assert math.isclose(half(f(6)), 1.0)\n",
    },
    {
        "task_id": "HumanEval/1",
        "prompt": "def one():\n    '''One.'''\n",
        "entry_point": "one",
        "canonical_solution": "    return 1\n",
        "test": "def check(f):\n    assert f() == 1\n",
    },
]
MBPP = [
    {
        "task_id": n,
        "text": f"Return {n}.",
        "code": f"def f():\r\n    return {n}",
        "test_setup_code": "",
        "test_list": [t],
    }
    for n, t in [(n, f"assert f() == {n}") for n in (1, 2, 3, 4, 11, 12, 510, 511)]
]
PUZZLES = [
    {
        "name": "A:0", "sat": "def sat(x: List[int], n=3):\n    return sum(x) == n", "ans_type": "List[int]",
        "sol_header": "def sol(n=3):", "sol_docstring": '    """Sum to n."""',
    },
    {
        "name": "B:0", "sat": "def sat(s: str):\n    return len(s) == 2", "ans_type": "str", "sol_header": "def sol():",
        "sol_docstring": "",
    },
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def sandbox() -> None:
    try:
        check_calls("", "assert True")
    except UserError as error:
        pytest.skip(f"no sandbox here: {error}")


def reasons(folder: Path) -> dict[str, str]:
    return {row["id"]: row["info"]["reason"] for row in read_lines(folder / "grades.jsonl")}


def test_humaneval_right_wrong_and_empty(tmp_path: Path):
    path = write_rows(tmp_path / "h.jsonl", HUMANEVAL)
    answers = {
        0: ["    return x / 3\n\ndef more():\n", "    return 0\n", ""],
        1: ["    return 1", "    return 1", "    raise OSError"],
    }
    model = FakeModel(lambda prompt, n: answers["def one" in prompt][n])
    options = TaskOptions(resamples=50, samples=3, temperature=0.8)
    result = run_task(model, make_task(f"humaneval={path}"), tmp_path / "out", options)
    assert model.prompts[0].text == HEAD, "the head is given as it stands"
    # 1 and 2 of 3 right: pass@1 = 1/2, pass@2 = ((1 - C(2,2)/C(3,2)) + 1) / 2, pass@3 = 1.
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert values == pytest.approx({"pass@1": 1 / 2, "pass@2": (2 / 3 + 1) / 2, "pass@3": 1.0})
    assert [row["score"] for row in read_lines(tmp_path / "out" / "grades.jsonl")] == [1, 0, 0, 1, 1, 0]


def test_humaneval_as_a_chat(tmp_path: Path):
    path = write_rows(tmp_path / "h.jsonl", HUMANEVAL)
    said = "Sure:\n```python\nimport math\ndef half(x):\n    return x / 2\ndef third(x):\n    return x / 3\n```\nDone."
    model = FakeModel({"def third": said, "def one": "I cannot."})
    result = run_task(model, make_task(f"humaneval:chat={path}"), tmp_path / "out", OPTIONS)
    assert "```python\nimport math" in model.prompts[0].messages[0]["content"]
    assert result.metrics["pass@1"].value == 0.5


def test_what_a_head_brings_along_cannot_be_replaced(tmp_path: Path):
    assert trusted_part(HEAD, "third") == "import math\n\ndef half(x):\n    return x / 2"
    assert trusted_part("def (", "third") == ""
    path = write_rows(tmp_path / "h.jsonl", HUMANEVAL[:1])
    model = FakeModel({"third": "    return 1\n\nhalf = lambda x: 1.0\n"})
    run_task(model, make_task(f"humaneval={path}"), tmp_path / "out", OPTIONS)
    assert reasons(tmp_path / "out") == {"HumanEval/0": "failed"}


def test_mbpp_asks_as_published(tmp_path: Path):
    path = write_rows(tmp_path / "m.jsonl", MBPP)
    model = FakeModel(lambda prompt, n: f"def f():\n    return {11 if 'Return 11' in prompt else 0}\n[DONE]\nmore")
    result = run_task(model, make_task(f"mbpp={path}"), tmp_path / "out", OPTIONS)
    text = model.prompts[0].text
    assert text.startswith(
        "You are an expert Python programmer, and here is your task: Return 2. Your code should pass these tests:\n\n"
        "assert f() == 2\n[BEGIN]\ndef f():\n    return 2\n[DONE]\n"
    )
    assert text.count("[DONE]") == 3 and text.endswith("assert f() == 11\n[BEGIN]\n") and "\r" not in text
    assert reasons(tmp_path / "out") == {"11": "passed", "12": "failed", "510": "failed"}
    assert result.metrics["pass@1"].value == pytest.approx(1 / 3)
    chat = make_task(f"mbpp:chat={path}").examples()[0].prompt.messages[0]["content"]
    assert chat.startswith("Return 11.") and "assert f() == 11" in chat
    write_rows(path, [MBPP[0], MBPP[4]])
    assert "[DONE]" not in make_task(f"mbpp:0shot={path}").examples()[0].prompt.text
    with pytest.raises(UserError, match=r"the solved problems \[2, 3, 4\] of the prompt are missing"):
        make_task(f"mbpp={path}").examples()
    write_rows(path, [{**MBPP[4], "test_list": "assert"}])
    with pytest.raises(UserError, match=r"m\.jsonl: line 1: field 'test_list' holds a str, not a list"):
        make_task(f"mbpp:0shot={path}").examples()


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        ("    return [1, 2]\n", True),
        ("    return [3.0]\n", False),  # a list of floats is not what was asked for
        ("    return [4]\n", False),
        ("", False),
        ("    return [4]\n\nsat = lambda x: True\n", False),
        ("    class L(list):\n        def __iter__(self):\n            return iter([3])\n    return L([4])\n", False),
    ],
)
def test_puzzles_are_judged_by_their_own_predicate(tmp_path: Path, answer: str, passes: bool):
    path = write_rows(tmp_path / "p.jsonl", PUZZLES[:1])
    model = FakeModel({"def sol": answer})
    result = run_task(model, make_task(f"puzzles={path}"), tmp_path / "out", OPTIONS)
    assert model.prompts[0].text.endswith('def sol(n=3):\n    """Sum to n."""\n')
    assert result.metrics["pass@1"].value == float(passes)


def test_types_of_answers():
    judged = lambda kind, value: eval(typed(kind), {"_answer": value})
    assert judged("List[List[float]]", [[1.0, 2], []]) and not judged("List[List[float]]", [1.0])
    assert judged("int", 3) and not judged("int", True) and not judged("str", b"") and judged("bool", False)
    for kind in ("List[Set[int]]", "Any", "List[int"):
        with pytest.raises(KeyError):
            typed(kind)


def test_a_puzzle_of_an_unknown_type_is_named(tmp_path: Path):
    path = write_rows(tmp_path / "p.jsonl", [PUZZLES[1], {**PUZZLES[1], "ans_type": "Set[int]"}])
    with pytest.raises(UserError, match=r"p\.jsonl: line 2: ans_type 'Set\[int\]' is none of bool, int"):
        make_task(f"puzzles={path}").examples()


def test_other_languages(tmp_path: Path):
    rows = [
        {
            "name": f"HumanEval_{n}", "prompt": "f() {\n", "tests": "}\n[ \"$(f)\" = 3 ] || exit 1", "doctests": "keep",
            "stop_tokens": ["\n}"],
        }
        for n in range(3)
    ]  # fmt: skip
    rows = [{**row, "prompt": f"# {n}\nf() {{\n"} for n, row in enumerate(rows)]
    path = write_rows(tmp_path / "sh.jsonl", rows)
    model = FakeModel({"# 0": "    echo $((1 + 2))\n}\nrm -rf /", "# 1": "    echo 4\n}", "# 2": ""})
    result = run_task(model, make_task(f"multipl-e:sh={path}"), tmp_path / "out", OPTIONS)
    assert result.metrics["pass@1"].value == pytest.approx(1 / 3)
    assert reasons(tmp_path / "out")["HumanEval_0"] == "passed"


CPP = "#include<cassert>\n// The length.\nlong size(std::string s) {\n"
CPP_TESTS = "}\nint main() { assert(size(std::string()) == 0); }"


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        (
            "#include<cassert>\nusing namespace std;\nlong size( string s )\n{\n    return 0;\n}\n\nint main() {}\n",
            "#include<cassert>\n// The length.\nusing namespace std;\nlong size(std::string s) {\n    return 0;\n"
            f"{CPP_TESTS}\n",
        ),
        ("auto size = [](auto s) { return 0; };", f"auto size = [](auto s) {{ return 0; }};\n{CPP_TESTS[1:]}\n"),
    ],
)
def test_a_chat_says_the_whole_function_and_tests_go_on_from_a_cut_one(answer: str, program: str):
    assert multipl_e.joined(CPP, answer, CPP_TESTS, ["\n}"]) == program


def test_a_function_in_a_class_and_one_that_ends_itself():
    head, tests = (
        "class Problem {\n    public static int f() {\n",
        "    }\n    public static void main(String[] a) {}\n}",
    )
    answer = (
        "class Problem {\n    static int g() { return 1; }\n    public static int f() {\n        return g();\n    }\n}"
    )
    assert multipl_e.joined(head, answer, tests, ["\n    }\n"]) == (
        "class Problem {\n    static int g() { return 1; }\n    public static int f() {\n        return g();\n"
        + tests
        + "\n"
    )
    answer = "function f(){\n  return 1;\n}\nconsole.log(f());\n"
    assert multipl_e.joined("//One.\nfunction f(){\n", answer, "test();", ["\nfunction ", "\nconsole.log"]) == (
        "//One.\nfunction f(){\n  return 1;\n}\ntest();\n"
    )


def test_compilers_and_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    language = multipl_e.LANGUAGES["cpp"]
    assert language.programs == ["g++"] and multipl_e.LANGUAGES["ts"].programs == ["tsc", "node"]
    monkeypatch.setitem(multipl_e.LANGUAGES, "lua", multipl_e.Language("Lua", "m.lua", "no-such-lua m.lua"))
    with pytest.raises(UserError, match="multipl-e:lua needs no-such-lua, which the sandbox does not find"):
        make_task("multipl-e:lua").ready(Grading())
    if shutil.which("g++", path=multipl_e.SANDBOX_PATH) is None:
        pytest.skip("no C++ compiler here")
    tests = "}\nint main() { assert(f() == 3); }"
    row = {"name": "x", "prompt": "#include<cassert>\nint f() {\n", "tests": tests, "stop_tokens": ["\n}"]}
    path = write_rows(tmp_path / "cpp.jsonl", [row])
    model = FakeModel({"int f": "    return 3;\n}"})
    result = run_task(model, make_task(f"multipl-e:cpp={path}"), tmp_path / "out", TaskOptions(code_seconds=20.0))
    assert result.metrics["pass@1"].value == 1.0 and model.calls[0]["stop"] == ["\n}"]
