"""From rows to batches: the endless training stream and the finite evaluation batches.

Row ``p`` of the training stream (``p`` counts from 0 over all epochs and hosts) is row ``permute(p mod R)`` of epoch
``p div R``: a pure function of seed, epoch and place. A batch is a pure function of its first place, so the only state
is how many rows have been handed out, and neither the number of hosts nor the prefetching can change the order.

Grain does what is left, making batches ahead of time in threads (never in forked processes): ``TrainBatches`` is a
random-access source of whole batches, which Grain's ``MapDataset`` reads. One element is a batch, not a row, because
one gather for a batch is far cheaper than Python work for each row. Where Grain is not installed, or ``workers=0``,
each batch is made when it is asked for; the batches are the same.
"""

import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ebm_jax.data.order import permute
from ebm_jax.data.rows import Rows, local_rows
from ebm_jax.errors import UserError

NumpyBatch = dict[str, np.ndarray]


class TrainBatches:
    """Random access to a process's share of the global batches that start at row ``start`` of the stream."""

    def __init__(self, rows: Rows, *, batch_size: int, seed: int, mine: slice, start: int = 0) -> None:
        self._rows, self._batch_size, self._seed = rows, batch_size, seed
        self._mine, self._start = mine, start

    def __len__(self) -> int:
        return 2**62  # endless: Grain asks for a length

    def __getitem__(self, number: int) -> NumpyBatch:
        first = self._start + number * self._batch_size
        place = np.arange(first + self._mine.start, first + self._mine.stop)
        epoch, index = np.divmod(place, len(self._rows))
        row = np.empty_like(index)
        for each in np.unique(epoch):
            row[epoch == each] = permute(index[epoch == each], len(self._rows), self._seed, int(each), 2)
        batch = self._rows.gather(row)
        batch["index"] = place.astype(np.uint32)
        return batch


class TrainStream:
    """Endless shuffled batches; ``index`` is a row's place in the stream (modulo 2^32)."""

    def __init__(
        self,
        rows: Rows,
        *,
        batch_size: int,
        seed: int = 0,
        process_index: int = 0,
        process_count: int = 1,
        workers: int = 1,
        prefetch: int = 4,
    ) -> None:
        """``batch_size`` rows a step over all processes; this one gets ``batch_size // process_count`` of them."""
        if not len(rows):
            raise UserError("the training split has no rows: use more or longer documents, or smaller split fractions")
        self._rows, self._batch_size, self._seed = rows, batch_size, seed
        self._mine = local_rows(batch_size, process_index, process_count)
        self._workers, self._prefetch = workers, prefetch
        self._position = 0
        self._iterator: Iterator[NumpyBatch] | None = None

    def __iter__(self) -> "TrainStream":
        return self

    def __next__(self) -> NumpyBatch:
        if self._iterator is None:
            batches = TrainBatches(
                self._rows, batch_size=self._batch_size, seed=self._seed, mine=self._mine, start=self._position
            )
            self._iterator = _ahead(batches, self._workers, self._prefetch)
        batch = next(self._iterator)
        self._position += self._batch_size
        return batch

    def state(self) -> dict[str, Any]:
        """JSON values for ``restore``: rows handed out over all processes, the seed, the rows' fingerprint."""
        return {"position": self._position, "seed": self._seed, "fingerprint": self._rows.fingerprint}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from ``state()`` of a stream over the same rows, on any number of processes.

        Raises UserError when the rows or the seed are others, because then the order would silently differ.
        """
        position = state.get("position")
        if not isinstance(position, numbers.Integral) or int(position) < 0:
            raise UserError(f"data state {dict(state)!r} has no valid position: the checkpoint's data state is damaged")
        if state.get("fingerprint") != self._rows.fingerprint:
            raise UserError(
                f"the training rows are not those of the checkpoint (fingerprint {self._rows.fingerprint}, checkpoint "
                f"{state.get('fingerprint')}): the corpus, tokenizer, context, layout or split changed, or Python's "
                "standard library is another version; start a new run or bring the old data back"
            )
        if state.get("seed") != self._seed:
            raise UserError(
                f"the data seed is {self._seed}, the checkpoint's is {state.get('seed')}: set data.shuffle_seed"
            )
        self.close()
        self._position = int(position)

    def close(self) -> None:
        """Stops the prefetching; the next batch starts it again where the stream stands."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None and hasattr(iterator, "close"):
            iterator.close()


class EvalBatches:
    """The rows of a split once, in order, in batches of one shape; the last is filled with rows of zero weight."""

    def __init__(
        self, rows: Rows, *, batch_size: int, limit: int | None = None, process_index: int = 0, process_count: int = 1
    ) -> None:
        """``limit`` takes only the first rows, which are a fair sample (the table's order is shuffled)."""
        self._rows, self._batch_size = rows, batch_size
        self._mine = local_rows(batch_size, process_index, process_count)
        self.rows = len(rows) if limit is None else min(limit, len(rows))

    def __len__(self) -> int:
        """Batches."""
        return -(-self.rows // self._batch_size)

    def __iter__(self) -> Iterator[NumpyBatch]:
        for first in range(0, self.rows, self._batch_size):
            place = np.arange(first + self._mine.start, first + self._mine.stop)
            batch = self._rows.gather(np.where(place < self.rows, place, -1))
            batch["index"] = place.astype(np.uint32)
            yield batch


def _ahead(batches: TrainBatches, workers: int, prefetch: int) -> Iterator[NumpyBatch]:
    if workers:
        try:
            import grain
        except ImportError:
            workers = 0
    if not workers:
        return (batches[number] for number in range(len(batches)))
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=prefetch)
    return iter(grain.MapDataset.source(batches).to_iter_dataset(options))
