"""Programs ask for large pages where that changes anything, and only once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ebm_jax.huge_pages import ASK, VARIABLE, asking


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    file = tmp_path / "enabled"
    file.write_text("always [madvise] never\n")
    return file


def test_the_tunable_joins_those_that_are_set(kernel: Path):
    assert asking({"A": "b"}, kernel, "glibc") == {"A": "b", VARIABLE: ASK}
    other = {VARIABLE: "glibc.malloc.check=0"}
    assert asking(other, kernel, "glibc") == {VARIABLE: f"glibc.malloc.check=0:{ASK}"}


@pytest.mark.parametrize("told", [ASK, "glibc.malloc.hugetlb=0", f"glibc.malloc.check=0:{ASK}"])
def test_a_choice_that_was_made_stays(told: str, kernel: Path):
    assert asking({VARIABLE: told}, kernel, "glibc") is None


def test_nothing_is_asked_of_others(kernel: Path, tmp_path: Path):
    assert asking({}, kernel, "") is None, "not glibc"
    assert asking({}, tmp_path / "missing", "glibc") is None, "not Linux"
    kernel.write_text("[always] madvise never\n")
    assert asking({}, kernel, "glibc") is None
    kernel.write_text("always madvise [never]\n")
    assert asking({}, kernel, "glibc") is None


@pytest.mark.skipif(asking({}) is None, reason="asking for large pages changes nothing on this machine")
def test_a_command_begins_again_as_itself(tmp_path: Path):
    """The same process, arguments, interpreter flags and folder; the status is the command's own."""
    module = tmp_path / "asked.py"
    module.write_text(
        "import os, sys\n"
        "from ebm_jax.huge_pages import ask_again\n"
        "ask_again()\n"
        "print(os.getpid(), os.environ['GLIBC_TUNABLES'], sys.flags.dont_write_bytecode, sys.argv[1:])\n"
        "sys.exit(7)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    command = [sys.executable, "-B", "-m", "asked", "two words", "k=v"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as process:
        told, _ = process.communicate()
    assert told == f"{process.pid} {ASK} 1 ['two words', 'k=v']\n"
    assert process.returncode == 7
