"""The order of the training rows is exact: over epochs, hosts, threads and resumes."""

import sys
import threading

import numpy as np
import pytest

from ebm_jax.data import Data, DataConfig, EvalBatches, Rows, TrainStream
from ebm_jax.errors import UserError

TEXTS = [np.arange(1, length + 1) + 300 * i for i, length in enumerate([40, 3, 17, 9, 55, 21, 2, 30])]
ROWS = Rows.from_documents(TEXTS, context=8)


def take(stream, n):
    return [next(stream) for _ in range(n)]


def same(a, b):
    return all(x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True))


def test_every_epoch_holds_every_row_once_in_an_order_of_its_own():
    n = len(ROWS)
    stream = TrainStream(ROWS, batch_size=5, workers=0)
    batches = take(stream, -(-3 * n // 5))  # batches run over the ends of epochs
    index = np.concatenate([batch["index"] for batch in batches])
    assert index.dtype == np.uint32 and np.array_equal(index, np.arange(len(index)))
    inputs = np.concatenate([batch["inputs"] for batch in batches])
    in_order = ROWS.gather(np.arange(n))["inputs"]
    epochs = [inputs[e * n : (e + 1) * n] for e in range(3)]
    for epoch in epochs:
        assert sorted(map(tuple, epoch)) == sorted(map(tuple, in_order))
    assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[0], in_order)


def test_batches_larger_than_an_epoch():
    stream = TrainStream(ROWS, batch_size=3 * len(ROWS), workers=0)
    small = TrainStream(ROWS, batch_size=len(ROWS), workers=0)
    big = next(stream)
    assert np.array_equal(big["inputs"], np.concatenate([batch["inputs"] for batch in take(small, 3)]))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_resume_in_the_middle_of_an_epoch_gives_the_same_rows(workers):
    whole = take(TrainStream(ROWS, batch_size=4, seed=3, workers=0), 12)
    stream = TrainStream(ROWS, batch_size=4, seed=3, workers=workers)
    assert same(take(stream, 5), whole[:5])
    state = stream.state()
    assert state == {"position": 20, "seed": 3, "fingerprint": ROWS.fingerprint}
    take(stream, 3)
    stream.restore(state)  # backwards, past what was made ahead
    assert same(take(stream, 2), whole[5:7])
    fresh = TrainStream(ROWS, batch_size=4, seed=3, workers=workers)
    fresh.restore(stream.state())
    assert same(take(fresh, 5), whole[7:])
    stream.close()
    fresh.close()


def test_two_hosts_together_are_one_and_a_run_may_change_their_number():
    whole = take(TrainStream(ROWS, batch_size=4, workers=0), 6)
    hosts = [TrainStream(ROWS, batch_size=4, process_index=i, process_count=2, workers=0) for i in range(2)]
    parts = [take(host, 3) for host in hosts]
    joined = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*parts, strict=True)]
    assert same(joined, whole[:3])
    one = TrainStream(ROWS, batch_size=4, workers=0)
    one.restore(hosts[1].state())
    assert same(take(one, 3), whole[3:])


def test_seeds_differ():
    a, b = (take(TrainStream(ROWS, batch_size=4, seed=seed, workers=0), 3) for seed in (0, 1))
    assert not same(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "other"}, "not those of the checkpoint"),
        ({"seed": 9}, "the checkpoint's is 9"),
        ({"position": -1}, "no valid position"),
        ({"position": None}, "no valid position"),
    ],
)
def test_a_foreign_state_is_refused(change, message):
    stream = TrainStream(ROWS, batch_size=4)
    with pytest.raises(UserError, match=message):
        stream.restore({**stream.state(), **change})


def test_no_rows_is_an_error():
    with pytest.raises(UserError, match="training split has no rows"):
        TrainStream(Rows.from_documents([np.array([1])], context=4), batch_size=1)


def test_without_grain_the_batches_are_the_same(monkeypatch):
    ahead = TrainStream(ROWS, batch_size=4)
    expected = take(ahead, 4)
    ahead.close()
    monkeypatch.setitem(sys.modules, "grain", None)
    assert same(take(TrainStream(ROWS, batch_size=4), 4), expected)


def test_prefetching_uses_threads_and_closing_is_harmless():
    pytest.importorskip("grain")
    stream = TrainStream(ROWS, batch_size=4, workers=1)
    first = next(stream)
    assert threading.active_count() > 1
    stream.close()
    stream.close()
    second = next(stream)
    assert np.array_equal(second["index"], first["index"] + 4)
    stream.close()


def test_evaluation_visits_each_row_once_in_batches_of_one_shape():
    batches = list(EvalBatches(ROWS, batch_size=5))
    assert len(batches) == len(EvalBatches(ROWS, batch_size=5)) == -(-len(ROWS) // 5)
    assert {batch["inputs"].shape for batch in batches} == {(5, 8)}
    joined = {k: np.concatenate([batch[k] for batch in batches]) for k in batches[0]}
    expected = ROWS.gather(np.arange(len(ROWS)))
    assert all(np.array_equal(joined[k][: len(ROWS)], expected[k]) for k in expected)
    assert not joined["weights"][len(ROWS) :].any() and not joined["segments"][len(ROWS) :].any()


def test_evaluation_with_a_limit_and_on_two_hosts():
    assert len(EvalBatches(ROWS, batch_size=4, limit=6)) == 2
    assert len(EvalBatches(ROWS, batch_size=4, limit=10**9)) == len(EvalBatches(ROWS, batch_size=4))
    whole = list(EvalBatches(ROWS, batch_size=4, limit=6))
    assert not whole[1]["weights"][2:].any() and whole[1]["weights"][:2].any()
    hosts = [list(EvalBatches(ROWS, batch_size=4, limit=6, process_index=i, process_count=2)) for i in range(2)]
    assert same([{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*hosts, strict=True)], whole)


def test_data_from_memory_needs_no_preparation(monkeypatch):
    for name in ("grain", "tensorflow_datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    texts = {"train": [np.arange(1, 100), np.arange(5, 90)], "validation": [np.arange(1, 9)]}
    data = Data.from_documents(texts, DataConfig(context=16), batch_size=2)
    assert data.stats["train"].tokens == data.stats["train"].bytes == 184
    assert next(data.train)["inputs"].shape == (2, 16) and data.train is data.train
    assert sum(batch["weights"].sum() for batch in data.eval("validation")) == 7
    with pytest.raises(UserError, match="the test split has no rows"):
        data.eval("test")
    with pytest.raises(UserError, match="'valid' is not one of train, validation, test"):
        data.eval("valid")
