"""Mistakes are told before anything is run, with the value and the fix; the documentation names what exists."""

import re

import pytest

from ebm_jax.accounting.chips import CHIPS, slice_of_type
from tests.tpu_scripts.scripts import FOLDER, Scripts

BASE = ("--name=ebt", "--zone=us-east5-a", "--type=v5e-16")
SCRIPTS = ("create.sh", "setup.sh", "run.sh", "logs.sh", "stop.sh", "delete.sh", "babysit.sh")

MISTAKES = {
    "create.sh --zone=us-east5-a --type=v5e-8": "no name: pass --name NAME or set TPU_NAME",
    "create.sh --name=Ebt_1 --zone=us-east5-a --type=v5e-8": "--name 'Ebt_1' must be lower-case letters",
    "create.sh --name=ebt --type=v5e-8": "no zone: pass --zone ZONE",
    "create.sh --name=ebt --zone=us-east5 --type=v5e-8": "--zone 'us-east5' is no zone: write a region and a letter",
    "create.sh --name=ebt --zone=us-east5-a": "no accelerator type: pass --type TYPE",
    "create.sh --name=ebt --zone=us-east5-a --type=v5e-12": "the number of chips '12' is none of 1 4 8",
    "create.sh --name=ebt --zone=us-east5-a --type=v5p-12": "--type 'v5p-12': v5p is counted in cores, 8 to a host",
    "create.sh --name=ebt --zone=us-east5-a --type=v9-8": "--type 'v9-8' is none of v4-N",
    "create.sh {} --slices=2": "--slices 2 needs --queued",
    "create.sh {} --slices=two --queued": "--slices 'two' must be a whole number from 1 on",
    "create.sh {} --valid-until=6h": "--valid-until 6h needs --queued",
    "create.sh {} --queued --valid-until=soon": "--valid-until 'soon' is no length of time",
    "create.sh {} --spot --reserved": "--spot and --reserved exclude each other",
    "create.sh {} --spot=yes": "--spot takes no value",
    "create.sh {} --network": "--network needs a value",
    "create.sh {} --netwerk=lab": "unknown option '--netwerk': create.sh knows --name --zone",
    "create.sh {} lab": "unexpected argument 'lab'",
    "create.sh {} --ssh-via=carrier": "--ssh-via 'carrier' is none of external internal iap",
    "create.sh {} --settings=nowhere.env": "--settings nowhere.env: no such file",
    "setup.sh {} --repo=https://example.com/r.git": "needs --commit REF",
    "setup.sh {} --commit=abc": "--commit abc needs --repo URL",
    "setup.sh {} --bucket=my-bucket": "--bucket 'my-bucket' must be gs://",
    "setup.sh {} --extras=tpu;rm": "--extras 'tpu;rm' must be names with commas",
    "run.sh {}": "no command: write it behind --",
    "run.sh {} --run=a/b -- ls": "--run 'a/b' names a folder",
    "run.sh {} -- python x.py": "workdir=(none) lies on each worker's own disk, and 4 hosts write to it",
    "run.sh {} -- python x.py workdir=runs/a": "workdir=runs/a lies on each worker's own disk",
    "run.sh {} -- python x.py workdir=gs://my-bucket/a": "pass --bucket gs://my-bucket, to setup.sh too",
    "run.sh {} --bucket=gs://other -- python x.py workdir=gs://my-bucket/a": "pass --bucket gs://my-bucket",
    "run.sh {} --shared=/mnt/nfs -- python x.py workdir=/mnt/nfs2/a": "workdir=/mnt/nfs2/a lies on each",
    "run.sh {} --local-workdir --env=1X=2 -- ls": "--env '1X=2' is not NAME=VALUE",
    "logs.sh {} --worker=4": "--worker '4': v5e-16 has the workers 0 to 3",
    "logs.sh {} --slice=1": "--slice '1': there are the slices 0 to 0",
    "logs.sh {} --slice=all --output=logs": "--output with --slice all",
    "stop.sh {} --timeout=0": "--timeout '0' must be a whole number from 1 on",
    "delete.sh {}": "nobody is there to confirm that ebt shall be deleted: pass --yes",
    "babysit.sh {} -- python x.py workdir=a": "workdir=a lies on each worker's own disk",
    "babysit.sh {} --local-workdir --give-up-on=x -- ls": "--give-up-on 'x' must be exit codes with commas",
    "babysit.sh {} --local-workdir --done-file=result.json -- ls": "--done-file 'result.json' must be a file gs://",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_told_and_nothing_runs(line: str, scripts: Scripts):
    script, *arguments = line.split()
    arguments = [word for argument in arguments for word in (BASE if argument == "{}" else (argument,))]
    done = scripts.run(script, *arguments)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert MISTAKES[line] in done.err
    assert done.out == ""
    assert scripts.calls() == []


@pytest.mark.parametrize("line", ["export ZONE=us-east5-a", "TPU_SPTO=true", "TPU_SPOT", "HOME=/"])
def test_a_mistake_in_the_settings_is_told_with_its_line(line: str, scripts: Scripts):
    settings = scripts.folder / "tpu.env"
    settings.write_text(f"TPU_NAME=ebt\n{line}\n")
    done = scripts.run("delete.sh", f"--settings={settings}")
    assert done.code == 2
    assert f"{settings}:2: '{line}' is not ZONE=" in done.err


def test_a_flag_is_true_or_false(scripts: Scripts):
    done = scripts.run("create.sh", *BASE, "--dry-run", env={"TPU_SPOT": "yes"})
    assert (done.code, done.out, done.err) == (2, "", "error: TPU_SPOT='yes' must be true or false\n")
    assert "--spot" not in scripts.run("create.sh", *BASE, "--dry-run", env={"TPU_SPOT": "false"}).out


@pytest.mark.parametrize(
    "workdir", ["--local-workdir -- python x.py workdir=a", "--shared=/mnt/nfs -- python x.py workdir=/mnt/nfs/a"]
)
def test_a_workdir_that_is_vouched_for_is_taken(workdir: str, scripts: Scripts):
    assert scripts.run("run.sh", *BASE, "--dry-run", *workdir.split()).code == 0


def test_one_host_may_write_to_its_own_disk_unless_it_can_be_preempted(scripts: Scripts):
    one = ("run.sh", "--name=ebt", "--zone=us-east5-a", "--type=v5e-8", "--dry-run")
    done = scripts.run(*one, "--", "python", "x.py", "workdir=runs/a")
    assert (done.code, done.out.splitlines()[0]) == (
        0,
        "# workdir=runs/a lies on the TPU's own disk: copy it before you delete the TPU",
    )
    done = scripts.run(*one, "--", "python", "x.py", "workdir=runs/a", env={"TPU_SPOT": "true"})
    assert done.code == 2 and "goes with it when it is preempted" in done.err


def test_chips_and_hosts_are_counted_as_the_package_counts_them(scripts: Scripts):
    types = {
        f"{chip.name}-{n}" for chip in CHIPS.values() for n in ((8, 16, 128) if chip.cores == 2 else (1, 8, 16, 256))
    }
    lines = [f'read_type {name} && echo "{name} $CHIPS $HOSTS $DEFAULT_VERSION"' for name in sorted(types)]
    (scripts.folder / "count.sh").write_text("\n".join([f'. "{FOLDER}/lib.sh"', *lines]))
    done = scripts.run(str(scripts.folder / "count.sh"))
    found = {name: slice_of_type(name) for name in sorted(types)}
    expected = [f"{name} {piece.chips} {piece.hosts} {piece.chip.runtime_version}" for name, piece in found.items()]
    assert done.out.splitlines() == expected


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_the_comment_at_the_top_and_names_every_option(script: str, scripts: Scripts):
    done = scripts.run(script, "--help")
    assert done.code == 0
    assert f"usage: tpu_scripts/{script}" in done.out
    unknown = scripts.run(script, "--nonsense").err
    # babysit.sh refers to the scripts whose options it takes over.
    texts = done.out + "".join(scripts.run(other, "--help").out for other in SCRIPTS if script == "babysit.sh")
    common = scripts.run("create.sh", "--help").out
    for option in re.findall(r"--[a-z-]+", unknown.split("knows", 1)[1]):
        assert option in texts + common or option == "--help", f"{script} --help does not name {option}"


def test_the_guide_names_only_options_and_files_that_exist(scripts: Scripts):
    guide = (FOLDER / "README.md").read_text()
    known = {script: scripts.run(script, "--nonsense").err for script in SCRIPTS}
    for line in re.sub(r"\\\n\s*", " ", guide).splitlines():
        called = re.search(r"tpu_scripts/(\w+\.sh)", line)
        if called and line.startswith("tpu_scripts/"):
            for option in re.findall(r"(?<=\s)--[a-z-]+", line.split(" -- ")[0]):
                assert f"{option} " in known[called[1]].replace("\n", " ") + " ", f"{called[1]} does not know {option}"
    for name in re.findall(r"`(--[a-z-]+)`", guide):
        assert any(name in text for text in known.values()) or name in ALLOWED, f"no script knows {name}"
    for name in re.findall(r"\b(\w+\.(?:sh|sbatch))\b", guide):
        assert (FOLDER / name).is_file(), f"there is no tpu_scripts/{name}"


ALLOWED = {"--force"}
"""Options of gcloud and others that the guide speaks of."""
