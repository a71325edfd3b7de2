"""Differences of two models on the same anchors, with intervals that know which anchors share a row."""

from typing import NamedTuple

import numpy as np

from ebm_jax.reporting.intervals import Interval, t_quantile


class Difference(NamedTuple):
    """A mean of paired differences and its 95 percent interval (None where there is a single row)."""

    value: float
    interval: Interval | None

    @property
    def sign(self) -> int:
        """-1 or 1 where the interval lies on one side of zero, else 0."""
        if self.interval is None:
            return 0
        return -1 if self.interval.high < 0 else int(self.interval.low > 0)


def paired(difference_A: np.ndarray, cluster_A: np.ndarray) -> Difference:
    """The mean of ``difference`` with the interval of clustered standard errors (Liang and Zeger 1986).

    Anchors of one row depend on each other: a row's differences vary together, and rows are what is independent.
    """
    difference_A = np.asarray(difference_A, np.float64)
    middle, count = float(difference_A.mean()), len(difference_A)
    _, number = np.unique(cluster_A, return_inverse=True)
    clusters = int(number.max()) + 1
    if clusters < 2:
        return Difference(middle, None)
    sums = np.bincount(number, weights=difference_A - middle, minlength=clusters)
    error = float(np.sqrt(clusters / (clusters - 1) * np.sum(sums**2))) / count
    half = t_quantile(clusters - 1) * error
    return Difference(middle, Interval(middle - half, middle + half))
