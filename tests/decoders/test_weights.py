"""Sums of weights that are given as logarithms, and draws by them."""

import numpy as np
import pytest

from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.weights import chosen, effective, log_mean
from tests.decoders.on_toy import job

LOG_W = np.random.default_rng(0).normal(size=(400, 3, 5))
FAR = 1e5
"""Added to all weights of a prompt it changes no draw, though single precision tells them apart no more."""


def test_sums_are_those_of_weights():
    w = np.exp(LOG_W)
    assert log_mean(LOG_W) == pytest.approx(np.log(w.mean(-1)))
    assert effective(LOG_W) == pytest.approx(w.sum(-1) ** 2 / (w**2).sum(-1))
    assert log_mean(LOG_W + FAR) == pytest.approx(log_mean(LOG_W) + FAR, abs=1e-8)
    assert effective(np.array([0.0, 0, -np.inf, 0])) == 3 and effective(np.array([FAR, 0])) == 1


def test_one_is_drawn_by_its_weight_whatever_all_are_multiplied_by():
    of = job(BestOfN(), range(4000))
    log_w = np.tile(LOG_W[0, 0], (4000, 1))
    places = chosen(of, log_w, "pick")
    shares = np.bincount(places, minlength=5) / 4000
    assert shares == pytest.approx(np.exp(LOG_W[0, 0]) / np.exp(LOG_W[0, 0]).sum(), abs=0.03)
    assert (chosen(of, log_w + FAR, "pick") == places).all()
    assert (chosen(of, log_w, "pick", step=1) != places).any()
