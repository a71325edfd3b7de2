"""What a user can get wrong, through the command line: a message with the value and the fix, a status, and nothing lost."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ebm_jax import cli
from experiments import evaluate, pretrain
from tests.environment import xla_flags

pytest.importorskip("tensorflow_datasets")

ROOT = Path(__file__).parents[2]
LM, EBT = (str(ROOT / "configs" / "smoke" / name) for name in ("lm.py", "ebt.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus, and files that are none."""
    folder = tmp_path_factory.mktemp("input")
    lines = (f"line {i} of a small text, which says {i * i % 97} and little else" for i in range(300))
    (folder / "corpus.txt").write_text("\n".join(lines))
    (folder / "empty.txt").write_text("")
    (folder / "latin.txt").write_bytes(b"caf\xe9 au lait")
    (folder / "broken.jsonl").write_text('{"text": "fine"}\n{"text": "brok\n')
    return folder


def settings(folder, **changes):
    """Overrides that make a run of either smoke config one of a moment."""
    values = {
        "data.source": f"text:{folder}/corpus.txt",
        "data.documents": "blocks",
        "data.block_chars": 200,
        "data.cache_dir": folder / "cache",
        "data.context": 16,
        "data.workers": 0,
        "model.width": 16,
        "mesh.data": 1,
        "train.steps": 4,
        "train.checkpoint_every": 2,
        "train.log_every": 1,
        "train.eval_every": 0,
        "train.eval_batches": 1,
    }
    return [f"{key}={value}" for key, value in (values | changes).items()]


def train(folder, workdir, *overrides, config=LM):
    return cli.main(pretrain.main, [config, *settings(folder), *overrides, f"workdir={workdir}"])


@pytest.fixture(scope="module")
def trained(folder):
    """A run of four steps with two checkpoints."""
    assert train(folder, folder / "trained") == 0
    return folder / "trained"


