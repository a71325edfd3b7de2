"""The bigram baseline against a count by hand,."""

import math

import numpy as np
import pytest

from ebm_jax.data import ByteTokenizer, Rows, bigram_bits_per_byte
from ebm_jax.errors import UserError

BYTES = ByteTokenizer()


def rows(*texts):
    return Rows.from_documents([BYTES.encode(text) for text in texts], context=8)


def test_by_hand():
    # "abab" and "ac": a->b twice, a->c once, b->a once
    bits = bigram_bits_per_byte(rows("abab", "ac"), rows("aba"), BYTES.byte_lengths, smoothing=1.0)
    expected = (-math.log2((2 + 1) / (3 + 256)) - math.log2((1 + 1) / (1 + 256))) / 2
    assert bits == pytest.approx(expected, rel=1e-12)


def test_random_bytes_cost_eight_bits_and_a_cycle_none():
    noise = np.random.default_rng(0).integers(1, 256, 60000)
    train = Rows.from_documents([noise[:30000]], context=64)
    test = Rows.from_documents([noise[30000:]], context=64)
    assert 7.9 < bigram_bits_per_byte(train, test, BYTES.byte_lengths) < 9.5
    cycle = rows("abcdefgh" * 2000)
    assert bigram_bits_per_byte(cycle, cycle, BYTES.byte_lengths, smoothing=1e-6) < 1e-3


def test_mistakes_are_named():
    with pytest.raises(UserError, match="50257 tokens is too large"):
        bigram_bits_per_byte(rows("ab"), rows("ab"), np.ones(50257, np.int32))
    with pytest.raises(UserError, match="no scored text"):
        bigram_bits_per_byte(rows("ab"), rows("a"), BYTES.byte_lengths)
