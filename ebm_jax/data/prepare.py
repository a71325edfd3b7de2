"""Preparing a corpus once: array_record files by TFDS, then the memory-mapped store, under one lock.

``cache_dir/ebm_documents/<source>-<fingerprint>/`` holds ``1.0.0/`` (the TFDS set), ``tokens/`` (the store made from
it) and ``rows-<...>/`` (row tables). The fingerprint is made of the documents' content, the tokenizer and the split
rule, so a changed corpus is another folder and a folder never changes.

Whichever process takes the file lock prepares; the others wait and find it done, be they hosts that share the disk or a
second run. Hosts with disks of their own each prepare the same. The operating system frees the lock of a killed
process, and what that process left unfinished is removed, never read.
"""

import contextlib
import errno
import io
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ebm_jax.data import store
from ebm_jax.data.config import DataConfig
from ebm_jax.data.digests import FileDigests, fingerprint
from ebm_jax.data.packing import RowTable, build_table, build_whole_table
from ebm_jax.data.paths import expand
from ebm_jax.data.sources import Source, open_source
from ebm_jax.data.splits import SplitRule
from ebm_jax.data.tokenizers import Tokenizer, open_tokenizer
from ebm_jax.errors import UserError

_LOG = logging.getLogger(__name__)
_FORMAT = 1
"""Counts changes of what is prepared from the same input; part of every fingerprint."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared corpus: its folder, tokenizer and the splits that hold documents."""

    folder: Path
    fingerprint: str
    tokenizer: Tokenizer
    splits: dict[str, store.SplitTokens]


def prepare(config: DataConfig) -> Prepared:
    """Prepares the corpus of ``config`` unless that has been done, and opens it.

    Raises UserError for bad input, for a full or read-only disk, and when TFDS is needed and not installed.
    """
    tokenizer = open_tokenizer(config.tokenizer)
    if config.append_eos and tokenizer.eos_id is None:
        raise UserError(f"data.append_eos: {config.tokenizer} has no end-of-text token; set data.append_eos=false")
    if config.prepend_bos and tokenizer.bos_id is None:
        raise UserError(f"data.prepend_bos: {config.tokenizer} has no begin-of-text token; set data.prepend_bos=false")
    source = open_source(config)
    shares = {"validation": config.validation_fraction, "test": config.test_fraction}
    rule = SplitRule(**shares, own=source.own_splits, seed=config.split_seed)
    cache = expand(config.cache_dir)
    with _disk_errors(cache):
        identity = _identity(config, source, tokenizer, cache)
        name = re.sub(r"[^A-Za-z0-9_-]", "_", source.name)
        folder = cache / "ebm_documents" / f"{name}-{identity[:16]}"
        splits = store.open_tokens(folder / "tokens")
        if splits is None:
            with _lock(folder.with_name(folder.name + ".lock")):
                splits = store.open_tokens(folder / "tokens")
                if splits is None:
                    _build(folder, config, source, tokenizer, rule)
                    splits = store.open_tokens(folder / "tokens")
    if splits is None:
        raise UserError(f"{folder / 'tokens'} could not be written whole: remove {folder} and try again")
    return Prepared(folder=folder, fingerprint=identity, tokenizer=tokenizer, splits=splits)


def row_tables(prepared: Prepared, config: DataConfig) -> dict[str, RowTable]:
    """The row table of each split, stored with the prepared set the first time its layout is asked for."""
    title = f"rows-{config.layout}-{config.context}-{config.packing_seed}-{config.min_tokens}"
    if config.whole is not None:
        title += f"-{config.whole.longest}-{config.whole.overlong}"
    places = {split: prepared.folder / title / split for split in prepared.splits}
    tables = {split: table for split, place in places.items() if (table := store.open_table(place)) is not None}
    if len(tables) == len(places):
        return tables
    with _disk_errors(expand(config.cache_dir)), _lock(prepared.folder.with_name(prepared.folder.name + ".lock")):
        for split, place in places.items():
            table = store.open_table(place)
            if table is None:
                lengths_D = np.diff(prepared.splits[split].offsets)
                if config.layout == "stream" and config.append_eos and len(lengths_D):
                    lengths_D[-1] -= 1  # the token that ends a document is read before the next one alone
                seed, least = config.packing_seed, config.min_tokens
                if config.whole is None:
                    table = build_table(config.layout, lengths_D, config.context, seed=seed, min_tokens=least)
                else:
                    table = build_whole_table(config.layout, lengths_D, config.context, config.whole, seed=seed)
                store.write_table(place, table)
            tables[split] = table
    return tables


