"""The ring is first in, first out; samples are distinct filled slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.energy.replay import ReplayConfig, empty_ring, push, sample
from ebm_jax.errors import UserError


def ring_of(*batches, capacity=5):
    ring = empty_ring(
        capacity, {"id": jax.ShapeDtypeStruct((), jnp.int32), "state": jax.ShapeDtypeStruct((2,), jnp.bfloat16)}
    )
    for ids in batches:
        ids = jnp.asarray(ids, jnp.int32)
        ring = push(ring, {"id": ids, "state": jnp.stack([ids, ids], -1).astype(jnp.float32)})
    return ring


def stored(ring):
    return set(np.asarray(ring.records["id"])[: int(ring.filled)].tolist())


def test_the_oldest_rows_leave_first():
    assert stored(ring_of([1, 2])) == {1, 2}
    assert stored(ring_of([1, 2], [3, 4])) == {1, 2, 3, 4}
    assert stored(ring_of([1, 2], [3, 4], [5, 6])) == {2, 3, 4, 5, 6}
    assert stored(ring_of([1, 2], [3, 4], [5, 6], [7])) == {3, 4, 5, 6, 7}


def test_of_more_rows_than_slots_the_last_stay():
    ring = ring_of([1], list(range(2, 10)))
    assert stored(ring) == {5, 6, 7, 8, 9}
    assert stored(push(ring, {"id": jnp.asarray([10]), "state": jnp.zeros((1, 2))})) == {6, 7, 8, 9, 10}


def test_fields_of_a_record_stay_together():
    ring = ring_of([1, 2], [3, 4], [5, 6])
    rows, real = sample(ring, jax.random.key(0), 4)
    assert real.all()
    assert (rows["state"][:, 0] == rows["id"]).all()
    assert rows["state"].dtype == jnp.bfloat16


def test_samples_are_distinct_and_cover_the_ring():
    ring = ring_of([1, 2, 3])
    seen = []
    for k in range(30):
        rows, real = sample(ring, jax.random.key(k), 2)
        assert real.all()
        assert len(set(rows["id"].tolist())) == 2
        seen += rows["id"].tolist()
    assert set(seen) == {1, 2, 3}


def test_rows_that_are_not_filled_yet_are_marked():
    rows, real = sample(ring_of([1, 2]), jax.random.key(0), 4)
    assert real.tolist() == [True, True, False, False]
    assert set(rows["id"][:2].tolist()) == {1, 2}
    assert not sample(ring_of(), jax.random.key(0), 4)[1].any()


def test_a_sample_is_no_larger_than_the_ring():
    rows, real = sample(ring_of(list(range(9))), jax.random.key(0), 8)
    assert rows["id"].shape == (5,)
    assert real.all()
    assert sample(ring_of([1]), jax.random.key(0), 0)[1].shape == (0,)


def test_settings():
    assert not ReplayConfig().enabled
    assert ReplayConfig(capacity=4, fraction=0.5).rows(7) == 3
    with pytest.raises(UserError, match=r"fraction=1\.5"):
        ReplayConfig(capacity=4, fraction=1.5)
    with pytest.raises(UserError, match="positive capacity"):
        ReplayConfig(fraction=0.5)
