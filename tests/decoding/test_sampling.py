"""Which tokens may be drawn, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoding.sampling import SamplingConfig, choose, draw, filtered
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


def test_top_p_keeps_the_token_that_crosses_it():
    """Until the kept ones reach p: one less would not."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(2 * rng.standard_normal((50, 13)))
    probabilities = np.asarray(jax.nn.softmax(logits))
    for top_p in (0.05, 0.3, 0.5, 0.9, 0.99):
        kept = np.isfinite(filtered(logits, SamplingConfig(temperature=1.0, top_p=top_p)))
        for row, chosen in zip(probabilities, kept, strict=True):
            falling = np.sort(row)[::-1]
            count = int(np.searchsorted(np.cumsum(falling), top_p)) + 1
            np.testing.assert_array_equal(chosen, row >= falling[count - 1])


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


CHOOSE = jax.jit(choose)
SIZES = [2, 3, 5, 16, 37, 200]
"""Vocabularies; most are no power of two, and none but one fills its rows."""


@pytest.mark.parametrize("size", SIZES)
def test_choices_follow_the_softmax(size):
    """Chi-square below its mean plus five standard deviations, with some tokens that may not be drawn."""
    rng, many = np.random.default_rng(size), 40_000
    logits = rng.standard_normal(size)
    logits[rng.permutation(size)[: size // 3]] = -np.inf
    uniform = jnp.asarray(rng.random(many), jnp.float32)
    tokens = CHOOSE(jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (many, size)), uniform)
    counts = np.bincount(tokens, minlength=size)
    expected = many * np.exp(logits) / np.exp(logits).sum()
    there = expected > 0
    assert counts[~there].sum() == 0
    freedom = there.sum() - 1
    chi_square = ((counts - expected)[there] ** 2 / expected[there]).sum()
    assert chi_square <= freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("size", SIZES)
def test_choices_are_where_the_cumulative_distribution_passes(size):
    """Every token has its own interval of [0, 1), in the order of the vocabulary; any leading axes."""
    probabilities = np.random.default_rng(size).dirichlet(np.ones(size))
    upper = np.cumsum(probabilities)
    middle = upper - probabilities / 2
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(probabilities, jnp.float32)), (size, 1, size))
    wide = probabilities > 1e-5  # narrower than float32's rounding
    np.testing.assert_array_equal(
        CHOOSE(logits, jnp.asarray(middle, jnp.float32)[:, None])[wide, 0], np.arange(size)[wide]
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_ends_of_the_interval_are_tokens_that_may_be_drawn(size):
    """The first one for 0, the last one just below 1, whatever stands before, between and behind."""
    last = jnp.nextafter(jnp.float32(1), jnp.float32(0))
    for first, final in {(0, size - 1), (size // 2, size // 2), (size // 3, size - 1), (0, size // 2)}:
        for shift in (0.0, 1e4, -1e4):
            logits = jnp.full(size, -jnp.inf).at[jnp.arange(first, final + 1, max(final - first, 1))].set(shift)
            ends = CHOOSE(jnp.stack([logits, logits]), jnp.stack([jnp.float32(0), last]))
            assert ends.tolist() == [first, final]


@pytest.mark.parametrize("size", [5, 37])
def test_tokens_of_no_probability_are_never_chosen(size):
    """Where the random number lies exactly on an edge, where rounding leaves nothing to pass, and where one underflows."""
    uniform = jnp.asarray([*np.arange(64) / 64, 1 - 2**-24], jnp.float32)
    rng = np.random.default_rng(0)
    logits = rng.choice([0.0, -np.inf, -200.0, -1e-3], (40, size)).astype(np.float32)
    logits[np.arange(40), rng.integers(size, size=40)] = 0.0
    shape = (len(logits), len(uniform))
    tokens = CHOOSE(jnp.broadcast_to(logits[:, None], (*shape, size)), jnp.broadcast_to(uniform, shape))
    assert (np.take_along_axis(np.exp(logits), np.asarray(tokens), axis=1) > 0).all()


def test_rounding_at_the_end_of_the_interval_stays_on_tokens_that_may_be_drawn():
    """Cumulative sums may end below sums: then the last token that may be drawn is."""
    size, kept, many = 900, 450, 2000
    logits = np.full((many, size), -np.inf, np.float32)
    logits[:, :kept] = 3 * np.random.default_rng(0).standard_normal((many, kept))
    tokens = np.asarray(CHOOSE(jnp.asarray(logits), jnp.full(many, 1 - 2**-24, jnp.float32)))
    assert tokens.max() < kept and (tokens > kept // 2).all()


def test_many_tokens_of_little_weight_are_all_reached():
    """Sums of 50,000 entries in single precision: every stretch of the vocabulary is drawn as often as it should be."""
    size, many = 50_257, 4096
    uniform = (jnp.arange(many, dtype=jnp.float32) + 0.5) / many
    one = jax.jit(jax.vmap(lambda u: choose(jnp.zeros(size), u)))
    tokens = np.concatenate([one(part) for part in jnp.split(uniform, 64)])
    np.testing.assert_allclose(tokens, (np.arange(many) + 0.5) / many * size, rtol=0, atol=2)


def test_a_temperature_near_zero_is_greedy():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.standard_normal((500, 37)), jnp.float32)
    cold = filtered(logits, SamplingConfig(temperature=1e-5))
    np.testing.assert_array_equal(CHOOSE(cold, jnp.asarray(rng.random(500), jnp.float32)), np.argmax(logits, -1))


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
