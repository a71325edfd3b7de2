"""The stream layout: documents end to end, cut into rows wherever these end."""

import dataclasses

import numpy as np
import pytest

from ebm_jax.data import Data, DataConfig, TrainStream
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.data.packing import build_table
from ebm_jax.data.rows import Rows
from ebm_jax.errors import UserError
from tests.data.test_examples import config, documents, loaded

LENGTHS = [1, 2, 3, 9, 0, 10, 8, 17, 40, 5, 1, 33, 2, 7, 0]
QUESTIONS = [{"prompt": f"Q{n}?" + "x" * (n % 5), "completion": f" A{n}." + "y" * (n % 7)} for n in range(9)]


def in_order(rows):
    """Every row, in the order of the stream, and of every real position the number of its document."""
    table = rows.table
    first = table.first[:-1]
    order = np.lexsort((table.start[first], table.document[first]))
    batch = rows.gather(order)
    row, place = np.nonzero(batch["segments"])
    document = table.document[first[order][row] + batch["segments"][row, place] - 1]
    return batch, document


def question_config(tmp_path, **changes):
    settings = {"layout": "stream", "examples": ExamplesConfig(), "append_eos": True}
    return config(tmp_path, QUESTIONS, **settings | changes)


@pytest.mark.parametrize("context", [1, 4, 8, 64, 1000])
def test_rows_without_padding_are_the_stream(context):
    texts = documents(LENGTHS)
    stream = np.concatenate(texts)
    rows = Rows.from_documents(texts, context=context, layout="stream", pad_id=7)
    assert len(rows) == -(-len(stream) // context)
    batch, document = in_order(rows)
    real = batch["segments"] > 0
    assert np.array_equal(batch["inputs"][real], stream)
    assert np.array_equal(np.flatnonzero(real), np.arange(len(stream))), "only the end of the last row is padded"
    assert np.all(batch["inputs"][~real] == 7) and not batch["weights"][~real].any()
    assert np.array_equal(batch["targets"][real][:-1], stream[1:])
    scored = np.zeros_like(real)
    scored[:, :-1] = real[:, 1:]  # a row's last token predicts what lies outside it
    assert np.array_equal(batch["weights"], scored)
    assert np.array_equal(document, np.repeat(np.arange(len(LENGTHS)), LENGTHS))
    for segments, positions in zip(batch["segments"], batch["positions"], strict=True):
        for segment in range(1, segments.max() + 1):
            inside = segments == segment
            assert positions[inside].tolist() == [*range(inside.sum())]


def test_rows_are_a_fair_sample_in_an_order_of_their_own():
    lengths = np.array(LENGTHS * 5)
    first, again, other = (build_table("stream", lengths, 8, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    starts = [table.document[table.first[:-1]] for table in (first, other)]
    assert not np.array_equal(*starts) and not np.all(np.diff(starts[0]) >= 0)
    assert len(build_table("stream", np.zeros(3, np.int64), 8)) == len(build_table("stream", np.array([]), 8)) == 0


def test_what_stands_for_no_text_is_not_scored():
    texts = [np.array([5, 6, 0]), np.array([7, 8, 9, 0]), np.array([4])]
    (weights,) = Rows.from_documents(texts, context=10, layout="stream", ignore_id=0).gather(np.array([0]))["weights"]
    assert weights.tolist() == [1, 0, 1, 1, 1, 0, 1, 0, 0, 0], "neither end of text; every document's first token"
    # Where one token begins and ends documents, its places tell which of the two it is.
    texts = [np.array([1, 5, 1]), np.array([1, 6, 1])]
    tokens, offsets = np.concatenate(texts), np.array([0, 3, 6])
    table = build_table("stream", np.array([3, 3]), 8)
    rows = Rows(tokens, offsets, table, context=8, fingerprint="", ignore_id=None, joined=True, begun=True)
    assert rows.gather(np.array([0]))["weights"].tolist() == [[1, 1, 0, 1, 1, 0, 0, 0]]


def test_training_goes_on_where_it_stopped():
    rows = Rows.from_documents(documents(LENGTHS), context=8, layout="stream")
    whole = TrainStream(rows, batch_size=3, workers=0)
    batches = [next(whole) for _ in range(12)]
    inputs = np.concatenate([batch["inputs"] for batch in batches])[: len(rows)]
    assert sorted(map(tuple, inputs)) == sorted(map(tuple, rows.gather(np.arange(len(rows)))["inputs"]))
    stream = TrainStream(rows, batch_size=3, workers=0)
    for _ in range(5):
        next(stream)
    resumed = TrainStream(rows, batch_size=3, workers=1)
    resumed.restore(stream.state())
    for batch in batches[5:]:
        found = next(resumed)
        assert all(np.array_equal(found[name], batch[name]) for name in batch)
    resumed.close()


def test_prepared_documents_end_with_their_token_but_the_last(tmp_path):
    data = loaded(question_config(tmp_path))
    text = "\0".join(row["prompt"] + row["completion"] for row in QUESTIONS)
    batch, _ = in_order(data.rows["train"])
    read = batch["inputs"][batch["segments"] > 0]
    assert bytes(read.astype(np.uint8)).decode() == text
    assert data.describe() == f"train 9 examples in {-(-len(text) // 24)} rows"
    assert data.stats["train"].dropped == data.stats["train"].overlong == 0
    assert loaded(question_config(tmp_path)).fingerprint == data.fingerprint
    (unended,) = loaded(question_config(tmp_path, append_eos=False)).rows.values()
    batch, _ = in_order(unended)
    assert bytes(batch["inputs"][batch["segments"] > 0].astype(np.uint8)).decode() == text.replace("\0", "")


@pytest.mark.parametrize("loss", ["completion", "full"])
def test_of_examples_that_rows_cut_the_same_tokens_are_scored(tmp_path, loss):
    data = loaded(question_config(tmp_path, context=7, examples=ExamplesConfig(loss=loss)))
    batch, _ = in_order(data.rows["train"])
    parts = [[(row["prompt"], loss == "full"), (row["completion"] + "\0", True)] for row in QUESTIONS]
    flags = [scored for row in parts for text, scored in row for _ in text][:-1]  # nothing follows the last example
    expected = np.zeros(batch["weights"].shape)
    expected.reshape(-1)[: len(flags) - 1] = flags[1:]
    expected[:, -1] = 0
    assert np.array_equal(batch["weights"], expected)


def test_documents_in_memory():
    settings = DataConfig(context=16, layout="stream")
    data = Data.from_documents({"train": documents(LENGTHS)}, settings, batch_size=2)
    assert data.stats["train"].rows == -(-sum(LENGTHS) // 16) and next(data.train)["inputs"].shape == (2, 16)
    data.train.close()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"source": "pairs:x"}, "would cut pairs"),
        ({"min_tokens": 9}, r"data\.min_tokens=9: data\.layout='stream' joins texts of any length"),
        ({"source": "sft:x", "examples": ExamplesConfig(longest=9)}, r"data\.examples\.longest=9: "),
        ({"source": "sft:x", "examples": ExamplesConfig(overlong="cut_end")}, r"data\.examples\.overlong=cut_end: "),
        ({"layout": "streams"}, "did you mean 'stream'"),
    ],
)
def test_settings_that_do_not_fit_the_layout(changes, told):
    with pytest.raises(UserError, match=told):
        DataConfig(**{"layout": "stream"} | changes)
    plain = DataConfig(layout="stream", examples=ExamplesConfig(longest=9))
    assert dataclasses.replace(plain, layout="packed").whole is None, "plain texts have no examples to be too long"
