"""The EBFT paper's tables from made-up records that obey known laws: ours beside the published, blanks with their commands."""

import itertools
import json
import re
from pathlib import Path

import pytest

from ebm_jax import cli
from ebm_jax.cli import load_and_call
from ebm_jax.evals.tasks.registry import make_task
from ebm_jax.records import FINETUNED
from ebm_jax.reporting.finetuning import read_comparison
from experiments.paper import (
    ebft_ablation,
    ebft_matching,
    ebft_qa_code,
    ebft_raw_code,
    ebft_scale,
    ebft_translation,
)
from experiments.paper import published_ebft as published
from experiments.paper.comparisons import benchmark, verdict
from tests.experiments import compared_runs
from tests.experiments.compared_runs import Law, asked

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    "ebft_ablation": ebft_ablation,
    "ebft_matching": ebft_matching,
    "ebft_qa_code": ebft_qa_code,
    "ebft_raw_code": ebft_raw_code,
    "ebft_scale": ebft_scale,
    "ebft_translation": ebft_translation,
}
LAWS = {"ebft": Law(-0.05, -0.1, 0.08), "sft": Law(-0.02, -0.05), "rlvr": Law(0.03, 0.3, 0.05)}
HUMANEVAL = {"base": 0.47, "ebft": 0.54, "sft": 0.48, "rlvr": 0.53}


def config(name):
    return load_and_call(ROOT / "configs" / "ebft" / f"{name}.py", "get_config")


def runs(folder, name):
    return [folder / "base"] if name == "base" else sorted((folder / name).iterdir())


@pytest.fixture(scope="module")
def qa(tmp_path_factory):
    """Three seeds of each method; HumanEval was asked greedily of all, and sampled of all but SFT."""
    folder = compared_runs.made(tmp_path_factory.mktemp("qa") / "runs", config("qa_code"), LAWS)
    for name, value in HUMANEVAL.items():
        for number, run in enumerate(runs(folder, name)):
            asked(run, "humaneval", pass_1=value + 0.01 * (number - 1) * (name != "base"))
            if name != "sft":
                sampled = {"pass_1": value - 0.03, "pass_4": value + 0.1, "pass_16": value + 0.25}
                asked(run, "humaneval", temperature=0.6, place="sampled", **sampled)
    return folder


@pytest.fixture
def make(tmp_path, capsys):
    """Runs a script; what it printed, its status, and the folder it wrote to."""

    def make(name, *argv):
        status = cli.main(SCRIPTS[name].main, [*map(str, argv), f"out={tmp_path / 'out'}"])
        printed = capsys.readouterr()
        return printed.out + printed.err, status, tmp_path / "out"

    return make


