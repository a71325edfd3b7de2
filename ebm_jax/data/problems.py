"""Problems that a program makes and checks: sums written out step by step, and countdown, a puzzle of numbers.

sums        "47+8+136=" is gone on from with " 47+8=55 55+136=191"
countdown   "3 5 8 -> 29:" with " 3*8+5": an expression of all the numbers, each once, that is worth what is asked
            (the game of 24 with any goal; Yao et al. 2023)
"""

import ast
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ebm_jax.errors import UserError


class Problem(NamedTuple):
    """``prompt + solution`` is a text that solves it."""

    prompt: str
    solution: str


def sums(rng: np.random.Generator) -> Problem:
    """Three to five numbers of up to three digits, added from left to right."""
    terms = [int(rng.integers(1, 10 ** rng.integers(1, 4))) for _ in range(rng.integers(3, 6))]
    steps, total = [], terms[0]
    for term in terms[1:]:
        steps.append(f"{total}+{term}={total + term}")
        total += term
    return Problem("+".join(map(str, terms)) + "=", " " + " ".join(steps))


def countdown(rng: np.random.Generator) -> Problem:
    """Three numbers of 1 to 50, two operations of ``+ - *`` in any order, and a goal of 1 to 99."""
    while True:
        a, b, c = numbers = [int(n) for n in rng.integers(1, 51, 3)]
        first, second = ("+-*"[n] for n in rng.integers(0, 3, 2))
        expression = f"{a}{first}{b}{second}{c}" if rng.random() < 0.5 else f"{a}{first}({b}{second}{c})"
        goal = value(expression)
        if goal is not None and 1 <= goal <= 99:
            asked = " ".join(map(str, sorted(numbers)))
            return Problem(f"{asked} -> {goal}:", f" {expression}")


KINDS: dict[str, Callable[[np.random.Generator], Problem]] = {"sums": sums, "countdown": countdown}


def problems(kind: str, count: int, seed: int, but: frozenset[str] = frozenset()) -> list[Problem]:
    """Different problems, none of whose prompts is in ``but``.

    Raises:
      UserError: there is no such kind, or there are not as many.
    """
    if kind not in KINDS:
        raise UserError(f"problems of kind {kind!r} are not among {', '.join(KINDS)}")
    rng, found = np.random.default_rng(seed), dict[str, Problem]()
    for problem in itertools.islice(_endless(kind, rng), 4 * count + 1000):
        if problem.prompt not in but:
            found.setdefault(problem.prompt, problem)
        if len(found) == count:
            return list(found.values())
    raise UserError(f"there are not as many as {count} problems of kind {kind}: {len(found)} were found; ask for fewer")


def solved(kind: str, prompt: str, text: str) -> bool:
    """Whether a text solves the problem of a prompt; what it says behind its first line does not count."""
    line = text.strip().split("\n")[0].strip()
    if kind == "sums":
        last = re.search(r"=(\d+)$", line)
        return last is not None and int(last[1]) == sum(map(int, prompt.strip().rstrip("=").split("+")))
    numbers, _, goal = prompt.strip().rstrip(":").partition(" -> ")
    used = Counter(re.findall(r"\d+", line))
    return used == Counter(numbers.split()) and value(line) == int(goal)


def value(expression: str) -> int | None:
    """What an expression of whole numbers, ``+ - *`` and brackets is worth; None where it is none."""
    if not re.fullmatch(r"[\d+\-*() ]{1,100}", expression) or "**" in expression:
        return None
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError):
        return None
    return _value(tree.body)


def _value(node: ast.expr) -> int | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if not isinstance(node, ast.BinOp):
        return None
    left, right = _value(node.left), _value(node.right)
    if left is None or right is None:
        return None
    match node.op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
    return None


def _endless(kind: str, rng: np.random.Generator) -> Iterator[Problem]:
    while True:
        yield KINDS[kind](rng)
