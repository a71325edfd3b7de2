"""Two processes of two devices train as one process of four does, by the real command, in float64."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ebm_jax.experiment import open_run
from ebm_jax.records import read_metrics
from tests.tiny import assert_trees_close

ROOT = Path(__file__).parents[2]


def launch_pretrain(config, folder, name, steps, devices, **environment):
    """The real command on a corpus of its own, in float64."""
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_ENABLE_X64": "1",
        **environment,
    }
    settings = {
        "data.source": f"text:{folder}/corpus.txt",
        "data.documents": "blocks",
        "data.block_chars": 200,
        "data.cache_dir": folder / "cache",
        "data.context": 16,
        "model.width": 16,
        "model.depth": 1,
        "optim.eps": 1e-2,
        "train.steps": steps,
        "train.log_every": 1,
        "mesh.fsdp": 2,
        "mesh.rules": "fsdp",
    }
    settings |= dict.fromkeys(("precision.param", "precision.compute", "precision.reduce"), "float64")
    if "ebft" in config:
        settings |= {"algorithm.features.dtype": "float64", "model.depth": 2, "algorithm.features.depths": "[1]"}
    words = [f"{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "experiments.pretrain", config, *words, f"workdir={folder}/{name}"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def finish(process):
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors[-3000:]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("config", ["configs/smoke/ebt.py", "configs/ebft/smoke.py"])
def test_two_processes_are_one(config, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    text = "\n".join(f"line {i} of a small text, which says {i * i % 97} and little else" for i in range(300))
    (tmp_path / "corpus.txt").write_text(text)
    # Ends after a resume, so that both processes also agree on what they read.
    for steps in (2, 4):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        common = {"EBM_JAX_COORDINATOR": f"127.0.0.1:{port}", "EBM_JAX_PROCESSES": "2"}
        numbered = ({**common, "EBM_JAX_PROCESS_ID": str(i)} for i in (0, 1))
        for process in [launch_pretrain(config, tmp_path, "two", steps, 2, **mine) for mine in numbered]:
            finish(process)
    finish(launch_pretrain(config, tmp_path, "one", 4, 4))
    lines = [read_metrics(tmp_path / name) for name in ("one", "two")]
    two = [line for line in lines[1] if "loss" in line]
    one = [line for line in lines[0] if "loss" in line]
    assert [line["step"] for line in one] == [line["step"] for line in two] == [1, 2, 3, 4]
    for a, b in zip(one, two, strict=True):
        mine = ("inner_steps",) if "ebt" in config else ("reward", "duplicates")
        names = ("loss", "nll", "grad_norm", "param_norm", "tokens", *mine)
        assert [a[name] for name in names] == pytest.approx([b[name] for name in names], rel=1e-9)
    assert lines[0][-1] == pytest.approx(lines[1][-1], rel=1e-5), "the evaluation"
    _, expected, _ = open_run(tmp_path / "one")
    _, found, step = open_run(tmp_path / "two")
    assert step == 4
    assert_trees_close(found, expected, 1e-9)
