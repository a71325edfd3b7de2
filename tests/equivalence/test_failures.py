"""What a cluster does to a run: processes die, checkpoints break, hosts come and go.

Every drill ends in the same way: the run goes on from its last good step with the right data, so that every step has the loss
that it has in a run that nothing happened to; or it stops and names the host.
"""

import json
import os
import signal
import socket
import time

import pytest

from tests.equivalence.clusters import finish, launch_cluster, launch_pretrain, write_corpus

CONFIG = "configs/smoke/lm.py"
STEPS, EVERY = 120, 10
SETTINGS = (f"train.checkpoint_every={EVERY}", "train.eval_every=0", f"optim.decay_steps={STEPS}", "train.keep=50")
QUICK = {"EBM_JAX_SILENCE_SECONDS": "10"}
TIMEOUT_S = 240


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A corpus, and the losses of a run in one process that nothing happens to."""
    pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("failures")
    write_corpus(folder)
    finish(launch_pretrain(CONFIG, folder, "whole", STEPS, 4, *SETTINGS))
    assert len(losses(folder / "whole")) == STEPS
    return folder


def losses(run):
    """By step; metrics that are just being written are left out."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return {line["step"]: line["loss"] for line in found if "loss" in line}


def start(place, name, steps=STEPS, processes=2, devices=2):
    return launch_cluster(CONFIG, place, name, steps, processes, devices, *SETTINGS, **QUICK)


def wait_for(processes, condition):
    """Until something has happened to a run that goes on."""
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        for process in processes:
            assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < end, "the run hangs"
        time.sleep(0.005)


def kill(*processes):
    for process in processes:
        process.send_signal(signal.SIGKILL)
    return [process.communicate()[1] for process in processes]


def assert_goes_on(place, name, processes=2, devices=2):
    """The same command ends the run, whose every step is that of the run that nothing happened to."""
    for process in start(place, name, processes=processes, devices=devices):
        finish(process)
    assert losses(place / name) == pytest.approx(losses(place / "whole"), rel=1e-12)


def complete(run):
    """Steps of the checkpoints that have been written to their end."""
    folder = run / "checkpoints"
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()) if folder.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0])
def test_one_of_two_is_killed(place, victim):
    name = f"one_killed_{victim}"
    processes = start(place, name)
    wait_for(processes, lambda: complete(place / name) and len(losses(place / name)) > 2 * EVERY)
    dead, other = processes[victim], processes[1 - victim]
    kill(dead)
    _, errors = other.communicate(timeout=TIMEOUT_S)
    assert other.returncode not in (0, None)
    assert f"process {victim} on {socket.gethostname()} (pid {dead.pid})" in errors, errors[-3000:]
    assert max(losses(place / name)) < STEPS
    assert_goes_on(place, name)


@pytest.mark.slow
def test_all_are_killed(place):
    processes = start(place, "all_killed")
    wait_for(processes, lambda: complete(place / "all_killed") and len(losses(place / "all_killed")) > 2 * EVERY)
    kill(*processes)
    assert max(losses(place / "all_killed")) < STEPS
    assert_goes_on(place, "all_killed")


@pytest.mark.slow
def test_all_are_killed_while_a_checkpoint_is_written(place):
    run = place / "in_write"
    processes = start(place, "in_write")

    def writing():
        folder = run / "checkpoints"
        return complete(run) and any("tmp" in entry.name for entry in folder.iterdir())

    wait_for(processes, writing)
    kill(*processes)
    assert max(losses(run)) < STEPS
    assert_goes_on(place, "in_write")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "removed"])
def test_the_newest_checkpoint_is_corrupt(place, damage):
    name = f"corrupt_{damage}"
    for process in start(place, name, steps=2 * EVERY):
        finish(process)
    newest = place / name / "checkpoints" / str(complete(place / name)[-1])
    assert newest.name == str(2 * EVERY)
    files = [path for path in newest.rglob("*") if path.is_file() and path.stat().st_size > 0]
    for path in files if damage == "truncated" else sorted(files)[::2]:
        if damage == "truncated":
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.unlink()
    assert_goes_on(place, name)


@pytest.mark.slow
def test_hosts_and_devices_change_between_runs(place):
    """Two hosts of two devices, one of four, two of one, and one of two."""
    run = place / "changed"
    for number, (processes, devices) in enumerate([(2, 2), (1, 4), (2, 1)], 1):
        for process in start(place, "changed", number * EVERY, processes, devices):
            finish(process)
        assert complete(run)[-1] == number * EVERY
    assert_goes_on(place, "changed", processes=1, devices=2)
