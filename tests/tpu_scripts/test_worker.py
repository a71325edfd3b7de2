"""What runs on a worker, with real processes: it survives its starter, writes down how it ended, and hears SIGTERM once."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.tpu_scripts.scripts import Scripts

HEARS = """
import signal, sys, time
def note(*_):
    print("heard", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, note)
print("ready", flush=True)
time.sleep(30)
"""


@pytest.fixture
def worker(scripts: Scripts):
    def call(*arguments: str):
        runs = {"EBM_JAX_RUNS": str(scripts.folder / "runs"), "EBM_JAX_VENV": "/nowhere", "HOSTNAME": "w0"}
        return scripts.run("worker.sh", *arguments, env=runs)

    (scripts.folder / "hears.py").write_text(HEARS)
    yield call
    for pid in (scripts.folder / "runs").glob("*/pid"):
        call("kill", pid.parent.name)


def until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def log_of(scripts: Scripts, run: str) -> str:
    file = Path(scripts.folder / "runs" / run / "log")
    return file.read_text() if file.exists() else ""


def test_a_run_ends_and_its_status_says_how(scripts: Scripts, worker):
    assert worker("status", "a").out == "ebm_jax-run w0 none -\n"
    assert (
        worker(
            "start", "a", "X=it's", "--", "python3", "-c", "import os, sys; print(os.environ['X']); sys.exit(3)"
        ).code
        == 0
    )
    until(lambda: worker("status", "a").out == "ebm_jax-run w0 exited 3\n")
    assert worker("log", "a", "1").out == "it's\n"
    assert worker("log", "a", "1", "named").out == "[w0] it's\n"


def test_stop_lets_it_end_by_itself(scripts: Scripts, worker):
    worker("start", "a", "--", "python3", str(scripts.folder / "hears.py"))
    until(lambda: "ready" in log_of(scripts, "a"))
    assert worker("status", "a").out == "ebm_jax-run w0 running -\n"
    worker("stop", "a")
    until(lambda: worker("status", "a").out == "ebm_jax-run w0 stopped 0\n")
    assert "heard" in log_of(scripts, "a")


def test_a_machine_that_shuts_down_signals_everything_once(scripts: Scripts, worker):
    worker("start", "a", "--", "python3", str(scripts.folder / "hears.py"))
    until(lambda: "ready" in log_of(scripts, "a"))
    folder = scripts.folder / "runs" / "a"
    pids = [(folder / name).read_text().strip() for name in ("supervisor", "pid")]
    for pid in pids:
        os.kill(int(pid), signal.SIGTERM)
    until(lambda: worker("status", "a").out == "ebm_jax-run w0 interrupted 0\n")
    assert log_of(scripts, "a").count("heard") == 1


def test_starting_twice_starts_once(scripts: Scripts, worker):
    for _ in range(2):
        done = worker("start", "a", "--", "python3", str(scripts.folder / "hears.py"))
        assert done.code == 0
    assert done.out == "w0: runs already\n"
    until(lambda: "ready" in log_of(scripts, "a"))
    assert log_of(scripts, "a").count("ready") == 1
    other = worker("start", "a", "--", "true")
    assert other.code == 2
    assert "still runs another command" in other.err
    worker("kill", "a")
    until(lambda: worker("status", "a").out == "ebm_jax-run w0 stopped 137\n")
    worker("start", "a", "--", "true")
    until(lambda: worker("status", "a").out == "ebm_jax-run w0 exited 0\n")


def test_a_restart_of_the_machine_loses_the_run(scripts: Scripts, worker):
    worker("start", "a", "--", "true")
    until(lambda: worker("status", "a").out == "ebm_jax-run w0 exited 0\n")
    folder = scripts.folder / "runs" / "a"
    (folder / "state").write_text("running -\n")
    (folder / "boot").write_text("another\n")
    assert worker("status", "a").out == "ebm_jax-run w0 lost -\n"


def test_progress_changes_with_checkpoints_and_results(scripts: Scripts, worker):
    folder = scripts.folder / "work"
    (folder / "checkpoints").mkdir(parents=True)
    seen = [worker("progress", str(folder)).out]
    (folder / "run.json").write_text("{}")
    (folder / "checkpoints" / "100.tmp").mkdir()
    assert worker("progress", str(folder)).out == seen[0]
    for new in ("checkpoints/100", "ebft/seed=0/checkpoints/50"):
        (folder / new).mkdir(parents=True)
        seen.append(worker("progress", str(folder)).out)
    (folder / "result.json").write_text("{}")
    seen.append(worker("progress", str(folder)).out)
    assert len(set(seen)) == 4
    assert all(line.startswith("ebm_jax-progress ") for line in seen)


def test_a_run_that_is_not_there_is_named(worker):
    done = worker("log", "b", "10")
    assert done.code == 2
    assert "there is no run called b" in done.err
