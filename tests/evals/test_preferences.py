"""Agreement with people's choices: counted by hand, beside the rules of length, on the pairs that training holds out."""

import numpy as np
import pytest

from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.data.tokenizers import ByteTokenizer
from ebm_jax.errors import UserError
from ebm_jax.evals.preferences import agreement, preference_record, read_choices, score_texts, wilson
from tests.data.test_examples import all_rows, loaded
from tests.data.test_pairs import dialogue, pairs_config

ROWS = [{"chosen": dialogue(" " + "a" * (n % 7), f"{n}?"), "rejected": dialogue(" bbb", f"{n}?")} for n in range(40)]


def last_token(batch):
    """A reward that is the sum of a text's tokens."""
    return (batch["inputs"] * (batch["segments"] > 0)).sum(1)


def sums(texts):
    return np.array([text.sum() for text in texts], float)


def test_shares_and_their_intervals():
    assert wilson(50, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)
    low, high = wilson(0, 10)
    assert low == pytest.approx(0, abs=1e-12) and high == pytest.approx(0.27753, abs=1e-5)


def test_each_file_and_each_rule_by_hand():
    figures = agreement(["a", "b", "a", "b"], [2.0, 1.0, 1.0, 3.0], [1.0, 2.0, 1.0, 0.0], np.array([5, 5, 0, 7]))
    assert {name: part["pairs"] for name, part in figures.items()} == {"a": 2, "b": 2, "all": 4}
    assert figures["a"]["accuracy"] == 0.75 and figures["a"]["longer"] == 0.75 and figures["a"]["gain"] == 0
    assert figures["b"]["accuracy"] == 0.5 and (figures["b"]["longer"], figures["b"]["shorter"]) == (1, 0)
    assert figures["b"]["gain"] == -0.5
    every = figures["all"]
    assert (every["accuracy"], every["longer"], every["gain"]) == (0.625, 0.875, -0.25)
    assert every["accuracy_interval"] == pytest.approx(list(wilson(2.5, 4)))
    gains = np.array([0, -1, 0, 0])
    half = 1.959964 * gains.std(ddof=1) / 2
    assert every["gain_interval"] == pytest.approx([-0.25 - half, -0.25 + half])


def test_texts_are_scored_in_their_order_whatever_their_lengths():
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, 200, rng.integers(1, 150)) for _ in range(23)]
    widths = set()

    def score(batch):
        widths.add(batch["inputs"].shape)
        assert np.array_equal(batch["positions"][0, :2], [0, 1 if batch["segments"][0, 1] else 0])
        return last_token(batch)

    rewards = score_texts(score, texts, batch_size=4, longest=150, pad_id=9)
    assert rewards.tolist() == [text.sum() for text in texts]
    assert widths <= {(4, width) for width in (16, 32, 64, 128, 150)}
    assert score_texts(score, texts, batch_size=4, shards=3).tolist() == rewards.tolist()
    assert {rows for rows, _ in widths} == {4, 6}


@pytest.mark.parametrize("overlong", ["drop", "cut_start"])
def test_the_pairs_are_those_that_training_holds_out(tmp_path, overlong):
    examples = ExamplesConfig(longest=len(dialogue(" bbbb", "10?")) + 1, overlong=overlong)
    config = pairs_config(
        tmp_path, ROWS, validation_fraction=0.4, append_eos=True, layout="truncate", examples=examples
    )
    read = read_choices(config, ByteTokenizer(), "validation")
    batch = all_rows(loaded(config), "validation")
    trained = {
        tuple(row[segments == side])
        for row, segments in zip(batch["inputs"], batch["segments"], strict=True)
        for side in (1, 2)
    }
    assert {tuple(text) for choice in read.choices for text in choice[1:]} == trained
    assert len(read.choices) == len(batch["inputs"])
    assert (read.dropped > 0, read.cut > 0) == (overlong == "drop", overlong == "cut_start")


def test_a_record_from_rows_to_figures(tmp_path):
    config = pairs_config(tmp_path, [*ROWS, {"chosen": dialogue(" x"), "rejected": dialogue(" x")}], append_eos=True)
    record = preference_record(sums, config, ByteTokenizer(), split="train")
    assert (
        record["left_out"] == {"equal texts": 1}
        and record["cut"] == 0
        and set(record["files"]) == {"rows.jsonl", "all"}
    )
    # "a" counts 97 and "b" 98: three of them lose to "bbb", four win.
    wins = [n % 7 > 3 for n in range(40)]
    assert record["files"]["all"]["accuracy"] == pytest.approx(np.mean(wins))
    longer = [1 if n % 7 > 3 else 0.5 if n % 7 == 3 else 0 for n in range(40)]
    assert record["files"]["all"]["longer"] == pytest.approx(np.mean(longer))


def test_bad_input(tmp_path):
    config = pairs_config(tmp_path, ROWS)
    with pytest.raises(UserError, match="split='dev' is not one of"):
        read_choices(config, ByteTokenizer(), "dev")
    with pytest.raises(UserError, match="the test split has no pairs"):
        read_choices(config, ByteTokenizer(), "test")
