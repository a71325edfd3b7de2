"""The inverse temperature that a share asks for, and what correlated draws are worth."""

import numpy as np
import pytest

from ebm_jax.decoders.calibration import accepted_share, calibrated, effective_samples, effective_share
from ebm_jax.errors import UserError
from tests.decoding.markov import toy

REWARDS = np.random.default_rng(0).normal(size=(200, 64))


def test_shares_fall_from_one():
    for share in (effective_share, accepted_share):
        values = [share(REWARDS, lam) for lam in (0.0, 0.5, 2.0, 50.0)]
        assert values[0] == pytest.approx(1) and values == sorted(values, reverse=True) and values[-1] < 0.1


@pytest.mark.parametrize("share", [effective_share, accepted_share])
def test_calibration_gives_the_share_that_it_was_asked_for(share):
    found = calibrated(REWARDS, 0.4, share)
    assert share(REWARDS, found) == pytest.approx(0.4, abs=1e-6)
    # Twice the reward is half the inverse temperature.
    assert calibrated(2 * REWARDS + 3, 0.4, share) == pytest.approx(found / 2, rel=1e-6)


def test_acceptance_is_that_of_chains_that_draw_whole_responses():
    """By the whole law of the toy instead of samples."""
    counts = np.round(toy.P * 4000).astype(int)
    rewards = np.repeat(toy.REWARDS, counts)[None]
    gain = toy.INV_TEMP * (toy.REWARDS[None] - toy.REWARDS[:, None])
    exact = toy.PI @ (np.exp(np.minimum(gain, 0)) @ toy.P)
    assert accepted_share(rewards, toy.INV_TEMP) == pytest.approx(exact, abs=2e-3)


def test_what_cannot_be_calibrated():
    with pytest.raises(UserError, match="it is a share"):
        calibrated(REWARDS, 1.5)
    with pytest.raises(UserError, match="at least two samples"):
        calibrated(REWARDS[:, :1])
    with pytest.raises(UserError, match="too many rewards are equal"):
        calibrated(np.ones((3, 8)))


def test_correlated_draws_are_worth_fewer():
    draw = np.random.default_rng(1)
    noise = draw.normal(size=(20_000, 4))
    assert effective_samples(noise) == pytest.approx(80_000, rel=0.05)
    walk = np.zeros_like(noise)
    for t in range(1, len(walk)):
        walk[t] = 0.8 * walk[t - 1] + noise[t]
    assert effective_samples(walk) == pytest.approx(80_000 * (1 - 0.8) / (1 + 0.8), rel=0.1)
    assert effective_samples(np.ones((10, 3))) == 3
