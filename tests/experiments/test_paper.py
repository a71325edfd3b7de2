"""The paper's figures and tables from made-up records that obey known laws: the tables find those laws again."""

import json
import re

import pytest

from ebm_jax import cli
from ebm_jax.reporting.markdown import markdown_table
from ebm_jax.reporting.runs import read_run
from experiments.paper import ebt_ablation, ebt_generalisation, ebt_scaling, ebt_thinking, ebt_uncertainty, published
from tests.experiments import paper_runs

pytest.importorskip("matplotlib")

SCRIPTS = {
    "ebt_scaling": ebt_scaling,
    "ebt_thinking": ebt_thinking,
    "ebt_ablation": ebt_ablation,
    "ebt_generalisation": ebt_generalisation,
    "ebt_uncertainty": ebt_uncertainty,
}
D = "algorithm__descent__"
LACKS = {
    "full recipe": ({}, 7.0),
    "without random step size": ({D + "step_size_spread": 1.0}, -1.0),
    "without random steps": ({D + "random_repeats": 1, D + "min_repeats": 2}, 0.0),
    "without Langevin noise": ({D + "noise": 0.0}, 17.0),
    "without replay": ({"algorithm__replay__fraction": 0.0, "algorithm__replay__capacity": 0}, 14.0),
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Three seeds of each method with every record."""
    root = tmp_path_factory.mktemp("seeds")
    for kind in ("lm", "s1", "s2"):
        for seed in range(3):
            folder = paper_runs.run(root / kind / f"seed={seed}", kind, seed)
            paper_runs.thought(paper_runs.evaluated(folder, kind, seed), kind, seed, longer=-2 if kind == "s1" else 5)
            if kind != "lm":
                paper_runs.uncertain(folder, seed)
    return root


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


def test_scaling_over_data(seeds, make):
    text, status, out = make("ebt_scaling", seeds)
    assert status == 0 and (out / "ebt_scaling_tokens.md").read_text().startswith(text[:200])
    gain = row(text, "EBT S1 over Transformer++")
    value, low, high = numbers(gain[1])
    assert low <= value <= high and value == pytest.approx(35, abs=4)
    assert "+35.98 % (v1, figure 4a)" in gain[-1] and "+51.70 %" in text
    assert numbers(row(text, "EBT S2 over EBT S1")[1])[0] == pytest.approx(100 * (0.13 / 0.162 - 1), abs=4)
    assert row(text, "EBT S1", "Fits")[1:3] == ["3", "60"] and "≈ 74 → 38.8" in text
    assert "3 seeds" in text
    later, _, _ = make("ebt_scaling", seeds, "from=1M")
    assert row(later, "EBT S1", "Fits")[2] == "33" and "from 1 M on" in later


def test_scaling_over_the_other_axes(tmp_path, make):
    for kind in ("lm", "s1"):
        for depth in (1, 2, 4, 6):
            final = paper_runs.SCALE[kind] * depth ** -paper_runs.ALPHA[kind]
            folder = paper_runs.run(tmp_path / "depth" / f"{kind}{depth}", kind, final=final, model__depth=depth)
            paper_runs.evaluated(folder, kind, parameters=50_000 * depth)
    text, status, out = make("ebt_scaling", tmp_path / "depth", "axis=depth")
    assert status == 0 and (out / "ebt_scaling_depth.svg").exists()
    assert numbers(row(text, "EBT S1 over Transformer++")[1]) == pytest.approx([35.0] * 3, abs=0.11)
    assert "+5.29 % (v1, figure 4c)" in text and "points of one seed" in text and "1 → 6" in text
    sizes, _, _ = make("ebt_scaling", tmp_path / "depth", "axis=parameters")
    assert "50 k → 300 k" in sizes and "without vocabulary" in sizes and "+8.97 % (ICLR)" in sizes
    assert numbers(row(sizes, "EBT S1 over Transformer++")[1])[0] == pytest.approx(35, abs=0.11)
    budgets, _, _ = make("ebt_scaling", tmp_path / "depth", "axis=flops")
    assert "From final figures of 8 runs" in budgets and "+2.92 % (v1, figure 5b)" in budgets
    assert numbers(row(budgets, "EBT S1 over Transformer++")[1])[0] == pytest.approx(35, abs=0.11)
    curves, _, _ = make("ebt_scaling", tmp_path / "depth" / "lm2", tmp_path / "depth" / "s12", "axis=flops")
    assert "Along one learning curve FLOPs only shift" in curves
    text, status, _ = make("ebt_scaling", *(tmp_path / "depth" / f"{kind}{d}" for kind in ("lm", "s1") for d in (1, 6)))
    assert status == 2 and "differ in model.depth=1 and 6" in text
    two, status, _ = make("ebt_scaling", *(tmp_path / "depth" / f"lm{d}" for d in (1, 6)), "axis=depth")
    assert status == 0 and "fewer than 3 points" in two and "No gain to compute" in two and "at least 4 places" in two


def test_thinking(seeds, make):
    text, status, out = make("ebt_thinking", seeds / "s2", seeds / "lm")
    assert status == 0 and {path.name for path in out.iterdir()} == {
        "ebt_thinking.md",
        "ebt_thinking.svg",
        "ebt_thinking_trends.svg",
    }
    table = "EBT S2: percent of perplexity gained over 2 steps"
    gains = [numbers(row(text, split, table)[3])[0] for split in ("validation", "gsm8k", "dyck")]
    assert gains == sorted(gains) and gains[0] == pytest.approx(100 * (1 - 2.7183 ** -(0.05 * 0.7769)), abs=0.1)
    assert numbers(row(text, "validation", table)[-1])[0] == pytest.approx(100 * (1 - 8.4 / 9.0), abs=1)
    assert row(text, "forward passes", table)[2:] == ["2.0", "3.0", "4.0", "8.0", "8.0", "20.0", "40.0", "1.0"]
    theirs = row(text, "published S2, four texts (≈, v1, figure 6a)", table)
    assert theirs[3] == "+19.9 %" and theirs[-2] == "+29.0 %"
    assert numbers(row(text, "dyck", "EBT S2: gain of self-verification")[3])[0] == pytest.approx(5, abs=0.5)
    slope = numbers(row(text, "EBT S2, 3 seeds, 5 texts")[1])
    assert slope[1] < slope[0] < slope[2] and numbers(row(text, "published (≈, v1, figure 7)")[1])[0] == 3.3
    first, last = (numbers(row(text, f"linear fit, {end}")[1])[0] for end in ("first", "last"))
    assert first < last and "accept_lower=true noise=0 steps=8" in text
    assert re.search(r"\| ([\d.]+ [kM]) tokens", text)[1] == "410 k"


def test_thinking_without_its_records(seeds, tmp_path, make):
    bare = paper_runs.run(tmp_path / "bare", "s2", 7)
    text, status, _ = make("ebt_thinking", bare)
    assert status == 2 and f"run python -m experiments.think {bare}" in text
    text, status, _ = make("ebt_thinking", seeds / "s2", bare)
    assert status == 0 and f"Left out, for they have no thinking.json: {bare}" in text
    text, status, _ = make("ebt_thinking", seeds / "lm")
    assert status == 2 and "they do not think" in text
    one, status, _ = make("ebt_thinking", seeds / "s1" / "seed=0")
    assert status == 0 and "1 seed" in one and "[" not in row(one, "dyck")[3] and "No Transformer++" in one


def test_ablation(tmp_path, make):
    for title, (changes, longer) in LACKS.items():
        for seed in (0, 1):
            folder = paper_runs.run(tmp_path / "runs" / f"{title}{seed}", "s2", seed, **changes)
            paper_runs.thought(folder, "s2", seed, longer=longer)
            assert ebt_ablation.recipe(ebt_ablation.missing_parts(read_run(folder))) == title
    text, status, out = make("ebt_ablation", tmp_path / "runs")
    assert status == 0 and (out / "ebt_ablation.svg").exists()
    rows = [row(text, title) for title in LACKS]
    assert [numbers(cells[4])[0] for cells in rows] == pytest.approx([8.9, -1.3, 0.0, 20.4, 17.1], abs=0.3)
    assert [cells[5] for cells in rows] == ["+7.19 %", "−1.47 %", "0.00 %", "+17.20 %", "+14.80 %"]
    assert all(numbers(cells[7])[0] > numbers(cells[4])[0] for cells in rows)
    other, _, _ = make("ebt_ablation", tmp_path / "runs", "text=squad2")
    assert "Table 2 on squad2" in other and "Ours is squad2" in other
    text, status, _ = make("ebt_ablation", tmp_path / "runs", "text=nothing")
    assert status == 2 and "text=nothing: the runs were studied on validation, gsm8k" in text


def test_generalisation(seeds, make):
    text, status, out = make("ebt_generalisation", seeds)
    assert status == 0 and (out / "ebt_generalisation.svg").exists()
    table = "Ratio of perplexities"
    assert numbers(row(text, "dyck", table)[2])[0] == pytest.approx(0.9) and row(text, "dyck", table)[3] == "0.953"
    assert numbers(row(text, "validation", table)[1])[0] == pytest.approx(1.05)
    assert numbers(row(text, "validation", "Bits per byte")[1])[0] == pytest.approx(3.0, abs=0.03)
    assert "43.3 and 49.6, GSM8K" in text
    alone, status, _ = make("ebt_generalisation", seeds / "s2")
    assert status == 0 and "No ratio to compute" in alone and "plots:" not in alone


def test_uncertainty(seeds, make):
    text, status, out = make("ebt_uncertainty", seeds / "s2", seeds / "lm")
    assert status == 0 and (out / "ebt_uncertainty_tokens.svg").exists()
    falls = numbers(row(text, "hard: fall in the first iteration, percent of all")[1])
    assert falls[0] == pytest.approx(100 * 0.9 / (1 - 0.1 * 0.6**10), abs=0.1)
    assert numbers(row(text, "all texts: correlation of final energy and cross-entropy")[1])[0] == pytest.approx(1)
    assert numbers(row(text, "random above natural, percent of iterations")[1])[0] == 100
    assert numbers(row(text, "easy")[1])[0] > numbers(row(text, "easy")[2])[0]
    text, status, _ = make("ebt_uncertainty", seeds / "lm")
    assert status == 2 and "have no energies" in text


def test_what_is_made_again_is_the_same(seeds, make):
    one = seeds / "s2" / "seed=0"
    for name, what in (("ebt_scaling", one), ("ebt_uncertainty", one)):
        _, _, out = make(name, what)
        first = {path.name: path.read_bytes() for path in out.iterdir()}
        make(name, what)
        assert first == {path.name: path.read_bytes() for path in out.iterdir()}
    assert not any(b"var(--" in content for content in first.values())


@pytest.mark.parametrize("name", SCRIPTS)
def test_mistakes_are_named(name, tmp_path, make, seeds):
    text, status, _ = make(name, "--help")
    assert status == 0 and f"python -m experiments.paper.{name} RUN_DIR" in text
    assert make(name)[1] == 2 and "no run given" in make(name)[0]
    assert "no such folder" in make(name, tmp_path / "nowhere")[0]
    (tmp_path / "empty").mkdir()
    assert "holds no run" in make(name, tmp_path / "empty")[0]
    assert "colour=red: no such option; there are" in make(name, seeds, "colour=red")[0]


def test_mistakes_in_the_runs(tmp_path, make, seeds):
    assert "axis=time is not one of tokens, batch" in make("ebt_scaling", seeds, "axis=time")[0]
    assert "from='soon' is not a number" in make("ebt_scaling", seeds, "from=soon")[0]
    assert "2 evaluations" not in make("ebt_scaling", seeds, "from=2M")[0]
    assert "a curve needs two; lower from=" in make("ebt_scaling", seeds, "from=3M")[0]
    assert "only learning curves have a beginning" in make("ebt_scaling", seeds, "axis=width", "from=1")[0]
    assert "1 place on the axis" in make("ebt_scaling", seeds, "axis=width")[0]
    twin = paper_runs.run(tmp_path / "twin", "lm", 0)
    assert "the same experiment with the same seed=0" in make("ebt_scaling", seeds / "lm", twin)[0]
    other = paper_runs.run(tmp_path / "other", "s1", 0, data__source="jsonl:elsewhere")
    assert "read different text (data.source=stdlib and jsonl:elsewhere)" in make("ebt_scaling", seeds / "lm", other)[0]
    (tmp_path / "file").write_text("in the way")
    assert cli.main(ebt_scaling.main, [str(seeds / "lm"), f"out={tmp_path / 'file'}"]) == 2
    silent = paper_runs.run(tmp_path / "silent", "lm", 5)
    (silent / "metrics.jsonl").write_text(json.dumps({"step": 1, "nll": 2.0}) + "\n")
    assert "has no validation/perplexity" in make("ebt_scaling", silent)[0]
    (silent / "thinking.json").write_text("{")
    assert "is damaged" in make("ebt_thinking", silent)[0]


def test_published_figures_add_up():
    first, last = published.THINKING[0].perplexity, published.THINKING[-1].perplexity
    assert 100 * (1 - last / first) == pytest.approx(29, abs=0.1)
    assert len(published.ABLATION) == len(LACKS) and published.SCALING.keys() == set(ebt_scaling.places.AXES)


def test_tables_line_up():
    lines = markdown_table(["", "x"], [["a", "−1.0"], ["longer", "12"]]).splitlines()
    assert len({len(line) for line in lines}) == 1 and lines[1].endswith("--: |")
