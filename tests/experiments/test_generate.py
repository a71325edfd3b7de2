"""Generation from the command line: what is written, and what a user can get wrong."""

import json
import shutil

import numpy as np
import pytest

from ebm_jax import cli
from ebm_jax.data.tokenizers import ByteTokenizer
from ebm_jax.decoding.decoder import Written
from ebm_jax.experiment import open_run
from ebm_jax.generation import GenerationOptions, _Row, run_source, stream
from ebm_jax.overrides import override
from experiments import generate
from tests.experiments.test_bad_input import EBT, folder, refused, train

pytest.importorskip("tensorflow_datasets")
__all__ = ["folder", "refused"]


@pytest.fixture(scope="module")
def lm_run(folder):
    assert train(folder, folder / "lm") == 0
    return folder / "lm"


@pytest.fixture(scope="module")
def ebt_run(folder):
    assert train(folder, folder / "ebt", "train.accumulate=1", config=EBT) == 0
    return folder / "ebt"


def run(*argv):
    return cli.main(generate.main, [str(argument) for argument in argv])


def test_text_streams_past_the_context(lm_run, capsys):
    assert run(lm_run, "prompt=line 7", "tokens=40", "chunk=3") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("line 7") and len(printed) > len("line 7\n")


@pytest.mark.slow
def test_samples_energies_and_json(ebt_run, capsys, tmp_path):
    out = tmp_path / "out.json"
    settings = ("tokens=4", "samples=2", "energies=true", "thinking.candidates=3", "thinking.steps=2", f"out={out}")
    assert run(ebt_run, "prompt=line", *settings) == 0
    printed = capsys.readouterr().out
    assert printed.count("forward passes") == 8 and "--- sample 2 of 2 ---" in printed
    record = json.loads(out.read_text())
    assert record["prompt"] == "line" and len(record["samples"]) == 2
    assert all(token["log_prob"] < 0 for row in record["samples"] for token in row["tokens"])
    assert all(
        len(token["energies"]) == 3 and token["passes"] == 9 for row in record["samples"] for token in row["tokens"]
    )


@pytest.mark.slow
def test_chunks_and_windows_change_nothing_within_a_window(ebt_run):
    """However many tokens are made at a time, the text is the same, before and after the context is full."""
    source = run_source(*open_run(ebt_run)[:2])

    def text(**settings):
        options = override(source.options(), [f"{key}={value}" for key, value in settings.items()])
        return [t.id for chunk in stream(source, ["line 4"], options) for t in chunk.tokens]

    assert text(tokens=30, chunk=4) == text(tokens=30, chunk=7)
    assert text(tokens=11, chunk=4) == text(tokens=30, chunk=7)[:11]


def test_characters_wait_until_they_are_whole():
    row, snowman = _Row([65], ByteTokenizer(), ends=[0]), list("☃".encode())
    assert take(row, snowman[:2])[0] == ""
    assert take(row, [*snowman[2:], 66])[0] == "☃B"
    assert take(row, snowman[:1], last=True)[0] == "\ufffd"


def take(row, ids, last=False):
    tokens = np.array([ids], np.int32)
    return row.take(Written(tokens, np.zeros(tokens.shape)), 0, len(ids), last)


def test_the_end_of_text_ends_a_row():
    row = _Row([65], ByteTokenizer(), ends=[0])
    text, tokens = take(row, [66, 0, 67])
    assert row.ended and text == "B" and [t.id for t in tokens] == [66]


def test_a_stop_text_ends_a_row_wherever_tokens_and_chunks_end():
    def told(chunks, stop):
        row = _Row(list(b"a ab"), ByteTokenizer(), ends=[0], stop=stop)
        parts = [take(row, list(chunk.encode()), last=n == len(chunks) - 1) for n, chunk in enumerate(chunks)]
        return [text for text, _ in parts], sum(len(new) for _, new in parts), row.ended

    assert told(["one a", "b two"], ["ab"]) == (["one ", ""], 6, True)  # not the one in the prompt
    assert told(["one a", "c two"], ["ab"]) == (["one ", "ac two"], 10, False)
    assert told(["one ☃☃☃ two"], ["two", "☃☃", ""]) == (["one "], 10, True)
    assert told(["one\n", "\n"], ["\n\n"]) == (["one", ""], 5, True)
    assert told(["one\n"], ["\n\n"]) == (["one\n"], 4, False)
    assert override(GenerationOptions(), ["stop=['\n\n', 'Q:']"]).stop == ("\n\n", "Q:")


def test_prompts_that_are_none(lm_run, refused, tmp_path):
    refused(run(lm_run, "prompt="), "the prompt is empty")
    refused(run(lm_run), "give either prompt=TEXT or prompt_file=FILE")
    refused(run(lm_run, "prompt=" + 20 * "x"), "20 tokens", "context holds 16", "shorten it by 4")
    refused(run(lm_run, "prompt=caf\udce9"), "the prompt is not text: character 3")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    refused(run(lm_run, f"prompt_file={tmp_path}/latin.txt"), "byte 3 (0xe9) is not valid UTF-8")
    refused(run(lm_run, f"prompt_file={tmp_path}/none.txt"), "no such file")


def test_runs_that_cannot_write(lm_run, ebt_run, refused, tmp_path):
    refused(run(tmp_path, "prompt=a"), "no run lives there")
    untrained = tmp_path / "untrained"
    shutil.copytree(lm_run, untrained, ignore=shutil.ignore_patterns("checkpoints"))
    refused(run(untrained, "prompt=a"), "has no checkpoints: train it first")
    (untrained / "checkpoints").mkdir()
    refused(run(untrained, "prompt=a"), "checkpoint")
    refused(run(lm_run, "prompt=a", "checkpoint=99"), "99")
    refused(run(lm_run, "prompt=a", "checkpoint=last"), "checkpoint='last' is not a step number")
    refused(run(lm_run, "prompt=a", "thinking.steps=2"), "does not think, only an EBT does")


def test_settings_that_make_no_sense(ebt_run, refused):
    refused(run(ebt_run, "prompt=a", "thinking.steps=0"), "steps=0 must be at least 1")
    refused(run(ebt_run, "prompt=a", "tokens=0"), "tokens=0 must be at least 1")
    refused(run(ebt_run, "prompt=a", "sampling.temperature=-1"), "temperature=-1")
    refused(run(ebt_run, "prompt=a", "sampling.temperatur=1"), "temperature")


@pytest.mark.slow
def test_too_many_candidates_say_what_fits(ebt_run, refused, capsys):
    many = 10**8
    refused(
        run(ebt_run, "prompt=a", "tokens=1", f"thinking.candidates={many}", f"thinking.at_once={many}"),
        f"{many} candidates side by side need",
        "GiB are free",
        "Set thinking.at_once=",
    )
