"""What follows from one run's records."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ebm_jax.errors import UserError
from ebm_jax.reporting.headline import summary_table
from ebm_jax.reporting.loss_curves import POINTS, smooth, thin
from ebm_jax.reporting.runs import Curve, Run, read_run, read_runs
from tests.reporting import synthetic


def lines(*entries: tuple[int, float]) -> list[dict]:
    return [{"step": step, "tokens": tokens, "nll": 1.0, "step_time": 0.5} for step, tokens in entries]


def test_tokens_between_logged_updates_are_counted():
    run = Run(Path("x"), metrics=lines((1, 10.0), (5, 20.0), (10, 30.0)))
    counted = run.tokens_at(np.array([0, 1, 3, 5, 10, 12]))
    np.testing.assert_allclose(counted, [0, 10, 50, 90, 240, 300])
    assert run.tokens == 240


def test_seconds_cover_every_update():
    metrics = [{"step": 1, "nll": 9.0}, *lines((5, 1.0), (10, 1.0))]
    metrics[-1]["step_time"] = 2.0
    run = Run(Path("x"), metrics=metrics, result={"step": 12})
    assert run.training_seconds == pytest.approx(5 * 0.5 + 7 * 2.0)
    assert run.seconds == {"training steps": pytest.approx(16.5)}


def test_bits_per_byte_follow_the_tokens_of_a_byte():
    run = Run(Path("x"), metrics=lines((1, 1.0)), evaluation={"splits": {"validation": {"tokens": 50, "bytes": 200}}})
    assert run.training_curve().value == pytest.approx([0.25 / math.log(2)])


@pytest.mark.parametrize(
    ("descent", "method", "fewest", "most"),
    [
        ({"landscapes": 2, "loss_on": "every_step"}, "EBT S1", 2, 2),
        ({"landscapes": 1, "random_repeats": 2, "min_repeats": 2, "loss_on": "last_step"}, "EBT S2", 2, 3),
        ({"landscapes": 3, "random_repeats": 1, "random_final_only": True, "loss_on": "last_step"}, "EBT S2", 3, 4),
    ],
)
def test_method_and_inner_steps_follow_from_the_config(descent: dict, method: str, fewest: int, most: int):
    run = Run(Path("x"), record={"config": {"algorithm": {"kind": "ebt", "descent": descent}}})
    assert (run.method, run.fewest_steps, run.trained_steps) == (method, fewest, most)


def test_the_result_uses_the_steps_of_training(tmp_path: Path):
    run = read_run(synthetic.write_ebt(tmp_path / "s2", 2))
    curve = run.splits["validation"]["bits_per_byte"]
    assert run.trained_steps == 3 and len(curve) == 8
    assert run.bits_per_byte("validation") == curve[2]


def test_labels_are_methods_where_these_differ(tmp_path: Path):
    one, two = synthetic.write_ebt(tmp_path / "a", 1), synthetic.write_ebt(tmp_path / "b", 1)
    lm = synthetic.write_lm(tmp_path / "c")
    assert [run.label for run in read_runs([lm, one])] == ["Transformer++", "EBT S1"]
    record = json.loads((two / "evaluation.json").read_text()) | {"name": "wide"}
    (two / "evaluation.json").write_text(json.dumps(record))
    assert [run.label for run in read_runs([lm, one, two])] == ["Transformer++", "demo_ebt_s1", "wide"]
    (two / "evaluation.json").write_text((one / "evaluation.json").read_text())
    assert [run.label for run in read_runs([one, two])] == [str(one), str(two)]


def test_the_summary_is_aligned_plain_text(tmp_path: Path):
    table = summary_table(synthetic.write_all(tmp_path))
    head, rule, *rows = table.splitlines()
    assert len(rule) == len(head) and {len(row) for row in rows} == {len(head)}
    assert head.split("  ")[-1].strip() == "byte bigram"
    (validation,) = [row for row in rows if row.startswith("bits/byte, validation")]
    assert validation.split()[2:] == ["2.310", "2.691", "2.537", "3.551"]


def test_a_damaged_record_is_named(tmp_path: Path):
    folder = synthetic.write_lm(tmp_path / "lm")
    (folder / "evaluation.json").write_text('{"splits": ')
    with pytest.raises(UserError, match=r"evaluation\.json is damaged"):
        read_run(folder)


def test_smoothing_keeps_lines_and_ends():
    line = Curve(np.arange(200.0), np.arange(200.0))
    np.testing.assert_allclose(smooth(line).value, line.value)
    np.testing.assert_allclose(smooth(Curve(np.arange(1.0), np.ones(1))).value, [1.0])
    long = thin(Curve(np.arange(9999.0), np.arange(9999.0)))
    assert len(long.step) == POINTS and long.step[0] == 0 and long.step[-1] == 9998