@pytest.fixture
def copy(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def refused(capsys):
    """Whether a command ends with the status, and its last line on stderr holds all the words."""

    def check(status, *words, log=0):
        printed = capsys.readouterr().err
        *_, last = printed.splitlines()
        assert last.startswith("error: ") and "Traceback" not in printed
        assert status == log
        missing = [word for word in words if word not in last]
        assert not missing, f"{last!r} lacks {missing}"

    return lambda status, *words, exits=2: check(status, *words, log=exits)


def digests(folder):
    """What every file of a run holds, but for the folders that are views of it."""
    files = (path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_before_anything_is_made(folder, tmp_path, refused):
    cases = [
        (LM, "optim.peak_lrr=1", "'optim.peak_lrr'", "Did you mean 'optim.peak_lr'?"),
        (LM, "optimm.peak_lr=1", "'optimm.peak_lr'", "Did you mean 'optim.peak_lr'?"),
        (LM, "peak_lr=1", "Did you mean 'optim.peak_lr'?"),
        (LM, "train.steps=ten", "train.steps=ten cannot be read as int"),
        (LM, "model.attention=flash", "model.attention=flash", "xla"),
        (LM, "model.heads=3", "model.heads=3 does not divide model.width=16", "choose a divisor"),
        (LM, "mesh.data=16", "data=16", "needs 16 devices but there are 8", "smaller"),
        (LM, "mesh.rules=fsdq", "mesh.rules='fsdq'", "fsdp_tp"),
        (LM, "train.accumulate=3", "train.batch_size=8", "train.accumulate=3"),
        (LM, "mesh.data=3", "train.batch_size=8 is not divisible by the 3 batch shards"),
        (LM, "eval.split=validate", "eval.split='validate'", "validation"),
        (LM, "data.validation_fraction=0", "the validation split has no rows", "another fraction"),
        (
            EBT,
            "algorithm.replay.capacity=0",
            "algorithm.replay.fraction=0.5",
            "algorithm.replay.capacity=0",
            "positive",
        ),
        (LM, f"data.source=text:{folder}/empty.txt", f"{folder}/empty.txt: empty", "byte 0", "data.exclude"),
        (LM, f"data.source=text:{folder}/latin.txt", f"{folder}/latin.txt: byte 3 (0xe9)", "UTF-8", "convert"),
        (LM, f"data.source=text:{folder}/no.txt", f"{folder}/no.txt does not exist"),
        (LM, f"data.source=jsonl:{folder}/broken.jsonl", f"{folder}/broken.jsonl: line 2: not JSON", "mend"),
        (LM, "data.source=texte:x", "data.source='texte'", "did you mean 'text'?"),
        (LM, "data.tokenizer=byte", "data.tokenizer='byte' is not bytes"),
    ]
    for config, override, *words in cases:
        refused(train(folder, tmp_path / "run", override, config=config), *words)
    assert not (tmp_path / "run").exists()
    status = train(folder, tmp_path / "run", "train.accumulate=8", config=EBT)
    refused(status, "the 12 rows of a step", "train.accumulate=8", "change train.batch_size")


def test_origins_that_are_none(folder, trained, tmp_path, refused):
    cases = [
        ([f"weights={folder}/no"], f"no checkpoint at {folder}/no"),
        ([f"weights={folder}/corpus.txt"], f"{folder}/corpus.txt: cannot read .txt", ".npz"),
        ([f"weights={folder}"], f"no checkpoint in {folder} can be read (there is none)", "train the run"),
        ([f"weights={trained}", "model.width=32"], "embed is (256, 16), not (256, 32)", "check model and vocabulary"),
        ([f"continue_from={folder}/no"], f"{folder}/no is not a folder"),
    ]
    for overrides, *words in cases:
        refused(train(folder, tmp_path / "run", *overrides), *words)
    assert not digests(tmp_path / "run")


def test_resuming_as_another_run_changes_nothing(folder, trained, refused):
    before = digests(trained)
    refused(train(folder, trained, "model.width=32"), "model.width was 16 and is now 32", "another workdir")
    refused(train(folder, trained, "optim.peak_lr=1"), "optim.peak_lr was 0.003 and is now 1.0")
    assert digests(trained) == before


def test_another_vocabulary(folder, trained, tmp_path, refused):
    package = pytest.importorskip("tokenizers")
    alphabet = package.pre_tokenizers.ByteLevel.alphabet()
    tokenizer = package.Tokenizer(package.models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = package.decoders.ByteLevel()
    tokenizer.add_tokens(["<more>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    other, before = f"data.tokenizer=hf:{tmp_path}/tokenizer.json", digests(trained)
    refused(train(folder, trained, other), "data.tokenizer was 'bytes' and is now 'hf:")
    weights = (f"weights={trained}", other, "data.append_eos=false")
    refused(train(folder, tmp_path / "run", *weights), "embed is (256, 16), not (257, 16)", "vocabulary")
    assert digests(trained) == before


def test_a_truncated_newest_checkpoint_falls_back_and_says_so(folder, trained, copy, caplog, capsys):
    for path in (copy / "checkpoints" / "4" / "params").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert train(folder, copy) == 0
    assert f"cannot read the checkpoint of step 4 in {copy}/checkpoints" in caplog.text
    assert (copy / "checkpoints" / "4.unreadable").is_dir()
    first, second = (json.loads((run / "result.json").read_text()) for run in (trained, copy))
    assert first | {"seconds": None} == second | {"seconds": None}
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "evaluation" in line]
    assert line.startswith("evaluation at step 4: validation bits_per_byte ") and ", nll " in line and len(line) < 80
    steps = [json.loads(line)["step"] for line in (copy / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 4]


def test_foreign_files_as_checkpoints(folder, copy, refused):
    shutil.rmtree(copy / "checkpoints")
    refused(cli.main(evaluate.main, [str(copy)]), f"{copy} has no checkpoints", f"workdir={copy}")
    (copy / "checkpoints").mkdir()
    refused(cli.main(evaluate.main, [str(copy)]), "there is none", "train the run first")
    (copy / "checkpoints" / "4").mkdir()
    (copy / "checkpoints" / "4" / "model.bin").write_text("hello")
    before = digests(copy)
    words = (f"no checkpoint in {copy}/checkpoints can be read", "step 4", "not written by this framework")
    refused(train(folder, copy), *words, "use another workdir")
    refused(cli.main(evaluate.main, [str(copy)]), *words, "name another one")
    assert digests(copy) == before
    shutil.rmtree(copy / "checkpoints")
    (copy / "checkpoints").write_text("a file")
    refused(train(folder, copy), f"{copy}/checkpoints is not a folder")


def test_evaluating_what_is_not_there(folder, trained, refused):
    before = digests(trained)
    cases = [
        ([], "one model is expected"),
        ([f"{folder}/no"], f"{folder}/no/run.json: no such file; no run lives there"),
        ([f"{folder}/corpus.txt"], f"{folder}/corpus.txt/run.json: no such file"),
        ([f"{trained}", "checkpoint=3"], "no checkpoint of step 3", "it has those of steps 2, 4"),
        ([f"{trained}", "checkpoint=last"], "checkpoint='last' is not a step number"),
        ([f"{trained}", "row=8"], "unknown key 'row'", "Did you mean 'rows'?"),
        ([f"{trained}", "splits=validate"], "split 'validate' is not one of train, validation, test"),
    ]
    for argv, *words in cases:
        refused(cli.main(evaluate.main, argv), *words)
    assert digests(trained) == before


@pytest.mark.slow
def test_a_step_that_is_not_finite_names_a_way_on_that_works(folder, tmp_path, refused):
    broken = ("optim.clip_norm=none", "optim.warmup_steps=2", "train.checkpoint_every=1")
    status = train(folder, tmp_path / "run", "optim.peak_lr=1e30", *broken)
    way = f"lower optim.peak_lr or optim.clip_norm, with continue_from={tmp_path}/run and another workdir"
    words = ("step 2 is not finite: param_norm is inf", "the checkpoint of step 1 is intact", way)
    refused(status, *words, exits=3)
    assert not (tmp_path / "run" / "result.json").exists()
    assert train(folder, tmp_path / "on", *broken, f"continue_from={tmp_path}/run") == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "on" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 3, 4, 4]


def launch(module, *argv):
    """A program of its own, with one device."""
    environment = os.environ | {"XLA_FLAGS": xla_flags(1)}
    command = [sys.executable, "-m", f"experiments.{module}", *map(str, argv)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_exits_0_and_evaluation_says_only_its_own_words(folder, tmp_path):
    workdir = tmp_path / "run"
    steps = settings(folder, **{"train.steps": 1_000_000, "train.checkpoint_every": 0})
    process = launch("pretrain", LM, *steps, f"workdir={workdir}")
    end = time.monotonic() + 120
    while not (workdir / "metrics.jsonl").exists() or len((workdir / "metrics.jsonl").read_bytes()) < 1000:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors
    (checkpoint,) = (workdir / "checkpoints").iterdir()
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert int(checkpoint.name) == last and not (workdir / "result.json").exists()
    process = launch("evaluate", workdir, "rows=8")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and f"at step {last}" in output
    assert errors == ""


@pytest.fixture
def tiny_disk(tmp_path):
    """A command that runs another one with a disk of 1 MB mounted at ``tmp_path/disk``."""
    (tmp_path / "disk").mkdir()
    mount = f"mount -t tmpfs -o size=1000k tmpfs {tmp_path}/disk"
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    probe = shutil.which("unshare") and subprocess.run([*command, mount], capture_output=True)
    if not probe or probe.returncode:
        pytest.skip("no file system can be mounted here")
    return lambda run: [*command, f"{mount} && {run}"]


@pytest.mark.slow
def test_a_full_disk(folder, tmp_path, tiny_disk):
    words = settings(folder, **{"train.steps": 20, "train.keep": 20})
    run = f"{sys.executable} -m experiments.pretrain {LM} {' '.join(words)} workdir={tmp_path}/disk/run"
    # What the disk holds is gone with its mount, so it is read before.
    saved = f"cp -r {tmp_path}/disk/run {tmp_path}/saved"
    environment = os.environ | {"XLA_FLAGS": xla_flags(1)}
    command = tiny_disk(f"({run}; echo status $?; {saved})")
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert "status 28" in ended.stdout and "Traceback" not in ended.stderr, ended.stderr
    *_, last = ended.stderr.splitlines()
    complete = max(int(path.name) for path in (tmp_path / "saved" / "checkpoints").iterdir() if path.name.isdigit())
    assert (
        f"the disk is full; free some space and start the same command again; the checkpoint of step {complete} is"
        in last
    )
    assert train(folder, tmp_path / "saved", "train.steps=20") == 0


def test_a_full_disk_below_the_metrics(folder, tmp_path, monkeypatch, refused):
    monkeypatch.setattr("ebm_jax.training.record._line", lambda values: _full())
    refused(train(folder, tmp_path / "run"), "the disk is full", "start the same command again", exits=28)


def _full():
    raise OSError(28, os.strerror(28))
