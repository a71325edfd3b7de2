"""Gains of thinking are against the fewest steps of training, in perplexity and in bits."""

import math
from pathlib import Path

import pytest

from ebm_jax.reporting import thinking
from ebm_jax.reporting.runs import read_run
from tests.reporting import synthetic


def test_gains(tmp_path: Path):
    run = read_run(synthetic.write_ebt(tmp_path / "s2", 2))
    base = thinking.without_thinking(run, "validation")
    assert base is not None and (base.candidates, base.steps, base.forward_passes) == (1, 2, 2)
    assert thinking.gain(base, base) == 0
    more = thinking.longer(run, "validation")[4]
    bits = base.bits_per_byte - more.bits_per_byte
    assert thinking.gain(more, base) == pytest.approx(100 * (1 - 2**-bits))
    assert [t.candidates for t in thinking.verified(run, "validation")] == [2, 5, 10]
    assert thinking.verified(run, "validation")[1].forward_passes == 20


def test_a_loss_is_called_a_loss():
    said = thinking._changes([(-2.0, "with 9 steps"), (0.01, "with 3"), (4.0, "by a"), (5.0, "by b")])
    assert said == (
        "rises by 2.0 % with 9 steps, and stays where it was with 3, and falls by 4.0 % by a, and by 5.0 % by b"
    )


def test_without_candidates_there_is_no_section(tmp_path: Path):
    assert thinking.section([read_run(synthetic.write_ebt(tmp_path / "s1", 1))]) == ""
    assert math.isclose(thinking.gain(thinking.Thought(1, 1, 1, 1.0, 2.0), thinking.Thought(1, 1, 1, 2.0, 4.0)), 50)
