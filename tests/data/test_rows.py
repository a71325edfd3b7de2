"""Packed and truncated rows hold what they should, where they should."""

import numpy as np
import pytest

from ebm_jax.data.packing import build_table
from ebm_jax.data.rows import Rows, local_rows
from ebm_jax.errors import UserError


def documents(lengths, seed=0):
    """Documents whose tokens are all different from each other, so that every token can be found again."""
    ends = np.cumsum(lengths)
    return [np.arange(end - length, end) + 1 for end, length in zip(ends, lengths, strict=True)]


LENGTHS = [1, 2, 3, 9, 10, 8, 17, 40, 5, 1, 33, 2, 7]


def all_rows(rows):
    return rows.gather(np.arange(len(rows)))


@pytest.mark.parametrize("context", [1, 4, 8, 64])
def test_packed_rows_predict_every_token_but_the_firsts_once(context):
    texts = documents(LENGTHS)
    batch = all_rows(Rows.from_documents(texts, context=context))
    scored = batch["weights"] > 0
    expected = np.concatenate([text[1:] for text in texts])
    assert np.array_equal(np.sort(batch["targets"][scored]), expected)
    assert np.array_equal(np.sort(batch["inputs"][scored]), np.concatenate([text[:-1] for text in texts]))
    assert np.array_equal(batch["targets"][scored], batch["inputs"][scored] + 1)


def test_segments_and_positions_follow_the_slices():
    batch = all_rows(Rows.from_documents(documents(LENGTHS), context=16))
    document_of = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    for inputs, weights, segments, positions in zip(
        *(batch[name] for name in ("inputs", "weights", "segments", "positions")), strict=True
    ):
        filled = int(weights.sum())
        assert np.all(weights[:filled] == 1) and np.all(segments[filled:] == 0) and np.all(positions[filled:] == 0)
        assert np.all(np.diff(segments[:filled]) >= 0) and segments[0] == 1
        for segment in range(1, segments.max() + 1):
            inside = segments == segment
            assert np.array_equal(positions[inside], np.arange(inside.sum()))
            assert len(set(document_of[inputs[inside] - 1])) == 1
            assert np.all(np.diff(inputs[inside]) == 1)


def test_long_documents_fill_whole_rows_and_leftovers_share():
    table = build_table("packed", np.array([21, 4, 5]), 10)  # 20, 3 and 4 positions
    sizes = sorted(np.diff(table.first).tolist())
    assert len(table) == 3 and sizes == [1, 1, 2]
    whole = table.length == 10
    assert set(zip(table.document[whole].tolist(), table.start[whole].tolist(), strict=True)) == {(0, 0), (0, 10)}


def test_packing_wastes_little():
    lengths = np.random.default_rng(0).integers(2, 300, 2000)
    table = build_table("packed", lengths, 128)
    used = np.add.reduceat(table.length, table.first[:-1])
    assert used.max() <= 128
    assert used.sum() / (128 * len(table)) > 0.98


def test_truncate_takes_the_start_of_each_document_and_pads():
    texts = documents([3, 30, 1, 9])
    batch = all_rows(Rows.from_documents(texts, context=8, layout="truncate"))
    assert batch["inputs"].shape == (3, 8)  # a single token predicts nothing
    by_first = {row[0]: i for i, row in enumerate(batch["inputs"].tolist())}
    for text in (texts[0], texts[1], texts[3]):
        row, n = by_first[text[0]], min(len(text) - 1, 8)
        assert batch["inputs"][row].tolist() == text[:n].tolist() + [0] * (8 - n)
        assert batch["targets"][row].tolist() == text[1 : n + 1].tolist() + [0] * (8 - n)
        for name in ("weights", "segments"):
            assert batch[name][row].tolist() == [1] * n + [0] * (8 - n)
        assert batch["positions"][row].tolist() == [*range(n)] + [0] * (8 - n)


def test_types_and_empty_rows():
    rows = Rows.from_documents(documents([9, 4]), context=4, pad_id=7)
    batch = rows.gather(np.array([-1, 0, -1]))
    types = {name: str(array.dtype) for name, array in batch.items()}
    assert types == {
        "inputs": "int32",
        "targets": "int32",
        "weights": "float32",
        "segments": "int32",
        "positions": "int32",
    }
    for empty in (0, 2):
        assert not batch["weights"][empty].any() and not batch["segments"][empty].any()
        assert np.all(batch["inputs"][empty] == 7) and np.all(batch["targets"][empty] == 7)
    assert batch["weights"][1].any()
    none = Rows.from_documents([], context=4)
    assert len(none) == 0 and not none.gather(np.array([-1]))["weights"].any()


def test_ignored_targets_have_no_weight_but_stay_in_the_row():
    text = np.array([5, 0, 6, 0])
    ignoring = Rows.from_documents([text], context=4, pad_id=0, ignore_id=0).gather(np.array([0]))
    assert ignoring["weights"].tolist() == [[0, 1, 0, 0]] and ignoring["segments"].tolist() == [[1, 1, 1, 0]]
    scoring = Rows.from_documents([text], context=4, pad_id=0, ignore_id=None).gather(np.array([0]))
    assert scoring["weights"].tolist() == [[1, 1, 1, 0]]


def test_short_documents_are_left_out_and_the_seed_orders_the_rest():
    lengths = np.array(LENGTHS)
    table = build_table("packed", lengths, 8, min_tokens=9)
    assert set(lengths[table.document].tolist()) == {9, 10, 17, 40, 33}
    first, again, other = (build_table("truncate", lengths, 8, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.document, again.document) and not np.array_equal(first.document, other.document)


def test_fingerprint_says_which_rows():
    made = [
        Rows.from_documents(documents([9, 4]), context=4),
        Rows.from_documents(documents([9, 4]), context=5),
        Rows.from_documents(documents([9, 4]), context=4, seed=1),
        Rows.from_documents(documents([9, 4]), context=4, layout="truncate"),
        Rows.from_documents(documents([9, 5]), context=4),
        Rows.from_documents(documents([4, 9]), context=4),
    ]
    assert len({rows.fingerprint for rows in made}) == len(made)
    assert made[0].fingerprint == Rows.from_documents(documents([9, 4]), context=4).fingerprint


def test_a_batch_must_divide_by_the_processes():
    assert local_rows(8, 1, 2) == slice(4, 8)
    with pytest.raises(UserError, match="batch size 6 cannot be shared by 4 processes"):
        local_rows(6, 0, 4)
