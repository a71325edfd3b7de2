"""The unit tests of a program: one Python source, and the share of them that hold."""

import ast
import json
import re
import secrets
import warnings
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

from ebm_jax.grading.sandbox import Outcome

_ASSERTING = (ast.Assert, ast.For, ast.While, ast.With, ast.Try, ast.If, ast.Match)
_DECLARATIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_MARK = secrets.token_hex(8)
"""A word that the code under test cannot know: no exception of its own is taken for the count."""
# Of Python's names only exceptions: a name that the code defines could otherwise be the code's here. A process that ended
# raises none of these, so it ends the tests.
_CAUGHT = "(Exception, SystemExit, KeyboardInterrupt, GeneratorExit)"
_ONE = f"try: pass\nexcept {_CAUGHT}: __tests__[1] += 1\nelse: __tests__[0] += 1"
_ALL = (
    f"__tests__ = [0, 0]\ntry: pass\nexcept {_CAUGHT}: __tests__[1] += 1\n"
    f'assert __tests__[1] == 0, f"{_MARK} {{__tests__[0]}}"'
)


class UnitTests(NamedTuple):
    """What a program is to pass."""

    source: str
    """Python for the sandbox; tests that are counted have the count in their message when they fail."""
    number: int = 1
    """How many tests are told apart."""

    def share(self, outcome: Outcome) -> float:
        """The share of the tests that held; 0 for a run that did not reach its end (a time limit, a crash)."""
        if outcome.passed:
            return 1.0
        found = re.match(rf"AssertionError: {_MARK} (\d+)", outcome.detail)
        # All may hold where a line between them fails: that is no full pass.
        return min(int(found[1]), self.number - 1) / self.number if found and outcome.reason == "failed" else 0.0


@lru_cache(maxsize=4096)
def read_tests(text: str, *, count: bool = False) -> UnitTests | None:
    """Tests from Python source, or from the pieces of it in a JSON list; None if they are no Python or test nothing.

    Every program would pass a list of strings, or a function that nobody calls. ``count`` tells the tests apart. A test is
    a statement that asserts: an ``assert``, a block that has one, a call of a function of the tests that has one or of one
    whose name begins with ``assert``. Where one statement alone calls a function with asserts, such as ``check(add)``, the
    statements of the function are the tests instead. Other statements prepare tests: where one fails, nothing behind it
    counts.
    """
    if text.lstrip().startswith("["):
        try:
            pieces = json.loads(text)
        except ValueError:  # Python may begin like this too
            pieces = [text]
        if not all(isinstance(piece, str) for piece in pieces):
            return None
        text = "\n".join(piece.strip("\n") for piece in pieces) + "\n"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
        done = [node for node in tree.body if not isinstance(node, _DECLARATIONS)]
        if not any(isinstance(part, ast.Assert | ast.Raise | ast.Call) for node in done for part in ast.walk(node)):
            return None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    try:
        return _counted(text, tree) if count else UnitTests(text)
    except RecursionError:  # an expression too deep to write again is tested as a whole
        return UnitTests(text)


def _counted(text: str, tree: ast.Module) -> UnitTests:
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and _asserts(node)}
    uses = Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    opened = {name for node in tree.body if (name := _called(node)) in functions and uses[name] == 1}
    number = 0

    def counting(statement: ast.stmt) -> ast.stmt:
        nonlocal number
        name = _called(statement)
        asserts = isinstance(statement, _ASSERTING) and _asserts(statement)
        if name in opened or not (asserts or name in functions or name.rpartition(".")[2].startswith("assert")):
            return statement
        number += 1
        return _filled(_ONE, [statement])[0]

    for name in opened:
        functions[name].body = [counting(statement) for statement in functions[name].body]
    body = [counting(statement) for statement in tree.body]
    if number < 2:
        return UnitTests(text)
    future = [node for node in body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    whole = _filled(_ALL, [node for node in body if node not in future])
    return UnitTests(ast.unparse(ast.fix_missing_locations(ast.Module([*future, *whole], []))), number)


def _filled(template: str, statements: list[ast.stmt]) -> list[ast.stmt]:
    """The template's statements, with others in its ``try``."""
    body = ast.parse(template).body
    next(node for node in body if isinstance(node, ast.Try)).body = statements
    return body


def _asserts(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Assert) for part in ast.walk(node))


def _called(statement: ast.stmt) -> str:
    """The name of what a statement that is one call calls, such as ``check`` or ``np.testing.assert_allclose``; else empty."""
    match statement:
        case ast.Expr(ast.Call(ast.Name() | ast.Attribute() as function)):
            return ast.unparse(function)
    return ""
