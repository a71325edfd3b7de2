"""A published model writes and scores text: the same whatever runs beside it and wherever its weights lie."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ebm_jax import cli, language_model
from ebm_jax.data.config import DataConfig
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.data.tokenizers import open_tokenizer
from ebm_jax.decoding.writer import Writer
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks import Prompt
from ebm_jax.language_model import open_model
from ebm_jax.parallel.mesh import MeshConfig
from experiments import evaluate, generate
from tests.data.test_examples import write
from tests.letters import GOLDEN, WORDS, letters

pytest.importorskip("safetensors")
PROMPTS = [Prompt(text) for text in ("h e l l o", "a b", "t h e q u i c k b r o w n f o x", "z", "y o u")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Llama whose tokens are letters."""
    return letters(GOLDEN / "llama3_tied", tmp_path_factory.mktemp("model") / "letters")


@pytest.fixture(scope="module")
def model(folder):
    return open_model(str(folder), rows=4)


def test_prompts_carry_what_their_model_was_trained_with(model):
    assert model.encode(Prompt("a b")) == [1, 3, 4]
    assert model.encode(Prompt.chat("b")) == [1, WORDS.index("u"), 4]
    assert model.ends == (2,) and model.context == 64


def test_a_chat_begins_as_its_template_says(folder, model, tmp_path):
    """Zephyr's template writes no begin-of-text token, though its tokenizer puts one in front of plain texts."""
    (tmp_path / "plain.jinja").write_text("{% for m in messages %}q {{ m.content }}{% endfor %}")
    plain = dataclasses.replace(model, chat_file=str(tmp_path / "plain.jinja"))
    assert plain.encode(Prompt.chat("b")) == [WORDS.index("q"), 4]


def test_a_run_stops_where_the_turns_of_its_chats_end(folder):
    def ends(turn_end, messages="talk"):
        (folder / "turns.jinja").write_text("{% for m in messages %}{{ m.content }} " + turn_end + "{% endfor %}")
        examples = ExamplesConfig(messages=messages, chat_template=str(folder / "turns.jinja"))
        data = DataConfig(tokenizer=f"hf:{folder / 'tokenizer.json'}", examples=examples)
        experiment = SimpleNamespace(config=SimpleNamespace(data=data), data=SimpleNamespace(tokenizer=tokenizer))
        return language_model.run_ends(experiment)

    tokenizer = open_tokenizer(f"hf:{folder / 'tokenizer.json'}")
    eos = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
    assert eos == (2,)
    assert ends("<pad>") == (2, 0) and ends("</s>") == (2,)
    assert ends("x") == ends("<pad>", messages=None) == (2,), "only special tokens end a turn"


def test_a_run_speaks_as_it_was_taught(model, tmp_path):
    (tmp_path / "chats.jinja").write_text("{% for m in messages %}q {{ m.content }} a{% endfor %}")
    taught = dataclasses.replace(model, chat_file=str(tmp_path / "chats.jinja"), chat_prefix=(1,))
    assert taught.encode(Prompt.chat("b")) == [1, WORDS.index("q"), 4, 3]


@pytest.mark.slow
def test_completions_do_not_depend_on_what_runs_beside_them(model, folder):
    settings = {"samples": 2, "max_new_tokens": 20, "temperature": 1.0, "seed": 3}
    together = model.generate(PROMPTS, **settings)
    assert len({c.text for row in together for c in row}) > 5
    assert [len(row) for row in together] == [2] * len(PROMPTS)
    wider = open_model(str(folder), rows=64).generate(PROMPTS, **settings)
    assert [[c.text for c in row] for row in wider] == [[c.text for c in row] for row in together]
    assert all(c.finished == (c.tokens < 20) or c.tokens == 20 for row in together for c in row)


