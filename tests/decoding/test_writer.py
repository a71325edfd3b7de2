"""Texts are read in batches of few sizes, and never so many tokens at once that memory would not hold them."""

import pytest

from ebm_jax.decoding import writer
from ebm_jax.decoding.writer import batch_size, batches, bucket


def test_lengths_and_numbers_are_rounded_up():
    assert [bucket(n) for n in (1, 16, 17, 100)] == [16, 16, 32, 128]
    assert [bucket(n, 50) for n in (40, 50, 60)] == [50, 50, 60]
    assert [batch_size(n, 6) for n in (1, 2, 3, 5, 9)] == [1, 2, 4, 6, 6]


@pytest.mark.parametrize("read", [1 << 16, 256, 1])
def test_every_text_is_in_one_batch_and_long_ones_are_among_fewer(monkeypatch, read):
    monkeypatch.setattr(writer, "READ", read)
    lengths = [100, 10, 60, 12, 30, 14, 9]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    found = list(batches(order, lengths, 4))
    assert [number for batch, _ in found for number in batch] == order
    for batch, rows in found:
        assert len(batch) <= rows <= 4
        assert rows == 1 or rows * bucket(lengths[batch[-1]]) <= read
    assert [rows for _, rows in found] == {1 << 16: [4, 4], 256: [4, 2, 2], 1: [1] * 7}[read]
