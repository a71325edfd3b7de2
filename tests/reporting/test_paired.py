"""Intervals of paired differences: by hand, by brute force, and by how often they hold what they should."""

import numpy as np
import pytest

from ebm_jax.reporting.paired import Difference, paired


def brute(difference, cluster, weight):
    """The formula of the docstring, row by row."""
    middle = sum(w * d for w, d in zip(weight, difference, strict=True)) / sum(weight)
    rows, total = sorted(set(cluster)), 0.0
    for row in rows:
        inside = [w * (d - middle) for d, c, w in zip(difference, cluster, weight, strict=True) if c == row]
        total += sum(inside) ** 2
    return middle, np.sqrt(len(rows) / (len(rows) - 1) * total) / sum(weight)


@pytest.mark.parametrize("weighted", [False, True])
def test_brute_force(weighted):
    rng = np.random.default_rng(0)
    cluster = rng.permutation(np.repeat(rng.choice(1000, 31, replace=False), rng.integers(1, 6, 31)))
    difference = rng.normal(size=len(cluster)) + 0.5 * (cluster % 7)
    weight = rng.uniform(0.1, 4, len(cluster)) if weighted else None
    middle, error = brute(difference, cluster, np.ones(len(cluster)) if weight is None else weight)
    found = paired(difference, cluster, weight)
    assert found.value == pytest.approx(middle, rel=1e-12)
    half = (found.interval.high - found.interval.low) / 2
    assert half == pytest.approx(2.042 * error, rel=1e-3), "Student's quantile of 30 degrees"
    assert (found.interval.low + found.interval.high) / 2 == pytest.approx(middle, rel=1e-9)


def test_rows_of_one_anchor_give_the_ordinary_interval():
    difference = np.array([0.1, 0.4, -0.2, 0.3, 0.9])
    found = paired(difference, np.arange(5))
    half = 2.776 * difference.std(ddof=1) / np.sqrt(5)
    assert found.interval == pytest.approx((difference.mean() - half, difference.mean() + half), rel=1e-6)


def test_a_weight_is_so_many_equal_anchors():
    difference, cluster, times = np.array([1.0, -2.0, 0.5, 4.0]), np.array([0, 0, 1, 2]), np.array([1, 3, 2, 5])
    once = paired(difference, cluster, times)
    often = paired(np.repeat(difference, times), np.repeat(cluster, times))
    assert once.value == pytest.approx(often.value) and once.interval == pytest.approx(often.interval)


def test_coverage_where_rows_vary_together():
    """Nine of ten anchors' variance is their row's: intervals that took anchors for independent would hold far too rarely."""
    rng = np.random.default_rng(1)
    rows, each, truth, trials = 40, 8, 0.3, 1000
    cluster = np.repeat(np.arange(rows), each)
    held = naive = 0
    for _ in range(trials):
        difference = truth + np.repeat(rng.normal(size=rows), each) + rng.normal(size=rows * each) / 3
        for place, groups in enumerate((cluster, np.arange(rows * each))):
            low, high = paired(difference, groups).interval
            inside = low <= truth <= high
            held, naive = held + (inside and not place), naive + (inside and place)
    assert 0.93 < held / trials < 0.97
    assert naive / trials < 0.7


def test_signs_and_single_rows():
    assert paired(np.array([1.0, 2.0]), np.array([3, 3])) == Difference(1.5, None)
    assert Difference(1.5, None).sign == 0
    assert paired(np.array([1.0, 1.1, 0.9]), np.arange(3)).sign == 1
    assert paired(-np.array([1.0, 1.1, 0.9]), np.arange(3)).sign == -1
    assert paired(np.array([1.0, -1.1, 0.9]), np.arange(3)).sign == 0
