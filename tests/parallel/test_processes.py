"""How processes find each other, and how a missing one is named."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ebm_jax.errors import UserError
from ebm_jax.parallel import processes
from ebm_jax.parallel.processes import Process, table
from ebm_jax.parallel.watchdog import Watchdog
from tests.environment import xla_flags

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def meet(how, late, environment):
    command = [sys.executable, "-m", "tests.parallel.run_meeting", how, late]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("EBM_JAX_", "SLURM_"))}
    clean["XLA_FLAGS"] = xla_flags(2)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=clean | environment, **pipes)


def by_environment(index, port):
    return {
        "EBM_JAX_COORDINATOR": f"127.0.0.1:{port}",
        "EBM_JAX_PROCESSES": "2",
        "EBM_JAX_PROCESS_ID": str(index),
    }


def by_slurm(index, port):
    """What ``srun`` sets for two tasks on this machine; JAX takes a port from the job's number."""
    return {
        "SLURM_JOB_ID": str(port),
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
        "SLURM_STEP_NUM_NODES": "1",
    }


@pytest.mark.slow
@pytest.mark.parametrize(("how", "variables"), [("env", by_environment), ("slurm", by_slurm)])
def test_processes_meet_and_name_who_does_not_come(how, variables):
    port = free_port()
    first, second = (meet(how, late, variables(index, port)) for index, late in enumerate(("0", "0.6")))
    said, errors = first.communicate(timeout=120)
    other, more = second.communicate(timeout=120)
    host = socket.gethostname()
    assert f"process 0 of 2 on {host}" in said and f"process 1 of 2 on {host}" in other, errors + more
    lines = errors.splitlines()
    heads = next(at for at, line in enumerate(lines) if line.startswith("process "))
    assert [line.split()[:3] for line in lines[heads + 1 : heads + 3]] == [
        ["0", host, str(first.pid)],
        ["1", host, str(second.pid)],
    ]
    assert first.returncode == 2
    assert f"at 'nobody else comes here' for process 1 on {host} (pid {second.pid})" in errors


def test_every_way_is_checked(monkeypatch):
    for name in (*processes.ENVIRONMENT, "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="distributed='pod' is not one of env, off, auto, slurm"):
        processes.initialize("pod")
    with pytest.raises(UserError, match="SLURM_JOB_ID is not set; start the command with srun"):
        processes.initialize("slurm")
    monkeypatch.setenv("EBM_JAX_PROCESSES", "2")
    assert processes.initialize("off") is False
    monkeypatch.setenv(processes.SILENCE, "soon")
    with pytest.raises(UserError, match="EBM_JAX_SILENCE_SECONDS='soon'"):
        processes.told_of([])


def test_the_table_of_processes():
    two = [Process(0, "a", 7, 4, "TPU v5 lite"), Process(1, "host-b", 1234, 4, "TPU v5 lite")]
    assert table(two).splitlines() == [
        "process  host    pid   devices",
        "0        a       7     4 x TPU v5 lite",
        "1        host-b  1234  4 x TPU v5 lite",
    ]


def test_a_watchdog_tells_where_threads_stand_and_leaves_a_run_alone(capfd):
    with Watchdog(0.3) as watchdog:
        for _ in range(4):
            watchdog.beat("working")
            time.sleep(0.15)
        assert capfd.readouterr().err == ""
        watchdog.beat("making step 7")
        time.sleep(0.9)
    told = capfd.readouterr().err
    assert told.count("nothing has ended for 0.3 seconds (train.hang_seconds) while making step 7") == 1
    assert "test_a_watchdog_tells" in told


def test_a_watchdog_that_is_off_starts_no_thread(capfd):
    with Watchdog(0):
        time.sleep(0.05)
    assert capfd.readouterr().err == ""
