"""A run killed with SIGKILL at ten random places, twice inside a checkpoint write, ends as if nothing had happened."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from ebm_jax.experiment import open_run
from tests.environment import xla_flags

ROOT = Path(__file__).parents[2]
STEPS = 48
SETTINGS = [
    f"train.steps={STEPS}",
    "train.checkpoint_every=2",
    "train.log_every=1",
    "train.eval_every=0",
    "optim.decay_steps=48",
]
TIMEOUT_S = 240


def launch(workdir, cache):
    """An S2 run with replay, random steps, noise and accumulation, in a process of its own."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": xla_flags(1),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    data = f"data.cache_dir={cache / 'data'}"
    command = [
        sys.executable,
        "-m",
        "experiments.pretrain",
        "configs/smoke/ebt.py",
        data,
        *SETTINGS,
        f"workdir={workdir}",
    ]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def steps_done(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def writing(workdir, since):
    """Whether a checkpoint is being written this moment, and not one that an earlier kill left behind."""
    with contextlib.suppress(FileNotFoundError):
        return any("tmp" in entry.name and entry.stat().st_ctime > since for entry in workdir.glob("checkpoints/*"))
    return False


def kill_when(process, condition):
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < end, "the run hangs"
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return True


def finish(process):
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors.decode()[-2000:]


def losses(workdir):
    """Every step's numbers but the rates, which are of the clock."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    clock = ("tokens_per_s", "flops_per_s", "step_time", "mfu", "seconds")
    return [{k: v for k, v in line.items() if not k.startswith(clock)} for line in lines]


@pytest.mark.slow
def test_killed_run_equals_uninterrupted_run(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(launch(whole, tmp_path))
    rng = random.Random(0)
    kills = in_write = attempts = 0
    while kills < 10 and attempts < 30:
        attempts += 1
        process, before = launch(broken, tmp_path), steps_done(broken)
        if in_write < 2:
            since = time.time()
            landed = kill_when(process, lambda t=since: writing(broken, t))
            in_write += landed
        else:
            target = min(STEPS - 2, before + rng.randint(0, 4))
            landed = kill_when(process, lambda t=target: steps_done(broken) >= max(t, 1))
        kills += landed
        if not landed:
            finish(process)
            break
    assert kills == 10, f"only {kills} kills landed before the run ended"
    assert in_write == 2
    finish(launch(broken, tmp_path))
    _, expected, step = open_run(whole)
    _, found, same_step = open_run(broken)
    assert step == same_step == STEPS
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert losses(whole) == losses(broken)
