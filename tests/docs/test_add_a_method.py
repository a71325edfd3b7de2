"""The program in docs/add_a_method.md runs, learns, and is as short as it says."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "add_a_method.md").read_text()


def program():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
    return code


def test_the_method_is_short():
    method = program().split("@dataclass")[1].split("documents =")[0]
    assert len(method.strip().splitlines()) < 60


def test_the_program_learns():
    names: dict = {}
    exec(compile(program(), "docs/add_a_method.md", "exec"), names)
    result = names["result"]
    assert result.step == 60
    assert result.metrics["nll"] < 1.0, "the repeating sequence is not learned"
