"""Which tokens may be drawn, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoding.sampling import SamplingConfig, draw, filtered
from ebm_jax.errors import UserError

PROBABILITIES = np.array([0.05, 0.4, 0.1, 0.25, 0.2])
LOGITS = jnp.log(jnp.asarray(PROBABILITIES))[None] + 3.0


def allowed(**settings):
    return np.flatnonzero(np.isfinite(filtered(LOGITS, SamplingConfig(temperature=1.0, **settings))[0])).tolist()


@pytest.mark.parametrize(
    ("settings", "tokens"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 2}, [1, 3]),
        ({"top_k": 99}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.39}, [1]),
        ({"top_p": 0.41}, [1, 3]),
        ({"top_p": 0.7}, [1, 3, 4]),
        ({"top_p": 1e-6}, [1]),
        ({"top_k": 3, "top_p": 0.75}, [1, 3]),
    ],
)
def test_filters(settings, tokens):
    assert allowed(**settings) == tokens


def test_equal_tokens_stay_or_go_together():
    tied = jnp.zeros((1, 4))
    assert np.isfinite(filtered(tied, SamplingConfig(top_k=1))).all()
    assert np.isfinite(filtered(tied, SamplingConfig(top_p=0.1))).all()


def test_temperature_sharpens():
    kept = jax.nn.softmax(filtered(LOGITS, SamplingConfig(temperature=0.5)))[0]
    np.testing.assert_allclose(kept, PROBABILITIES**2 / (PROBABILITIES**2).sum(), rtol=1e-5)


def test_draws_follow_the_distribution():
    rows = 4000
    config = SamplingConfig(temperature=1.0, top_k=4)
    index, position = jnp.arange(rows, dtype=jnp.uint32), jnp.zeros(rows, jnp.int32)
    tokens = draw(jnp.tile(LOGITS, (rows, 1)), config, jax.random.key(0), index, position)
    expected = np.where(PROBABILITIES > 0.05, PROBABILITIES, 0) / 0.95
    np.testing.assert_allclose(np.bincount(tokens, minlength=5) / rows, expected, atol=0.03)


def test_greedy_needs_no_key():
    zero = jnp.zeros(1, jnp.int32)
    assert draw(LOGITS, SamplingConfig(temperature=0), jax.random.key(0), zero, zero).tolist() == [1]


def test_a_draw_depends_on_its_row_and_position_alone():
    config, key = SamplingConfig(temperature=1.0), jax.random.key(3)
    flat = jnp.zeros((3, 1000))
    index, position = jnp.asarray([4, 5, 4], jnp.uint32), jnp.asarray([7, 7, 8])
    tokens = draw(flat, config, key, index, position)
    assert len(set(tokens.tolist())) == 3
    assert draw(flat[:1], config, key, index[1:2], position[1:2])[0] == tokens[1]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"temperature": -1}, "temperature=-1 must not be negative"),
        ({"temperature": float("nan")}, "temperature=nan must not be negative, and finite"),
        ({"top_k": -2}, "top_k=-2"),
        ({"top_p": 0.0}, "top_p=0.0 must lie above 0"),
        ({"top_p": 1.5}, "top_p=1.5"),
    ],
)
def test_bad_settings_are_named(settings, says):
    with pytest.raises(UserError, match=says):
        SamplingConfig(**settings)
