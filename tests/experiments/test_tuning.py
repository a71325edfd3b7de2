"""Fine-tuning through the command line: from a run's weights, by adapters, resumed, opened, and judged."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from ebm_jax import cli
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks import Prompt
from ebm_jax.experiment import open_run
from ebm_jax.language_model import open_model
from ebm_jax.records import read_metrics
from experiments import evaluate, preferences, pretrain
from tests.data.test_examples import write
from tests.data.test_pairs import dialogue

pytest.importorskip("tensorflow_datasets")

LM = str(Path(__file__).parents[2] / "configs" / "smoke" / "lm.py")
LORA = ("algorithm=sft", "algorithm.lora.rank=2", "algorithm.lora.targets=[*/query, */up]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Examples, pairs, and a language model that was trained for a moment."""
    folder = tmp_path_factory.mktemp("tuning")
    write(
        folder / "sums.jsonl", [{"prompt": f"{a}+{b}=", "completion": f"{a + b}"} for a in range(9) for b in range(9)]
    )
    rows = [{"chosen": dialogue(" yes", f"{n}?"), "rejected": dialogue(" no", f"{n}?")} for n in range(40)]
    write(folder / "yes.jsonl", rows)
    (folder / "corpus.txt").write_text("\n".join(f"line {i} of a small text" for i in range(300)))
    text = (f"data.source=text:{folder}/corpus.txt", "data.documents=blocks", "data.block_chars=200")
    assert train(folder, folder / "lm", *text) == 0
    return folder


def train(folder, workdir, *overrides):
    quick = {
        "data.cache_dir": folder / "cache",
        "data.context": 16,
        "data.workers": 0,
        "data.validation_fraction": 0.2,
        "data.test_fraction": 0.0,
        "model.width": 16,
        "model.depth": 1,
        "mesh.data": 1,
        "train.steps": 2,
        "train.checkpoint_every": 2,
        "train.log_every": 1,
        "train.eval_every": 0,
        "train.eval_batches": 1,
    }
    words = [f"{key}={value}" for key, value in quick.items()]
    return cli.main(pretrain.main, [LM, *words, *overrides, f"workdir={workdir}"])


def tune(folder, workdir, *overrides):
    examples = (f"data.source=sft:{folder}/sums.jsonl", "data.append_eos=true", f"weights={folder}/lm")
    return train(folder, workdir, *examples, *overrides)


@pytest.mark.slow
def test_adapters_start_resume_and_are_merged_when_opened(folder, capsys):
    run = folder / "lora"
    assert tune(folder, run, *LORA) == 0
    told = capsys.readouterr().err
    assert f"starts from the weights of {folder}/lm" in told and "examples in" in told
    assert tune(folder, run, *LORA, "train.steps=4") == 0
    assert [line["step"] for line in read_metrics(run) if "loss" in line] == [1, 2, 3, 4]
    experiment, params, step = open_run(run)
    _, base, _ = open_run(folder / "lm")
    assert step == 4 and jax.tree.structure(params) == jax.tree.structure(base)
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), params, base)
    assert changed["stack"]["blocks"].pop("query") and changed["stack"]["blocks"].pop("up")
    assert not any(jax.tree.leaves(changed)), "only what has adapters moved"
    assert experiment.parameters() == 2 * (16 + 16) + 2 * (16 + 16)
    assert cli.main(evaluate.main, [str(run), "rows=4"]) == 0
    assert json.loads((run / "evaluation.json").read_text())["splits"]["validation"]["nll"][0] > 0


@pytest.mark.slow
def test_a_run_may_begin_with_what_adapters_made(folder, tmp_path, capsys):
    assert tune(folder, tmp_path / "adapted", *LORA) == 0
    _, merged, _ = open_run(tmp_path / "adapted")
    assert train(folder, tmp_path / "on", f"weights={tmp_path}/adapted", "optim.peak_lr=1e-12", "train.steps=1") == 0
    _, params, _ = open_run(tmp_path / "on")
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(merged), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    capsys.readouterr()
    assert train(folder, tmp_path / "other", f"weights={tmp_path}/adapted", "model.width=8", "model.heads=2") == 2
    assert "does not fit the model" in capsys.readouterr().err


