"""What a dry run prints, to the letter, and that it runs nothing."""

import subprocess

import pytest

from tests.tpu_scripts.scripts import FOLDER, Scripts

ONE = ("--name=ebt", "--zone=us-east5-a", "--project=my-project", "--type=v6e-16", "--dry-run")
QUEUED = ("--name=ebt", "--zone", "us-east5-a", "--type", "v5p-16", "--queued", "--slices", "2", "--dry-run")
TRAIN = ("python", "-m", "experiments.pretrain", "configs/ebt/s1.py", "workdir=gs://my-bucket/runs/s1")

SHIP = f"""\
git -C {FOLDER}/.. ls-files -z | tar -C {FOLDER}/.. --null -T - -czf /tmp/ebm_jax.tar.gz
"""

CASES = {
    "create, spot": (
        ("create.sh", *ONE, "--spot", "--internal-ips", "--network=lab"),
        """\
# v6e-16: 16 chips on 4 host(s), 1 slice(s)
gcloud compute tpus tpu-vm create ebt --zone=us-east5-a --project=my-project --accelerator-type=v6e-16 --network=lab --spot\
 --internal-ips --version=v2-alpha-tpuv6e
# then, every 15 s until ready, at most 60 min:
gcloud compute tpus tpu-vm describe ebt --zone=us-east5-a --project=my-project --format='value(state)'
""",
    ),
    "create, v5e goes by another name": (
        ("create.sh", *ONE[:3], "--type=v5e-8", "--no-wait", "--dry-run"),
        """\
# v5e-8: 8 chips on 1 host(s), 1 slice(s)
gcloud compute tpus tpu-vm create ebt --zone=us-east5-a --project=my-project --accelerator-type=v5litepod-8\
 --version=v2-alpha-tpuv5-lite
""",
    ),
    "create, two slices from the queue": (
        (
            "create.sh",
            *QUEUED,
            "--spot",
            "--valid-until=6h",
            "--service-account=runs@my-project.iam.gserviceaccount.com",
        ),
        """\
# v5p-16: 8 chips on 2 host(s), 2 slice(s)
gcloud compute tpus queued-resources create ebt --zone=us-east5-a --accelerator-type=v5p-16\
 --service-account=runs@my-project.iam.gserviceaccount.com --spot --runtime-version=v2-alpha-tpuv5 --node-count=2\
 --node-prefix=ebt --valid-until-duration=6h
# then, every 15 s until ready, at most 1440 min:
gcloud compute tpus queued-resources describe ebt --zone=us-east5-a --format='value(state.state)'
gcloud compute tpus tpu-vm describe ebt-0 --zone=us-east5-a --format='value(state)'
gcloud compute tpus tpu-vm describe ebt-1 --zone=us-east5-a --format='value(state)'
""",
    ),
    "setup from the files here, with a bucket": (
        ("setup.sh", *ONE, "--bucket=gs://my-bucket"),
        SHIP
        + """\
gcloud compute tpus tpu-vm scp /tmp/ebm_jax.tar.gz ebt:ebm_jax.tar.gz --worker=all --zone=us-east5-a --project=my-project
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project --command='mkdir -p ebm_jax &&\
 cd ebm_jax && rm -rf ebm_jax experiments configs tests docs tpu_scripts && tar -xzf ../ebm_jax.tar.gz'
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project\
 --command='bash ebm_jax/tpu_scripts/worker.sh install tpu,data,hf,log,eval'
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project\
 --command='bash ebm_jax/tpu_scripts/worker.sh mount my-bucket /mnt/ebm_jax'
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project\
 --command='bash ebm_jax/tpu_scripts/worker.sh check 16'
""",
    ),
    "setup from a repository, on slices": (
        ("setup.sh", *QUEUED, "--repo=https://example.com/ebm_jax.git", "--commit=v1.0", "--extras=tpu", "--no-check"),
        """\
gcloud compute tpus queued-resources ssh ebt --worker=all --node=all --zone=us-east5-a --command='test -d ebm_jax/.git ||\
 git clone --quiet https://example.com/ebm_jax.git ebm_jax && cd ebm_jax && git fetch --quiet --tags origin &&\
 git checkout --quiet --detach v1.0'
gcloud compute tpus queued-resources ssh ebt --worker=all --node=all --zone=us-east5-a\
 --command='bash ebm_jax/tpu_scripts/worker.sh install tpu'
""",
    ),
    "run": (
        ("run.sh", *ONE, "--bucket=gs://my-bucket", "--env", "A=it's", "--env=B=2", "--", *TRAIN, "eval.steps=[1, 2]"),
        r"""gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project"""
        r""" --command='bash ebm_jax/tpu_scripts/worker.sh start run EBM_JAX_COORDINATOR=auto"""
        r""" '\''A=it'\''\'\'''\''s'\'' B=2 -- python -m experiments.pretrain configs/ebt/s1.py"""
        r""" workdir=/mnt/ebm_jax/runs/s1 '\''eval.steps=[1, 2]'\'''"""
        "\n# logs: tpu_scripts/logs.sh; a checkpoint and the end: tpu_scripts/stop.sh\n",
    ),
    "logs of worker 0, by the tunnel": (
        ("logs.sh", *ONE, "--ssh-via=iap"),
        """\
gcloud alpha compute tpus tpu-vm ssh ebt --worker=0 --tunnel-through-iap --zone=us-east5-a --project=my-project\
 --command='bash ebm_jax/tpu_scripts/worker.sh log run 100 follow'
""",
    ),
    "logs of all": (
        ("logs.sh", *QUEUED, "--worker=all", "--slice=all", "--no-follow", "--run=s1"),
        """\
gcloud compute tpus queued-resources ssh ebt --worker=all --node=all --zone=us-east5-a\
 --command='bash ebm_jax/tpu_scripts/worker.sh log s1 100 named'
""",
    ),
    "logs into files": (
        ("logs.sh", *ONE, "--worker=all", "--output=my logs"),
        """\
mkdir -p 'my logs'
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project --output-directory='my logs'\
 --command='bash ebm_jax/tpu_scripts/worker.sh log run 100'
""",
    ),
    "stop": (
        ("stop.sh", *ONE, "--run=s1"),
        """\
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project\
 --command='bash ebm_jax/tpu_scripts/worker.sh stop s1'
# then, every 10 s until none runs, at most 15 min:
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project\
 --command='if test -f ebm_jax/tpu_scripts/worker.sh; then bash ebm_jax/tpu_scripts/worker.sh status s1;\
 else echo ebm_jax-run $(hostname) none -; fi'
""",
    ),
    "delete": (
        ("delete.sh", *ONE),
        "gcloud compute tpus tpu-vm delete ebt --zone=us-east5-a --project=my-project --quiet\n",
    ),
    "delete from the queue": (
        ("delete.sh", *QUEUED),
        "gcloud compute tpus queued-resources delete ebt --zone=us-east5-a --force --quiet\n",
    ),
    "babysit": (
        (
            "babysit.sh",
            *ONE,
            "--spot",
            "--repo=https://example.com/r.git",
            "--commit=v1",
            "--bucket=gs://my-bucket",
            "--",
            *TRAIN,
        ),
        """\
# not there: create it, set it up, run
# v6e-16: 16 chips on 4 host(s), 1 slice(s)
gcloud compute tpus tpu-vm create ebt --zone=us-east5-a --project=my-project --accelerator-type=v6e-16 --spot\
 --version=v2-alpha-tpuv6e
# then, every 15 s until ready, at most 60 min:
gcloud compute tpus tpu-vm describe ebt --zone=us-east5-a --project=my-project --format='value(state)'
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project --command='test -d ebm_jax/.git ||\
 git clone --quiet https://example.com/r.git ebm_jax && cd ebm_jax && git fetch --quiet --tags origin &&\
 git checkout --quiet --detach v1'
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project\
 --command='bash ebm_jax/tpu_scripts/worker.sh install tpu,data,hf,log,eval'
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project\
 --command='bash ebm_jax/tpu_scripts/worker.sh mount my-bucket /mnt/ebm_jax'
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project\
 --command='bash ebm_jax/tpu_scripts/worker.sh check 16'
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project\
 --command='bash ebm_jax/tpu_scripts/worker.sh start run EBM_JAX_COORDINATOR=auto -- python -m experiments.pretrain\
 configs/ebt/s1.py workdir=/mnt/ebm_jax/runs/s1'
# logs: tpu_scripts/logs.sh; a checkpoint and the end: tpu_scripts/stop.sh
# then, every 60 s, the states of the TPU and of the run:
gcloud compute tpus tpu-vm describe ebt --zone=us-east5-a --project=my-project --format='value(state)'
gcloud compute tpus tpu-vm ssh ebt --worker=all --zone=us-east5-a --project=my-project\
 --command='if test -f ebm_jax/tpu_scripts/worker.sh; then bash ebm_jax/tpu_scripts/worker.sh status run;\
 else echo ebm_jax-run $(hostname) none -; fi'
# taken away: delete it and begin again; failed: run again; at most 20 times
gcloud compute tpus tpu-vm delete ebt --zone=us-east5-a --project=my-project --quiet
""",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_dry_run_prints_the_commands_and_runs_none(name: str, scripts: Scripts):
    command, expected = CASES[name]
    done = scripts.run(*command)
    assert (done.code, done.err) == (0, "")
    assert done.out == expected
    assert scripts.calls() == []


def test_what_is_printed_can_be_pasted(scripts: Scripts):
    """A shell reads the printed line back as the words that were meant, and so does the worker's."""
    line = CASES["run"][1].splitlines()[0]
    show = f'gcloud() {{ for word; do :; done; echo "${{word#--command=}}"; }}; {line}'
    remote = subprocess.run(["bash", "-c", show], capture_output=True, text=True, check=True).stdout
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {remote}"], capture_output=True, text=True, check=True
    ).stdout
    assert words.splitlines()[2:] == [
        *("start", "run", "EBM_JAX_COORDINATOR=auto", "A=it's", "B=2", "--", "python", "-m", "experiments.pretrain"),
        *("configs/ebt/s1.py", "workdir=/mnt/ebm_jax/runs/s1", "eval.steps=[1, 2]"),
    ]


def test_options_come_from_the_command_line_then_the_environment_then_a_file(scripts: Scripts):
    settings = scripts.folder / "tpu.env"
    settings.write_text("# for all scripts\n\nTPU_NAME=filed\nZONE=us-east5-a\nTPU_TYPE=v5e-8\nPROJECT=filed-project\n")
    done = scripts.run(
        "delete.sh", "--settings", str(settings), "--zone=us-west4-b", "--dry-run", env={"PROJECT": "exported"}
    )
    assert done.out == "gcloud compute tpus tpu-vm delete filed --zone=us-west4-b --project=exported --quiet\n"