def test_more_samples_than_rows_are_taken_in_turns(model, monkeypatch):
    settings = {"samples": 7, "max_new_tokens": 12, "temperature": 1.0}
    start, batches = Writer.start, []
    monkeypatch.setattr(Writer, "start", lambda *args: batches.append(len(args[2])) or start(*args))
    few = model.generate(PROMPTS[:2], **settings)
    assert batches == [4] * 4
    many = dataclasses.replace(model, rows=14).generate(PROMPTS[:2], **settings)
    assert batches == [4] * 4 + [14]
    assert [[c.text for c in row] for row in few] == [[c.text for c in row] for row in many]


def test_few_programs_serve_many_shapes(folder):
    model = open_model(str(folder), rows=4)
    for count, tokens in ((4, 9), (3, 12)):
        assert len(model.generate(PROMPTS[1:][:count], max_new_tokens=tokens)) == count
        model.log_likelihood([(prompt, " q") for prompt in PROMPTS[:1] * count])
    (writer,) = model._writers.values()
    assert len(writer._programs) == model._score._cache_size() == 1


@pytest.mark.slow
def test_one_device_is_many(model, folder, monkeypatch):
    monkeypatch.setattr(language_model, "CHUNK", 5)  # what goes on from a state gives one of the same places
    mesh = MeshConfig(fsdp=2, tensor=2, rules="fsdp_tp")
    pairs = [(prompt, " q r s") for prompt in PROMPTS]
    sharded = open_model(str(folder), mesh=mesh, rows=4)
    for ours, theirs in zip(model.log_likelihood(pairs), sharded.log_likelihood(pairs), strict=True):
        assert ours.nats == pytest.approx(theirs.nats, rel=1e-5) and ours.tokens == theirs.tokens == 3
    greedy = {"max_new_tokens": 12}
    assert [row[0].text for row in sharded.generate(PROMPTS, **greedy)] == [
        row[0].text for row in model.generate(PROMPTS, **greedy)
    ]


def test_the_command_line_splits_a_model_too(folder, capsys):
    arguments = [str(folder), "prompt=a b", "tokens=12", "sampling.temperature=0"]
    texts = []
    for split in ([], ["mesh.rules=fsdp_tp", "mesh.fsdp=2", "mesh.tensor=2"]):
        assert cli.main(generate.main, arguments + split) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


def test_tasks_are_asked_of_a_model_on_several_devices(folder, tmp_path, capsys):
    rows = write(tmp_path / "c.jsonl", [{"prompt": "a b", "completion": " c d"}, {"prompt": "x", "completion": " y"}])
    ask, nats = [str(folder), f"tasks=completion:{rows}", "resamples=0"], []
    for split in ([], ["mesh.rules=fsdp_tp", "mesh.fsdp=2", "mesh.tensor=2"]):
        out = tmp_path / f"out{len(split)}"
        assert cli.main(evaluate.main, [*ask, *split, f"out={out}"]) == 0
        result = json.loads((out / "completion-c.jsonl" / "result.json").read_text())
        nats.append(result["metrics"]["nats_per_token"]["value"])
    assert nats[0] == pytest.approx(nats[1], rel=1e-5)


def test_the_command_line_chats(folder, model, capsys):
    assert cli.main(generate.main, [str(folder), "prompt=b", "chat=true", "tokens=8", "sampling.temperature=0"]) == 0
    said = capsys.readouterr().out
    (written,) = model.generate([Prompt.chat("b")], max_new_tokens=8)[0]
    assert said.rstrip().endswith(written.text.rstrip()) and "u b" in said
    for bad, told in ((["chat=yes"], "must be true or false"), (["system=x"], "system= goes with chat=true")):
        assert cli.main(generate.main, [str(folder), "prompt=b", *bad]) == 2
        assert told in capsys.readouterr().err


def test_what_is_written_greedily_is_most_likely(model):
    for prompt, (written,) in zip(PROMPTS[:3], model.generate(PROMPTS[:3], max_new_tokens=8), strict=True):
        likelihood = model.log_likelihood([(prompt, f" {written.text}")])[0]
        ended = written.finished
        assert len(written.token_log_probs) == written.tokens
        assert sum(written.token_log_probs) == pytest.approx(written.log_prob)
        assert likelihood.greedy and likelihood.tokens == written.tokens - ended
        if not ended:
            assert likelihood.nats == pytest.approx(written.log_prob, rel=1e-4)


