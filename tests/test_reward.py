"""A reward model scores answers: the same whatever runs beside them, wherever its weights lie, and as it was published."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import cli
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks import Prompt
from ebm_jax.parallel.mesh import MeshConfig
from ebm_jax.reward import open_reward
from experiments import preferences
from tests.data.test_examples import write
from tests.letters import GOLDEN, letters

pytest.importorskip("safetensors")
PAIRS = [(Prompt("a b c"), " d"), (Prompt.chat("x y"), "q"), (Prompt("z"), " a b c d e f g"), (Prompt("h"), " h h")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return letters(GOLDEN / "qwen3_reward", tmp_path_factory.mktemp("model") / "letters")


@pytest.fixture(scope="module")
def reward(folder):
    return open_reward(str(folder), rows=3)


def test_scores_are_the_published_ones(reward):
    with np.load(GOLDEN / "qwen3_reward" / "golden.npz") as golden:
        ids, scores = golden["ids"], golden["scores"][:, 0]
    texts = [row[row != 0] if row[-1] == 0 else row for row in ids]
    np.testing.assert_allclose(reward.of_tokens(texts), scores, rtol=2e-5, atol=2e-5)


def test_texts_are_read_as_their_tokenizer_writes_them(reward):
    assert reward.encode(*PAIRS[0]).tolist() == [1, 3, 4, 5, 6]
    template = reward.chat.render([{"role": "user", "content": "x y"}, {"role": "assistant", "content": "q"}])
    assert reward.encode(*PAIRS[1]).tolist() == reward.tokenizer.encode(template).tolist()


def test_an_answer_may_go_on_in_the_middle_of_a_word(reward):
    assert reward.encode(Prompt("x a"), "b c").tolist() == [1, *reward.tokenizer.encode("x ab c").tolist()]


def test_a_run_frames_texts_as_its_training_did(reward):
    run = dataclasses.replace(reward, step=7, suffix=(2,))
    assert run.encode(*PAIRS[0]).tolist() == [1, 3, 4, 5, 6, 2]
    assert run.encode(*PAIRS[1]).tolist() == [*reward.encode(*PAIRS[1]).tolist(), 2], "one begin-of-text token"
    assert run.encode(Prompt("a"), " b </s>").tolist() == [1, 3, 4, 2]


def test_answers_end_with_what_they_are_judged_by(reward):
    judged = dataclasses.replace(reward, ending=" k")
    assert judged.encode(*PAIRS[0]).tolist() == [1, 3, 4, 5, 6, 13]
    assert judged.encode(*PAIRS[1]).tolist() == [*reward.encode(*PAIRS[1]).tolist(), 13]
    with pytest.raises(UserError, match="open it with an ending to judge by"):
        dataclasses.replace(reward, ending=None)(PAIRS)


def test_long_texts_are_cut_as_in_training(reward):
    examples = dataclasses.replace(reward.data.examples, overlong="cut_start", longest=3)
    cut = dataclasses.replace(reward, data=dataclasses.replace(reward.data, examples=examples))
    assert cut.encode(*PAIRS[0]).tolist() == [4, 5, 6]


def test_neither_neighbours_nor_devices_matter(reward, folder):
    together = reward(PAIRS)
    assert len(set(together.tolist())) == len(PAIRS)
    np.testing.assert_allclose([reward([pair])[0] for pair in PAIRS], together, rtol=1e-6)
    sharded = open_reward(str(folder), mesh=MeshConfig(fsdp=2, tensor=2, rules="fsdp_tp"), rows=3)
    np.testing.assert_allclose(sharded(PAIRS), together, rtol=1e-5)


def test_a_published_model_is_judged_on_pairs(folder, tmp_path, capsys):
    rows = [{"chosen": f"\n\nAssistant: a {x}", "rejected": f"\n\nAssistant: b {x} c"} for x in "defghijk"]
    pairs = write(tmp_path / "pairs.jsonl", rows)
    command = [str(folder), f"source=pairs:{pairs}", f"out={tmp_path / 'out'}"]
    assert cli.main(preferences.main, command) == 0
    assert (tmp_path / "out" / "preferences.json").is_file() and "pairs.jsonl" in capsys.readouterr().out
    assert cli.main(preferences.main, command[:1]) == 2
    assert "add source=pairs:PATH" in capsys.readouterr().err


def test_what_cannot_be_scored_is_named(reward, folder, tmp_path):
    with pytest.raises(UserError, match=r"text 2 has \d+ tokens and .* reads 1 to 64"):
        reward([PAIRS[0], (Prompt("a " * 70), " b")])
    with pytest.raises(UserError, match=r"text 1 the reward nan, which is not finite"):
        params = {**reward.params, "score": reward.params["score"] * jnp.nan}
        dataclasses.replace(reward, params=params)(PAIRS[:1])
    with pytest.raises(UserError, match="writes text and gives no reward"):
        open_reward(str(letters(GOLDEN / "llama3_tied", tmp_path / "lm")))
    two = letters(GOLDEN / "qwen3_reward", tmp_path / "two")
    config = json.loads((two / "config.json").read_text()) | {"id2label": {"0": "good", "1": "bad"}}
    (two / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="tells 2 labels apart: a reward model has one"):
        open_reward(str(two))
