"""The Slurm script with a fake srun: what each layout hands to JAX, and how a warning becomes a checkpoint."""

import os
import signal
import subprocess
import time

import pytest

from tests.tpu_scripts.scripts import FOLDER, Scripts

SRUN = """\
#!/usr/bin/env bash
cd "$(dirname "$0")"
echo "srun $* | ids=${JAX_LOCAL_DEVICE_IDS:-} coordinator=$EBM_JAX_COORDINATOR cpus=${SRUN_CPUS_PER_TASK:-}" >>calls
[[ -f wait ]] || exit "${EXIT:-0}"
trap 'echo "a checkpoint" >>calls; exit 0' TERM
echo $$ >pid
for _ in {1..200}; do sleep 0.05; done
"""
SCANCEL = """\
#!/usr/bin/env bash
cd "$(dirname "$0")"
echo "scancel $*" >>calls
kill -TERM "$(cat pid)"
"""
SCONTROL = """\
#!/usr/bin/env bash
cd "$(dirname "$0")"
echo "scontrol $*" >>calls
"""


@pytest.fixture
def slurm(scripts: Scripts) -> Scripts:
    for name, text in (("srun", SRUN), ("scancel", SCANCEL), ("scontrol", SCONTROL)):
        (scripts.folder / name).write_text(text)
        (scripts.folder / name).chmod(0o755)
    return scripts


def environment(tasks: int, **more: str) -> dict[str, str]:
    return {"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "4", "SLURM_NTASKS_PER_NODE": str(tasks), **more}


def test_one_task_a_node_takes_all_its_gpus(slurm: Scripts):
    done = slurm.run("slurm.sbatch", "python", "x.py", "a=[1, 2]", env=environment(1, SLURM_CPUS_PER_TASK="32"))
    assert done.code == 0, done.err
    assert slurm.calls() == [
        "srun --kill-on-bad-exit=1 --ntasks-per-node=1 --gpu-bind=none python x.py a=[1, 2]"
        " | ids=0,1,2,3 coordinator=auto cpus=32"
    ]


def test_one_task_a_gpu_leaves_the_choice_to_the_rank(slurm: Scripts):
    slurm.run("slurm.sbatch", "python", "x.py", env=environment(4))
    slurm.run("slurm.sbatch", "python", "x.py", env=environment(4, EBM_JAX_BOUND="1"))
    begin = "srun --kill-on-bad-exit=1 --ntasks-per-node=4 --gpu-bind=none python x.py | "
    assert slurm.calls() == [f"{begin}ids= coordinator=auto cpus=", f"{begin}ids=0 coordinator=auto cpus="]


def test_other_layouts_are_mistakes(slurm: Scripts):
    done = slurm.run("slurm.sbatch", "python", "x.py", env=environment(2))
    assert (done.code, done.err) == (2, "error: --ntasks-per-node=2 with 4 GPUs on a node: it must be 1 or 4\n")
    assert "no command: sbatch tpu_scripts/slurm.sbatch python" in slurm.run("slurm.sbatch", env=environment(1)).err
    none = slurm.run("slurm.sbatch", "python", "x.py", env=environment(1, SLURM_GPUS_ON_NODE=""))
    assert "ask for GPUs with --gpus-per-node=G" in none.err
    assert slurm.calls() == []


def test_a_failure_is_passed_on(slurm: Scripts):
    assert slurm.run("slurm.sbatch", "python", "x.py", env=environment(1, EXIT="3")).code == 3


def test_a_warning_becomes_a_checkpoint_and_the_job_is_queued_again(slurm: Scripts):
    (slurm.folder / "wait").touch()
    path = f"{slurm.folder}:{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", FOLDER / "slurm.sbatch", "x"], env={**os.environ, **environment(1), "PATH": path}
    )
    deadline = time.monotonic() + 10
    while not (slurm.folder / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=20) == 0
    assert slurm.calls()[1:] == ["scancel --signal=TERM 7.0", "a checkpoint", "scontrol requeue 7"]


def test_the_batch_shell_alone_is_warned_and_the_job_may_be_requeued():
    text = (FOLDER / "slurm.sbatch").read_text()
    for line in ("#SBATCH --signal=B:USR1@300", "#SBATCH --requeue", "#SBATCH --open-mode=append"):
        assert f"\n{line}\n" in text
    # Directives behind the first command are not read.
    assert text.index("#SBATCH --output") < text.index("set -euo")
