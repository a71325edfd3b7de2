"""Records of thinking: what they hold, and that their figures are those of an evaluation."""

import pytest

from ebm_jax import cli
from ebm_jax.evaluation import EvaluationOptions, evaluate_run
from ebm_jax.experiment import open_run
from ebm_jax.records import read_thinking, read_uncertainty
from experiments import think
from tests.experiments.test_bad_input import EBT, folder, refused, train

pytest.importorskip("tensorflow_datasets")
__all__ = ["folder", "refused"]


def run(*argv):
    return cli.main(think.main, [str(argument) for argument in argv])


@pytest.fixture(scope="module")
def ebt_run(folder):
    extra = f"eval.extra={{other: 'text:{folder}/corpus.txt'}}"
    assert train(folder, folder / "thinker", "train.accumulate=1", extra, config=EBT) == 0
    return folder / "thinker"


@pytest.mark.slow
def test_points_by_steps_candidates_variants_and_checkpoints(ebt_run):
    settings = ("rows=8", "steps=4", "candidates=2", "variants=[noise=0+steps=2]", "history=2", "history_extra=other")
    settings += ("iterations=3",)
    assert run(ebt_run, *settings) == 0
    record = read_thinking(ebt_run)
    points = record["points"]
    assert (record["kind"], record["trained_steps"], record["seed"]) == ("ebt", 3, 0)
    assert {point["split"] for point in points} == {"validation", "other"}
    seen = {(p["checkpoint"], p["steps"], p["candidates"], *p["options"]) for p in points}
    curve = {(4, k, 1) for k in (1, 2, 3, 4)}
    earlier = {(2, k, 1) for k in (1, 2, 3)} | {(2, 3, 2)}
    assert seen == curve | {(4, 3, 2), (4, 2, 1, "noise", "steps")} | earlier
    by = {(p["checkpoint"], p["steps"], p["candidates"], p["split"]): p for p in points if not p["options"]}
    assert by[4, 3, 2, "other"]["forward_passes"] == 8 and by[4, 2, 1, "other"]["forward_passes"] == 2
    assert by[2, 3, 1, "other"]["tokens_trained"] == 2 * 8 * 16
    experiment, params, step = open_run(ebt_run)
    figures = evaluate_run(experiment, params, step, EvaluationOptions(rows=8, steps=4, snippet=False))
    for k in (1, 2, 3, 4):
        assert by[4, k, 1, "validation"]["nll"] == pytest.approx(figures["splits"]["validation"]["nll"][k - 1])

    energies = read_uncertainty(ebt_run)
    assert [text["label"] for text in energies["texts"]] == ["easy", "hard", "natural", "random"]
    for text in energies["texts"]:
        assert len(text["energy"]) == 4 and len(text["nll"]) == 3 == energies["iterations"]
        assert {len(row) for row in (*text["energy"], *text["nll"])} == {len(text["tokens"])}
    natural, drawn = (next(t["text"] for t in energies["texts"] if t["label"] == n) for n in ("natural", "random"))
    assert set(drawn) <= set(natural) and len(drawn) == len(natural)


@pytest.mark.slow
def test_a_language_model_is_one_point_a_text(folder):
    assert train(folder, folder / "plain") == 0
    assert run(folder / "plain", "rows=8") == 0
    (point,) = read_thinking(folder / "plain")["points"]
    assert (point["steps"], point["candidates"], point["forward_passes"]) == (1, 1, 1.0)
    assert not (folder / "plain" / "uncertainty.json").exists()


def test_mistakes_are_named(ebt_run, refused):
    refused(run(ebt_run, "extra=nothing"), "nothing", "eval.extra names other")
    refused(run(ebt_run, "steps=0"), "steps=0 must be at least 1")
    refused(run(ebt_run, "candidates=0"), "candidates=0 must be at least 1")
    refused(run(ebt_run, "variants=[stps=3]"), "steps")
    refused(run(ebt_run, "iterations=many"), "iterations='many'")
