"""Records of a comparison: read whole, averaged over seeds, set against each other in the same places only, told on a page."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ebm_jax.errors import UserError
from ebm_jax.records import ANCHORS, COMPARISON, FINETUNED
from ebm_jax.reporting.finetuning import lowest, read_comparison
from ebm_jax.reporting.finetuning_text import markdown
from ebm_jax.reporting.markdown import markdown_table
from tests.experiments import compared_runs, tiny_comparison
from tests.experiments.compared_runs import Law

LAWS = {"ebft": Law(-0.05, -0.1, 0.04), "sft": Law(0.0, -0.05, 0.0)}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return tiny_comparison.comparison(tmp_path_factory.mktemp("given"), "somewhere")


@pytest.fixture
def folder(tmp_path, given):
    return compared_runs.made(tmp_path / "made", given, LAWS)


def test_laws_are_found_again(folder):
    found = read_comparison(folder)
    assert [m.name for m in found.methods] == ["base", "ebft", "sft"] and found.lengths == [1, 2, 4]
    assert [len(m.records) for m in found.methods] == [1, 3, 3] and found.tasks == ["bleu"]
    for n in found.lengths:
        difference = found.matching_difference("ebft", "base", n)
        assert difference.interval.low < -0.05 < difference.interval.high and difference.sign == -1
        assert difference.value == pytest.approx(-0.05, abs=1e-3)
    assert found.nll_difference("ebft", "base").value == pytest.approx(-0.1, abs=2e-3)
    assert found.nll_difference("ebft", "sft", "all").value == pytest.approx(-0.05, abs=2e-3)
    assert found.task_difference("ebft", "base", "bleu").value == pytest.approx(0.04, abs=2e-3)
    assert found.task_difference("sft", "base", "bleu").sign == 0
    assert lowest(found, ["ebft", "sft"], "base") == ["ebft"]
    assert found.method("ebft").mean("nll", "scored").seeds == 3
    assert found.method("sft").figure("seed") == [0, 1, 2]


def test_a_difference_of_means_is_the_mean_difference(folder):
    """The mean over anchors of the paired difference is that of the two records' own means; the same for cross-entropy."""
    found = read_comparison(folder)
    mean = lambda name, *path: found.method(name).mean(*path).value
    for n in found.lengths:
        apart = mean("ebft", "matching_loss", str(n)) - mean("sft", "matching_loss", str(n))
        assert found.matching_difference("ebft", "sft", n).value == pytest.approx(apart, abs=1e-9)
    each = [found.matching_difference("ebft", "sft", n) for n in found.lengths]
    whole = found.matching_difference("ebft", "sft")
    assert whole.value == pytest.approx(np.mean([one.value for one in each]), abs=1e-12)
    width = lambda one: one.interval.high - one.interval.low
    assert width(whole) < max(map(width, each))
    for tokens in ("scored", "all"):
        apart = mean("ebft", "nll", tokens) - mean("base", "nll", tokens)
        assert found.nll_difference("ebft", "base", tokens).value == pytest.approx(apart, abs=1e-9)


def test_page(folder):
    page = markdown(read_comparison(folder))
    assert page.startswith("# tiny\n") and "The task that was named to decide is bleu." in page
    row = next(line for line in page.splitlines() if line.startswith("| ebft "))
    assert row.split("|")[2].strip() == "3" and "±" in row and "1.00 T" in row
    assert "Feature-matching loss below that of base at every length: ebft." in page
    assert "| less base " in page and "| less ebft " in page and "250 anchors, the same for all" in page
    assert "Best of k samples, bleu" in page and "bleu, ebft: samples worth 0 for timeout 6." in page
    assert r"\| ebft" in page and "x):⏎     return x" in page, "samples are on one line and break no table"
    widths = [{len(line) for line in part.splitlines() if line.startswith("|")} for part in page.split("\n\n")]
    assert all(len(lengths) <= 1 for lengths in widths)


def test_many_methods_stand_in_rows(tmp_path, given):
    """Twelve columns of differences are more than anyone reads."""
    names = [f"v{i}" for i in range(12)]
    many = replace(given, methods=dict.fromkeys(names, given.first), tasks={}, headline="")
    laws = {name: Law(-0.01 * i) for i, name in enumerate(names)}
    page = markdown(read_comparison(compared_runs.made(tmp_path / "many", many, laws, seeds=1)))
    assert "| less base | length 1 " not in page and "| v11 " in page.split("## Differences")[1]
    head = next(line for line in page.splitlines() if line.startswith("| less base"))
    assert [cell.strip() for cell in head.strip("|").split("|")[1:4]] == ["length 1", "length 2", "length 4"]
    assert "## Samples" not in page


def test_records_of_another_evaluation_are_left_out(folder, given):
    other = folder / "sft/seed=1" / FINETUNED
    other.write_text(json.dumps(json.loads(other.read_text()) | {"evaluation": "another"}))
    found = read_comparison(folder)
    assert len(found.method("sft").records) == 2 and found.left_out == [str(other.parent)]
    assert f"Left out, for their records are of another evaluation: {other.parent}." in markdown(found)


def test_seeds_are_those_that_were_measured(folder, tmp_path):
    """Whatever the last command asked for; in the order of their numbers."""
    (folder / "ebft/seed=2").rename(folder / "ebft/seed=10")
    (folder / "ebft/seed=1" / FINETUNED).unlink()
    found = read_comparison(folder)
    assert [place.name for place in found.method("ebft").folders] == ["seed=0", "seed=10"]


def test_other_places_are_not_compared(folder):
    file = folder / "sft/seed=0" / ANCHORS
    with np.load(file) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    np.savez(file, **(kept | {"anchor_A": kept["anchor_A"] + 1, "row_R": kept["row_R"] + 1}))
    found = read_comparison(folder)
    with pytest.raises(
        UserError, match=r"ebft and sft were not measured in the same places \(anchor_A\): delete their"
    ):
        found.matching_difference("ebft", "sft", 1)
    with pytest.raises(UserError, match=r"same places \(row_R\)"):
        found.nll_difference("ebft", "sft")
    assert found.matching_difference("ebft", "base", 1).sign == -1


def test_what_is_missing_or_damaged(tmp_path, given, folder):
    with pytest.raises(UserError, match=r"comparison.json: no such file; run python -m experiments.finetune CONFIG"):
        read_comparison(tmp_path)
    empty = compared_runs.made(tmp_path / "empty", given, {}, begun=False)
    with pytest.raises(
        UserError, match=r"nothing was measured yet; run python -m experiments.finetune CONFIG workdir="
    ):
        read_comparison(empty)
    with pytest.raises(UserError, match="rlvr was not measured: there are base, ebft, sft"):
        read_comparison(folder).method("rlvr")
    (folder / "ebft/seed=0" / ANCHORS).write_bytes(b"PK")
    with pytest.raises(UserError, match=r"anchors.npz cannot be read .*delete the finetuned.json beside it"):
        read_comparison(folder)
    (folder / COMPARISON).write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        read_comparison(folder)


def test_one_method_alone_and_no_beginning(tmp_path, given):
    page = markdown(read_comparison(compared_runs.made(tmp_path / "one", given, {"sft": Law()}, seeds=1, begun=False)))
    assert "## Differences" not in page and "±" not in page


def test_tables_line_up():
    lines = markdown_table(["", "x"], [["long name", "1"], ["b", "22222"]]).splitlines()
    assert len({len(line) for line in lines}) == 1 and lines[1].endswith("-: |")
