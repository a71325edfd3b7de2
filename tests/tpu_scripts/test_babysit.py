"""The babysitter against a gcloud that plays what happens to a TPU: what it does, in which order, and when it ends."""

import re

from tests.tpu_scripts.scripts import Done, Scripts

COMMAND = ("--", "python", "-m", "experiments.pretrain", "c.py", "workdir=gs://my-bucket/runs/a")
BASE = ("--name=ebt", "--zone=us-east5-a", "--spot", "--bucket=gs://my-bucket", "--poll=0", "--backoff=0")
ONE_HOST = (*BASE, "--type=v5e-8")
TWO_HOSTS = (*BASE, "--type=v5p-16")

RUNNING, FINISHED, NONE = "ebm_jax-run w0 running -", "ebm_jax-run w0 exited 0", "ebm_jax-run w0 none -"


def babysit(scripts: Scripts, *options: str) -> Done:
    repository = ("--repo=https://example.com/r.git", "--commit=v1", "--no-check")
    return scripts.run("babysit.sh", *options, *repository, *COMMAND)


def deeds(scripts: Scripts) -> list[str]:
    """What was done, one word each, without the questions."""
    words = {
        " create ": "create",
        "git clone": "clone",
        "worker.sh (install|mount|start|kill|stop|log)": None,
        " delete ": "delete",
    }
    found = []
    for call in scripts.calls():
        for pattern, word in words.items():
            if match := re.search(pattern, call):
                found.append(word or match[1])
    return found


BEGIN = ["clone", "install", "mount", "start"]


def test_a_preempted_run_is_made_again_and_ends_with_the_run(scripts: Scripts):
    scripts.answers(
        # Not there; while it is created; ready; preempted; deleted; while it is created again; ready to the end.
        node=["error:NOT_FOUND", "CREATING", "READY", "READY", "PREEMPTED", "error:NOT_FOUND", "READY"],
        status=[RUNNING, RUNNING, FINISHED],
    )
    done = babysit(scripts, *ONE_HOST)
    assert done.code == 0, done.err
    assert deeds(scripts) == ["create", *BEGIN, "delete", "create", *BEGIN, "delete"]
    assert re.search(r"ebt is PREEMPTED: restart 1 of 20 in 0 s", done.err)
    started = [call for call in scripts.calls() if "worker.sh start" in call]
    assert len(set(started)) == 1, "the same command, so that it resumes"
    assert "workdir=/mnt/ebm_jax/runs/a" in started[0]


def test_a_suspended_request_is_made_again(scripts: Scripts):
    scripts.answers(
        queue=["ACTIVE", "SUSPENDED", "error:Resource not found", "WAITING_FOR_RESOURCES", "ACTIVE"],
        node=["READY"],
        status=["ebm_jax-run w0 running -|ebm_jax-run w1 running -", "ebm_jax-run w0 exited 0|ebm_jax-run w1 exited 0"],
    )
    done = babysit(scripts, *TWO_HOSTS, "--queued", "--keep")
    assert done.code == 0, done.err
    assert deeds(scripts) == ["delete", "create", *BEGIN]
    assert "ebt is kept, and costs until delete.sh" in done.err


def test_a_ready_tpu_where_nothing_runs_is_set_up(scripts: Scripts):
    scripts.answers(node=["READY"], status=[NONE, RUNNING, FINISHED])
    assert babysit(scripts, *ONE_HOST).code == 0
    assert deeds(scripts) == [*BEGIN, "delete"]


def test_a_run_that_goes_on_is_only_watched(scripts: Scripts):
    scripts.answers(node=["READY"], status=[RUNNING, RUNNING, FINISHED])
    assert babysit(scripts, *ONE_HOST).code == 0
    assert deeds(scripts) == ["delete"]


def test_gcloud_out_of_reach_deletes_nothing(scripts: Scripts):
    scripts.answers(node=["error:network is unreachable", "READY"], status=["error:timeout", RUNNING, FINISHED])
    assert babysit(scripts, *ONE_HOST).code == 0
    assert deeds(scripts) == ["delete"]


def test_a_failure_is_run_again_as_long_as_there_is_progress(scripts: Scripts):
    failed = "ebm_jax-run w0 exited 1"
    scripts.answers(
        node=["READY"],
        status=[RUNNING, failed, failed, RUNNING, FINISHED],
        progress=["ebm_jax-progress 11", "ebm_jax-progress 22"],
    )
    done = babysit(scripts, *ONE_HOST)
    assert done.code == 0, done.err
    assert deeds(scripts) == ["kill", "start", "kill", "start", "delete"]


