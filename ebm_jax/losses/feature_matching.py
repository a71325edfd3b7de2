"""Feature matching: how near sampled continuations are to the true one, as rewards of a policy gradient (EBFT).

With features ``phi_1 .. phi_G`` of the samples of one block and ``phi_y`` of the true continuation,

    L_FM  = || E phi(sample) - E phi(true) ||^2,      L_CFM = E || E phi(sample) - phi_y ||^2

have the same gradient, ``-E[ grad log p(sample_j) r_j ]`` with ``r_j = a_j - d_j`` (eq. 7):

    alignment  a_j = 2 <phi_j, phi_y>,      diversity  d_j = 2 / (G - 1) * sum_{i != j} <phi_i, phi_j>.

All of it, whitened or not, follows from the G x G Gram matrix of the samples and their G products with ``phi_y``. X stands for
any leading axes (rows, blocks).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import Precision as MatmulPrecision

from ebm_jax.types import Array

WHITENINGS = ("none", "sample_axis", "feature_axis")
BASELINES = ("none", "rloo", "naive_loo", "group_norm")
ROUNDING = 1e-5
"""Rewards whose deviation is a smaller share of their size are those of equal samples, and are not divided by it."""


class Grams(NamedTuple):
    """Inner products of features: all that rewards and losses need of them."""

    samples_XxGxG: Array
    truth_XxG: Array
    """Of every sample with the true continuation."""
    norm_X: Array
    """Squared norm of the true continuation's features."""


class Rewards(NamedTuple):
    """Alignment of every sample, and the similarities of which diversity is made."""

    alignment_XxG: Array
    similarity_XxGxG: Array

    @property
    def diversity_XxG(self) -> Array:
        """``2 / (G - 1) * sum_{i != j} similarity_ij``; 0 for a single sample."""
        return diversity(self.similarity_XxGxG)


def grams(samples_XxGxE: Sequence[Array], truth_XxE: Sequence[Array]) -> Grams:
    """Gram matrices of features that come in parts (one a layer), in float32 or wider at full precision."""
    total = None
    for samples, truth in zip(samples_XxGxE, truth_XxE, strict=True):
        samples, truth = (x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in (samples, truth))
        dot = lambda spec, a, b: jnp.einsum(spec, a, b, precision=MatmulPrecision.HIGHEST)
        part = Grams(
            dot("...ge,...he->...gh", samples, samples),
            dot("...ge,...e->...g", samples, truth),
            jnp.sum(truth * truth, -1),
        )
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    assert total is not None, "features have no parts"
    return total


def rewards(
    grams: Grams,
    *,
    whiten: str = "none",
    align: str = "cosine",
    whiten_scale: str = "1",
    tolerance: float = 1e-6,
) -> Rewards:
    """Alignment and similarities of every block's samples.

    Args:
      whiten: ``none``; ``feature_axis``, by the pseudo-inverse root of the samples' second moment (eq. 8), in which alignment
        is the normalised least-squares coefficient of the true features on the samples'; or ``sample_axis``, what the published
        code computes: the samples are made orthonormal (Loewdin), the true features only scaled.
      align: ``cosine`` or ``dot``.
      whiten_scale: the second moment is a sum over samples (``1``, the code) or a mean (``1/n``, eq. 8), which makes
        similarities and dot products G times as large.
      tolerance: eigenvalues below this share of the largest count as zero. Duplicates make such ones.

    Samples without features (whitened: with next to none beside the others'), and all of a block whose true continuation has
    none, get alignment 0.
    """
    if whiten == "none":
        similarity, aligned, own = grams.samples_XxGxG, grams.truth_XxG, _diagonal(grams.samples_XxGxG)
        length, least = grams.norm_X, 0.0
    else:
        root, inverse, projector = _spectrum(grams.samples_XxGxG, tolerance)
        scale = grams.samples_XxGxG.shape[-1] if whiten_scale == "1/n" else 1
        similarity, own = scale * projector, scale * _diagonal(projector)
        # What is left of samples that the tolerance drops is rounding, of which a cosine would make a direction.
        least = scale * tolerance
        if whiten == "feature_axis":
            coefficient = _times(inverse, grams.truth_XxG)
            aligned, length = scale * coefficient, scale * jnp.sum(coefficient**2, -1)
        else:
            # Each sample has a whitened copy of the truth, a multiple of it, of which a cosine keeps the sign.
            factor = math.sqrt(scale) * jnp.sum(root, -1)
            factor = factor if align == "dot" else jnp.sign(factor)
            aligned, length = math.sqrt(scale) * factor * _times(root, grams.truth_XxG), grams.norm_X
    if align == "dot":
        return Rewards(2 * aligned, similarity)
    square = own * length[..., None]
    there = (own > least) & (square > 0)
    cosine = jnp.where(there, aligned * jax.lax.rsqrt(jnp.where(there, square, 1)), 0)
    return Rewards(2 * cosine, similarity)


def whitening(samples_XxGxG: Array, tolerance: float = 1e-6) -> Array:
    """``W = (X X')^(-1/2)`` on the span of the samples, ``[X, G, G]``: ``W X`` has orthonormal rows (sample-axis whitening)."""
    return _spectrum(samples_XxGxG, tolerance)[0]


