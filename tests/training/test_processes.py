"""Runs as programs: ended by SIGTERM, killed while they write, and two processes that are one."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.environment import xla_flags

ROOT = Path(__file__).parents[2]


def launch(folder, steps, pause=0.0, devices=1, **environment):
    environment = {
        **os.environ,
        "XLA_FLAGS": xla_flags(devices),
        "PYTHONPATH": str(ROOT),
        **environment,
    }
    command = [sys.executable, "-m", "tests.training.run_toy", str(folder), str(steps), str(pause)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out, err


def wait_for_checkpoint(process, folder, step, timeout=60):
    """Until the checkpoint of ``step``, or its unfinished folder, is there."""
    end = time.monotonic() + timeout
    while not list((folder / "checkpoints").glob(f"{step}*")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.002)


def assert_same(left, right):
    a, b = (np.load(folder / "params.npz") for folder in (left, right))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    finish(launch(folder, 8))
    return folder


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_exits_0(whole, tmp_path):
    process = launch(tmp_path, 8, pause=0.3)
    wait_for_checkpoint(process, tmp_path, 2)
    process.send_signal(signal.SIGTERM)
    out, _ = finish(process)
    assert "SIGTERM" in out
    out, err = finish(launch(tmp_path, 8))
    assert "resumed at step" in out and "done 8 steps" in out and "train 8/8 | loss" in err
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_killed_while_it_writes_and_resumed(whole, tmp_path):
    for step in (2, 4, 6):
        process = launch(tmp_path, 8, pause=0.05)
        wait_for_checkpoint(process, tmp_path, step)
        process.kill()
        process.communicate()
    finish(launch(tmp_path, 8))
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"EBM_JAX_COORDINATOR": f"127.0.0.1:{port}", "EBM_JAX_PROCESSES": "2"}
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    # Ends after a resume, so that both processes also agree on what they read.
    for steps in (3, 5):
        pair = [launch(tmp_path / "two", steps, devices=2, **common, EBM_JAX_PROCESS_ID=str(i)) for i in (0, 1)]
        for process in pair:
            finish(process)
    finish(launch(tmp_path / "one", 5, devices=4))
    two, one = (np.load(tmp_path / name / "params.npz") for name in ("two", "one"))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both_at_the_same_step(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"EBM_JAX_COORDINATOR": f"127.0.0.1:{port}", "EBM_JAX_PROCESSES": "2"}
    pair = [launch(tmp_path, 500, 0.1, devices=2, **common, EBM_JAX_PROCESS_ID=str(i)) for i in (0, 1)]
    wait_for_checkpoint(pair[0], tmp_path, 2)
    pair[1].send_signal(signal.SIGTERM)
    (out, _), _ = finish(pair[0]), finish(pair[1])
    assert "signal" in out
