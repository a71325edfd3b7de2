"""The keyed permutation is one, depends on its key, and stays what it is."""

import numpy as np
import pytest

from ebm_jax.data.order import permute


@pytest.mark.parametrize("n", [1, 2, 7, 63, 64, 65, 1000, 4097])
def test_permutes(n):
    assert np.array_equal(np.sort(permute(np.arange(n), n, 3, 1)), np.arange(n))


def test_any_part_of_it_can_be_asked_for():
    whole = permute(np.arange(1000), 1000, 5)
    part = np.array([[999, 3], [0, 500]])
    assert np.array_equal(permute(part, 1000, 5), whole[part])


def test_keys_give_unrelated_orders():
    a, b, c = (permute(np.arange(2000), 2000, *key) for key in ((0, 0), (0, 1), (1, 0)))
    for x, y in ((a, b), (a, c), (b, c), (a, np.arange(2000))):
        assert np.sum(x == y) < 12  # one match is expected of random orders
        assert abs(np.corrcoef(x, y)[0, 1]) < 0.1


def test_small_orders_are_spread_evenly():
    firsts = np.array([permute(np.array([0]), 5, seed)[0] for seed in range(2000)])
    assert np.all(np.abs(np.bincount(firsts, minlength=5) - 400) < 90)


def test_the_order_is_the_same_for_ever():
    """Stored positions of runs mean nothing if this changes."""
    assert permute(np.arange(10), 10, 0, 0, 2).tolist() == [5, 8, 1, 2, 7, 9, 4, 0, 6, 3]


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_outside_is_an_error(index):
    with pytest.raises(ValueError, match=r"outside 0\.\.4"):
        permute(np.array([index]), 5, 0)