def _identity(config: DataConfig, source: Source, tokenizer: Tokenizer, cache: Path) -> str:
    digests = FileDigests(cache)
    listing = fingerprint(list(source.listing(digests)))
    digests.save()
    # Keys that most sets do not have are left out, so that those keep their names.
    rare = {"prepend_bos": config.prepend_bos, "split_seed": config.split_seed}
    return fingerprint(
        {name: value for name, value in rare.items() if value}
        | {
            "format": _FORMAT,
            "kind": config.source_kind,
            "listing": listing,
            "text_field": config.text_field,
            "documents": [config.documents, config.block_chars],
            "max_documents": config.max_documents,
            "splits": [config.validation_fraction, config.test_fraction],
            "tokenizer": tokenizer.fingerprint,
            "append_eos": config.append_eos,
        }
    )


def _build(folder: Path, config: DataConfig, source: Source, tokenizer: Tokenizer, rule: SplitRule) -> None:
    from ebm_jax.data.builder import EbmDocuments

    for leftover in [*folder.glob("incomplete.*"), *folder.glob("unfinished-*")]:
        shutil.rmtree(leftover, ignore_errors=True)  # of a killed preparation; nobody else is at work under the lock
    whole = config.whole
    with _quiet():
        builder = EbmDocuments(
            data_dir=folder.parents[1],
            title=folder.name,
            source=source,
            tokenizer=tokenizer,
            rule=rule,
            append_eos=config.append_eos,
            prepend_bos=config.prepend_bos,
            max_documents=config.max_documents and config.max_documents * (whole.group if whole else 1),
            examples=config.holds_examples,
            checks=bool(config.examples.check),
        )
        if not builder.is_prepared():
            _LOG.info("preparing %s in %s", config.source, folder)
            try:
                builder.download_and_prepare(download_dir=str(folder / "downloads"))
            except Exception:
                # TFDS words errors anew; ours is the one that says where the mistake is.
                if builder.failure is not None:
                    raise builder.failure from builder.failure.__cause__
                raise
            shutil.rmtree(folder / "downloads", ignore_errors=True)
        try:
            store.write_tokens(
                folder / "tokens",
                {split: _stored(builder, split) for split in builder.info.splits},
                store.token_dtype(tokenizer.vocab_size),
                scored=config.holds_examples,
                checks=bool(config.examples.check),
            )
        except (RuntimeError, ValueError, IndexError) as error:
            raise UserError(
                f"the files in {builder.data_dir} are damaged ({error}): remove {folder} and run again"
            ) from error


def _stored(builder, split: str) -> Iterator[store.Stored]:
    rows = builder.as_data_source(split=split)
    for number in range(len(rows)):
        row = rows[number]
        yield store.Stored(row["tokens"], int(row["text_bytes"]), row.get("scored"), row.get("check"))


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: two preparations at once do the work twice, and the last one's folder stays
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOG.info("waiting for another process to prepare %s", path.with_suffix("").name)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _disk_errors(cache: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        # array_record writes in C++ and raises RuntimeError with the system's words and no number.
        number = getattr(error, "errno", None)
        full = (errno.ENOSPC, errno.EDQUOT)
        if number in full or any(os.strerror(each) in str(error) for each in full):
            raise UserError(f"no space left for data.cache_dir={cache}: free some or set data.cache_dir") from error
        if number in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            place = Path(getattr(error, "filename", None) or cache)
            mend = f"set data.cache_dir={cache} elsewhere" if place.is_relative_to(cache) else "make it readable"
            raise UserError(f"{place}: {os.strerror(number)}; {mend}") from error
        raise


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # TFDS prints to stdout and warns about configs made at run time; neither is news to the user.
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        import tensorflow_datasets as tfds

        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl.setLevel(level)
