"""Feature matching by enumeration: rewards and baselines whose expectation is the gradient, losses of known expectation.

A "policy" here is a softmax over nine outcomes with fixed features: expectations over triples of samples are sums.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.losses import feature_matching as matching
from ebm_jax.losses.policy import kl_penalty

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
OUTCOMES, WIDTH, SAMPLES = 9, 4, 3
FEATURES = RNG.standard_normal((OUTCOMES, WIDTH))
LOGITS = RNG.standard_normal(OUTCOMES)
DATA = RNG.dirichlet(np.ones(OUTCOMES))
TRUTH = 4


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def tuples(samples=SAMPLES, outcomes=OUTCOMES, policy=None):
    """Every way in which samples may come out, and how likely each is."""
    policy = softmax(LOGITS) if policy is None else policy
    drawn = np.array(list(itertools.product(range(outcomes), repeat=samples)))
    return drawn, policy[drawn].prod(-1)


def grams_of(samples, truth):
    return matching.grams([jnp.asarray(samples)], [jnp.broadcast_to(truth, (*samples.shape[:-2], samples.shape[-1]))])


def raw(samples, truth):
    """Unwhitened rewards with dot products."""
    return matching.rewards(grams_of(samples, truth), align="dot")


def l_cfm(policy, truth=FEATURES[TRUTH]):
    return ((policy @ FEATURES - truth) ** 2).sum()


def l_fm(policy):
    return ((policy @ FEATURES - DATA @ FEATURES) ** 2).sum()


def slope(loss, logits=LOGITS):
    """By central differences in the logits."""
    step = 1e-6 * np.eye(len(logits))
    return np.array([(loss(softmax(logits + s)) - loss(softmax(logits - s))) / 2e-6 for s in step])


def expected_update(values, drawn, weight, policy=None):
    """``E[ (1/n) sum_j grad log p(sample_j) values_j ]`` in the logits of a softmax."""
    policy = softmax(LOGITS) if policy is None else policy
    score = np.eye(len(policy))[drawn] - policy
    return np.einsum("x,xg,xgv->v", weight, np.asarray(values), score) / drawn.shape[1]


def test_expected_rewards_are_the_gradient_of_the_loss():
    drawn, weight = tuples()
    found = raw(FEATURES[drawn], FEATURES[TRUTH])
    expected = -slope(l_cfm)
    for baseline in ("none", "rloo"):
        update = expected_update(matching.advantages(found, alpha=1, baseline=baseline), drawn, weight)
        np.testing.assert_allclose(update, expected, atol=1e-8, err_msg=baseline)
    # The others' diversity has this sample in it: as a baseline it is biased.
    update = expected_update(matching.advantages(found, alpha=1, baseline="naive_loo"), drawn, weight)
    assert np.abs(update - expected).max() > 0.05 * np.abs(expected).max()


def test_averaged_over_true_continuations_it_is_that_of_the_moments():
    drawn, weight = tuples()
    update = 0
    for truth, probability in enumerate(DATA):
        values = matching.advantages(raw(FEATURES[drawn], FEATURES[truth]), alpha=1)
        update = update + probability * expected_update(values, drawn, weight)
    np.testing.assert_allclose(update, -slope(l_fm), atol=1e-8)


def test_losses_of_moments_and_of_single_targets_differ_by_a_constant():
    covariance = DATA @ (FEATURES**2).sum(-1) - ((DATA @ FEATURES) ** 2).sum()
    for seed in range(3):
        policy = softmax(np.random.default_rng(seed).standard_normal(OUTCOMES))
        single = sum(p * l_cfm(policy, truth) for p, truth in zip(DATA, FEATURES, strict=True))
        np.testing.assert_allclose(single - l_fm(policy), covariance, rtol=1e-12)


def test_the_reported_loss_is_unbiased_and_its_plug_in_is_not():
    policy = softmax(LOGITS)
    drawn, weight = tuples()
    samples, truth = FEATURES[drawn], FEATURES[TRUTH]
    reported = matching.matching_loss(grams_of(samples, truth))
    np.testing.assert_allclose(weight @ reported, l_cfm(policy), rtol=1e-12)
    assert float(reported.min()) < 0
    plug_in = ((samples.mean(1) - truth) ** 2).sum(-1)
    covariance = policy @ (FEATURES**2).sum(-1) - ((policy @ FEATURES) ** 2).sum()
    np.testing.assert_allclose(weight @ plug_in, l_cfm(policy) + covariance / SAMPLES, rtol=1e-12)
    found = raw(samples, truth)
    by_rewards = -(found.alignment_XxG - found.diversity_XxG / 2).mean(-1) + (truth**2).sum()
    np.testing.assert_allclose(reported, by_rewards, rtol=1e-12, atol=1e-13)


def random_rewards(samples, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((samples, WIDTH))
    return features, raw(features, FEATURES[TRUTH])


def baselines(found):
    """Those of alignment and of diversity, ``[G]`` each."""
    aligned = found.alignment_XxG - matching.advantages(found, alpha=0)
    both = matching.advantages(found, alpha=1) - matching.advantages(found, alpha=0)
    return aligned, found.diversity_XxG + both


@pytest.mark.parametrize("samples", [3, 4, 7])
def test_leave_one_out_baselines(samples):
    features, found = random_rewards(samples)
    aligned, diverse = baselines(found)
    np.testing.assert_allclose(sum(found.alignment_XxG - aligned), 0, atol=1e-12)
    for j in range(samples):
        others = [i for i in range(samples) if i != j]
        np.testing.assert_allclose(aligned[j], np.mean(found.alignment_XxG[np.array(others)]), rtol=1e-12)
        pairs = [features[i] @ features[k] for i, k in itertools.permutations(others, 2)]
        np.testing.assert_allclose(diverse[j], 2 * np.mean(pairs), rtol=1e-12)
        changed = features.copy()
        changed[j] += 10
        other_aligned, other_diverse = baselines(raw(changed, FEATURES[TRUTH]))
        np.testing.assert_allclose((other_aligned[j], other_diverse[j]), (aligned[j], diverse[j]), rtol=1e-10)


def test_baselines_move_no_expectation():
    drawn, weight = tuples()
    aligned, diverse = jax.vmap(baselines)(raw(FEATURES[drawn], FEATURES[TRUTH]))
    for values in (aligned, diverse):
        np.testing.assert_allclose(expected_update(values, drawn, weight), 0, atol=1e-14)


def test_baselines_of_two_samples_and_of_one():
    _, found = random_rewards(2)
    aligned, diverse = baselines(found)
    np.testing.assert_allclose(aligned, found.alignment_XxG[::-1], rtol=1e-14)
    np.testing.assert_allclose(diverse, 0, atol=1e-15)
    _, found = random_rewards(1)
    for values in (found.diversity_XxG, *baselines(found)):
        assert np.asarray(values).tolist() == [0.0]
    for baseline in ("none", "rloo", "naive_loo"):
        np.testing.assert_array_equal(matching.advantages(found, alpha=1, baseline=baseline), found.alignment_XxG)
    assert matching.advantages(found, alpha=1, baseline="group_norm").tolist() == [0.0]


def test_group_norm_is_the_standard_score():
    _, found = random_rewards(5)
    reward = np.asarray(found.alignment_XxG - 0.5 * found.diversity_XxG)
    expected = (reward - reward.mean()) / reward.std(ddof=1)
    ours = matching.advantages(found, alpha=0.5, baseline="group_norm")
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    np.testing.assert_allclose(matching.baselined(jnp.asarray(reward), "group_norm"), expected, rtol=1e-12)


@pytest.mark.parametrize("baseline", ["rloo", "naive_loo", "group_norm"])
@pytest.mark.parametrize("samples", [2, 3, 5, 8])
def test_equal_rewards_have_no_advantage_at_all(baseline, samples):
    """Not even that of a rounding: with Adam, 1e-9 is as good as 1."""
    own = np.float32(0.9) * np.eye(samples, dtype=np.float32)
    aligned, similarity = jnp.full(samples, np.float32(0.1)), np.full((samples, samples), np.float32(1 / 3))
    found = matching.Rewards(aligned, jnp.where(own > 0, own, similarity))
    values = matching.advantages(found, alpha=0.3, alignment=0.7, baseline=baseline)
    assert values.dtype == jnp.float32
    # Of two samples, the diversity of each is known only with the other: it has no baseline.
    expected = -0.3 * found.diversity_XxG if (samples, baseline) == (2, "rloo") else 0
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("baseline", ["rloo", "naive_loo", "group_norm"])
def test_pairs_of_equal_samples_have_equal_rewards(baseline):
    """Whose sums may differ by a rounding."""
    pair = np.arange(8) // 2
    similarity = np.float32(1 / 3) + np.float32(0.7) * (pair == pair[:, None])
    found = matching.Rewards(jnp.full(8, np.float32(0.1)), jnp.asarray(similarity))
    assert np.abs(matching.advantages(found, alpha=0.3, baseline=baseline)).max() < 1e-6


def test_weights_of_alignment_and_diversity():
    drawn, weight = tuples()
    found = raw(FEATURES[drawn], FEATURES[TRUTH])
    loss = lambda p: -0.7 * 2 * (p @ FEATURES) @ FEATURES[TRUTH] + 0.4 * ((p @ FEATURES) ** 2).sum()
    values = matching.advantages(found, alpha=0.4, alignment=0.7)
    np.testing.assert_allclose(expected_update(values, drawn, weight), -slope(loss), atol=1e-8)


def fixed_point(features, data, reference=None, kl=0.0, steps=4000, rate=2.0):
    """A softmax policy after following its expected update, all pairs of samples and all truths enumerated."""
    outcomes = len(data)
    drawn, _ = tuples(2, outcomes, data)
    found = jax.vmap(lambda truth: raw(features[drawn], truth))(features)
    advantages = jnp.einsum("y,yxg->xg", data, matching.advantages(found, alpha=1))

    def step(logits, _):
        log_p = jax.nn.log_softmax(logits)
        probability = jnp.exp(jnp.sum(log_p[drawn], -1))

        def loss(logits):
            log_p = jax.nn.log_softmax(logits)[drawn]
            penalty = kl_penalty(log_p, jnp.log(reference)[drawn], "k2") if kl else 0.0
            return jnp.sum(probability[:, None] * (-advantages * log_p + kl * penalty)) / 2

        return logits - rate * jax.grad(loss)(logits), None

    end, _ = jax.lax.scan(step, jnp.zeros(outcomes), None, length=steps)
    return np.asarray(jax.nn.softmax(end))


def test_exact_updates_end_where_moments_agree():
    data = np.array([0.1, 0.2, 0.3, 0.15, 0.25])
    one_hot = fixed_point(np.eye(5), data)
    np.testing.assert_allclose(one_hot, data, atol=1e-8)
    few = np.random.default_rng(1).standard_normal((5, 2))
    policy = fixed_point(few, data)
    np.testing.assert_allclose(policy @ few, data @ few, atol=1e-8)
    assert np.abs(policy - data).max() > 0.01, "two moments do not decide four probabilities"


def test_beside_a_divergence_it_is_an_energy_based_model():
    """The minimum of ``|| E phi - m ||^2 + KL(. || q) / beta`` tilts q by an energy that is linear in the features.

    Its tilt solves a concave dual, here by Newton steps; policies that follow the update end there as well.
    """
    rng = np.random.default_rng(2)
    features, q, data, beta = rng.standard_normal((6, 3)), rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(6)), 1.7
    moments = data @ features
    tilt = np.zeros(3)
    for _ in range(50):
        rho = q * np.exp(features @ tilt)
        rho /= rho.sum()
        mean = rho @ features
        covariance = (features - mean).T @ (rho[:, None] * (features - mean))
        tilt += np.linalg.solve(covariance + np.eye(3) / (2 * beta), moments - mean - tilt / (2 * beta))
    np.testing.assert_allclose(-tilt, 2 * beta * (rho @ features - moments), atol=1e-12)

    def primal(p):
        return ((p @ features - moments) ** 2).sum() + (p * np.log(p / q)).sum() / beta

    for size in (1e-4, 1e-2, 1):
        others = softmax(np.log(rho) + size * rng.standard_normal(6)), (1 - 0.1 * size) * rho + 0.1 * size / 6
        assert all(primal(other) > primal(rho) for other in others)
    np.testing.assert_allclose(fixed_point(features, data, q, kl=1 / beta, steps=20_000, rate=1.0), rho, atol=1e-8)
