"""Differences of two models on the same anchors or rows, with intervals that know which anchors share a row."""

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


def paired(difference_A: np.ndarray, cluster_A: np.ndarray, weight_A: np.ndarray | None = None) -> Difference:
    """``m = sum_a w_a d_a / sum_a w_a`` with the interval of clustered standard errors (Liang and Zeger 1986)::

        error^2 = R / (R - 1) * sum_r (sum_{a in r} w_a (d_a - m))^2 / (sum_a w_a)^2

    Anchors of one row depend on each other: a row's differences vary together, and the R rows are what is independent. The
    quantile is Student's with R - 1 degrees of freedom.
    """
    difference_A = np.asarray(difference_A, np.float64)
    weight_A = np.ones_like(difference_A) if weight_A is None else np.asarray(weight_A, np.float64)
    total = float(weight_A.sum())
    middle = float(weight_A @ difference_A) / total
    _, number = np.unique(cluster_A, return_inverse=True)
    clusters = int(number.max()) + 1
    if clusters < 2:
        return Difference(middle, None)
    sums = np.bincount(number, weights=weight_A * (difference_A - middle), minlength=clusters)
    half = t_quantile(clusters - 1) * float(np.sqrt(clusters / (clusters - 1) * np.sum(sums**2))) / total
    return Difference(middle, Interval(middle - half, middle + half))
