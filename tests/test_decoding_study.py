"""Studies of decoding: what they read, what they record, and the pages that are made of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.ebd.smoke import get_config as smoke
from ebm_jax.data.files import json_rows, write_rows
from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.ebd import EBD
from ebm_jax.decoders.rewards import Response
from ebm_jax.decoding_study import (
    DecodingStudy,
    PromptsConfig,
    RewardChoice,
    build_reward,
    read_prompts,
    run_study,
)
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks import make_task
from ebm_jax.evals.tasks.protocol import Prompt
from ebm_jax.reporting.decoding import Decoding, markdown, read_study
from ebm_jax.reporting.numbers import MISSING
from ebm_jax.share import WHOLE, Share
from experiments import calibrate, decode, graded_pairs, values, written_pairs
from experiments.paper import ebd_cost, ebd_table

TEXTS = PromptsConfig(texts=("a", "b"))


def lines(path: Path, rows: list[dict]) -> str:
    write_rows(path, rows)
    return str(path)


def test_prompts_are_beginnings_of_texts(tmp_path: Path):
    rows = [{"text": f"one two three four {n}", "answer": str(n)} for n in range(5)]
    file = lines(tmp_path / "texts.jsonl.gz", rows)
    config = PromptsConfig(file=file, words=3, skip=1, count=2, before="> ", after=" ...", truth="answer")
    prompts, truths = read_prompts(config)
    assert [p.text for p in prompts] == ["> one two three ..."] * 2 and truths == ["1", "2"]
    with pytest.raises(UserError, match=r"texts\.jsonl\.gz:1 has no text 'story': its values are text, answer"):
        read_prompts(PromptsConfig(file=file, field="story"))
    with pytest.raises(UserError, match=r"has no lines behind prompts\.skip=9"):
        read_prompts(PromptsConfig(file=file, skip=9))
    with pytest.raises(UserError, match="there is no such file"):
        read_prompts(PromptsConfig(file=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"methods": {}}, "has no methods"),
        ({"methods": {"a/b": EBD()}}, "cannot name a method"),
        ({"prompts": None}, "neither prompts nor tasks"),
        ({"judge": (RewardChoice(kind="length"),), "reward": (RewardChoice(kind="length"),)}, "guides as well"),
        ({"seeds": (0, 0)}, "must be different numbers"),
    ],
)
def test_studies_that_cannot_be(changes, told):
    study = {"name": "one", "model": "none", "prompts": TEXTS, "methods": {"ebd": EBD()}} | changes
    with pytest.raises(UserError, match=told):
        DecodingStudy(**study)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two methods of a small study, run by its command."""
    workdir = tmp_path_factory.mktemp("study")
    only = "only=sampling,ebd"
    assert decode.main(["configs/ebd/smoke.py", only, "seeds=0,1", "methods.ebd.steps=2", f"workdir={workdir}"]) == 0
    return workdir


def test_a_study_s_page_is_that_of_its_records(folder: Path, capsys):
    study = read_study(folder)
    assert [method.name for method in study.methods] == ["sampling", "ebd"]
    chain = study.methods[1]
    assert [record["seed"] for record in chain.records] == [0, 1] and len(chain.by_prompt("reward")) == 4
    found = study.difference(chain, study.against, "reward")
    assert found.value == pytest.approx(chain.mean("reward") - study.methods[0].mean("reward"))
    text = markdown(study)
    assert (folder / "report.md").read_text(encoding="utf-8") == text and "| ebd " in text
    samples = [json.loads(line) for line in (folder / "ebd" / "seed=0" / "samples.jsonl").read_text().splitlines()]
    tokens = np.mean([sample["account"]["tokens"] for sample in samples])
    assert np.mean(chain.records[0]["by_prompt"]["tokens"]) == pytest.approx(tokens)
    capsys.readouterr()
    assert ebd_cost.main([str(folder), f"out={folder / 'paper'}"]) == 0
    assert (folder / "paper" / "ebd_cost.svg").is_file() and "| ebd" in capsys.readouterr().out
    assert ebd_table.main([str(folder), f"out={folder / 'paper'}"]) == 0


