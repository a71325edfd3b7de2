"""Two processes of two devices train as one process of four does, by the real command, in float64."""

import pytest

from ebm_jax.experiment import open_run
from ebm_jax.records import read_metrics
from tests.equivalence.clusters import finish, launch_cluster, launch_pretrain, write_corpus
from tests.tiny import assert_trees_close


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("config", ["configs/smoke/ebt.py", "configs/ebft/smoke.py"])
def test_two_processes_are_one(config, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    write_corpus(tmp_path)
    # Ends after a resume, so that both processes also agree on what they read.
    for steps in (2, 4):
        for process in launch_cluster(config, tmp_path, "two", steps, 2, 2):
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
