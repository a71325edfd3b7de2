"""Row tables: which slices (document, start, length) of the tokens make each row.

A slice of length ``n`` that starts at token ``s`` reads tokens ``s .. s+n-1`` and predicts tokens ``s+1 .. s+n``, so
the slices of one document overlap by one token and predict every token but its first exactly once.
"""

from typing import NamedTuple

import numpy as np

from ebm_jax.data.order import permute


class RowTable(NamedTuple):
    """Slices grouped to rows: row ``r`` owns slices ``first[r] .. first[r+1]-1``. Rows come in a seeded order, so the
    first rows are a fair sample of the corpus."""

    first: np.ndarray
    """int64 ``[rows + 1]``"""
    document: np.ndarray
    """int32 ``[slices]``"""
    start: np.ndarray
    """int32 ``[slices]``: token inside the document"""
    length: np.ndarray
    """int32 ``[slices]``: positions"""

    def __len__(self) -> int:
        """Rows."""
        return len(self.first) - 1


def build_table(layout: str, lengths_D: np.ndarray, context: int, *, seed: int = 0, min_tokens: int = 2) -> RowTable:
    """The rows of documents with ``lengths_D`` tokens in the ``packed`` or the ``truncate`` layout."""
    lengths_D = np.asarray(lengths_D, np.int64)
    kept = np.flatnonzero(lengths_D >= max(2, min_tokens))
    if not len(kept):
        empty = np.zeros(0, np.int32)
        return RowTable(np.zeros(1, np.int64), empty, empty, empty)
    documents = kept[permute(np.arange(len(kept)), len(kept), seed, 0)]
    positions = lengths_D[documents] - 1
    if layout == "truncate":
        return _table(
            documents, np.zeros_like(documents), np.minimum(positions, context), np.arange(len(documents)), seed
        )
    if layout != "packed":
        raise ValueError(layout)
    whole, left = np.divmod(positions, context)
    whole_start = ragged_arange(whole) * context
    short = left > 0
    short_row, _ = _best_fit(left[short], context)
    return _table(
        np.concatenate([np.repeat(documents, whole), documents[short]]),
        np.concatenate([whole_start, whole[short] * context]),
        np.concatenate([np.full(len(whole_start), context), left[short]]),
        np.concatenate([np.arange(len(whole_start)), len(whole_start) + short_row]),
        seed,
    )


def ragged_arange(counts: np.ndarray) -> np.ndarray:
    """``0..counts[0]-1, 0..counts[1]-1, ...`` (int64)."""
    ends = np.cumsum(counts, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - counts, counts)


def _table(document: np.ndarray, start: np.ndarray, length: np.ndarray, row: np.ndarray, seed: int) -> RowTable:
    rows = int(row.max()) + 1
    row = permute(row, rows, seed, 1)
    order = np.argsort(row, kind="stable")
    first = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=rows), out=first[1:])
    return RowTable(first, *(part[order].astype(np.int32) for part in (document, start, length)))


def _best_fit(sizes: np.ndarray, context: int) -> tuple[np.ndarray, int]:
    """A row for each size so that no row exceeds ``context``: the fullest open row that still has room (best fit)."""
    open_rows: list[list[int]] = [[] for _ in range(context + 1)]
    rooms = 0  # bit r is set when some open row has r positions left
    row_of = np.empty(len(sizes), np.int64)
    rows = 0
    for i, size in enumerate(sizes.tolist()):
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            row = open_rows[room].pop()
            if not open_rows[room]:
                rooms &= ~(1 << room)
        else:
            row, room, rows = rows, context, rows + 1
        row_of[i] = row
        if room > size:
            open_rows[room - size].append(row)
            rooms |= 1 << (room - size)
    return row_of, rows
