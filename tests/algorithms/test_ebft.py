"""One step of EBFT: its samples, rewards, advantages and loss against their definitions, block by block and token by token."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.algorithms.ebft import Scored
from ebm_jax.algorithms.policy_gradient import TOLD
from ebm_jax.decoding.anchors import AnchorConfig, branches_of
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.losses import feature_matching as matching
from ebm_jax.models.features import FeatureConfig
from ebm_jax.rng import root_key
from tests.algorithms.tiny_ebft import chosen, ebft, next_log_probs, rows, some_rows, variables_of
from tests.tiny import assert_trees_close, jit

pytestmark = pytest.mark.usefixtures("x64")
END = 7
LONG = AnchorConfig(steps=3, stride=1, prefix=2)
"""Two blocks of three tokens in a row of six."""


def made_by_hand(count=2, samples=3, blocks=2, steps=3, ends=((0, 0, 0, 0), (0, 1, 1, 1), (1, 2, 0, 2))):
    """Continuations with an end at some places: (row, sample, block, step)."""
    made = np.random.default_rng(3).integers(1, END, (count, samples, blocks, steps))
    made[tuple(np.transpose(ends))] = END
    return made


def with_samples(batch, made, seed=4):
    """A batch as ``augment`` would leave it, with any advantages."""
    rng = np.random.default_rng(seed)
    return batch | {
        "continuations": jnp.asarray(made, jnp.int32),
        "advantages": jnp.asarray(rng.standard_normal(made.shape)),
        "sampler_log_probs": jnp.asarray(rng.standard_normal(made.shape)),
    }


def total(output):
    return sum(term.coef * term.value.mean() for term in output.terms.values())


CASES = {
    "plain": {},
    "everything": {"gamma": 0.3, "kl": 0.2, "entropy": 0.1, "end": "mask_after"},
    "otherwise": {
        "gamma": 0.3,
        "ce_mask": "all",
        "kl": 0.2,
        "kl_estimator": "k3",
        "log_prob_temperature": "one",
        "aggregate": "block_sum",
        "end": "mask_after",
    },
}


@pytest.mark.parametrize("case", ["plain", "everything", pytest.param("otherwise", marks=pytest.mark.slow)])
def test_the_loss_and_its_gradient_are_what_its_parts_say(case):
    algorithm = ebft(anchors=LONG, **CASES[case])
    c, algorithm.end = algorithm.config, END
    variables, made = variables_of(algorithm), made_by_hand()
    batch = with_samples(some_rows(), made)
    counts = np.ones(made.shape)
    if c.end == "mask_after":
        for place in np.argwhere(made == END):
            counts[(*place[:3], slice(place[3] + 1, None))] = 0
    temperature = 1.0 if c.log_prob_temperature == "one" else 0.7

    def mean(values):
        return jnp.sum(counts * values) / counts.sum()

    def expected(params):
        every = next_log_probs(algorithm, params, batch, made, temperature)
        found, parts, apart = chosen(every, made), {}, 0.0
        parts["policy"] = -mean(batch["advantages"] * found)
        if c.aggregate == "block_sum":
            parts["policy"] = parts["policy"] * counts.sum() / counts[..., 0].size
        if c.gamma:
            logits = algorithm.model.apply({"params": params}, *(batch[x] for x in ("inputs", "positions", "segments")))
            nll = -chosen(jax.nn.log_softmax(logits[:, :-1]), batch["inputs"][:, 1:])
            parts["ce"] = c.gamma * jnp.mean(nll)
        if c.kl:
            other = chosen(next_log_probs(algorithm, variables.frozen["reference"], batch, made, temperature), made)
            apart = found - other
            parts["kl"] = c.kl * mean(apart**2 / 2 if c.kl_estimator == "k2" else jnp.exp(-apart) - 1 + apart)
        if c.entropy:
            parts["entropy"] = c.entropy * mean(jnp.sum(jnp.exp(every) * every, -1))
        return sum(parts.values()), (parts, found, apart)

    def ours(params, sampler):
        output = algorithm.loss(params, variables, batch | {"sampler_log_probs": sampler}, root_key(0), 0)
        return total(output), output

    step = jit(jax.value_and_grad(ours, has_aux=True))
    (value, output), slope = step(variables.params, batch["sampler_log_probs"])
    (_, (parts, found, apart)), expected_slope = jit(jax.value_and_grad(expected, has_aux=True))(variables.params)
    assert_trees_close(slope, expected_slope, 1e-9, floor=1e-12)
    assert output.terms.keys() == parts.keys()
    for name, term in output.terms.items():
        if name != "policy":
            np.testing.assert_allclose(term.coef * term.value.mean(), parts[name], rtol=1e-9, err_msg=name)
    # The value of the policy's term is not that of a log-likelihood: its ratio is 1.
    scale = counts.sum() / counts[..., 0].size if c.aggregate == "block_sum" else 1
    policy = output.terms["policy"].value
    np.testing.assert_allclose(policy.mean(), -mean(batch["advantages"]) * scale, rtol=1e-9)
    np.testing.assert_allclose(
        output.metrics["sampler_gap"].mean(), mean(batch["sampler_log_probs"] - found), rtol=1e-9
    )
    if c.kl:
        np.testing.assert_allclose(output.metrics["kl"].mean(), mean(apart), rtol=1e-9)
    if case == "plain":
        # No penalty, no entropy, no ratio to what the sampler thought: only what is reported depends on that.
        (other, told), other_slope = step(variables.params, batch["sampler_log_probs"] + 3)
        assert set(parts) == {"policy"} and other == value
        assert_trees_close(slope, other_slope, 0, floor=0)
        gap = told.metrics["sampler_gap"].mean() - output.metrics["sampler_gap"].mean()
        np.testing.assert_allclose(gap, 3, rtol=1e-9)


@functools.cache
def stepped():
    """Everything about one step: its batch after ``augment``, its gradients, and what it should report."""
    algorithm = ebft(gamma=0.1, samples=4)
    variables, batch, key = variables_of(algorithm), some_rows(), root_key(5)

    def loss(params, augmented):
        output = algorithm.loss(params, variables.replace(params=params), augmented, key, 0)
        return total(output), (output.metrics, augmented)

    def whole(params, frozen):
        now = variables.replace(params=params, frozen=frozen)
        return loss(params, algorithm.augment(now, batch, key, 0))

    def expected(made):
        log_probs = chosen(next_log_probs(algorithm, variables.params, batch, made, 0.7), made)
        grams = algorithm.grams(variables.frozen, batch, made, branches_of(batch, algorithm.config.anchors, key))
        return log_probs, grams, matching.advantages(matching.rewards(grams, align="dot"), alpha=1)

    through, (_, augmented) = jit(jax.grad(whole, (0, 1), has_aux=True))(variables.params, variables.frozen)
    by_loss, (metrics, _) = jit(jax.grad(loss, has_aux=True))(variables.params, augmented)
    return augmented, metrics, by_loss, through, *jit(expected)(augmented["continuations"])


@pytest.mark.slow
def test_no_gradient_passes_through_samples_rewards_or_features():
    _, _, by_loss, (by_params, by_frozen), *_ = stepped()
    assert_trees_close(by_params, by_loss, 1e-12)
    leaves = jax.tree.leaves(by_frozen)
    assert leaves and not any(np.asarray(leaf).any() for leaf in leaves)


def test_log_probabilities_of_the_sampler_are_those_of_the_loss():
    batch, metrics, _, _, log_probs, *_ = stepped()
    np.testing.assert_allclose(batch["sampler_log_probs"], log_probs, rtol=1e-10)
    np.testing.assert_allclose(metrics["sampler_gap"].mean(), 0, atol=1e-12)


def test_what_a_step_reports():
    batch, metrics, _, _, _, grams, advantages = stepped()
    made = np.asarray(batch["continuations"])
    gram, aligned = np.asarray(grams.samples_XxGxG), 2 * np.asarray(grams.truth_XxG)
    off = 1 - np.eye(4)
    diverse = 2 / 3 * (gram * off).sum(-1)
    loss = (gram * off).sum((-1, -2)) / 12 - aligned.mean(-1) + np.asarray(grams.norm_X)
    same = [[(a == b).all() for a in block for b in block] for row in np.moveaxis(made, 1, 2) for block in row]
    expected = {
        "reward": (aligned - diverse).mean(),
        "alignment": aligned.mean(),
        "diversity": diverse.mean(),
        "reward_std": (aligned - diverse).std(-1).mean(),
        "duplicates": np.mean([(sum(block) - 4) / 12 for block in same]),
        "matching_loss": loss.mean(),
    }
    assert set(metrics) == {*expected, "nll", "sampler_gap"}
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name].mean(), value, rtol=1e-5, err_msg=name)
    assert 0 < expected["duplicates"] < 1
    np.testing.assert_allclose(batch["advantages"][..., 0], np.moveaxis(advantages, -1, 1), rtol=1e-9)
    np.testing.assert_array_equal(batch["advantages"][..., 0], batch["advantages"][..., 1])


def test_only_blocks_that_are_there_count():
    """The second row has two documents, and a block across their boundary."""
    algorithm = ebft(anchors=LONG)
    algorithm.meet(SimpleNamespace(tokenizer=SimpleNamespace(eos_id=END)))
    batch, made = some_rows(), jnp.asarray(made_by_hand())
    batch["segments"] = batch["segments"].at[1, :2].set(2)
    zeros = jnp.zeros((2, 2, 3, 3))
    scored = Scored(matching.Grams(zeros, zeros[..., 0], zeros[..., 0, 0]), matching.Rewards(zeros[..., 0], zeros))

    def found():
        branches = branches_of(batch, LONG, root_key(0))
        return branches.there_BxS, algorithm.counted(made, branches), algorithm._told(scored, made, branches)

    there, weights, told = jit(found)()
    assert there.tolist() == [[1, 1], [0, 1]]
    assert weights.shape == made.shape and weights.sum((1, 3)).tolist() == [[9, 9], [0, 9]]
    assert told[TOLD + "reward"][:, 1].tolist() == [6, 3] and told[TOLD + "matching_loss"][:, 1].tolist() == [2, 1]
    # Of each row's samples that count, how many have an end.
    assert told[TOLD + "ended"].tolist() == [[2, 6], [0, 3]]


def mixed_rows():
    """Two documents and padding in each row, of which some tokens are scored."""
    segments = np.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 2, 2]])
    rng = np.random.default_rng(5)
    tokens = rng.integers(1, 11, (2, 7)) * np.pad(segments, ((0, 0), (0, 1)), constant_values=1).astype(bool)
    inside = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    scored = np.pad(inside, ((0, 0), (0, 1))) * (rng.random((2, 6)) < 0.6)
    positions = np.array([[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]])
    fields = {"targets": tokens[:, 1:], "weights": scored * 0.5, "segments": segments, "positions": positions}
    return rows(tokens[:, :-1]) | {name: jnp.asarray(value) for name, value in fields.items()}


@pytest.mark.parametrize("documents", ["separate", "joined"])
def test_which_tokens_cross_entropy_counts(documents):
    batch = with_samples(mixed_rows(), made_by_hand(steps=2, ends=[]))
    tokens, segments = np.asarray(batch["inputs"]), np.asarray(batch["segments"])
    anchors = AnchorConfig(steps=2, stride=2, prefix=2, documents=documents)
    variables = variables_of(ebft())
    read = (batch["positions"], batch["segments"])
    if documents == "joined":
        read = jnp.broadcast_to(jnp.arange(6), (2, 6)), jnp.ones((2, 6), jnp.int32)

    def each():
        hidden = ebft().model.apply({"params": variables.params}, batch["inputs"], *read, method="hidden")
        logits = ebft().model.apply({"params": variables.params}, hidden, method="logits")
        masks = {name: ebft(anchors=anchors, ce_mask=name) for name in ("answer", "no_pad", "all")}
        found = {name: algorithm._cross_entropy(variables.params, hidden, batch) for name, algorithm in masks.items()}
        evaluated = ebft(anchors=anchors).evaluate(variables.params, variables, batch, root_key(0))
        return found, evaluated["nll_step_1"], jax.nn.log_softmax(logits)

    found, evaluated, log_probs = jit(each)()
    for mask in found:
        summed = weight = 0.0
        for r, t in np.ndindex(2, 6):
            if mask == "answer":
                w, target = float(batch["weights"][r, t]), int(batch["targets"][r, t])
            else:
                w, target = float(t < 5), int(tokens[r, (t + 1) % 6])
                if mask == "no_pad" and w:
                    w = float(
                        segments[r, t + 1] > 0 and (documents == "joined" or segments[r, t + 1] == segments[r, t])
                    )
            summed, weight = summed - w * log_probs[r, t, target], weight + w
        np.testing.assert_allclose(found[mask], (summed, weight), rtol=1e-9, err_msg=mask)
    if documents == "separate":
        np.testing.assert_allclose(evaluated, found["answer"], rtol=1e-12)


def test_coefficients_follow_their_schedules():
    algorithm = ebft(policy=2.0, policy_from=3, policy_ramp=4, gamma=0.5, gamma_decay=10)
    variables, batch = variables_of(algorithm), with_samples(some_rows(), made_by_hand(steps=2, ends=[]))
    coefs = jit(
        lambda step: {
            n: t.coef for n, t in algorithm.loss(variables.params, variables, batch, root_key(0), step).terms.items()
        }
    )
    found = {step: {name: float(x) for name, x in coefs(step).items()} for step in (0, 2, 3, 4, 6, 7, 10, 20)}
    assert [found[s]["policy"] for s in (0, 2, 3, 4, 6, 7, 20)] == pytest.approx([0, 0, 0.5, 1, 2, 2, 2])
    assert [found[s]["ce"] for s in (0, 2, 10, 20)] == pytest.approx([0.5, 0.4, 0, 0])
    assert ebft(gamma=0.5)._policy_coef(7) == 1.0
    assert ebft(policy_from=2)._policy_coef(jnp.asarray(1)) == 0 and ebft(policy_from=2)._policy_coef(2) == 1


def scored_as(alignment, similarity=None):
    alignment = jnp.asarray(alignment, jnp.float64)
    similarity = jnp.zeros((*alignment.shape, alignment.shape[-1])) if similarity is None else similarity
    return Scored(None, matching.Rewards(alignment, similarity))


def test_a_block_has_one_advantage_and_tokens_their_own():
    blocks, steps, samples = 4, 3, 2
    alignment = np.broadcast_to(np.arange(blocks)[:, None], (1, blocks, samples))
    found = ebft(baseline="none", alpha=0.0)._advantages(scored_as(alignment))
    np.testing.assert_array_equal(found[..., 0], np.broadcast_to(np.arange(blocks), (1, samples, blocks)))
    by_token = np.arange(blocks * steps).reshape(1, blocks, steps, 1)
    values = scored_as(np.broadcast_to(by_token, (1, blocks, steps, samples)))
    tokens = FeatureConfig(pool="token", depths=(1,))
    found = ebft(baseline="none", alpha=0.0, features=tokens)._advantages(values)
    np.testing.assert_array_equal(found[0, 1], by_token[0, :, :, 0])
    # As published, rewards lie block by block where the tokens of a row lie step by step.
    found = ebft(baseline="none", alpha=0.0, features=tokens, as_published=True)._advantages(values)
    np.testing.assert_array_equal(np.swapaxes(found[0, 1], 0, 1).ravel(), np.arange(blocks * steps))


@pytest.mark.parametrize("pool", ["last", "token"])
def test_group_norm_as_published(pool):
    """Leave-one-out advantages over the deviation of a sample's rewards along its blocks, or along a block's tokens."""
    rng = np.random.default_rng(6)
    shape = (2, 5, 4) if pool == "last" else (2, 5, 3, 4)
    features = rng.standard_normal((*shape, 6))
    gram = np.einsum("...ge,...he->...gh", features, features)
    scored = scored_as(rng.standard_normal(shape), jnp.asarray(gram))
    options = {"features": FeatureConfig(pool=pool, depths=(1,)), "alpha": 0.5, "as_published": True}
    found = ebft(baseline="group_norm", **options)._advantages(scored)
    plain = matching.advantages(scored.rewards, alpha=0.5)
    reward = np.asarray(scored.rewards.alignment_XxG - 0.5 * scored.rewards.diversity_XxG)
    expected = np.asarray(plain) / reward.std(-2, ddof=1, keepdims=True)
    if pool == "last":
        np.testing.assert_allclose(found[..., 0], np.moveaxis(expected, -1, 1), rtol=1e-9)
    else:
        flat = np.moveaxis(expected, -1, 1).reshape(2, 4, -1)
        np.testing.assert_allclose(np.swapaxes(found, 2, 3).reshape(2, 4, -1), flat, rtol=1e-9)
    # One block has no deviation.
    single = ebft(baseline="group_norm", **options)._advantages(scored_as(scored.rewards.alignment_XxG[..., :1, :]))
    assert np.isfinite(single).all()


def gradients_of_a_step(algorithm):
    """A function of variables: the batch after ``augment``, the loss and its gradient."""

    def step(params, variables):
        now, key = variables.replace(params=params), root_key(0)
        batch = algorithm.augment(now, some_rows(), key, 0)
        return total(algorithm.loss(params, now, batch, key, 0)), batch

    return jit(lambda variables: jax.value_and_grad(step, has_aux=True)(variables.params, variables))


def told_of(batch):
    return {name.removeprefix(TOLD): value for name, value in batch.items() if name.startswith(TOLD)}


def largest(tree):
    return max(np.abs(leaf).max() for leaf in jax.tree.leaves(tree))


def test_equal_samples_and_features_of_zero_teach_nothing():
    """Of the likeliest token in every place, all samples are made; a feature network of zeros tells none apart."""
    whitened = {"whiten": "feature_axis", "whiten_scale": "1/n", "align": "cosine", "baseline": "group_norm"}
    algorithm = ebft(**whitened, sampling=SamplingConfig(temperature=0.7, top_k=1), end="mask_after")
    algorithm.end = END
    variables, step = variables_of(algorithm), gradients_of_a_step(algorithm)
    for frozen in (variables.frozen, jax.tree.map(jnp.zeros_like, variables.frozen)):
        (loss, batch), slope = step(variables.replace(frozen=frozen))
        assert np.isfinite(loss) and np.isfinite(largest(told_of(batch)))
        assert not np.asarray(batch["advantages"]).any()
        assert largest(slope) == 0
        duplicates = told_of(batch)["duplicates"]
        assert (duplicates[:, 0] == duplicates[:, 1]).all()


def test_a_single_sample_has_its_alignment():
    algorithm = ebft(samples=1)
    (loss, batch), slope = gradients_of_a_step(algorithm)(variables_of(algorithm))
    assert np.isfinite(loss) and 0 < largest(slope) < np.inf
    told = told_of(batch)
    np.testing.assert_allclose(batch["advantages"][..., 0].sum((1, 2)), told["alignment"][:, 0], rtol=1e-6)
    assert not told["diversity"][:, 0].any() and "matching_loss" not in told
