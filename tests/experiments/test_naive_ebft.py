"""The way that EBFT is measured against computes the same: tokens, log-probabilities, features, loss and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.algorithms.ebft import EBFT, FEATURES, REFERENCE, EBFTConfig
from ebm_jax.decoding.anchors import AnchorConfig, branches_of, prompt_of
from ebm_jax.decoding.rollout import rollout
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.precision import Precision
from experiments.bench import naive_ebft
from experiments.bench.steps import random_batch
from tests import tiny

CONTEXT, SAMPLES, GAMMA = 14, 2, 0.3
ANCHORS = AnchorConfig(steps=3, stride=2, prefix=3, documents="joined")
SAMPLING = SamplingConfig(temperature=0.6)
MODEL = tiny.transformer(depth=4, kv_heads=1, qkv_bias=True, tied=True)


@pytest.fixture(scope="module")
def case():
    """The method, its variables, rows, their branches, and where the reference's tokens stand."""
    config = EBFTConfig(**REFERENCE | {"anchors": ANCHORS, "sampling": SAMPLING}, samples=SAMPLES, gamma=GAMMA)
    algorithm = EBFT(config, MODEL, tiny.VOCAB, Precision())
    spec = tiny.spec(algorithm, 2, CONTEXT)
    variables = tiny.generic(tiny.shapes(algorithm, 2, CONTEXT))
    batch = random_batch(spec)
    layout = naive_ebft.layout(CONTEXT, ANCHORS.prefix, ANCHORS.stride, ANCHORS.steps)
    return algorithm, variables, batch, branches_of(batch, ANCHORS, jax.random.key(0)), layout


@pytest.fixture(scope="module")
def made(case):
    algorithm, variables, batch, *_ = case
    return tiny.jit(lambda p: algorithm.sample(p, batch, jax.random.key(1))[1:])(variables.params)


def test_greedy_tokens_are_the_same(case):
    algorithm, variables, batch, branches, layout = case
    greedy, key = SamplingConfig(temperature=0), jax.random.key(1)
    prompt = prompt_of(batch, ANCHORS)
    ours = tiny.jit(
        lambda p: rollout(algorithm.model, p, prompt, branches, greedy, SAMPLES, key, batch["index"]).tokens
    )(variables.params)
    how = (batch["inputs"], key, layout, SAMPLES, ANCHORS.steps, 0.0)
    theirs = tiny.jit(lambda p: naive_ebft.rollout(algorithm.model, p, *how))(variables.params)
    assert len(np.unique(theirs)) > 2
    np.testing.assert_array_equal(ours, theirs)


def test_sampled_tokens_have_the_same_log_probabilities(case, made):
    algorithm, variables, _, branches, layout = case
    tokens, log_probs = made

    @tiny.jit
    def theirs(params):
        rows = _rows(case, tokens)
        logits = naive_ebft.forward(algorithm.model, params, rows, layout)[1]
        fronts = [naive_ebft.before(logits, layout, CONTEXT, step) for step in range(ANCHORS.steps)]
        found = jax.nn.log_softmax(jnp.concatenate(fronts, axis=1) / SAMPLING.temperature, -1)
        chosen = jnp.take_along_axis(found, rows[:, CONTEXT:, None], -1)[..., 0]
        return naive_ebft.blocks_of(chosen, SAMPLES, branches.anchor_BxS.shape[1])

    np.testing.assert_allclose(log_probs, theirs(variables.params), rtol=0, atol=1e-6)


def test_features_are_the_same(case, made):
    algorithm, variables, batch, branches, layout = case
    tokens, _ = made

    @tiny.jit
    def theirs(weights):
        # The reference runs all layers and a head; those that features are read off suffice here.
        params = weights | {"final_norm": variables.params["final_norm"]}
        streams, _ = naive_ebft.forward(algorithm.model, params, _rows(case, tokens), layout)
        own, truth = naive_ebft.features(streams, layout, SAMPLES, CONTEXT, algorithm.depths)
        own = jnp.swapaxes(own, 1, 2)
        return jnp.einsum("bsge,bshe->bsgh", own, own), jnp.einsum("bsge,bgse->bsg", own, truth)

    ours = tiny.jit(lambda frozen: algorithm.grams(frozen, batch, tokens, branches))(variables.frozen)
    samples, truth = theirs(variables.frozen[FEATURES])
    np.testing.assert_allclose(ours.samples_XxGxG, samples, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.truth_XxG, truth, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_loss_and_gradient_are_the_same(case, made):
    algorithm, variables, batch, _, layout = case
    tokens, log_probs = made
    advantages = jnp.asarray(np.random.default_rng(3).standard_normal(tokens.shape), jnp.float32)
    extra = {"continuations": tokens, "sampler_log_probs": log_probs, "advantages": advantages, "told": {}}

    def ours(params):
        terms = algorithm.loss(params, variables, batch | extra, jax.random.key(0), 0).terms.values()
        return sum(term.coef * term.value.mean() for term in terms)

    how = (batch["inputs"], tokens, advantages, layout, SAMPLING.temperature, GAMMA)
    theirs = lambda params: naive_ebft.loss(algorithm.model, params, *how)
    (value, gradient), (other, slow) = (tiny.jit(jax.value_and_grad(f))(variables.params) for f in (ours, theirs))
    np.testing.assert_allclose(value, other, rtol=1e-6)
    for path, want in jax.tree_util.tree_leaves_with_path(slow):
        have = gradient
        for part in path:
            have = have[part.key]
        scale = float(jnp.max(jnp.abs(want)))
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-5 * scale, err_msg=str(path))


def _rows(case, tokens_BxGxSxT):
    """The reference's rows of these continuations."""
    inputs = jnp.repeat(case[2]["inputs"], SAMPLES, axis=0)
    return jnp.concatenate([inputs, jnp.swapaxes(tokens_BxGxSxT, 2, 3).reshape(len(inputs), -1)], axis=1)