def diversity(similarity_XxGxG: Array) -> Array:
    """``2 / (G - 1) * sum_{i != j} similarity_ij``, ``[X, G]``; 0 for a single sample."""
    samples = similarity_XxGxG.shape[-1]
    return 2 / max(samples - 1, 1) * jnp.sum(_off_diagonal(similarity_XxGxG), -1)


def advantages(rewards: Rewards, *, alpha: float, alignment: float = 1.0, baseline: str = "rloo") -> Array:
    """``r_j - b_j`` with ``r = alignment * a - alpha * d``, ``[X, G]``; with a baseline, exactly 0 where all are equal.

    ``rloo``        leave one out (appendix E): ``b_a`` is the mean of the others' alignment; ``b_d`` is twice the mean
                    similarity among the others, so that it does not depend on sample j (0 for two samples or fewer, whose
                    diversity therefore stays);
    ``naive_loo``   the mean of the others' diversity in its place, which depends on sample j: biased;
    ``group_norm``  the rewards' mean, and division by their standard deviation (GRPO);
    ``none``        no baseline.
    """
    a, similarity = rewards
    if baseline == "rloo":
        against = leave_one_out(alignment * a)
        if not alpha:
            return against
        return against - alpha * _diversity_leave_one_out(similarity)
    d = diversity(similarity)
    reward = alignment * a - alpha * d
    if baseline == "group_norm":
        return normalised(reward, axis=-1, size=jnp.abs(alignment * a) + jnp.abs(alpha * d))
    return baselined(reward, baseline)


def baselined(reward_XxG: Array, baseline: str) -> Array:
    """Rewards of any kind minus their baseline, as ``advantages`` says, ``[X, G]``."""
    if baseline in ("rloo", "naive_loo"):
        return leave_one_out(reward_XxG)
    if baseline == "group_norm":
        return normalised(reward_XxG, axis=-1)
    return reward_XxG


def leave_one_out(reward_XxG: Array) -> Array:
    """Each reward minus the mean of the others', ``[X, G]``; a single reward stays as it is."""
    samples = reward_XxG.shape[-1]
    if samples == 1:
        return reward_XxG
    # Summed as differences: equal rewards give exactly zero.
    return jnp.sum(reward_XxG[..., :, None] - reward_XxG[..., None, :], -1) / (samples - 1)


def normalised(reward: Array, axis: int, size: Array | None = None) -> Array:
    """``(r - mean) / std`` along an axis, with the unbiased standard deviation; 0 where all are equal but for rounding.

    ``size`` is that of the summands that rewards were made of, where these may cancel.
    """
    reward, size = (jnp.moveaxis(x, axis, -1) for x in (reward, jnp.abs(reward) if size is None else size))
    count = reward.shape[-1]
    centred = jnp.sum(reward[..., :, None] - reward[..., None, :], -1) / count
    std = jnp.sqrt(jnp.sum(centred**2, -1, keepdims=True) / max(count - 1, 1))
    apart = std > ROUNDING * jnp.max(size, -1, keepdims=True)
    return jnp.moveaxis(jnp.where(apart, centred / jnp.where(apart, std, 1), 0), -1, axis)


def matching_loss(grams: Grams) -> Array:
    """The U-statistic of L_CFM, ``[X]``: unbiased for two samples or more, and so it may be negative.

    sum_{i != j} <phi_i, phi_j> / (G (G - 1)) - 2 / G * sum_j <phi_j, phi_y> + || phi_y ||^2
    """
    samples = grams.truth_XxG.shape[-1]
    pairs = jnp.sum(_off_diagonal(grams.samples_XxGxG), (-2, -1)) / (samples * (samples - 1))
    return pairs - 2 * jnp.mean(grams.truth_XxG, -1) + grams.norm_X


def _diversity_leave_one_out(similarity_XxGxG: Array) -> Array:
    """``d_j`` minus twice the mean similarity among the other samples."""
    samples = similarity_XxGxG.shape[-1]
    if samples <= 2:
        return diversity(similarity_XxGxG)
    # d - (sum d - 2 d) / (G - 2), as differences.
    d = diversity(similarity_XxGxG)
    return jnp.sum(d[..., :, None] - d[..., None, :], -1) / (samples - 2)


def _spectrum(gram_XxGxG: Array, tolerance: float) -> tuple[Array, Array, Array]:
    """``K^(-1/2)``, ``K^(-1)`` and the projector onto the range of K, for positive semi-definite K."""
    values, vectors = jnp.linalg.eigh(gram_XxGxG)
    kept = values > tolerance * values[..., -1:]
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
    made = lambda diagonal: jnp.einsum(
        "...ij,...j,...kj->...ik", vectors, diagonal, vectors, precision=MatmulPrecision.HIGHEST
    )
    return made(jnp.sqrt(inverse)), made(inverse), made(kept.astype(values.dtype))


def _diagonal(matrix_XxGxG: Array) -> Array:
    return jnp.diagonal(matrix_XxGxG, axis1=-2, axis2=-1)


def _off_diagonal(matrix_XxGxG: Array) -> Array:
    return jnp.where(jnp.eye(matrix_XxGxG.shape[-1], dtype=bool), 0, matrix_XxGxG)


def _times(matrix_XxGxG: Array, vector_XxG: Array) -> Array:
    return jnp.einsum("...ij,...j->...i", matrix_XxGxG, vector_XxG, precision=MatmulPrecision.HIGHEST)
