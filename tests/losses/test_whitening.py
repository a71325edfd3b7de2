"""Whitened rewards from Gram matrices, against whitened features by singular value decomposition."""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.losses import feature_matching as matching
from tests.tiny import jit

WAYS = list(itertools.product(("sample_axis", "feature_axis"), ("cosine", "dot"), ("1", "1/n")))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def whitened(samples, truth, whiten, scale="1", tolerance=1e-5):
    """Features of one block as the two definitions have them: samples, and a copy of the truth for each of them."""
    u, s, vt = np.linalg.svd(samples, full_matrices=False)
    inverse = np.where(s > tolerance * s.max(), 1 / np.where(s > 0, s, 1), 0)
    if scale == "1/n":
        inverse = inverse * np.sqrt(len(samples))
    copies = np.tile(truth, (len(samples), 1))
    if whiten == "sample_axis":
        w = (u * inverse) @ u.T
        return w @ samples, w @ copies
    m = (vt.T * inverse) @ vt
    return samples @ m, copies @ m


def cosine(x, y):
    size = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return np.where(size > 0, (x * y).sum(-1) / np.where(size > 0, size, 1), 0)


def others_of(x):
    """Twice the mean similarity with the other samples."""
    products = x @ x.T
    return 2 * (products.sum(-1) - np.diag(products)) / (len(x) - 1)


def block(kind, samples=4, width=12):
    x = normal(samples, width) + 2
    if kind == "pair":
        x[1] = x[0]
    if kind == "flat":
        x[:, 2:] = 0
    return x


@functools.partial(jit, static_argnames=("whiten", "align", "whiten_scale"))
def found_of(samples, truth, whiten="none", align="cosine", whiten_scale="1", tolerance=1e-6):
    grams = matching.grams([samples], [truth])
    return matching.rewards(grams, whiten=whiten, align=align, whiten_scale=whiten_scale, tolerance=tolerance)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("whiten", "align", "scale"), WAYS)
