"""The record of a run: complete, appended by each launch, and whole after a kill."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import records
from ebm_jax.errors import UserError
from ebm_jax.records import read_metrics, read_run_record
from ebm_jax.training import record
from ebm_jax.training.record import MetricsWriter, write_json, write_run_record

CONFIG = {"seed": 1, "optim": {"peak_lr": 1e-3}}


def test_first_launch(tmp_path: Path):
    written = write_run_record(tmp_path / "new", CONFIG, ["pretrain", "x.py"], extra={"parameters": np.int64(7)})
    stored = read_run_record(tmp_path / "new")
    assert stored["config"] == CONFIG == written["config"]
    (launch,) = stored["launches"]
    assert launch["command"] == ["pretrain", "x.py"] and launch["resumed_at"] is None and launch["changes"] == []
    assert launch["versions"].keys() >= {"python", "jax", "flax", "optax", "orbax-checkpoint", "numpy"}
    assert launch["devices"] == {"platform": "cpu", "kind": "cpu", "count": 8, "processes": 1}
    assert launch["parameters"] == 7
    assert launch["start"].endswith("+00:00") and launch["host"]["name"]


def test_a_resumed_run_adds_a_launch_and_what_changed(tmp_path: Path):
    write_run_record(tmp_path, CONFIG, ["a"])
    write_run_record(tmp_path, CONFIG | {"seed": 2}, ["b"], resumed_at=40)
    stored = read_run_record(tmp_path)
    assert stored["config"]["seed"] == 2
    assert [launch["command"] for launch in stored["launches"]] == [["a"], ["b"]]
    assert stored["launches"][1]["resumed_at"] == 40
    assert stored["launches"][1]["changes"] == [{"key": "seed", "old": 1, "new": 2}]
    assert [path.name for path in tmp_path.iterdir()] == [records.RUN]


def test_the_code_is_named_by_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    state = record.git_state()
    if state is not None:
        assert len(state["commit"]) == 40 and isinstance(state["dirty"], bool)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert record.git_state() is None


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no run lives there"), ("{", "is damaged"), ("{}", "is not the record of a run")],
)
def test_a_folder_without_a_record(tmp_path: Path, content: str | None, message: str):
    if content is not None:
        (tmp_path / records.RUN).write_text(content)
    with pytest.raises(UserError, match=message):
        read_run_record(tmp_path)


def test_metrics_of_any_number_type(tmp_path: Path):
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.write(0, {"loss": jnp.float32(0.5), "rows": np.int32(3), "note": "x", "bad": float("nan")})
        writer.write(1, {"loss": 0.25})
        assert len(read_metrics(tmp_path)) == 2, "lines are there before the file is closed"
    first, second = read_metrics(tmp_path / records.METRICS)
    assert np.isnan(first.pop("bad"))
    assert first == {"step": 0, "loss": 0.5, "rows": 3, "note": "x"} and second == {"step": 1, "loss": 0.25}


def test_an_interrupted_and_resumed_file_equals_an_uninterrupted_one(tmp_path: Path):
    def steps(writer: MetricsWriter, begin: int, end: int) -> None:
        for step in range(begin, end):
            writer.write(step, {"loss": 1 / (step + 3), "eval/ppl": [1, None]})

    with MetricsWriter(tmp_path / "a", tensorboard=False) as writer:
        steps(writer, 1, 9)
    with MetricsWriter(tmp_path / "b", tensorboard=False) as writer:
        steps(writer, 1, 7)
    path = tmp_path / "b" / records.METRICS
    path.write_bytes(path.read_bytes()[:-9])
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3, 4, 5]
    with MetricsWriter(tmp_path / "b", resume_step=4, tensorboard=False) as writer:
        steps(writer, 5, 9)
    assert path.read_bytes() == (tmp_path / "a" / records.METRICS).read_bytes()


def test_a_run_from_scratch_starts_the_file_anew(tmp_path: Path):
    for value in (1, 2):
        with MetricsWriter(tmp_path, tensorboard=False) as writer:
            writer.write(0, {"value": value})
    assert read_metrics(tmp_path) == [{"step": 0, "value": 2}]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path):
    (tmp_path / records.METRICS).write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl:2 is not a line of metrics"):
        read_metrics(tmp_path)
    with pytest.raises(UserError, match="has not started"):
        read_metrics(tmp_path / "nowhere")


def test_tensorboard(tmp_path: Path):
    pytest.importorskip("tensorboardX")
    with MetricsWriter(tmp_path) as writer:
        writer.write(0, {"loss": 1.0, "note": "x"})
    (events,) = (tmp_path / record.TENSORBOARD).iterdir()
    assert b"loss" in events.read_bytes() and b"note" not in events.read_bytes()


def test_tensorboard_that_cannot_be_written_does_not_end_the_run(tmp_path: Path, monkeypatch, caplog):
    writers = pytest.importorskip("tensorboardX.record_writer")

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with MetricsWriter(tmp_path) as writer:
        monkeypatch.setattr(writers.RecordWriter, "write", full)
        writer.write(1, {"loss": 1.0})
        writer.write(2, {"loss": 0.5})
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    assert caplog.text.count("no more TensorBoard events are written") == 1


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with MetricsWriter(tmp_path) as writer:
        writer.write(0, {"loss": 1.0})
    assert not (tmp_path / record.TENSORBOARD).exists()


def test_only_the_main_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(record, "is_main", lambda: False)
    write_run_record(tmp_path / "r", CONFIG, [])
    record.write_result(tmp_path / "r", {})
    with MetricsWriter(tmp_path / "r") as writer:
        writer.write(0, {"loss": 1.0})
    assert not (tmp_path / "r").exists()


def test_result(tmp_path: Path):
    with pytest.raises(UserError, match="the run has not ended"):
        records.read_result(tmp_path)
    record.write_result(tmp_path, {"bits_per_byte": np.float32(2.5), "seconds": 3})
    assert records.read_result(tmp_path) == {"bits_per_byte": 2.5, "seconds": 3}


def test_a_full_disk_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record.write_result(tmp_path, {"a": 1})

    def no_space(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        record.write_result(tmp_path, {"a": 2})
    assert json.loads((tmp_path / records.RESULT).read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == [records.RESULT]


def test_a_kill_loses_no_line(tmp_path: Path):
    program = f"""
import os, signal
from ebm_jax.training.record import MetricsWriter
writer = MetricsWriter({str(tmp_path)!r}, tensorboard=False)
for step in range(5):
    writer.write(step, {{"loss": 1.0}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1, 2, 3, 4]


def test_a_list_of_numbers_is_one_line(tmp_path):
    values = {"each": [1.0, -2e-5, None, True], "names": ["[\n1]", "b"], "none": [], "deep": [{"of": [[1], [2, 3]]}]}
    write_json(tmp_path / "any.json", values)
    text = (tmp_path / "any.json").read_text()
    assert json.loads(text) == values and '"each": [1.0, -2e-05, null, true]' in text and "[2, 3]" in text