def test_tasks_are_asked_of_the_checkpoint_that_is_meant(folder, tmp_path, capsys):
    run = tmp_path / "run"
    # 16 positions, so that one question of the two fits.
    rows = [{"prompt": "1+1=", "completion": "2"}, {"prompt": "1+1=" * 9, "completion": "2"}]
    ask = [str(run), f"tasks=completion:{write(tmp_path / 'c.jsonl', rows)}", "resamples=0"]
    assert tune(folder, run) == 0 and tune(folder, run, "train.steps=4") == 0
    capsys.readouterr()
    assert cli.main(evaluate.main, [*ask, "checkpoint=2"]) == 0
    told = capsys.readouterr().out
    assert "1 of 2 questions could not be asked" in told and "the context of" in told
    assert cli.main(evaluate.main, ask) == 1
    assert f"model was '{run} at step 2' and is '{run} at step 4'" in capsys.readouterr().out
    assert cli.main(evaluate.main, [*ask, f"out={tmp_path}/newest"]) == 0
    results = [
        json.loads((at / "completion-c.jsonl/result.json").read_text()) for at in (run / "tasks", tmp_path / "newest")
    ]
    assert results[0]["metrics"] != results[1]["metrics"] and results[1]["model"] == f"{run} at step 4"
    assert cli.main(evaluate.main, [*ask, "mesh.fsdp=2"]) == 2
    assert "a run has its own mesh" in capsys.readouterr().err
    assert cli.main(evaluate.main, [*ask, "checkpoint=newest"]) == 2
    assert "checkpoint='newest' is not a step number" in capsys.readouterr().err
    with pytest.raises(UserError, match="checkpoint=3 goes with a trained run"):
        open_model(str(tmp_path), checkpoint=3)


def test_chats_are_asked_in_the_form_that_was_trained(folder, tmp_path):
    pytest.importorskip("jinja2")
    (tmp_path / "chat.jinja").write_text(
        "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
    )
    talk = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    chats = write(
        tmp_path / "chats.jsonl", [{"talk": [{**m, "content": f"{m['content']}{n}"} for m in talk]} for n in range(40)]
    )
    examples = ("data.examples.messages=talk", f"data.examples.chat_template={tmp_path}/chat.jinja")
    source = ("algorithm=sft", f"data.source=sft:{chats}", f"weights={folder}/lm")
    assert train(folder, tmp_path / "run", *source, *examples) == 0
    model = open_model(str(tmp_path / "run"))
    assert bytes(model.encode(Prompt.chat("Hi"))) == b"u:Hi;a:"


def test_another_base_is_refused(folder, tmp_path, capsys):
    assert tune(folder, tmp_path / "run", *LORA) == 0
    shutil.move(folder / "lm", folder / "kept")
    try:
        text = (f"data.source=text:{folder}/corpus.txt", "data.documents=blocks", "data.block_chars=200", "seed=9")
        assert train(folder, folder / "lm", *text) == 0
        capsys.readouterr()
        assert tune(folder, tmp_path / "run", *LORA, "train.steps=4") == 2
        assert "the frozen networks differ from the checkpoint's" in capsys.readouterr().err
        assert cli.main(evaluate.main, [str(tmp_path / "run")]) == 2
        assert "the frozen networks differ from the checkpoint's" in capsys.readouterr().err
    finally:
        shutil.rmtree(folder / "lm", ignore_errors=True)
        shutil.move(folder / "kept", folder / "lm")


@pytest.mark.slow
def test_a_reward_model_learns_what_is_preferred(folder, capsys):
    run = folder / "reward"
    pairs = (
        "algorithm=reward_model",
        f"data.source=pairs:{folder}/yes.jsonl",
        f"weights={folder}/lm",
        "data.context=128",
    )
    assert train(folder, run, *pairs, "train.steps=20", "optim.peak_lr=0.03", "train.checkpoint_every=20") == 0
    assert cli.main(preferences.main, [str(run), "batch_size=8"]) == 0
    record = json.loads((run / "preferences.json").read_text())
    assert record["files"]["all"]["accuracy"] == 1.0 and record["files"]["all"]["longer"] == 1.0
    assert "yes.jsonl" in capsys.readouterr().out
    assert cli.main(evaluate.main, [str(run)]) == 2
    assert "experiments.preferences" in capsys.readouterr().err
    assert cli.main(preferences.main, [str(folder / "lm")]) == 2
    assert "algorithm=lm gives no rewards" in capsys.readouterr().err


def test_data_and_method_must_fit(folder, tmp_path, capsys):
    assert cli.main(preferences.main, [str(tmp_path), "batch_size=0"]) == 2
    assert "batch_size=0 must be at least 1" in capsys.readouterr().err
    assert tune(folder, tmp_path / "run", "algorithm=reward_model") == 2
    assert "algorithm=reward_model needs pairs:PATH" in capsys.readouterr().err
    assert train(folder, tmp_path / "run", f"data.source=pairs:{folder}/yes.jsonl") == 2
    assert "algorithm=lm needs a source of texts or examples" in capsys.readouterr().err
    assert tune(folder, tmp_path / "run", *LORA, "algorithm.lora.targets=[*/qeury]") == 2
    assert "'*/qeury' fits none of the parameters" in capsys.readouterr().err
    assert tune(folder, tmp_path / "run", "vocab_size=100") == 2
    assert "bytes has 256 tokens" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