def test_the_end_of_a_text_is_as_likely_as_its_sampler_says(model):
    written = [one for row in model.generate(PROMPTS[:3], samples=4, max_new_tokens=20, temperature=1.0) for one in row]
    prompts = [prompt for prompt in PROMPTS[:3] for _ in range(4)]
    whole = [n for n, one in enumerate(written) if one.finished]
    assert whole, "some must end by themselves"
    pairs = [(prompts[n], f" {written[n].text}") for n in range(len(written))]
    found = model.log_likelihood(pairs, [one.finished for one in written])
    for n in whole:
        assert found[n].tokens == written[n].tokens
        assert found[n].nats == pytest.approx(written[n].log_prob, rel=1e-4)
    endless = dataclasses.replace(model, ends=())
    with pytest.raises(UserError, match="has no token that ends a text"):
        endless.log_likelihood(pairs[:1], [True])


def test_a_stop_string_ends_a_text_and_is_left_out(model):
    settings = {"samples": 4, "max_new_tokens": 30, "temperature": 1.0}
    free = [c for row in model.generate(PROMPTS, **settings) for c in row]
    letter = max("abcdefghijklmnopqrstuvwxyz", key=lambda x: sum(x in c.text for c in free))
    stopped = [c for row in model.generate(PROMPTS, stop=[letter], **settings) for c in row]
    assert any(letter in c.text for c in free)
    for before, after in zip(free, stopped, strict=True):
        assert after.text == before.text.partition(letter)[0]
        assert after.finished if letter in before.text else after == before


def test_mistakes_are_named(model, folder, tmp_path):
    for nothing in ({"samples": 0}, {"max_new_tokens": 0}):
        with pytest.raises(UserError, match="=0 must be at least 1"):
            model.generate(PROMPTS, **nothing)
    with pytest.raises(UserError, match=r"prompt 2 has 71 tokens and the context of .* holds 64"):
        model.generate([PROMPTS[0], Prompt("a " * 70)], max_new_tokens=1)
    for half in (lambda: model.generate([Prompt("a \ud800")]), lambda: model.log_likelihood([(PROMPTS[0], " \ud800")])):
        with pytest.raises(UserError, match=r"is no text: character .* is half of a surrogate pair"):
            half()
    with pytest.raises(UserError, match="continuation 1, '', has no tokens"):
        model.log_likelihood([(PROMPTS[0], "")])
    assert model.misfit(Prompt("a " * 70)) == (
        f"the prompt has 71 tokens and the context of {model.name} holds 64: shorten it"
    )
    assert model.misfit(PROMPTS[0]) == model.misfit(PROMPTS[0], " b") == ""
    assert "continuation, '', has no tokens" in model.misfit(PROMPTS[0], "")
    assert "and its continuation have 66 tokens" in model.misfit(Prompt("a " * 60), " b c d e f")
    with pytest.raises(UserError, match="neither a trained run"):
        open_model(str(tmp_path))
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    text = (other / "tokenizer.json").read_text().replace('"z": 28', '"z": 29')
    (other / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match="has 30 tokens and the model 29: it is not this model's"):
        open_model(str(other))
    (other / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        open_model(str(other))


@pytest.mark.skipif(not os.environ.get("EBM_JAX_DATA"), reason="EBM_JAX_DATA names no models")
def test_real_models_write_their_golden_text():
    data = Path(os.environ["EBM_JAX_DATA"])
    for name in ("lm_stories260k", "lm_babyllama105"):
        model = open_model(str(data / name))
        with np.load(data / name / "golden.npz") as golden:
            ids, prompt = golden["greedy_ids"].tolist(), "Once upon a time"
            assert model.encode(Prompt(str(golden["prompt"]))) == golden["prompt_ids"].tolist()
        written = model.generate([Prompt(prompt)], max_new_tokens=100)[0][0]
        assert model.tokenizer.decode(ids).startswith(prompt[:5]) or name == "lm_babyllama105"
        assert written.text[:60] in model.tokenizer.decode(ids)
