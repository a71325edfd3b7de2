"""Decoding of many prompts: batches, budgets, what is kept on disk, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.budget import Budget, fitted
from ebm_jax.decoders.ebd import EBD
from ebm_jax.decoders.registry import DECODERS, get_decoder, page, size_of
from ebm_jax.decoders.rewards import CallableReward
from ebm_jax.decoders.run import decode
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Prompt
from ebm_jax.share import Share
from tests.decoders import toy_model
from tests.decoders.on_toy import worth
from tests.decoding.markov import toy

PROMPTS = [Prompt(text=str(n)) for n in range(5)]
CHAIN = EBD(steps=3, chains=2)
REWARD = CallableReward(worth, "toy")


def model():
    made = toy_model.model()
    made.encode = lambda prompt: [0] * (1 + int(prompt.text) % 3)
    made.step = None
    return made


def run(method=CHAIN, prompts=PROMPTS, **how):
    how = {"reward": REWARD, "max_new_tokens": toy.HORIZON, "at_once": 2} | how
    return decode(model(), prompts, method, **how)


def test_batches_do_not_matter():
    one, other = run(at_once=2), run(at_once=16)
    assert [s.responses for s in one.samples] == [s.responses for s in other.samples]
    assert [s.account for s in one.samples] == [s.account for s in other.samples]
    assert [s.log for s in one.samples] == [s.log for s in other.samples]
    assert len(one.samples[0].responses) == 2 and one.account()["steps"] == 6


def test_what_was_decoded_is_not_decoded_again(tmp_path: Path):
    calls = {"left": 40}

    def tiring(*of):
        calls["left"] -= 1
        if calls["left"] < 0:
            raise OSError("the scorer has gone")
        return worth(*of)

    with pytest.raises(UserError, match="the reward toy failed: OSError: the scorer has gone"):
        run(reward=CallableReward(tiring, "toy"), folder=tmp_path)
    kept = (tmp_path / "samples.jsonl").read_text().splitlines()
    assert 0 < len(kept) < len(PROMPTS)
    # A line that was cut off while it was written is made again.
    with (tmp_path / "samples.jsonl").open("a") as file:
        file.write('{"number": 4, "respon')
    again, whole = run(folder=tmp_path), run()
    assert again.samples == run(folder=tmp_path).samples
    assert [s.responses for s in again.samples] == [s.responses for s in whole.samples]
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == len(PROMPTS)
    assert json.loads((tmp_path / "decode.json").read_text())["method"]["kind"] == "ebd"


def test_machines_decode_shares_of_one_folder(tmp_path: Path):
    """What a share that ended half-way has left out is made by the call for the whole, and nothing else is."""
    first = run(folder=tmp_path, share=Share(0, 2))
    assert [sample.number for sample in first.samples] == [0, 1, 2], "by length: 0, 3, 1, 4, 2"
    run(folder=tmp_path, share=Share(1, 2))
    file = tmp_path / "samples.1-of-2.jsonl"
    cut = file.read_text()[:-5]
    file.write_text(cut)
    asked: list[str] = []

    def noted(prompt, *of):
        asked.append(str(prompt))
        return worth(prompt, *of)

    found = run(folder=tmp_path, reward=CallableReward(noted, "toy"))
    assert [s.responses for s in found.samples] == [s.responses for s in run().samples] and len(set(asked)) == 1
    assert file.read_text() == cut, "another's file is only read: it may be writing"
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 1


def test_another_decoding_needs_another_folder(tmp_path: Path):
    run(folder=tmp_path)
    with pytest.raises(UserError, match="holds a decoding with seed=0, and this one has 1: choose another folder"):
        run(folder=tmp_path, seed=1)
    with pytest.raises(UserError, match="holds a decoding with method="):
        run(replace(CHAIN, steps=4), folder=tmp_path)


def test_what_cannot_be_decoded():
    with pytest.raises(UserError, match="there are no prompts"):
        run(prompts=[])
    with pytest.raises(UserError, match="asks for a reward, and none was given"):
        run(reward=None)
    with pytest.raises(
        UserError, match=r"prompt 3 has 3 tokens, which leaves no room for responses of max_new_tokens=62"
    ):
        run(max_new_tokens=62)
    with pytest.raises(UserError, match=r"the reward fickle gave .* and then"):
        flips = iter(np.arange(1000.0))
        run(reward=CallableReward(lambda *_: next(flips), "fickle"))


def test_a_budget_fixes_sizes_before_anything_is_drawn():
    assert fitted(BestOfN(), "samples", Budget(tokens=1000), 40, 64).samples == 25
    assert fitted(BestOfN(), "samples", Budget(tokens=1000, reward_calls=7), 40, 64).samples == 7
    for name, entry in DECODERS.items():
        if not (size := size_of(entry.make())):
            continue
        budget = Budget(tokens=5000, reward_calls=200)
        try:
            method = fitted(entry.make(), size, budget, 60, 128)
        except UserError as error:
            assert "is too small for" in str(error)
            continue
        found = getattr(method, size)
        assert budget.holds(method.cost(60, 128)), name
        assert not budget.holds(replace(method, **{size: found + 1}).cost(60, 128)), name
    with pytest.raises(
        UserError, match=r"the budget of 30 tokens and 0 reward calls is too small for BestOfN: .* 40 tokens"
    ):
        fitted(BestOfN(), "samples", Budget(tokens=30), 40, 64)


def test_the_page_of_decoders_is_that_of_the_registry():
    text = (Path(__file__).parents[2] / "docs" / "decoding.md").read_text(encoding="utf-8")
    assert text == page(text), "write docs/decoding.md anew: python -m experiments.decoding_page"
    with pytest.raises(UserError, match="decoder='ebt' is not one of greedy, sampling"):
        get_decoder("ebt")