def test_the_same_failure_twice_without_progress_is_the_end(scripts: Scripts):
    scripts.answers(node=["READY"], status=["ebm_jax-run w0 exited 1"], progress=["ebm_jax-progress 11"])
    done = babysit(scripts, *ONE_HOST)
    assert done.code == 1
    assert "given up: it failed twice in the same way (1) and wrote no checkpoint between" in done.err
    assert deeds(scripts) == ["kill", "start", "log", "delete"]


def test_a_code_that_a_restart_does_not_mend_is_the_end(scripts: Scripts):
    scripts.answers(node=["READY"], status=["ebm_jax-run w0 exited 134|ebm_jax-run w1 exited 3"])
    done = babysit(scripts, *TWO_HOSTS)
    assert done.code == 1
    assert "given up: exit code 3, which a restart does not mend" in done.err
    assert deeds(scripts) == ["log", "delete"]


def test_one_failed_host_ends_the_others_after_a_while(scripts: Scripts):
    partly = "ebm_jax-run w0 running -|ebm_jax-run w1 exited 1"
    both = "ebm_jax-run w0 exited 0|ebm_jax-run w1 exited 0"
    scripts.answers(node=["READY"], status=[partly, partly, both])
    assert babysit(scripts, *TWO_HOSTS).code == 0
    assert deeds(scripts) == ["kill", "start", "delete"]


def test_a_machine_that_was_restarted_is_no_finished_run(scripts: Scripts):
    scripts.answers(node=["READY"], status=["ebm_jax-run w0 interrupted 0", FINISHED])
    done = babysit(scripts, *ONE_HOST)
    assert done.code == 0, done.err
    assert deeds(scripts) == ["kill", "start", "delete"]


def test_a_run_that_was_asked_to_stop_is_left_alone(scripts: Scripts):
    scripts.answers(node=["READY"], status=[RUNNING, "ebm_jax-run w0 stopped 0"])
    done = babysit(scripts, *ONE_HOST)
    assert done.code == 0
    assert "stopped by stop.sh" in done.err
    assert deeds(scripts) == []


def test_the_number_of_restarts_is_limited(scripts: Scripts):
    scripts.answers(node=["error:NOT_FOUND"], create=["error:no more capacity in the zone"])
    done = babysit(scripts, *ONE_HOST, "--max-restarts=2")
    assert done.code == 1
    assert "given up: ebt is not there, after 2 restarts (--max-restarts)" in done.err
    assert deeds(scripts) == ["create"] * 3


def test_a_finished_run_is_not_made_again(scripts: Scripts):
    scripts.answers(node=["PREEMPTED"], done=["gs://my-bucket/runs/a/result.json"])
    done = babysit(scripts, *ONE_HOST, "--done-file=gs://my-bucket/runs/a/result.json")
    assert done.code == 0
    assert deeds(scripts) == ["delete"]


def test_create_waits_and_tells_the_state(scripts: Scripts):
    scripts.answers(node=["CREATING", "CREATING", "READY"])
    done = scripts.run("create.sh", *ONE_HOST[:3], "--type=v5e-8", "--poll=0")
    assert done.code == 0
    assert [line for line in done.err.splitlines() if line.startswith("ebt: ")] == ["ebt: CREATING", "ebt: READY"]
    scripts.answers(node=["PREEMPTED"])
    done = scripts.run("create.sh", *ONE_HOST[:3], "--type=v5e-8", "--poll=0")
    assert done.code == 1
    assert "error: ebt is PREEMPTED: delete it with delete.sh and create it again" in done.err


def test_stop_waits_for_the_checkpoint(scripts: Scripts):
    scripts.answers(status=[RUNNING, RUNNING, "ebm_jax-run w0 stopped 0"])
    done = scripts.run("stop.sh", *ONE_HOST[:2], "--type=v5e-8", "--poll=0")
    assert (done.code, done.out) == (0, "w0 stopped 0\n")
    assert deeds(scripts) == ["stop"]


def test_setup_ships_the_tracked_files(scripts: Scripts):
    assert scripts.run("setup.sh", *ONE_HOST[:2], "--type=v5e-8", "--no-check").code == 0
    shipped = (scripts.folder / "shipped").read_text().splitlines()
    assert {"pyproject.toml", "constraints.txt", "ebm_jax/cli.py", "experiments/pretrain.py"} <= set(shipped)
    assert not [name for name in shipped if name.startswith((".venv", "runs/", ".git/"))]
    assert not list(scripts.folder.glob("tmp.*")), "the archive is left behind"
