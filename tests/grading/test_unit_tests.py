"""Unit tests as data sets write them, and the share of them that hold: full exactly when the tests as they are pass."""

import json

import pytest

from ebm_jax.grading.sandbox import Limits, Outcome, check_calls
from ebm_jax.grading.unit_tests import UnitTests, read_tests

LINES = "assert f(1) == 2\nassert f(2) == 3\nassert f(3) == 4\nassert f(-1) == 0\n"
CHECK = "def check(candidate):\n" + "".join(f"    {line}\n" for line in LINES.replace("f(", "candidate(").splitlines())
PREPARED = (
    "import math\nx = [1, 2]\nassert f(x[0]) == 2\nx.append(math.floor(f(4)))\nassert x[-1] == 5\nfor i in x:\n"
    "    assert f(i) == i + 1\n"
)
CLOSE = "def near(a, b):\n    assert abs(a - b) < 1\nnear(f(1), 2)\nnear(f(2), 3)\nnear(f(8), 9)\nassert f(0) == 1"
RAISES = "try:\n    f('a')\n    assert False\nexcept TypeError:\n    pass\nassert f(1) == 2\nassert f(2) == 3\n"
EARLY = (
    "def check(g):\n    assert g(1) == 2\n    if g(2) == 3:\n        return\n    assert False\n    assert g(3) == 9\n"
)
PIECES = json.dumps([f"\n{line}\n" for line in LINES.splitlines()])

RIGHT = "def f(x):\n    return x + 1"
ONCE = "def f(x):\n    return 2"
SHARES = {
    "all": (RIGHT, LINES, 1.0),
    "one_of_four": (ONCE, LINES, 0.25),
    "none": ("def f(x):\n    return None", LINES, 0.0),
    "not_defined": ("def g(x):\n    return 2", LINES, 0.0),
    "no_python": ("def f(x", LINES, 0.0),
    "raises_at_one": ("def f(x):\n    assert x > 0\n    return x + 1", LINES, 0.75),
    "exits_at_one": ("def f(x):\n    if x < 0:\n        exit()\n    return x + 1", LINES, 0.75),
    "a_list_in_json": (ONCE, PIECES, 0.25),
    "inside_a_check": (ONCE, CHECK + "check(f)", 0.25),
    "a_check_that_passes": (RIGHT, CHECK + "check(f)", 1.0),
    "a_check_that_returns_early": (RIGHT, EARLY + "check(f)", 1.0),
    "prepared": (RIGHT, PREPARED, 1.0),
    "a_block_is_one_test": (ONCE, PREPARED, 1 / 3),
    "a_line_between_ends_the_tests": ("def f(x):\n    return 2 if x == 1 else 1 / 0", PREPARED, 1 / 3),
    "a_line_behind_all_of_them": (RIGHT, LINES + "f(None)", 0.75),
    "every_call_of_a_function": ("def f(x):\n    return min(x + 1, 3)", CLOSE, 0.75),
    "an_expected_exception": (RIGHT, RAISES, 1.0),
    "an_expected_exception_alone": ("def f(x):\n    return 1 + x if x == 'a' else 0", RAISES, 1 / 3),
    "from_the_future": (ONCE, "from __future__ import annotations\n" + LINES, 0.25),
    "one_test": (ONCE, "assert f(2) == 3", 0.0),
}


@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize("case", SHARES)
def test_the_share_that_holds(case: str):
    code, text, share = SHARES[case]
    limits = Limits(seconds=20)
    tests, plain = read_tests(text, count=True), read_tests(text)
    assert tests is not None and plain is not None
    outcome = check_calls(code, tests.source, limits=limits)
    assert tests.share(outcome) == pytest.approx(share), outcome
    assert check_calls(code, plain.source, limits=limits).passed == (share == 1)


FORGED = {
    "by_an_exception_of_its_own": "class AssertionError(BaseException):\n    pass\n"
    "def f(x):\n    raise AssertionError('0123456789abcdef 4')",
    "by_names_of_ours": "__tests__ = [4, 0]\ndef f(x):\n    global __tests__\n    __tests__ = [4, 0]\n    return None",
    "by_exceptions_that_are_none": "class Exception(BaseException):\n    pass\n"
    "def f(x):\n    raise Exception('AssertionError')",
    "by_the_end_of_its_process": "import os\ndef f(x):\n    if x == 3:\n        os._exit(0)\n    return x + 1",
}


@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize("case", FORGED)
def test_a_count_cannot_be_forged(case: str):
    tests = read_tests(LINES, count=True)
    assert tests is not None
    outcome = check_calls(FORGED[case], tests.source, limits=Limits(seconds=20))
    assert not outcome.passed and tests.share(outcome) == 0, outcome
    other = Outcome(False, "failed", "the code does not load: " + outcome.detail + " AssertionError: 4", 0.0)
    assert tests.share(other) == 0


@pytest.mark.usefixtures("sandboxed")
def test_names_that_python_has_may_be_under_test():
    code = "def len(x):\n    return 4\ndef sum(x):\n    return 3"
    tests = read_tests("assert sum([1]) == 1\nassert sum([2]) == 2\nassert sum([3]) == 3", count=True)
    assert tests is not None
    assert tests.share(check_calls(code, tests.source, limits=Limits(seconds=20))) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        "x = 3",
        "def check(f):\n    assert f(1) == 2",  # nobody calls it
        "['assert f(1) == 2', \"assert f(2) == 3\"]",  # Python's list: it would pass by itself
        "[]",
        "[1, 2]",
        '["x = 3"]',
        '["assert f("]',
        "assert f(1) ==",
        "assert f('\0')",
        "f" + "(" * 5000,
    ],
)
def test_what_tests_nothing_is_refused(text: str):
    assert read_tests(text) is None and read_tests(text, count=True) is None


def test_tests_stay_as_they_are_unless_they_are_counted():
    assert read_tests(LINES) == UnitTests(LINES)
    assert read_tests("assert f(1) == 2", count=True) == UnitTests("assert f(1) == 2")
    tests = read_tests(LINES, count=True)
    assert tests is not None and tests.number == 4 and tests == read_tests(LINES, count=True)
    assert read_tests(PIECES) == UnitTests(LINES)
    deep = f"{LINES}assert f(0) == {'+'.join('1' * 900)}"
    assert read_tests(deep, count=True) == read_tests(deep) == UnitTests(deep)
