"""Shuffling as arithmetic: a keyed permutation of 0..n-1 that needs no memory and never changes between versions.

A Feistel network permutes the next power of four; results outside 0..n-1 are put in again until they fall inside (cycle
walking), which keeps it a permutation. So the row at any place of any epoch is found without a shuffled list, and a run
can resume anywhere on any number of hosts.
"""

import hashlib

import numpy as np

_ROUNDS = 8


def permute(index: np.ndarray, n: int, *key: int) -> np.ndarray:
    """Where the permutation of ``0..n-1`` with this key sends each index (int64, same shape as ``index``)."""
    index = np.asarray(index)
    if n < 1 or (index.size and (index.min() < 0 or index.max() >= n)):
        raise ValueError(f"index outside 0..{n - 1}")
    half = np.uint64(max(3, ((n - 1).bit_length() + 1) // 2))
    keys = _round_keys(key)
    values = _feistel(index.astype(np.uint64).reshape(-1), half, keys)
    outside = np.flatnonzero(values >= n)
    while outside.size:
        values[outside] = _feistel(values[outside], half, keys)
        outside = outside[values[outside] >= n]
    return values.astype(np.int64).reshape(index.shape)


def _round_keys(key: tuple[int, ...]) -> np.ndarray:
    digest = hashlib.blake2b(repr(tuple(int(part) for part in key)).encode(), digest_size=8 * _ROUNDS)
    return np.frombuffer(digest.digest(), "<u8").astype(np.uint64)


def _feistel(values: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << half) | right


def _mix(x: np.ndarray) -> np.ndarray:
    # The finaliser of splitmix64: every input bit reaches every output bit.
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
