"""``load_data``: everything a run needs from its corpus, in one object."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ebm_jax.data.config import DataConfig
from ebm_jax.data.digests import fingerprint
from ebm_jax.data.packing import Whole, left_out
from ebm_jax.data.pipeline import EvalBatches, TrainStream
from ebm_jax.data.prepare import prepare, row_tables
from ebm_jax.data.rows import Rows, local_rows
from ebm_jax.data.splits import SPLITS
from ebm_jax.data.store import Texts
from ebm_jax.data.tokenizers import ByteTokenizer, Tokenizer, ignored_target
from ebm_jax.errors import UserError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SplitStats:
    """Counts of one split: ``dropped`` documents are shorter than ``min_tokens``; ``bytes`` is UTF-8 text.

    ``overlong`` examples are longer than ``examples.longest``; they are dropped or cut, as the config says, and of those
    that are cut ``unscored`` have lost all that is scored.
    """

    documents: int
    dropped: int
    tokens: int
    bytes: int
    rows: int
    overlong: int = 0
    unscored: int = 0


@dataclass(frozen=True, kw_only=True)
class Data:
    """A corpus cut to rows, with the streams that read it for one process of a run."""

    config: DataConfig
    tokenizer: Tokenizer
    fingerprint: str
    """Of everything that decides the rows: content, tokenizer, splits, layout, context, packing."""
    rows: dict[str, Rows]
    stats: dict[str, SplitStats]
    batch_size: int
    eval_batch_size: int
    checked: dict[str, Texts] = field(default_factory=dict)
    """The checks of each split's examples, where ``examples.check`` asks for them."""
    seed: int = 0
    process_index: int = 0
    process_count: int = 1

    @cached_property
    def train(self) -> TrainStream:
        """The training stream (one object, made at the first use); UserError when the train split has no rows."""
        return TrainStream(
            self.split("train"),
            batch_size=self.batch_size,
            seed=self.seed,
            process_index=self.process_index,
            process_count=self.process_count,
            workers=self.config.workers,
            prefetch=self.config.prefetch,
        )

    def eval(
        self, split: str = "validation", *, batch_size: int | None = None, limit: int | None = None
    ) -> EvalBatches:
        """The split once, in order; ``limit`` rows at most. UserError when it has no rows."""
        return EvalBatches(
            self.split(split),
            batch_size=batch_size or self.eval_batch_size,
            limit=limit,
            process_index=self.process_index,
            process_count=self.process_count,
        )

    def checks(self, split: str = "train") -> Texts:
        """What completions are verified against, by the number that a batch of the split has for an example in ``examples``.

        UserError when ``examples.check`` asked for none, or the split has no rows.
        """
        self.split(split)
        if split not in self.checked:
            raise UserError(f"{self.config.source}: nothing to verify completions against: set data.examples.check")
        return self.checked[split]

    @property
    def extra(self) -> dict[str, tuple[int, ...]]:
        """What a row of a training batch holds beside the ordinary fields: int32 arrays of these shapes."""
        documents = self.split("train").documents if self.checked else 0
        return {"examples": (documents,)} if documents else {}

    def describe(self) -> str:
        """One line about examples: how many there are, and how many were too long; empty for other documents."""
        if not self.config.holds_examples:
            return ""
        whole, options = self.config.whole, self.config.examples
        fate = "left out" if options.overlong == "drop" else f"cut ({options.overlong})"
        noun, group = ("pairs", 2) if self.config.source_kind == "pairs" else ("examples", 1)
        counts = [
            f"{name} {stats.documents // group:,} {noun} in {stats.rows:,} rows"
            + (f", {stats.overlong:,} texts of over {whole.longest} tokens {fate}" if whole and stats.overlong else "")
            + (f", {stats.unscored:,} of them with nothing left to score" if stats.unscored else "")
            for name, stats in self.stats.items()
        ]
        return "; ".join(counts)

    def split(self, name: str) -> Rows:
        """The rows of ``train``, ``validation`` or ``test``; UserError when there are none."""
        if name not in SPLITS:
            raise UserError(f"split {name!r} is not one of {', '.join(SPLITS)}")
        if name not in self.rows or not len(self.rows[name]):
            counts = ", ".join(f"{split} {stats.documents}" for split, stats in self.stats.items())
            raise UserError(
                f"{self.config.source}: the {name} split has no rows (documents: {counts}). Use more or "
                "shorter documents (data.documents=blocks cuts text files up), another fraction, or a lower min_tokens"
            )
        return self.rows[name]

    @classmethod
    def from_documents(
        cls,
        documents: Mapping[str, Sequence[np.ndarray]],
        config: DataConfig | None = None,
        *,
        batch_size: int,
        eval_batch_size: int | None = None,
        tokenizer: Tokenizer | None = None,
        seed: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ) -> "Data":
        """The same object from token arrays in memory, by split; nothing is prepared, TFDS is not needed."""
        config, tokenizer = config or DataConfig(), tokenizer or ByteTokenizer()
        ignore_id = ignored_target(tokenizer, config.ignore_id)
        rows = {
            split: Rows.from_documents(
                arrays,
                context=config.context,
                layout=config.layout,
                seed=config.packing_seed,
                min_tokens=config.min_tokens,
                pad_id=tokenizer.pad_id,
                ignore_id=ignore_id,
            )
            for split, arrays in documents.items()
        }
        stats = {}
        for split, arrays in documents.items():
            lengths = np.array([len(array) for array in arrays], np.int64)
            text = sum(int(tokenizer.byte_lengths[np.asarray(array, np.int64)].sum()) for array in arrays)
            stats[split] = _stats(lengths, text, rows[split], config)
        return cls(
            config=config,
            tokenizer=tokenizer,
            fingerprint=fingerprint({split: part.fingerprint for split, part in rows.items()}),
            rows=rows,
            stats=stats,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size or batch_size,
            seed=seed if config.shuffle_seed is None else config.shuffle_seed,
            process_index=process_index,
            process_count=process_count,
        )


