"""The best of k samples against all draws of k, and settings that are refused before anything is sampled."""

import itertools

import numpy as np
import pytest

from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError
from ebm_jax.evals.continuations import MatchingConfig, Scores, TaskConfig, best_of
from ebm_jax.grading.pass_at_k import pass_at_k
from ebm_jax.models.features import FeatureConfig


@pytest.mark.parametrize("samples", [1, 2, 5, 6])
def test_best_of_k_is_the_mean_over_all_draws(samples):
    rng = np.random.default_rng(samples)
    reward = np.concatenate([rng.uniform(size=(3, samples)), rng.integers(0, 2, (3, samples))]).astype(np.float32)
    for k in range(1, samples + 1):
        draws = [list(draw) for draw in itertools.combinations(range(samples), k)]
        expected = np.mean([reward[:, draw].max(1) for draw in draws], axis=0)
        np.testing.assert_allclose(best_of(reward, k), expected, rtol=1e-6)
    np.testing.assert_allclose(best_of(reward, 1), reward.mean(1), rtol=1e-6)
    np.testing.assert_allclose(best_of(reward, samples), reward.max(1), rtol=1e-6)


def test_of_rewards_0_and_1_it_is_pass_at_k():
    reward = np.array([[0, 1, 0, 0, 1, 0, 0, 0], [0] * 8, [1] * 8], np.float32)
    for k in (1, 2, 4, 8):
        wanted = [pass_at_k(8, right, k) for right in (2, 0, 8)]
        np.testing.assert_allclose(Scores(np.arange(3), reward, {}, []).best_of(k), wanted, atol=1e-12)


def test_it_needs_as_many_samples():
    for k in (0, 3):
        with pytest.raises(UserError, match=f"best of {k} needs as many samples, and there are 2"):
            best_of(np.zeros((1, 2)), k)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lengths": ()}, "rising numbers of tokens"),
        ({"lengths": (2, 1)}, "rising numbers of tokens"),
        ({"lengths": (0, 4)}, "rising numbers of tokens"),
        ({"lengths": (1,)}, "must have 2 tokens at least"),
        ({"samples": 1}, "matching.samples=1 must be at least 2"),
        ({"split": "all"}, "matching.split='all' is not one of"),
        ({"temperature": 0.0}, "must be positive"),
        ({"places": "starts"}, "matching.places='starts' is not one of random, answers"),
        ({"features": FeatureConfig(pool="concat")}, "is not one of last, mean"),
        ({"features": FeatureConfig(weights="random")}, "a network that knows the text"),
    ],
)
def test_measures_that_cannot_be_taken(settings, message):
    with pytest.raises(UserError, match=message):
        MatchingConfig(**settings)


def test_greedy_samples_are_all_the_same():
    with pytest.raises(UserError, match=r"task.samples=4 of temperature 0 are all the same"):
        TaskConfig(samples=4)
    assert TaskConfig(samples=4, sampling=SamplingConfig(temperature=0.5)).samples == 4
