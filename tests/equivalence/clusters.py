"""Runs of several local processes, by the real command, in float64."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.environment import xla_flags

ROOT = Path(__file__).parents[2]


def write_corpus(folder):
    """A text of a few hundred lines for ``launch_pretrain``."""
    text = "\n".join(f"line {i} of a small text, which says {i * i % 97} and little else" for i in range(300))
    (folder / "corpus.txt").write_text(text)


def launch_pretrain(config, folder, name, steps, devices, *more, **environment):
    """One process of the command, on a corpus of its own; ``devices`` are its own."""
    environment = os.environ | {
        "XLA_FLAGS": xla_flags(devices),
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
    command = [sys.executable, "-m", "experiments.pretrain", config, *words, *more, f"workdir={folder}/{name}"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def launch_cluster(config, folder, name, steps, processes, devices, *more, **environment):
    """All processes of a run, each with so many devices."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"EBM_JAX_COORDINATOR": f"127.0.0.1:{port}", "EBM_JAX_PROCESSES": str(processes), **environment}
    return [
        launch_pretrain(config, folder, name, steps, devices, *more, **common, EBM_JAX_PROCESS_ID=str(i))
        for i in range(processes)
    ]


def finish(process):
    """Waits for a process that must end well."""
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors[-3000:]