def row(text, start, table=""):
    """Cells of the first row that begins so, after a heading."""
    after = text[text.index(f"## {table}") :] if table else text
    line = next(line for line in after.splitlines() if line.startswith(f"| {start} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def numbers(cell):
    return [float(found) for found in re.findall(r"[-+]?\d+(?:\.\d+)?", cell.replace("−", "-"))]


def test_questions_and_answers(qa, make):
    text, status, out = make("ebft_qa_code", qa)
    assert status == 0 and {path.name for path in out.iterdir()} == {"ebft_qa_code.md", "ebft_qa_code.svg"}
    head = row(text, " ", "ebft_qa_code")
    assert head == ["", "base", "ebft, 3 seeds", "sft, 3 seeds", "rlvr, 3 seeds"]
    greedy = row(text, "HumanEval, greedy")
    assert [numbers(cell)[0] for cell in greedy[1:]] == [0.47, 0.54, 0.48, 0.53]
    half = 4.303 * 0.01 / 3**0.5
    assert numbers(greedy[2])[1:] == pytest.approx([0.54 - half, 0.54 + half], abs=1e-3)
    theirs = row(text[text.index("| HumanEval, greedy") :], "– published")
    assert theirs[1:] == ["≈ 0.484", "0.548", "0.483", "0.535"]
    sixteen = text[text.index("| HumanEval, pass@16") :]
    assert row(sixteen, "HumanEval, pass@16")[3] == "–" and row(sixteen, "– published")[1:] == [
        "–",
        "0.771",
        "0.728",
        "–",
    ]
    ce = text[text.index("| cross-entropy, scored") :]
    assert numbers(row(ce, "cross-entropy, scored tokens")[2])[0] == pytest.approx(2.035 - 0.1, abs=5e-3)
    assert row(ce, "– published")[1:] == ["≈ 0.338", "0.207", "0.289", "≈ 0.774"]
    assert "MBPP" not in text.split("Blanks")[0], "a row with nothing in it, published or ours, says nothing"
    assert numbers(row(text, "held out, tests, best of 16")[2])[0] > numbers(row(text, "held out, tests")[2])[0]


def test_claims_are_judged_by_intervals(qa, make):
    text, _, _ = make("ebft_qa_code", qa)
    table = "ebft_qa_code: claims"
    assert row(text, "EBFT's feature-matching loss is below SFT's at every length", table)[1] == "yes, at all 7"
    assert row(text, "RLVR raises its cross-entropy", table)[1] == "yes"
    assert row(text, "EBFT is not below RLVR: HumanEval, greedy", table)[1] == "yes, 0.540 and 0.530"
    assert row(text, "rlvr", "ebft_qa_code: cost")[1:] == ["100", "1.00\u00a0TFLOP", "0.50 h", "56 h"]
    assert verdict(3, 0, 7) == "at 3 of 7" and verdict(3, 2, 7) == "at 3 of 7, the opposite at 2"
    assert (verdict(1, 0, 1), verdict(0, 1, 1), verdict(0, 0, 1)) == ("yes", "no, the opposite", "not beyond doubt")
    assert verdict(0, 7, 7) == "no, the opposite at all 7"


def test_blanks_come_with_the_commands_that_fill_them(qa, make):
    text, _, _ = make("ebft_qa_code", qa)
    commands = [line.strip() for line in text.split("Blanks are filled by")[1].splitlines() if "experiments" in line]
    base = "python -m experiments.evaluate models/Qwen2.5-1.5B"
    multi = "multipl-e:cpp,multipl-e:js,multipl-e:rs"
    assert commands[0] == f"{base} tasks=mbpp,{multi} out={qa}/base/tasks"
    assert commands[1] == f"{base} tasks=mbpp samples=16 temperature=0.6 out={qa}/base/sampled"
    sft = [line for line in commands if "tasks=humaneval,mbpp samples=16" in line]
    every = " ".join(str(qa / "sft" / f"seed={n}") for n in range(3))
    assert len(sft) == 1 and f"for run in {every}; do" in sft[0] and sft[0].endswith("out=$run/sampled; done")


def test_warm_starts_have_no_published_figures(qa, make, tmp_path):
    warm = compared_runs.made(tmp_path / "warm", config("qa_code_warm"), {"ebft": LAWS["ebft"], "rlvr": LAWS["rlvr"]})
    text, status, _ = make("ebft_qa_code", qa, warm)
    part = text[text.index("## ebft_qa_code_warm\n") :]
    assert status == 0 and row(part, " ")[1] == "start" and "published" not in part.split("cost")[0]
    assert "below the start model's" in part and "RLVR raises the feature-matching loss of the start model" in part
    assert "runs/ebft_qa_code/sft_once/seed=0 tasks=" in part, (
        "the base model's benchmarks are asked of what runs begin with"
    )


def test_the_other_tasks(make, tmp_path):
    raw = compared_runs.made(
        tmp_path / "raw", config("raw_code"), {name: LAWS[name] for name in ("ebft", "sft")}, seeds=1
    )
    for name, value in (("ebft", 0.5), ("sft", 0.4)):
        asked(raw / name / "seed=0", "humaneval", temperature=0.6, place="tasks", pass_1=value)
    text, status, _ = make("ebft_raw_code", raw)
    assert status == 0 and row(text, "HumanEval, pass@1")[1:] == ["–", "0.500", "0.400"]
    assert row(text[text.index("| HumanEval, pass@1") :], "– published")[1:] == ["–", "0.524", "0.467"]
    assert "RLVR" not in text.split("published, hours")[0]

    mt = compared_runs.made(tmp_path / "mt", config("translation"), LAWS, seeds=1)
    for number, task in enumerate(published.WMT22):
        asked(mt / "ebft/seed=0", task, comet=0.7 + 0.01 * number, bleu=20.0 + number)
    text, status, _ = make("ebft_translation", mt)
    assert status == 0 and row(text, "COMET, WMT22")[2] == "0.745" and row(text, "BLEU, WMT22")[2] == "24.5"
    assert (
        row(text, "COMET, WMT22, from English")[2] == "0.720" and row(text, "COMET, WMT22, into English")[2] == "0.770"
    )
    assert row(text[text.index("| COMET, MTNT") :], "– published")[1:] == ["–", "0.737", "–", "0.705"]
    lacks = [line for line in text.splitlines() if f"{mt}/ebft/seed=0" in line and "evaluate" in line]
    assert len(lacks) == 1 and "mtnt:en-fr" in lacks[0] and "mt:en-de" not in lacks[0]


def test_matching_by_length(qa, make):
    text, status, out = make("ebft_matching", qa)
    assert status == 0 and (out / "ebft_matching.svg").exists()
    losses = [numbers(cell)[0] for cell in row(text, "ebft", "ebft_qa_code: feature-matching loss")[1:]]
    assert len(losses) == 7 and all(b - a == pytest.approx(0.1, abs=1e-3) for a, b in itertools.pairwise(losses))
    for n in (1, 64):
        value, low, high = numbers(row(text, str(n), "ebft_qa_code: differences")[1])
        assert low < value < high < 0 and value == pytest.approx(-0.05, abs=1e-3)
    assert numbers(row(text, "cross-entropy", "ebft_qa_code: differences")[3])[0] == pytest.approx(0.3, abs=2e-3)
    text, _, _ = make("ebft_matching", qa, "other=sft")
    assert row(text, "less sft", "ebft_qa_code: differences")[1:] == ["base", "ebft", "rlvr"]
    text, status, _ = make("ebft_matching", qa, "other=dpo")
    assert status == 2 and "dpo was not measured: there are base, ebft, sft, rlvr" in text


def test_scale(make, tmp_path):
    sizes = {"1_5b": (1_543_714_304, 0.36, 0.48), "3b": (3_085_938_688, 0.38, 0.58)}
    folders = []
    for name, (parameters, base, tuned) in sizes.items():
        law = {"ebft": Law(-0.05, -0.1)}
        folder = compared_runs.made(tmp_path / name, config(f"scale_{name}"), law, seeds=1, parameters=parameters)
        asked(folder / "base", "humaneval", pass_1=base)
        asked(folder / "ebft/seed=0", "humaneval", pass_1=tuned)
        folders.append(folder)
    text, status, out = make("ebft_scale", *reversed(folders))
    assert status == 0 and (out / "ebft_scale.svg").exists() and "Blanks" not in text
    assert row(text, "Qwen2.5-3B")[1:] == ["3.09\u00a0B", "0.380", "0.580", "+0.200", "0.37", "0.60", "+0.23"]
    assert text.index("Qwen2.5-1.5B") < text.index("Qwen2.5-3B")
    text, _, _ = make("ebft_scale", *folders, "measure=matching:8")
    assert numbers(row(text, "ebft_scale_3b")[4])[0] == pytest.approx(-0.05, abs=2e-3) and "0.60" not in text
    assert numbers(row(make("ebft_scale", folders[0], "measure=ce")[0], "ebft_scale_1_5b")[4])[0] < 0
    text, status, _ = make("ebft_scale", *folders, "measure=bleu")
    assert status == 2 and "measure=bleu is not humaneval, ce, matching:TOKENS, or a task" in text
    unasked = compared_runs.made(
        tmp_path / "bare", config("scale_7b"), {"ebft": Law()}, seeds=1, parameters=7_615_616_512
    )
    text, status, _ = make("ebft_scale", unasked)
    assert status == 0 and row(text, "Qwen2.5-7B")[2:5] == ["–", "–", "–"] and "tasks=humaneval" in text


def test_ablation_finds_what_each_setting_does(make, tmp_path):
    """The made-up law: no whitening costs 0.02 of the loss, alpha 0 another 0.01; gamma takes half of itself off CE."""
    grid = config("ablation/small_grid")
    laws = {}
    for name, variant in grid.methods.items():
        of = variant.algorithm
        laws[name] = Law(-0.05 + 0.02 * (of.whiten == "none") + 0.01 * (1 - of.alpha), -0.5 * of.gamma)
    folder = compared_runs.made(tmp_path / "grid", grid, laws, seeds=1)
    text, status, out = make("ebft_ablation", folder)
    assert status == 0 and (out / "ebft_ablation_ebft_small_grid.svg").exists()
    assert row(text, " ", "ebft_small_grid")[1:5] == ["gamma", "alpha", "whiten", "loss at 1"]
    assert row(text, "plain_gamma0.03_alpha0.5", "ebft_small_grid")[1:4] == ["0.03", "0.5", "none"]
    table = "ebft_small_grid: one setting changed"
    _, pairs, loss, ce = row(text, "whiten: sample_axis → none", table)
    assert pairs == "9" and numbers(loss)[0] == pytest.approx(0.02, abs=1e-3) and abs(numbers(ce)[0]) < 1e-3
    _, pairs, loss, ce = row(text, "alpha: 0 → 1", table)
    assert pairs == "6" and numbers(loss)[0] == pytest.approx(-0.01, abs=1e-3) and numbers(loss)[2] < 0
    _, pairs, loss, ce = row(text, "gamma: 0 → 0.1", table)
    assert pairs == "6" and numbers(ce)[0] == pytest.approx(-0.05, abs=2e-3) and abs(numbers(loss)[0]) < 1e-3
    first = "ebft_small_grid: less sample_axis_gamma0_alpha0, paired"
    assert numbers(row(text, "plain_gamma0_alpha1", first)[1])[0] == pytest.approx(0.01, abs=1e-3)
    assert "* leaving out whitening hurts most" in text
    text, status, _ = make("ebft_ablation", folder, "length=3")
    assert status == 2 and "length=3 was not measured; there are 1, 2, 4, 8" in text
    assert "loss at 64" in row(make("ebft_ablation", folder, "length=64")[0], " ", "ebft_small_grid: one setting")[2]


def test_ablations_of_several_settings_and_of_other_methods(make, tmp_path):
    rollouts = config("ablation/small_rollouts")
    folder = compared_runs.made(
        tmp_path / "r", rollouts, {n: Law(-0.01 * i) for i, n in enumerate(rollouts.methods)}, seeds=2
    )
    text, status, _ = make("ebft_ablation", folder)
    assert status == 0 and row(text, "steps16", "ebft_small_rollouts")[1:5] == ["4", "16", "16", "16"]
    assert row(text, "samples: 2 → 8", "ebft_small_rollouts: one setting")[1] == "1"
    warm = config("ablation/small_warm")
    folder = compared_runs.made(tmp_path / "w", warm, {name: Law(-0.01) for name in warm.methods}, seeds=1)
    text, status, _ = make("ebft_ablation", folder)
    assert row(text, " ", "ebft_small_warm")[1:3] == ["kind", "features.weights"]
    assert row(text, "sft", "ebft_small_warm")[1:3] == ["sft", "none"]
    assert row(text, "features.weights: base → initial", "ebft_small_warm: one setting")[1] == "1"
    text, status, _ = make("ebft_ablation", compared_runs.made(tmp_path / "none", warm, {}))
    assert status == 2 and "ebft_small_warm: no variant was measured yet" in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_cannot_be_printed(name, make, tmp_path, qa):
    text, status, _ = make(name)
    assert (
        status == 2 and "no comparison given: name the folder that python -m experiments.finetune configs/ebft/" in text
    )
    assert (ROOT / re.search(r"configs/\S+\.py", text)[0]).is_file()
    text, status, _ = make(name, tmp_path / "nowhere")
    assert status == 2 and "comparison.json: no such file; run python -m experiments.finetune CONFIG" in text
    text, status, _ = make(name, qa, "colour=red")
    assert status == 2 and "colour=red: no such option; there are " in text
    assert "usage: python -m experiments.paper." in make(name, "--help")[0]


def test_benchmarks_are_told_apart(tmp_path):
    asked(tmp_path, "humaneval", pass_1=0.5)
    asked(tmp_path, "humaneval", temperature=0.6, place="sampled", pass_1=0.4, pass_16=0.7)
    assert (
        benchmark(tmp_path, "humaneval", "pass@1", True) == 0.5
        and benchmark(tmp_path, "humaneval", "pass@1", False) == 0.4
    )
    assert (
        benchmark(tmp_path, "humaneval", "pass@16", True) is None
        and benchmark(tmp_path, "mbpp", "pass@1", True) is None
    )
    (tmp_path / "tasks/humaneval/result.json").write_text(
        json.dumps({"task": "humaneval", "metrics": {}, "problem": "no"})
    )
    assert benchmark(tmp_path, "humaneval", "pass@1", True) is None


def test_stale_records_are_told_of(make, tmp_path):
    folder = compared_runs.made(tmp_path / "raw", config("raw_code"), {"ebft": Law(), "sft": Law()}, seeds=2)
    stale = folder / "ebft/seed=1" / FINETUNED
    stale.write_text(json.dumps(json.loads(stale.read_text()) | {"evaluation": "old"}))
    text, _, _ = make("ebft_raw_code", folder)
    assert f"Left out, for their records are of another evaluation: {stale.parent}." in text
    assert len(read_comparison(folder).method("ebft").records) == 1


def test_published_figures_name_methods_and_benchmarks_that_exist():
    for name, measures in (("qa_code", published.QA_CODE), ("translation", published.TRANSLATION)):
        methods = {"base", *config(name).methods}
        assert all(set(measure.published) <= methods for measure in measures)
    for measure in (*published.QA_CODE, *published.RAW_CODE, *published.TRANSLATION):
        assert all(make_task(task) for task in measure.tasks) and bool(measure.tasks) != (measure.figure[0] == "nll")
    assert published.SCALE[0].base != published.QA_CODE[0].published["base"].value
