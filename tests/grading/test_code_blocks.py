"""The program in a completion, in all the ways that models write one."""

import pytest

from ebm_jax.grading.code_blocks import extract_code

HEAD = 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """Sum."""\n'
RIGHT = [
    "    return sum(xs)\n",
    "    s = 0\n    for x in xs:\n        s += x\n\n    return s\n\nprint(total([1]))\n",
    "```python\ndef total(xs):\n    return sum(xs)\n```",
    "Here it is:\n\n```py\ndef helper(x):\n    return x\n\ndef total(xs: List[int]):\n    return sum(map(helper, xs))\n```\n"
    "And a use:\n```python\nprint(total([1, 2]))\n```\n",
    "```\n    return sum(xs)\n```",
    "```python\nreturn sum(xs)\n```",
    "def total(xs: List[int]) -> int:\n    return sum(xs)\n",
    "Here is the function:\n\nimport math\n\ndef total(xs):\n    return math.floor(sum(xs))\n\nI hope that it helps!\nBye.",
    "1. The code:\n\n   ```python\n   def total(xs):\n\n       return sum(xs)\n   ```\n2. No more.",
    "```python\ndef total(xs):\n    return sum(xs)\n",
    '    text = """\nnot code\n"""\n    return sum(xs) + 0 * len(text)\ntotal = None\n',
]


@pytest.mark.parametrize("text", RIGHT)
def test_a_function_head_is_completed(text):
    names = {}
    exec(extract_code(text, prompt=HEAD), names)
    assert names["total"]([1, 2, 3]) == 6


def test_odd_programs_stay_as_they_are():
    for text in (
        "def total(xs):\n    '\\d'\n",
        "def total(xs):\n    return (\n",
        "words\ndef total(xs) return\n",
        "def total(xs):\n    \0\n",
    ):
        assert extract_code(text, prompt=HEAD).endswith(text)


def test_without_a_prompt_the_last_block_or_the_text():
    assert extract_code("a\n```python\nx = 1\n```\nb\n```python\nx = 2\n```") == "x = 2\n"
    assert extract_code("x = 3") == "x = 3"
    assert extract_code("```javascript\nlet x\n```\n```python\nx = 1\n```", language="js") == "let x\n"
    assert extract_code("~~~\nx = 4\n~~~") == "x = 4\n"


def test_functions_before_the_wanted_one_need_not_be_repeated():
    head = "import math\n\n\ndef half(x):\n    return x / 2\n\n\n" + HEAD.partition("\n\n\n")[2]
    names = {}
    exec(extract_code("```python\ndef total(xs):\n    return math.floor(2 * half(sum(xs)))\n```", prompt=head), names)
    assert names["total"]([1, 2, 3]) == 6
    exec(
        extract_code("```python\ndef half(x):\n    return 0\n\ndef total(xs):\n    return half(1)\n```", prompt=head),
        names,
    )
    assert names["total"]([1]) == 0, "a program may bring its own"
