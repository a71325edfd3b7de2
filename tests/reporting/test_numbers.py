"""Numbers in words."""

import math

import pytest

from ebm_jax.reporting.numbers import duration, fixed, integer, ratio, si, signed


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (integer(1234567), "1\u202f234\u202f567"),
        (integer(None), "–"),
        (fixed(-1.25, 1), "−1.2"),
        (fixed(math.nan), "–"),
        (signed(0.04), "0.0"),
        (signed(-0.26), "−0.3"),
        (signed(3.14, 2), "+3.14"),
        (si(0.5), "0.50"),
        (si(999.7), "1.00\u00a0k"),
        (si(3.214e15, "FLOP"), "3.21\u00a0PFLOP"),
        (si(5.0), "5.00"),
        (si(12, "s"), "12.0\u00a0s"),
        (duration(59.96), "1\u00a0min 00\u00a0s"),
        (duration(252), "4\u00a0min 12\u00a0s"),
        (duration(11100), "3\u00a0h 05\u00a0min"),
        (ratio(48, 10), "×\u00a04.80"),
        (ratio(48, 0), ""),
    ],
)
def test_shown(shown: str, expected: str):
    assert shown == expected