def test_gram_matrices_are_enough(whiten, align, scale):
    samples = np.stack([block(kind) for kind in ("full", "pair", "flat", "full")])
    truth = normal(4, 12, seed=1) + 1
    found = found_of(samples, truth, whiten=whiten, align=align, whiten_scale=scale, tolerance=1e-10)
    for n, (x, y) in enumerate(zip(samples, truth, strict=True)):
        x, y = whitened(x, y, whiten, scale)
        aligned = cosine(x, y) if align == "cosine" else (x * y).sum(-1)
        np.testing.assert_allclose(found.alignment_XxG[n], 2 * aligned, atol=1e-8)
        np.testing.assert_allclose(found.diversity_XxG[n], others_of(x), atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_a_cosine_is_a_cosine_without_whitening():
    samples, truth = block("full"), normal(12, seed=1)
    found = found_of(samples, truth, align="cosine")
    np.testing.assert_allclose(found.alignment_XxG, 2 * cosine(samples, truth), rtol=1e-12)
    np.testing.assert_allclose(found.diversity_XxG, others_of(samples), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_features_in_parts_are_features_end_to_end():
    samples, truth = normal(2, 4, 9), normal(2, 9, seed=1)
    cut = lambda x: [jnp.asarray(x[..., :2]), jnp.asarray(x[..., 2:5]), jnp.asarray(x[..., 5:])]
    parts = matching.grams(cut(samples), cut(truth))
    np.testing.assert_allclose(parts.samples_XxGxG, samples @ samples.swapaxes(1, 2), rtol=1e-12)
    np.testing.assert_allclose(parts.truth_XxG, np.einsum("xge,xe->xg", samples, truth), rtol=1e-12)
    np.testing.assert_allclose(parts.norm_X, (truth**2).sum(-1), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_whitened_samples_are_orthonormal_or_a_projection():
    x = block("full")
    w = np.asarray(matching.whitening(jnp.asarray(x @ x.T)))
    np.testing.assert_allclose(w @ x @ (w @ x).T, np.eye(4), atol=1e-10)
    # By eq. 8 the second moment of the samples is the identity where they are, which is their span.
    moment = (np.sqrt(4) * w @ x).T @ (np.sqrt(4) * w @ x) / 4
    np.testing.assert_allclose(moment @ moment, moment, atol=1e-10)
    np.testing.assert_allclose(moment @ x.T, x.T, atol=1e-10)
    flat = block("flat")
    w = np.asarray(matching.whitening(jnp.asarray(flat @ flat.T)))
    projector = w @ flat @ (w @ flat).T
    np.testing.assert_allclose(projector @ projector, projector, atol=1e-8)
    np.testing.assert_allclose(np.trace(projector), 2, atol=1e-8)


GROUPS = {(0, 1, 2, 3): (0, 0, 0, 0), (0, 0, 1, 2): (1 / 3, 1 / 3, 0, 0), (0, 0, 0, 1): (4 / 9, 4 / 9, 4 / 9, 0),
          (0, 0, 0, 0): (1 / 2,) * 4, (0, 1, 0, 1): (1 / 3,) * 4}  # fmt: skip


@pytest.mark.parametrize("scale", ["1", "1/n"])
@pytest.mark.parametrize("whiten", ["sample_axis", "feature_axis"])
@pytest.mark.parametrize(("group", "expected"), GROUPS.items())
def test_diversity_of_whitened_samples_counts_duplicates(group, expected, whiten, scale):
    """In the float32 of a run."""
    x = np.float32(normal(4, 24))[list(group)]
    found = found_of(x, x[0], whiten=whiten, whiten_scale=scale)
    assert found.diversity_XxG.dtype == jnp.float32
    np.testing.assert_allclose(found.diversity_XxG, np.array(expected) * (4 if scale == "1/n" else 1), atol=2e-5)


@pytest.mark.usefixtures("x64")
def test_diversity_of_many_duplicates():
    for samples, times in ((5, 2), (7, 3), (8, 6)):
        x = normal(samples, 24)
        x[:times] = x[0]
        found = found_of(x, x[0], whiten="sample_axis")
        expected = np.where(np.arange(samples) < times, 2 * (times - 1) / (times * (samples - 1)), 0)
        np.testing.assert_allclose(found.diversity_XxG, expected, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_whitened_alignment_is_a_least_squares_coefficient():
    x, y = block("full"), normal(12, seed=1) + 1
    coefficient = np.linalg.lstsq(x.T, y, rcond=None)[0]
    aligned = np.asarray(found_of(x, y, whiten="feature_axis").alignment_XxG)
    np.testing.assert_allclose(aligned, 2 * coefficient / np.linalg.norm(coefficient), atol=1e-10)
    np.testing.assert_allclose((aligned**2).sum(), 4, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("whiten", "align", "scale"), [*WAYS, ("none", "cosine", "1")])
def test_what_rewards_do_not_depend_on(whiten, align, scale):
    x, y, order = block("full"), normal(12, seed=1), np.array([2, 0, 3, 1])
    turn = np.linalg.qr(normal(12, 12, seed=2))[0]
    # A whitened cosine does not know lengths; the rest does.
    size, truth_size = (7, 0.1) if align == "cosine" and whiten != "none" else (1, 1)
    samples, truth = np.stack([x, x[order], x @ turn, size * x]), np.stack([y, y, y @ turn, truth_size * y])
    found = found_of(samples, truth, whiten=whiten, align=align, whiten_scale=scale)
    for values in (found.alignment_XxG, found.diversity_XxG):
        one, permuted, turned, scaled = np.asarray(values)
        np.testing.assert_allclose(permuted, one[order], atol=1e-9)
        np.testing.assert_allclose(turned, one, atol=1e-9)
        np.testing.assert_allclose(scaled, one, atol=1e-9)


@pytest.mark.parametrize(("whiten", "align", "scale"), [*WAYS, ("none", "cosine", "1"), ("none", "dot", "1")])
def test_zeros_and_equal_samples_are_finite(whiten, align, scale):
    rows = np.float32(normal(4, 8))
    equal, some = np.repeat(rows[:1], 4, 0), rows * np.array([[1], [0], [1], [0]], np.float32)
    samples = np.stack([equal, some, 0 * rows, rows, np.float32(1e-30) * rows])
    truth = np.stack([rows[0], rows[0], rows[0], 0 * rows[0], rows[0]])
    found = found_of(samples, truth, whiten=whiten, align=align, whiten_scale=scale)
    for baseline in matching.BASELINES:
        assert np.isfinite(matching.advantages(found, alpha=1, baseline=baseline)).all(), baseline
    aligned = np.asarray(found.alignment_XxG)
    assert np.isfinite(aligned).all() and np.isfinite(found.diversity_XxG).all()
    assert not aligned[2].any() and not aligned[3].any()
    np.testing.assert_allclose(aligned[1, 1::2], 0, atol=0 if align == "cosine" else 1e-5)


@pytest.mark.parametrize("whiten", matching.WHITENINGS)
@pytest.mark.parametrize("baseline", ["rloo", "naive_loo", "group_norm"])
def test_equal_samples_have_no_advantage_to_speak_of(whiten, baseline):
    """Rounding sets the whitened samples of a group apart by 1e-7, which no baseline may blow up to 1."""
    samples = np.repeat(np.float32(normal(16, 1, 48)), 4, 1)
    found = found_of(samples, np.float32(normal(16, 48, seed=1)), whiten=whiten)
    assert np.abs(matching.advantages(found, alpha=1, baseline=baseline)).max() < 1e-5


def published(samples, truth, alpha, tolerance=1e-5):
    """Advantages as the published code has them, in loops; ``[M, R, G, S, 1, 1, E]`` to ``[M, R, G, S]``."""
    out = np.zeros(samples.shape[:4])
    for m, r, s in np.ndindex(*samples.shape[:2], samples.shape[3]):
        x, y = whitened(samples[m, r, :, s, 0, 0], truth[m, r, 0, s, 0, 0], "sample_axis", tolerance=tolerance)
        a, d = 2 * cosine(x, y), others_of(x)
        n = len(x)
        aligned = (a.sum() - a) / (n - 1)
        diverse = (d.sum() - 2 * d) / (n - 2) if alpha and n > 2 else 0
        out[m, r, :, s] = a - alpha * d - (aligned - alpha * diverse)
    return out


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_advantages_are_the_published_ones(alpha):
    samples = normal(2, 2, 4, 3, 1, 1, 20) + 1
    samples[0, 1, 2, 1] = samples[0, 1, 0, 1]
    samples /= np.linalg.norm(samples, axis=-1, keepdims=True)
    truth = normal(2, 2, 1, 3, 1, 1, 20, seed=1) + 1
    # Ours have samples beside each other, behind the blocks.
    parts = np.moveaxis(samples[..., 0, 0, :], 2, 3), truth[:, :, 0, :, 0, 0]
    ours = matching.advantages(found_of(*parts, whiten="sample_axis", tolerance=1e-10), alpha=alpha)
    np.testing.assert_allclose(np.moveaxis(ours, 3, 2), published(samples, truth, alpha), atol=1e-8)
    single = matching.advantages(found_of(*map(np.float32, parts), whiten="sample_axis"), alpha=alpha)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, ours, atol=1e-5)
