"""Rows as arrays: a flat token store and a row table give any batch of rows by one gather.

Nothing here needs TFDS or files: the arrays may be memory maps of a prepared set or live in memory.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from ebm_jax.data.packing import RowTable, Whole, build_table, build_whole_table, ragged_arange
from ebm_jax.errors import UserError


class Rows:
    """The rows of one split, ``context`` positions each, in a fixed order."""

    def __init__(
        self,
        tokens: np.ndarray,
        offsets: np.ndarray,
        table: RowTable,
        *,
        context: int,
        fingerprint: str,
        pad_id: int = 0,
        ignore_id: int | None = 0,
        scored: np.ndarray | None = None,
        predicts: bool = True,
        joined: bool = False,
        begun: bool = False,
        numbered: bool = False,
    ) -> None:
        """``tokens`` holds all documents end to end; document ``d`` is ``tokens[offsets[d]:offsets[d + 1]]``.

        ``scored`` says of every token whether it is a scored target, in place of ``ignore_id``. Where rows do not predict
        (pairs, whose texts are judged whole), every token is read, is its own target and has weight 1. Where they are pieces
        of one stream of ``joined`` documents, a row's last token, which predicts what the next row begins with, is not scored;
        nor is a document's last one where documents have ``begun`` with a token that stands for no text. ``numbered`` rows say
        which documents they hold.
        """
        # A plain view: indexing an np.memmap costs several times as much.
        self._tokens = np.asarray(tokens)
        self._offsets = np.asarray(offsets)
        self.table = RowTable(*(np.asarray(part) for part in table))
        self.context, self.fingerprint = context, fingerprint
        self._pad_id, self._ignore_id = pad_id, ignore_id
        self._scored = None if scored is None else np.asarray(scored)
        self.predicts, self._joined, self._begun = predicts, joined, begun
        self.documents = int(np.diff(self.table.first).max(initial=0)) if numbered else 0
        """Documents of the row that has most of them, where rows are numbered."""

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[np.ndarray],
        *,
        context: int,
        layout: str = "packed",
        seed: int = 0,
        min_tokens: int = 2,
        pad_id: int = 0,
        ignore_id: int | None = 0,
        scored: Sequence[np.ndarray] | None = None,
        whole: Whole | None = None,
    ) -> "Rows":
        """Rows of documents that are in memory, each an array of ids; examples as ``whole`` and ``scored`` say."""
        documents = [np.asarray(document, np.int32) for document in documents]
        lengths = np.array([len(document) for document in documents], np.int64)
        tokens = np.concatenate(documents) if documents else np.zeros(0, np.int32)
        layout_of: tuple = (layout, context, seed, min_tokens)
        if whole is None:
            table = build_table(layout, lengths, context, seed=seed, min_tokens=min_tokens)
        else:
            table, layout_of = build_whole_table(layout, lengths, context, whole, seed=seed), (*layout_of, whole)
        digest = hashlib.blake2b(repr(layout_of).encode(), digest_size=16)
        digest.update(lengths.tobytes())
        digest.update(tokens.tobytes())
        flags = None if scored is None else np.concatenate([np.asarray(part, bool) for part in scored])
        digest.update(b"" if flags is None else flags.tobytes())
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return cls(
            tokens,
            offsets,
            table,
            context=context,
            fingerprint=digest.hexdigest(),
            pad_id=pad_id,
            ignore_id=ignore_id,
            scored=flags,
            predicts=whole is None or whole.predicts,
            joined=layout == "stream",
        )

    def __len__(self) -> int:
        return len(self.table)

    def gather(self, row_B: np.ndarray) -> dict[str, np.ndarray]:
        """Rows by number, as ``inputs targets weights segments positions`` ``[B, context]``; -1 gives an empty row.

        ``positions`` count from the start of the row's slice of a document, so they are always below ``context``. Numbered rows
        have ``examples`` ``[B, documents]`` as well: the number of the document of segment 1, 2, ..., -1 behind the last one.
        """
        row_B = np.asarray(row_B, np.int64)
        shape = (len(row_B), self.context)
        real = row_B >= 0
        row = np.where(real, row_B, 0)
        first = self.table.first[row] if len(self) else np.zeros(len(row), np.int64)
        count = np.where(real, self.table.first[row + 1] - first, 0) if len(self) else np.zeros(len(row), np.int64)
        piece = np.repeat(first, count) + ragged_arange(count)
        length = self.table.length[piece].astype(np.int64)
        source = self._offsets[self.table.document[piece]] + self.table.start[piece]
        # Slices lie end to end in a row: where each starts is the sum of the row's slices before it.
        before = np.cumsum(length) - length
        row_start = np.repeat(before[(np.cumsum(count) - count)[count > 0]], count[count > 0])
        place = np.repeat(np.arange(len(row)), count) * self.context + before - row_start
        within = ragged_arange(length)
        target_at = np.repeat(place, length) + within
        read_at = np.repeat(source, length) + within

        batch = {
            "inputs": np.full(shape, self._pad_id, np.int32),
            "targets": np.full(shape, self._pad_id, np.int32),
            "weights": np.zeros(shape, np.float32),
            "segments": np.zeros(shape, np.int32),
            "positions": np.zeros(shape, np.int32),
        }
        predicted_at = read_at + 1 if self.predicts else read_at
        if self._joined:
            predicted_at = np.minimum(predicted_at, len(self._tokens) - 1)  # nothing follows the last token of all
        targets = self._tokens[predicted_at]
        weights = self._weights(predicted_at, targets)
        if self._joined:
            slice_ends = before + length - 1
            row_ends = slice_ends[np.cumsum(count[count > 0]) - 1]
            weights[slice_ends if self._begun else row_ends] = 0
        batch["inputs"].reshape(-1)[target_at] = self._tokens[read_at]
        batch["targets"].reshape(-1)[target_at] = targets
        batch["weights"].reshape(-1)[target_at] = weights
        batch["segments"].reshape(-1)[target_at] = np.repeat(ragged_arange(count) + 1, length)
        batch["positions"].reshape(-1)[target_at] = within
        if self.documents:
            batch["examples"] = np.full((len(row), self.documents), -1, np.int32)
            batch["examples"][np.repeat(np.arange(len(row)), count), ragged_arange(count)] = self.table.document[piece]
        return batch

    def _weights(self, predicted_at: np.ndarray, targets: np.ndarray) -> np.ndarray:
        if self.predicts and self._scored is not None:
            return self._scored[predicted_at]
        if self.predicts and self._ignore_id is not None:
            return targets != self._ignore_id
        return np.ones(len(targets), bool)

    def unscored(self, longest: int) -> int:
        """How many slices of at least ``longest`` positions have no scored target: what was cut off examples was all of it."""
        if self._scored is None or not self.predicts:
            return 0
        slices = np.flatnonzero(self.table.length >= longest)
        starts = self._offsets[self.table.document[slices]] + self.table.start[slices] + 1
        ends = starts + self.table.length[slices]
        return sum(not self._scored[start:end].any() for start, end in zip(starts, ends, strict=True))

    def scored_pairs(self, rows_at_once: int = 1024) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Every scored (token before, target) pair of the split, in flat arrays."""
        for start in range(0, len(self), rows_at_once):
            batch = self.gather(np.arange(start, min(start + rows_at_once, len(self))))
            scored = batch["weights"] > 0
            yield batch["inputs"][scored], batch["targets"][scored]


def local_rows(batch_size: int, process_index: int, process_count: int) -> slice:
    """The rows of a global batch that belong to a process; UserError when they do not divide evenly."""
    if batch_size < 1 or batch_size % process_count:
        raise UserError(f"batch size {batch_size} cannot be shared by {process_count} processes: make it a multiple")
    each = batch_size // process_count
    return slice(process_index * each, (process_index + 1) * each)
