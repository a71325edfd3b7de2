"""Comparisons from the command line: which keys change what, and one from untrained weights to its report."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ebm_jax import cli
from ebm_jax.comparison import run_comparison
from ebm_jax.errors import UserError
from ebm_jax.records import ANCHORS, BASE, CONTINUATIONS, FINETUNED, read_finetuned, read_metrics
from ebm_jax.reporting.finetuning import read_comparison
from ebm_jax.serialize import flatten
from experiments import finetune
from experiments.finetune import changed
from tests.environment import xla_flags
from tests.experiments import tiny_comparison

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tiny(tmp_path):
    return tiny_comparison.comparison(tmp_path, "somewhere")


def test_keys_change_every_method_one_of_them_or_the_comparison(tiny):
    found = changed(
        tiny,
        ["optim.peak_lr=1", "sft.optim.peak_lr=2", "ebft.algorithm.gamma=0.5", "seeds=3,4", "matching.anchors=7",
         "tasks.bleu.rows=5", "name=other"],
    )  # fmt: skip
    assert found.methods["ebft"].optim.peak_lr == 1 and found.methods["sft"].optim.peak_lr == 2
    assert found.first.algorithm.gamma == 0.5 and (found.seeds, found.name) == ((3, 4), "other")
    assert found.matching.anchors == 7 and found.tasks["bleu"].rows == 5 and found.first.name == tiny.first.name
    assert changed(tiny, []) == tiny
    assert changed(tiny, ["tasks={}", "headline="]).tasks == {}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("algorithm.samples=2", r"methods.sft.algorithm.samples.*KEY=VALUE changes every method, METHOD.KEY=VALUE one of ebft"),
        ("rlvr.optim.peak_lr=1", r"unknown key 'methods.ebft.rlvr.optim.peak_lr'"),
        ("sft.model.depth=1", "sft has another model: compared methods begin with one model"),
        ("seeds=0,0", "must be different numbers"),
        ("seeds=a", "seeds=a cannot be read"),
        ("matching.lengths=2,1", "rising numbers of tokens"),
        ("tasks.blue.rows=1", "Did you mean 'tasks.bleu.rows'"),
        ("word", "is not of the form key=value"),
    ],
)  # fmt: skip
def test_keys_that_change_nothing_are_refused(tiny, assignment, message):
    with pytest.raises(UserError, match=message):
        changed(tiny, [assignment])


def test_command_lines_that_say_nothing(tmp_path, capsys):
    smoke = str(ROOT / "configs/ebft/smoke.py")
    (tmp_path / "other.py").write_text("def get_config():\n    return 3\n")
    for argv, told in (
        ([], "one config is expected"),
        ([smoke, "only=ebft"], "only= goes with a comparison"),
        ([str(tmp_path / "other.py")], "get_config() returned int, no config or comparison"),
        ([str(ROOT / "configs/ebft/stories.py"), "only=dpo"], "dpo: the methods are ebft, sft, rlvr"),
    ):
        assert cli.main(finetune.main, argv) == 2
        assert told in capsys.readouterr().err
    assert cli.main(finetune.main, ["--help"]) == 0 and "METHOD" in capsys.readouterr().out


@pytest.mark.slow
def test_a_comparison_is_trained_measured_and_told_of_once(tmp_path, capsys, monkeypatch):
    weights = tiny_comparison.begun(tmp_path)
    given = tiny_comparison.comparison(tmp_path, weights, matched={"sft": "ebft"})
    monkeypatch.setattr(cli, "load_and_call", lambda path, function: given)
    command = ["config.py", f"workdir={tmp_path / 'out'}", "mesh.data=1"]
    assert cli.main(finetune.main, command) == 0
    out = tmp_path / "out"
    folders = [out / BASE, out / "ebft/seed=0", out / "sft/seed=0"]
    page = (out / "report.md").read_text()
    assert "true text from anywhere" in page
    assert page in capsys.readouterr().out and "| ebft " in page and "task that was named to decide is bleu" in page
    records = [read_finetuned(folder) for folder in folders]
    assert [r["anchors"] for r in records] == [records[0]["anchors"]] * 3 and records[0]["anchors"] >= 24
    assert records[1]["flops"] <= records[2]["flops"] < records[1]["flops"] + records[2]["flops_per_step"]
    for folder, record in zip(folders, records, strict=True):
        with np.load(folder / ANCHORS) as arrays:
            assert arrays["matching_AxL"].shape == (record["anchors"], 3) and "tokens_AxGxT" not in arrays
            assert arrays["matching_AxL"].mean(0) == pytest.approx(list(record["matching_loss"].values()))
            total, weight = arrays["scored_Rx2"].sum(0)
            assert total / weight == pytest.approx(record["nll"]["scored"], rel=1e-6)
            assert np.isin(arrays["row_A"], arrays["row_R"]).all() and len(np.unique(arrays["row_R"])) == len(
                arrays["row_R"]
            )
            assert arrays["task/bleu"].shape == (record["tasks"]["bleu"]["questions"], 3)
        with np.load(folder / CONTINUATIONS) as arrays:
            assert arrays["tokens_AxGxT"].shape == (record["anchors"], 3, 4)
    # The model that was begun with is measured as its own run's evaluation would: what is scored of these rows is all.
    assert records[0]["nll"]["scored"] == records[0]["nll"]["all"] != records[2]["nll"]["all"]

    before = {folder: (folder / FINETUNED).stat().st_mtime_ns for folder in folders}
    again = lambda: {folder: (folder / FINETUNED).stat().st_mtime_ns for folder in folders}
    trained = read_metrics(folders[1])
    with monkeypatch.context() as patch:
        patch.setattr("ebm_jax.comparison.run_training", None)
        patch.setattr("ebm_jax.comparison.Evaluation.__call__", None)
        assert cli.main(finetune.main, [*command, "train.log_every=2"]) == 0
    assert again() == before and capsys.readouterr().out.count("measured before") == 3
    assert (out / "report.md").read_text() == page

    # Another evaluation measures what is trained; what was not asked for is left out of the page.
    assert cli.main(finetune.main, [*command, "only=ebft", "matching.temperature=0.5"]) == 0
    assert read_metrics(folders[1]) == trained
    changed_now = again()
    assert [changed_now[folder] == before[folder] for folder in folders] == [False, False, True]
    told = capsys.readouterr().out
    assert f"Left out, for their records are of another evaluation: {folders[2]}" in told and "| sft " not in told

    # Another run does not go on from the one that is there.
    assert cli.main(finetune.main, [*command, "optim.peak_lr=0.5"]) == 2
    assert "optim.peak_lr was 0.01 and is now 0.5" in capsys.readouterr().err
    stored = json.loads((out / "comparison.json").read_text())
    assert list(stored["methods"]) == ["ebft", "sft"]


def test_the_comparison_that_is_measured_has_a_network_to_look_by(tmp_path):
    given = tiny_comparison.comparison(tmp_path, None)
    with pytest.raises(
        UserError, match=r"begins with no weights: name the feature network, matching.features.weights=MODEL"
    ):
        run_comparison(given, tmp_path / "out")


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path):
    """Each has half of the rows; figures, anchors and graded samples are those of all."""
    weights = tiny_comparison.begun(tmp_path)
    config = tmp_path / "config.py"
    config.write_text(
        "from dataclasses import replace\nfrom pathlib import Path\nfrom tests.experiments import tiny_comparison\n\n\n"
        "def get_config():\n"
        f"    given = tiny_comparison.comparison(Path({str(tmp_path)!r}), {weights!r})\n"
        "    return replace(given, methods={'sft': given.methods['sft']})\n"
    )

    def launch(workdir, devices, **environment):
        command = [sys.executable, "-m", "experiments.finetune", str(config), f"workdir={tmp_path / workdir}"]
        environment = {**os.environ, "XLA_FLAGS": xla_flags(devices), "PYTHONPATH": str(ROOT), **environment}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    joined = {"EBM_JAX_COORDINATOR": f"127.0.0.1:{port}", "EBM_JAX_PROCESSES": "2"}
    for processes in (
        [launch("one", 2)],
        [launch("two", 1, **joined, EBM_JAX_PROCESS_ID=str(number)) for number in (0, 1)],
    ):
        for process in processes:
            told, _ = process.communicate(timeout=600)
            assert process.returncode == 0, told
    assert "written to" not in told, "the second process says nothing of what the first one writes"
    one, two = (read_comparison(tmp_path / name) for name in ("one", "two"))
    for ours, theirs in zip(one.methods, two.methods, strict=True):
        for name, values in ours.anchors[0].items():
            np.testing.assert_allclose(theirs.anchors[0][name], values, rtol=1e-4, atol=1e-5, err_msg=name)
        for key in ("matching_loss", "nll", "tasks", "duplicates"):
            assert flatten({key: theirs.records[0][key]}) == pytest.approx(
                flatten({key: ours.records[0][key]}), rel=1e-4
            )
