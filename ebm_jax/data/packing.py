"""Row tables: which slices (document, start, length) of the tokens make each row.

A slice of length ``n`` that starts at token ``s`` reads tokens ``s .. s+n-1`` and predicts tokens ``s+1 .. s+n``, so
the slices of one document overlap by one token and predict every token but its first exactly once. In the ``stream``
layout documents follow each other as they are stored and every token is read; a document's last token predicts the first of
the next document.
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


class Whole(NamedTuple):
    """How documents that are examples are laid into rows, which hold them whole."""

    longest: int
    """Tokens of the longest."""
    overlong: str
    """What happens to longer ones: ``drop``, ``cut_end``, ``cut_start``."""
    group: int = 1
    """Neighbours that share a row: 2 for pairs. Where one is dropped, so are the others."""
    predicts: bool = True
    """Whether a document's tokens but the last are read and those but the first predicted; else all are read."""

    def cut(self, tokens: np.ndarray) -> np.ndarray:
        """What a row reads of a document that is not dropped."""
        return tokens[-self.longest :] if self.overlong == "cut_start" else tokens[: self.longest]

    def too_long(self, lengths_D: np.ndarray) -> np.ndarray:
        """Which documents are longer than ``longest``; where they are dropped, their neighbours as well."""
        long_GxE = (np.asarray(lengths_D) > self.longest).reshape(-1, self.group)
        if self.overlong == "drop":
            long_GxE = np.broadcast_to(long_GxE.any(1, keepdims=True), long_GxE.shape)
        return long_GxE.reshape(-1)


def build_whole_table(layout: str, lengths_D: np.ndarray, context: int, whole: Whole, *, seed: int = 0) -> RowTable:
    """Rows of whole examples: as many as fit (``packed``) or one group (``truncate``), never a part of a group.

    Segments are numbered in a row as they lie in it, so the two texts of its pair p have segments 2p + 1 and 2p + 2.
    """
    lengths_D = np.asarray(lengths_D, np.int64)
    read_D = np.minimum(lengths_D, whole.longest)
    start_D = lengths_D - read_D if whole.overlong == "cut_start" else np.zeros_like(lengths_D)
    positions_D = read_D - 1 if whole.predicts else read_D
    left_out_D = positions_D < 1
    if whole.overlong == "drop":
        left_out_D = left_out_D | whole.too_long(lengths_D)
    left_out = left_out_D.reshape(-1, whole.group).any(1)
    kept = np.flatnonzero(~left_out)
    if not len(kept):
        return _empty()
    kept = kept[permute(np.arange(len(kept)), len(kept), seed, 0)]
    documents = (kept[:, None] * whole.group + np.arange(whole.group)).reshape(-1)
    sizes = positions_D[documents].reshape(-1, whole.group).sum(1)
    row = np.arange(len(kept)) if layout == "truncate" else _best_fit(sizes, context)[0]
    return _table(documents, start_D[documents], positions_D[documents], np.repeat(row, whole.group), seed)


def left_out(layout: str, lengths_D: np.ndarray, min_tokens: int = 2) -> np.ndarray:
    """Which documents make no rows: those shorter than ``min_tokens``, or too short to predict anything."""
    return np.asarray(lengths_D) < (1 if layout == "stream" else max(2, min_tokens))


def build_table(layout: str, lengths_D: np.ndarray, context: int, *, seed: int = 0, min_tokens: int = 2) -> RowTable:
    """The rows of documents with ``lengths_D`` tokens in the ``packed``, the ``truncate`` or the ``stream`` layout."""
    lengths_D = np.asarray(lengths_D, np.int64)
    kept = np.flatnonzero(~left_out(layout, lengths_D, min_tokens))
    if not len(kept):
        return _empty()
    if layout == "stream":
        ends = np.cumsum(lengths_D)
        # A slice begins wherever a document or a row does.
        cuts = np.union1d(ends[kept] - lengths_D[kept], np.arange(0, ends[-1], context))
        documents = np.searchsorted(ends, cuts, side="right")
        starts = cuts - (ends - lengths_D)[documents]
        return _table(documents, starts, np.diff(cuts, append=ends[-1]), cuts // context, seed)
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


def _empty() -> RowTable:
    nothing = np.zeros(0, np.int32)
    return RowTable(np.zeros(1, np.int64), nothing, nothing, nothing)


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
