"""EBFT learns: on a Markov source of two tokens, where what it minimises can be computed exactly.

Prompts of six tokens have four blocks of two; a block's four continuations are enumerated, so that the distance of moments, the
cross-entropy that nobody asks for, and the policy's entropy are sums and not estimates.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.models.features import FeatureConfig
from ebm_jax.precision import Precision
from ebm_jax.rng import root_key, stream
from tests.algorithms.tiny_ebft import chosen, ebft, next_log_probs, rows
from tests.tiny import fresh, jit

NEXT = np.array([[0.75, 0.25], [0.4, 0.6]])
FIRST = np.array([0.4, 0.25]) / 0.65
LENGTH, STEPS, ROWS = 6, 2, 64
ANCHORS = AnchorConfig(steps=STEPS, stride=1, prefix=1)
PROMPTS = np.array(list(itertools.product((0, 1), repeat=LENGTH)))
OUTCOMES = np.array(list(itertools.product((0, 1), repeat=STEPS)))


def probability(tokens, first):
    """Of a row of tokens behind one with the distribution ``first`` of what follows."""
    p = first[tokens[0]]
    for a, b in itertools.pairwise(tokens):
        p = p * NEXT[a, b]
    return p


WEIGHT = np.array([probability(row, FIRST) for row in PROMPTS])
# What is likely behind a prefix depends on its last token alone.
TRUE = np.array([[[probability(y, NEXT[row[e - 1]]) for y in OUTCOMES] for e in range(1, 5)] for row in PROMPTS])


def source(key):
    first = jax.random.categorical(stream(key, "first"), jnp.log(jnp.asarray(FIRST)), shape=(ROWS,))

    def follow(token, k):
        after = jax.random.categorical(k, jnp.log(jnp.asarray(NEXT))[token])
        return after, after

    _, rest = jax.lax.scan(follow, first, jax.random.split(stream(key, "rest"), LENGTH - 1))
    return rows(jnp.concatenate([first[None], rest]).T)


@functools.cache
def trained(alpha, steps=300, rate=1e-2):
    """Exact figures along a run: distance of moments, cross-entropy and entropy of a token."""
    algorithm = ebft(
        vocab=2,
        model={"width": 16},
        precision=Precision(),
        anchors=ANCHORS,
        samples=4,
        alpha=alpha,
        features=FeatureConfig(depths=(1,), weights="random"),
        sampling=SamplingConfig(temperature=1.0),
    )
    variables = fresh(algorithm, length=LENGTH)
    every = jnp.broadcast_to(jnp.asarray(OUTCOMES)[:, None], (len(PROMPTS), 4, 4, STEPS))
    prompts = rows(PROMPTS)
    grams = jit(lambda: algorithm.grams(variables.frozen, prompts, every, algorithm.branches(prompts, root_key(0))))()
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.linear_schedule(rate, 0.0, steps)))

    def figures(params):
        log_p = jnp.sum(chosen(next_log_probs(algorithm, params, prompts, every, 1.0), every), -1)
        log_p = jnp.moveaxis(log_p, 1, 2)
        apart = jnp.exp(log_p) - TRUE
        distance = jnp.einsum("rsy,rsyz,rsz->rs", apart, grams.samples_XxGxG, apart)
        each = jnp.stack([distance, -jnp.sum(TRUE * log_p, -1) / STEPS, -jnp.sum(jnp.exp(log_p) * log_p, -1) / STEPS])
        return WEIGHT @ jnp.mean(each, -1).T

    def step(carry, number):
        params, state = carry
        key = jax.random.fold_in(root_key(1), number)
        now = variables.replace(params=params)
        batch = algorithm.augment(now, source(key), key, number)
        loss = lambda p: sum(t.coef * t.value.mean() for t in algorithm.loss(p, now, batch, key, number).terms.values())
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), figures(params)

    run = jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))[1])
    return np.asarray(run(variables.params)).T


def entropy():
    p = np.einsum("r,rsy->sy", WEIGHT, -TRUE * np.log(TRUE)).sum(-1)
    return p.mean() / STEPS


def moving(values):
    """Means of a hundred steps each."""
    return values.reshape(-1, 100).mean(1)


@pytest.mark.slow
def test_moments_draw_near_and_cross_entropy_falls_unasked():
    distance, cross_entropy, spread = trained(alpha=1.0)
    assert (np.diff(moving(distance)) < 0).all(), moving(distance)
    assert moving(distance)[-1] < 0.05 * distance[0]
    assert cross_entropy[0] > entropy() + 0.2
    assert moving(cross_entropy)[-1] == pytest.approx(entropy(), abs=0.03)
    assert moving(spread)[-1] == pytest.approx(entropy(), abs=0.05)


@pytest.mark.slow
def test_without_diversity_the_policy_collapses():
    """It says the likeliest alone, which cross-entropy tells."""
    _, cross_entropy, spread = trained(alpha=0.0)
    assert moving(spread)[-1] < 0.02 < 0.1 < spread[0]
    assert moving(cross_entropy)[-1] > 2 * cross_entropy[0] > 2 * entropy()
