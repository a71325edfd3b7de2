"""The whole of EBFT's path from samples to a gradient, by enumeration: its expectation is the gradient of feature matching.

Two tokens out of three make nine continuations, and three samples 729 triples of them, for each of nine true continuations.
"""

import functools
import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoding.anchors import AnchorConfig, branches_of
from ebm_jax.rng import root_key
from tests.algorithms.tiny_ebft import FEATURES, chosen, ebft, next_log_probs, rows, variables_of
from tests.tiny import assert_trees_close, jit

VOCAB, STEPS, SAMPLES, PREFIX = 3, 2, 3, [1, 2]
OUTCOMES = np.array(list(itertools.product(range(VOCAB), repeat=STEPS)))
TRIPLES = np.array(list(itertools.product(range(len(OUTCOMES)), repeat=SAMPLES)))
DATA = np.random.default_rng(0).dirichlet(np.ones(len(OUTCOMES)))
ANCHORS = AnchorConfig(steps=STEPS, stride=1, prefix=len(PREFIX))
pytestmark = pytest.mark.usefixtures("x64")


def prompts(truth):
    return rows(np.concatenate([np.tile(PREFIX, (len(truth), 1)), OUTCOMES[truth]], 1))


class Enumerated:
    """All pairs of a true continuation and a triple of samples as rows of one batch, and the loss of features, exactly."""

    def __init__(self, **config):
        self.config = {"anchors": ANCHORS} | config
        self.algorithm = ebft(VOCAB, **self.config)
        self.variables = variables_of(self.algorithm, len(PREFIX) + STEPS)
        self.triples = np.tile(TRIPLES, (len(OUTCOMES), 1))
        self.truth = np.repeat(np.arange(len(OUTCOMES)), len(TRIPLES))
        self.batch = prompts(self.truth)
        self.made = jnp.asarray(OUTCOMES[self.triples][:, :, None], jnp.int32)
        branches = functools.partial(branches_of, config=ANCHORS, key=root_key(0))
        one, frozen = prompts(np.arange(len(OUTCOMES))), self.variables.frozen
        self.everything = jnp.broadcast_to(jnp.asarray(OUTCOMES, jnp.int32)[:, None], (9, 9, 1, 2))
        every = lambda: self.algorithm.grams(frozen, one, self.everything, branches(one))
        self.grams = jax.tree.map(lambda x: x[:, 0], jit(every)())
        self.scored = jit(lambda: self.algorithm.rewards(frozen, self.batch, self.made, branches(self.batch)))()
        self.one = one
        self.gradient = jit(jax.grad(self.policy_loss))
        self.exact = jit(jax.value_and_grad(self.l_cfm))
        self.likely = np.asarray(jit(self.probabilities)(self.variables.params))

    def probabilities(self, params):
        """Of the nine continuations, by ordinary language modelling at the temperature of sampling."""
        one = {name: value[:1] for name, value in self.one.items()}
        made = self.everything[:1]
        return jnp.exp(jnp.sum(chosen(next_log_probs(self.algorithm, params, one, made, 0.7), made)[0, :, 0], -1))

    def l_cfm(self, params, truth):
        """``E || E phi(sample) - phi_y ||^2`` over the distribution ``truth``, whose mean of features is that of L_FM.

        Where every token has features, the sum over the lengths of continuations.
        """
        p, grams = self.probabilities(params), self.grams
        by_truth = p @ grams.samples_XxGxG @ p - 2 * grams.truth_XxG @ p + grams.norm_X
        return truth @ by_truth.reshape(len(OUTCOMES), -1).sum(1)

    def policy_loss(self, params, advantages, weight):
        """The term of the loss, every row counted as often as it happens."""
        values = advantages * weight[:, None, None, None] * len(weight)
        batch = self.batch | {
            "continuations": self.made,
            "advantages": jnp.broadcast_to(values, self.made.shape),
            "sampler_log_probs": jnp.zeros(self.made.shape),
        }
        output = self.algorithm.loss(params, self.variables, batch, root_key(0), 0)
        return output.terms["policy"].coef * output.terms["policy"].value.mean()

    def update(self, baseline, truth):
        """The expected gradient of one step, and that of the loss of features over T."""
        params = self.variables.params
        weight = truth[self.truth] * self.likely[self.triples].prod(-1)
        advantages = ebft(VOCAB, **self.config | {"baseline": baseline})._advantages(self.scored)
        expected = jax.tree.map(lambda g: g / STEPS, self.exact(params, truth)[1])
        return self.gradient(params, advantages, weight), expected


@pytest.fixture(scope="module")
def enumerated():
    with jax.enable_x64(True):
        yield Enumerated()


def test_probabilities_are_a_distribution_and_features_do_not_see_the_truth(enumerated):
    np.testing.assert_allclose(enumerated.likely.sum(), 1, rtol=1e-12)
    assert enumerated.likely.min() > 1e-3
    gram = np.asarray(enumerated.grams.samples_XxGxG)
    np.testing.assert_allclose(gram, np.broadcast_to(gram[0], gram.shape), rtol=1e-12)
    # A sample that is the truth has its features: the truth is read off the prompt.
    np.testing.assert_allclose(np.diag(enumerated.grams.truth_XxG), enumerated.grams.norm_X, rtol=1e-12)


@pytest.mark.parametrize("baseline", ["none", "rloo"])
@pytest.mark.parametrize("truth", ["one", "data"])
def test_the_expected_update_is_the_gradient_of_feature_matching(enumerated, baseline, truth):
    found, expected = enumerated.update(baseline, np.eye(9)[4] if truth == "one" else DATA)
    assert_trees_close(found, expected, 1e-9, floor=1e-12)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected)) > 1e-3


@pytest.mark.parametrize("baseline", ["none", "rloo"])
def test_rewards_of_every_token_that_count_from_there_on_match_all_lengths(baseline):
    lengths = Enumerated(features=replace(FEATURES, pool="token"), credit="to_go")
    found, expected = lengths.update(baseline, DATA)
    assert_trees_close(found, expected, 1e-9, floor=1e-12)
    own = Enumerated(features=replace(FEATURES, pool="token"))
    with pytest.raises(AssertionError, match="off by"):
        assert_trees_close(*own.update(baseline, DATA), 0.01)


def test_a_naive_baseline_is_biased(enumerated):
    found, expected = enumerated.update("naive_loo", DATA)
    with pytest.raises(AssertionError, match="off by"):
        assert_trees_close(found, expected, 0.01)


def test_averaged_over_the_data_it_is_the_gradient_of_moments(enumerated):
    """L_FM and L_CFM differ by a constant: with ``C_yz = <phi_y, phi_z>``, ``L_FM = (p - q)' C (p - q)``."""

    def l_fm(params):
        apart = enumerated.probabilities(params) - DATA
        return apart @ enumerated.grams.samples_XxGxG[0] @ apart

    params = enumerated.variables.params
    moments, single = jit(jax.value_and_grad(l_fm))(params), enumerated.exact(params, DATA)
    assert_trees_close(moments[1], single[1], 1e-9, floor=1e-12)
    gram = np.asarray(enumerated.grams.samples_XxGxG[0])
    np.testing.assert_allclose(single[0] - moments[0], DATA @ np.diag(gram) - DATA @ gram @ DATA, rtol=1e-9)