def load_data(
    config: DataConfig,
    *,
    batch_size: int,
    eval_batch_size: int | None = None,
    seed: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Data:
    """Prepares the corpus if need be and opens its rows.

    Batch sizes count the rows of all processes together. Raises UserError for bad input, see ``prepare``.
    """
    eval_batch_size = eval_batch_size or batch_size
    for size in (batch_size, eval_batch_size):
        local_rows(size, process_index, process_count)  # before the work, not after it
    prepared = prepare(config)
    tokenizer = prepared.tokenizer
    whole = config.whole
    ignore_id = None if config.holds_examples else ignored_target(tokenizer, config.ignore_id)
    if config.append_eos and ignore_id is not None and ignore_id == tokenizer.eos_id:
        _LOG.warning(
            "data.ignore_id=%d is the token that data.append_eos=true writes behind documents: no model learns to end one; "
            "data.ignore_id=none scores it",
            ignore_id,
        )
    packing = (config.layout, config.context, config.packing_seed, config.min_tokens)
    identity = fingerprint([prepared.fingerprint, *packing, ignore_id, *(whole or ())])
    tables = row_tables(prepared, config)
    rows, stats = {}, {}
    for split, tokens in prepared.splits.items():
        rows[split] = Rows(
            tokens.tokens,
            tokens.offsets,
            tables[split],
            context=config.context,
            fingerprint=identity,
            pad_id=tokenizer.pad_id,
            ignore_id=ignore_id,
            scored=tokens.scored,
            predicts=whole is None or whole.predicts,
            joined=config.layout == "stream",
            begun=config.prepend_bos,
            numbered=tokens.checks is not None,
        )
        stats[split] = _stats(np.diff(tokens.offsets), tokens.text_bytes, rows[split], config, whole)
    return Data(
        config=config,
        tokenizer=tokenizer,
        fingerprint=identity,
        rows=rows,
        stats=stats,
        checked={split: tokens.checks for split, tokens in prepared.splits.items() if tokens.checks is not None},
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        seed=seed if config.shuffle_seed is None else config.shuffle_seed,
        process_index=process_index,
        process_count=process_count,
    )


def _stats(
    lengths_D: np.ndarray, text_bytes: int, rows: Rows, config: DataConfig, whole: Whole | None = None
) -> SplitStats:
    return SplitStats(
        documents=len(lengths_D),
        dropped=int(left_out(config.layout, lengths_D, config.min_tokens).sum()),
        tokens=int(lengths_D.sum()),
        bytes=text_bytes,
        rows=len(rows),
        overlong=0 if whole is None else int(whole.too_long(lengths_D).sum()),
        unscored=0 if whole is None or whole.overlong == "drop" else rows.unscored(whole.longest - 1),
    )
