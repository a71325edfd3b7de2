"""The manifest for Kubernetes: one pod a host, one job a slice, and a config that fits the chips."""

import subprocess
import time
from pathlib import Path

import pytest
import yaml

from ebm_jax.errors import UserError
from experiments import jobset

NEEDED = ("image=registry.example/ebm_jax:1", "workdir=gs://my-bucket/runs/a")
SMOKE = ("pretrain", "configs/smoke/ebt.py")


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(Path(__file__).parents[2])


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert jobset.main([*arguments]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_two_slices(capsys: pytest.CaptureFixture[str]):
    options = (
        "accelerator=v5p",
        "topology=2x2x4",
        "slices=2",
        "spot=true",
        "service_account=runs",
        "train.batch_size=64",
    )
    found = made(capsys, *SMOKE, *NEEDED, *options, "mesh.fsdp=4", "mesh.rules=fsdp")
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert found["metadata"]["name"] == "smoke-ebt"
    assert found["spec"]["failurePolicy"]["maxRestarts"] == 20
    (replicated,) = found["spec"]["replicatedJobs"]
    assert replicated["replicas"] == 2
    job = replicated["template"]["spec"]
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (4, 4, 0)
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2, 3, 28, 126, 127]
    assert job["template"]["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}
    pod = job["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
        "cloud.google.com/gke-tpu-topology": "2x2x4",
        "cloud.google.com/gke-spot": "true",
    }
    assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"]) == ("Never", 600)
    assert pod["serviceAccountName"] == "runs"
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert {"name": "EBM_JAX_COORDINATOR", "value": "auto"} in container["env"]
    assert container["command"][4:] == [
        *("python", "-m", "experiments.pretrain", "configs/smoke/ebt.py", "train.batch_size=64", "mesh.fsdp=4"),
        *("mesh.rules=fsdp", "workdir=/mnt/ebm_jax/runs/a"),
    ]
    (volume,) = pod["volumes"]
    assert volume["csi"]["volumeAttributes"]["bucketName"] == "my-bucket"


def test_one_host_a_claim_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "jobs" / "decode.yaml"
    arguments = ("image=i", "claim=shared", "workdir=/mnt/ebm_jax/a", "name=my-study", "only=ebd", f"out={out}")
    assert jobset.main(["decode", "configs/ebd/smoke.py", *arguments]) == 0
    assert f"kubectl apply -f {out}" in capsys.readouterr().out
    found = yaml.safe_load(out.read_text())
    job = found["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert (found["metadata"]["name"], job["completions"]) == ("my-study", 1)
    assert pod["containers"][0]["resources"]["requests"] == {"google.com/tpu": 8}
    assert pod["volumes"] == [{"name": "runs", "persistentVolumeClaim": {"claimName": "shared"}}]
    assert "tolerations" not in pod and "metadata" not in job["template"]


def test_eight_chips_on_two_hosts(capsys: pytest.CaptureFixture[str]):
    found = made(capsys, *SMOKE, *NEEDED, "accelerator=v6e", "topology=2x4", "chips_per_host=4", "train.batch_size=16")
    assert found["spec"]["replicatedJobs"][0]["template"]["spec"]["parallelism"] == 2


def test_a_comparison_is_held_against_the_slice(capsys: pytest.CaptureFixture[str]):
    found = made(capsys, "finetune", "configs/ebft/stories.py", *NEEDED, "topology=1x1", "seeds=0,1")
    command = found["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[6:] == [
        "experiments.finetune",
        "configs/ebft/stories.py",
        "seeds=0,1",
        "workdir=/mnt/ebm_jax/runs/a",
    ]


MISTAKES = {
    "pretrain": "expected pretrain|finetune|decode and one config, got pretrain",
    "train configs/smoke/ebt.py": "expected pretrain|finetune|decode and one config, got train",
    "pretrain configs/smoke/ebt.py workdir=gs://my-bucket/a": "no image: add image=",
    "pretrain configs/smoke/ebt.py image=i": "no workdir: add workdir=",
    "pretrain configs/smoke/ebt.py image=i workdir=runs/a": "workdir=runs/a goes with the pod: write gs://BUCKET/FOLDER",
    "pretrain configs/smoke/ebt.py image=i claim=c workdir=/data/a": "must lie below /mnt/ebm_jax, where claim=c",
    "pretrain configs/smoke/ebt.py {} accelerator=v9": "accelerator='v9' is none of",
    "pretrain configs/smoke/ebt.py {} accelerator=v5p": "topology='2x4': v5p has 2x2x1",
    "pretrain configs/smoke/ebt.py {} slices=0": "slices='0' must be a whole number from 1 on",
    "pretrain configs/smoke/ebt.py {} chips_per_host=2": "chips_per_host=2: v5e 2x4 comes on hosts of 8 chips or 4",
    "pretrain configs/smoke/ebt.py {} spot=yes train.batch_size=8": "spot='yes' must be true or false",
    "pretrain configs/smoke/ebt.py {} name=My_Run train.batch_size=8": "name='My_Run' must be lower-case",
    "pretrain configs/smoke/ebt.py {} mesh.fsdp=3 mesh.rules=fsdp": "mesh.fsdp=3 mesh.tensor=1 does not cover 8 chips",
    "pretrain configs/smoke/ebt.py {} train.batch_size=12": "train.batch_size=12 is not divisible by the 8 parts",
    "pretrain configs/smoke/ebt.py {} topology=4x4 mesh.tensor=8 mesh.rules=fsdp_tp": "mesh.tensor=8 must divide the 4 chips",
    "pretrain configs/smoke/ebt.py {} slices=2 mesh.fsdp=16 mesh.rules=fsdp": "mesh.data=1 is not divisible by slices=2",
    "pretrain configs/ebft/stories.py {}": "get_config() returned Comparison, which experiments.pretrain does not take",
    "decode configs/ebd/smoke.py {} topology=4x4": "has 4 hosts, and experiments.decode runs on one",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_told(line: str):
    words = [word for part in line.split() for word in (NEEDED if part == "{}" else (part,))]
    with pytest.raises(UserError) as told:
        jobset.main(words)
    assert MISTAKES[line] in str(told.value)


def test_a_pod_that_was_asked_to_stop_has_not_completed(tmp_path: Path):
    """The command hears SIGTERM, may take its time, and the pod fails although the command ends with 0."""
    out = tmp_path / "out"
    command = f"trap 'sleep 0.3; echo saved >{out}; exit 0' TERM; echo ready >{out}; while :; do sleep 0.05; done"
    process = subprocess.Popen(["bash", "-c", jobset.WRAPPER, "ebm_jax", "bash", "-c", command])
    deadline = time.monotonic() + 10
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=10) == 143
    assert out.read_text() == "saved\n"
    for code in (0, 3):
        assert (
            subprocess.run(
                ["bash", "-c", jobset.WRAPPER, "ebm_jax", "bash", "-c", f"exit {code}"], check=False
            ).returncode
            == code
        )