def test_a_study_goes_on_where_it_was(folder: Path):
    study = replace(smoke(), seeds=(0, 1))
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*/seed=*/*.json*")}
    methods = {name: study.methods[name] for name in ("sampling",)}
    run_study(replace(study, methods=methods), folder, report=lambda line: None)
    assert before == {file: file.stat().st_mtime_ns for file in folder.glob("*/seed=*/*.json*")}
    changed = replace(study, methods={"sampling": BestOfN(samples=2)})
    with pytest.raises(UserError, match="holds a decoding with method="):
        run_study(changed, folder, report=lambda line: None)
    with pytest.raises(UserError, match="only='smc' is not one of the methods"):
        run_study(study, folder, only=["smc"])


def test_shares_are_judged_together(folder: Path, tmp_path: Path, capsys):
    """As the command of the whole study, whose model is trained before anything is shared."""
    command = ["configs/ebd/smoke.py", "only=sampling", "seeds=0,1", f"workdir={tmp_path}"]
    with pytest.raises(UserError, match="is not trained yet; start the command once without share="):
        decode.main([*command, "share=0/2"])
    shutil.copytree(folder / "model", tmp_path / "model")
    for share in ("1/2", "0/2"):
        assert decode.main([*command, f"share={share}"]) == 0
        assert f"share {share} is done" in capsys.readouterr().out and not (tmp_path / "report.md").exists()
    assert decode.main(command) == 0 and (tmp_path / "report.md").is_file()
    assert not (tmp_path / "sampling" / "seed=0" / "samples.jsonl").exists(), "nothing was left to decode"
    together, alone = (read_study(place).methods[0] for place in (tmp_path, folder))
    assert together.by_prompt("reward").tolist() == alone.by_prompt("reward").tolist()


@pytest.mark.slow
def test_benchmarks_are_decoded_and_graded(folder: Path, tmp_path: Path, capsys):
    """What is there is not asked again, and what it cost stays known."""
    methods = {"greedy": BestOfN(samples=1), "ebd": EBD(steps=2, inits=2)}
    study = replace(
        smoke(), model=str(folder / "model"), prompts=None, methods=methods, tasks=("sums", "gsm8k:0shot=x")
    )
    questions = tmp_path / "x.jsonl"
    questions.write_text(json.dumps({"question": "One and one?", "answer": "#### 2"}) + "\n")
    study = replace(study, tasks=("sums", f"gsm8k:0shot={questions}"), task_limit=3, max_new_tokens=4)
    for share in (Share(1, 2), WHOLE, WHOLE):
        run_study(study, tmp_path / "study", report=lambda line: None, share=share)
    read = read_study(tmp_path / "study")
    chain = read.methods[1]
    assert len(chain.scores("sums")) == 3 and chain.about("valid") == "0.000" and float(chain.about("length")) <= 4
    assert chain.spent()["reward_calls"] <= 4 and read.methods[0].spent()["reward_calls"] == 0
    text = markdown(read)
    assert "## Benchmarks" in text and "Less greedy, paired" in text
    sibling = f"sibling={tmp_path / 'study'}"
    assert ebd_table.main([str(tmp_path / "study"), sibling, f"out={tmp_path / 'paper'}"]) == 0
    assert "similarity" in capsys.readouterr().out


def test_similar_methods_are_right_about_the_same_questions():
    scores = lambda values: {str(n): value for n, value in enumerate(values)}
    of = lambda values: Decoding("one", [], {"sums": [{"scores": scores(values)}]})
    assert ebd_table.similarity(of([0, 1, 1, 0]), of([0, 1, 1, 0])) == "1.000"
    assert ebd_table.similarity(of([0, 1, 1, 0]), of([1, 0, 0, 1])) == "-1.000"
    assert ebd_table.similarity(of([1, 1, 1, 1]), of([0, 1, 1, 0])) == MISSING
    assert ebd_table.similarity(of([1, 0]), None) == MISSING


@pytest.fixture
def trained(folder: Path, tmp_path: Path) -> Path:
    """The config of a study of that model, by two methods."""
    config = tmp_path / "trained.py"
    config.write_text(
        "from dataclasses import replace\nfrom configs.ebd.smoke import get_config as smoke\n"
        "from ebm_jax.decoders.best_of_n import BestOfN\nfrom ebm_jax.decoders.controlled import ControlledDecoding\n"
        f"methods = {{'plain': BestOfN(samples=1), 'controlled': ControlledDecoding(head={str(tmp_path / 'of' / 'head')!r})}}\n"
        f"get_config = lambda: replace(smoke(), model={str(folder / 'model')!r}, methods=methods)\n"
    )
    return config


@pytest.mark.slow
def test_an_inverse_temperature_is_calibrated(trained: Path, capsys):
    assert calibrate.main([str(trained), "samples=6", "targets=0.4,0.9"]) == 0
    text = capsys.readouterr().out
    assert "6 samples of a prompt" in text and "| 0.4 " in text and "inv_temp by acceptance" in text
    with pytest.raises(UserError, match="a reward and a trained model to draw samples of"):
        calibrate.main(["configs/ebd/smoke.py"])
    with pytest.raises(UserError, match="samples=0 must be at least 1"):
        calibrate.main([str(trained), "samples=0"])


def test_pairs_are_of_true_texts_and_written_ones(folder: Path, tmp_path: Path, capsys):
    texts = ["def one(a):\n    return a + 1", "def two(a):\n    return a + 2", "short"]
    file, out = lines(tmp_path / "texts.jsonl", [{"text": text} for text in texts]), tmp_path / "new" / "pairs.jsonl.gz"
    model = str(folder / "model")
    assert written_pairs.main([model, f"file={file}", f"out={out}", "words=2", "max_new_tokens=6", "at_once=4"]) == 0
    rows = [row for _, row in json_rows(out)]
    assert "1 left out" in capsys.readouterr().out and len(rows) == 2
    for row, text in zip(rows, texts, strict=False):
        assert text.startswith(row["prompt"] + row["chosen"]) and row["rejected"] and row["rejected"] != row["chosen"]
    with pytest.raises(UserError, match=r"no text of .* goes on behind words=\(90,\)"):
        written_pairs.main([model, f"file={file}", f"out={out}", "words=90", "max_new_tokens=6"])
    assert [row for _, row in json_rows(out)] == rows


def test_pairs_are_of_right_answers_and_wrong_ones(folder: Path, tmp_path: Path, capsys):
    """Where no attempt is right, the reference is."""
    out, model = tmp_path / "graded.jsonl.gz", str(folder / "model")
    assert graded_pairs.main([model, "task=sums", f"out={out}", "count=3", "samples=2", "max_new_tokens=6"]) == 0
    rows = [row for _, row in json_rows(out)]
    asked = {str(example.prompt.text): example.reference for example in make_task("sums").examples()[:3]}
    assert {row["prompt"] for row in rows} == set(asked) and len({tuple(row.items()) for row in rows}) == len(rows) <= 6
    assert all(asked[row["prompt"]] == row["chosen"] != row["rejected"] for row in rows)
    assert "0.000 of the attempts are right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("good", "wrong", "expected"),
    [
        (["1+2=3 3+4=7"], "1+2=3 3+4=8", ("1+2=3 3+4=7", "1+2=3 3+4=8")),
        (["1+2=3 3+4=7"], "1+2=4 4+4=8", ("1+2=3", "1+2=4")),
        (["a x y", "a b c"], "a b d", ("a b c", "a b d")),
        (["a b"], "a", ("a b", "a")),
        (["a"], "a b", ("a", "a b")),
        ([" a b"], "", (" a", "")),
    ],
)
def test_pairs_of_steps_end_where_they_part(good, wrong, expected):
    assert graded_pairs._parted(good, wrong, " ") == expected


def test_a_reward_may_be_of_steps():
    choice = RewardChoice(kind="length", steps=" ", over="least", weight=2.0)
    prompt = [Prompt(text="q")]
    reward = build_reward([choice], prompt, [""], 1)
    assert reward is not None and reward(prompt, [Response((), "a b c", True)]).tolist() == [-6.0]


def told(text: str, row: str) -> list[float]:
    """The numbers of a row of a table."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {row} ")]
    return [float(cell) for cell in line.split("|")[2:-1]]


@pytest.mark.slow
def test_a_value_head_is_fitted_and_decoded_with(trained: Path, tmp_path: Path, capsys):
    out = tmp_path / "of" / "head"
    fit = [str(trained), f"out={out}", "samples=6", "held_out=0.25", "values.steps=60", "values.learning_rate=0.03"]
    assert values.main(fit) == 0
    text = capsys.readouterr().out
    assert "24 responses to 4 prompts, 1 of these held out" in text and out.is_file()
    variance, fitted = told(text, "fitted to")
    assert fitted < variance
    # Q is in the units of rewards that were scaled.
    assert values.main([*fit, "scale.scale=10"]) == 0
    assert told(capsys.readouterr().out, "held out")[0] == pytest.approx(told(text, "held out")[0] / 100, abs=1e-4)
    assert values.main(fit) == 0
    assert decode.main([str(trained), f"workdir={tmp_path / 'study'}"]) == 0
    plain, moved = read_study(tmp_path / "study").methods
    assert moved.records[0]["samples"] != plain.records[0]["samples"] and "| controlled " in capsys.readouterr().out


def test_value_heads_that_cannot_be(trained: Path, tmp_path: Path):
    out = f"out={tmp_path / 'head'}"
    for arguments, message in (
        ([str(trained)], "a config and out= are expected"),
        ([str(trained), out, "held_out=1"], "it is a share"),
        ([str(trained), out, "values.target=guess"], "values.target"),
        ([str(trained), out, "values.learning_rate=0"], "must be positive"),
        ([str(trained), out, "samples=1", "prompts.texts=a"], "there is one prompt"),
    ):
        with pytest.raises(UserError, match=message):
            values.main(arguments)
