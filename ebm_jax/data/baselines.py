"""What a model must beat: the bigram model of the training split, in bits per byte of another split's text."""

import numpy as np

from ebm_jax.data.rows import Rows
from ebm_jax.errors import UserError

_LARGEST_VOCABULARY = 2048


def bigram_bits_per_byte(train: Rows, evaluation: Rows, byte_lengths_V: np.ndarray, *, smoothing: float = 0.1) -> float:
    """Bits per byte of ``evaluation`` under ``p(b | a) = (count(a, b) + k) / (count(a) + k V)`` counted on ``train``.

    Only scored targets count, in the sum and in the counts, as in a model's own loss. Raises UserError for a vocabulary
    too large for a table of pairs, and for a split without scored text.
    """
    vocab = len(byte_lengths_V)
    if vocab > _LARGEST_VOCABULARY:
        raise UserError(
            f"a bigram table of {vocab} tokens is too large: the baseline is for bytes and small vocabularies"
        )
    counts = pair_counts(train, vocab) + smoothing
    bits = -np.log2(counts / counts.sum(1, keepdims=True))
    pairs = pair_counts(evaluation, vocab)
    text_bytes = float(pairs.sum(0) @ byte_lengths_V)
    if not text_bytes:
        raise UserError("the evaluation split has no scored text")
    return float((pairs * bits).sum() / text_bytes)


def pair_counts(rows: Rows, vocab: int) -> np.ndarray:
    """How often each target follows each token among the scored positions: float64 ``[V, V]``."""
    counts = np.zeros(vocab * vocab, np.int64)
    for before, target in rows.scored_pairs():
        counts += np.bincount(before.astype(np.int64) * vocab + target, minlength=vocab * vocab)
    return counts.reshape(vocab, vocab).astype(np.float64)
