"""Rows of tables as documents: Parquet files, prepared TFDS sets, Hugging Face sets. All are split by content.

A TFDS or Hugging Face set, or a folder of Parquet files, that has train, validation or test splits keeps them; a split
it lacks is cut from its training rows by the config's fractions.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ebm_jax.data.digests import FileDigests
from ebm_jax.data.extras import require
from ebm_jax.data.files import LocalFiles
from ebm_jax.data.paths import expand, find_files
from ebm_jax.data.sources import Document
from ebm_jax.data.splits import SPLIT_NAMES
from ebm_jax.errors import UserError


class ParquetFiles(LocalFiles):
    """One column of Parquet files."""

    def __init__(self, path: str, text_field: str, exclude: tuple[str, ...] = ()) -> None:
        super().__init__(find_files(path, (".parquet",), exclude), "parquet")
        self._field = text_field
        self._pyarrow = require("pyarrow", "data", "a parquet: source")
        self._parquet = require("pyarrow.parquet", "data", "a parquet: source")

    def __iter__(self) -> Iterator[Document]:
        for name, path in zip(self._found.names, self._found.paths(), strict=True):
            number = 0
            try:
                with self._parquet.ParquetFile(path) as file:
                    if self._field not in file.schema_arrow.names:
                        columns = file.schema_arrow.names
                        raise UserError(f"{path}: no column {self._field!r}, only {columns}; set data.text_field")
                    for batch in file.iter_batches(columns=[self._field]):
                        for text in batch.column(0).to_pylist():
                            text = _as_text(text, f"{path}: row {number}")
                            yield Document(key=f"{name}:{number}", text=text, split=self._split_of.get(name))
                            number += 1
            except (self._pyarrow.ArrowException, OSError) as error:
                raise UserError(f"{path}: not a readable Parquet file: {error}") from error
            if not number:
                raise UserError(f"{path}: empty: no rows; leave it out with data.exclude")


def parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a Parquet file with their numbers from 0; UserError when it cannot be read or has none."""
    pyarrow, parquet = (require(name, "data", "a Parquet file") for name in ("pyarrow", "pyarrow.parquet"))
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file: {error}") from error
    if not number:
        raise UserError(f"{path}: empty: no rows; leave it out with data.exclude")


class TFDSSet:
    """A set that TFDS has prepared as array_record (or Parquet), read without TensorFlow."""

    def __init__(self, name: str, text_field: str, data_dir: str | None) -> None:
        self._tfds = require("tensorflow_datasets", "data", "a tfds: source")
        self.name = "tfds-" + re.sub(r"[^A-Za-z0-9_]+", "_", name)
        self._title, self._field = f"tfds:{name}", text_field
        where = None if data_dir is None else str(expand(data_dir))
        shown = where or "TFDS's default folder (data.data_dir names another)"
        try:
            self._builder = self._tfds.builder(name, data_dir=where)
        except Exception as error:  # TFDS raises a different type for each way a name can be wrong
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{self._title} cannot be opened in {shown}: {reason}") from error
        if not self._builder.is_prepared():
            raise UserError(
                f"{self._title} is not prepared in {shown}: prepare it first with file_format=array_record, "
                f"for example: tfds build {name} --file_format=array_record"
            )
        file_format = getattr(self._builder.info.file_format, "value", None)
        if file_format == "tfrecord":
            raise UserError(
                f"{self._title} in {shown} is stored as tfrecord, which only TensorFlow can read: "
                "prepare it again with file_format=array_record"
            )
        features = self._builder.info.features
        if text_field not in features:
            raise UserError(f"{self._title} has no field {text_field!r}, only {sorted(features)}; set data.text_field")
        self._splits = known_splits(self._title, self._builder.info.splits)
        self.own_splits = frozenset(self._splits.values())

    def listing(self, digests: FileDigests) -> Iterable[str]:
        info = self._builder.info
        return [info.full_name] + [
            f"{split} {info.splits[split].num_examples} {info.splits[split].num_bytes}" for split in self._splits
        ]

    def __iter__(self) -> Iterator[Document]:
        for split, ours in self._splits.items():
            rows = self._builder.as_data_source(split=split)
            for number in range(len(rows)):
                key = f"{self._title}/{split}:{number}"
                yield Document(key=key, text=_as_text(rows[number][self._field], key), split=ours)


class HuggingFaceSet:
    """A set of the ``datasets`` package, downloaded or cached by it (never streamed)."""

    def __init__(self, name: str, text_field: str) -> None:
        self.name = "hf-" + re.sub(r"[^A-Za-z0-9_]+", "_", name)
        self._title, self._field = f"hf:{name}", text_field
        self._sets = load_hugging_face(name)
        self._splits = known_splits(self._title, self._sets)
        for split in self._splits:
            columns = self._sets[split].column_names
            if text_field not in columns:
                raise UserError(f"{self._title} has no field {text_field!r}, only {columns}; set data.text_field")
        self.own_splits = frozenset(self._splits.values())

    def listing(self, digests: FileDigests) -> Iterable[str]:
        return [self._title] + [f"{split} {rows_stamp(self._sets[split])}" for split in self._splits]

    def __iter__(self) -> Iterator[Document]:
        for split, ours in self._splits.items():
            for number, row in enumerate(self._sets[split]):
                key = f"{self._title}/{split}:{number}"
                yield Document(key=key, text=_as_text(row[self._field], key), split=ours)


def load_hugging_face(name: str) -> Mapping[str, Any]:
    """The splits of ``NAME[:CONFIG]``; UserError when ``datasets`` is not installed or cannot load it."""
    path, _, config = name.partition(":")
    return _loaded(name, path, config or None)


def load_hugging_face_file(name: str) -> Mapping[str, Any]:
    """The rows of one JSON file, ``OWNER/NAME/FILE``, of a set that is a script otherwise: ``datasets`` runs none."""
    return _loaded(name, "json", data_files=f"hf://datasets/{name}")


def _loaded(name: str, *what: str | None, **settings: Any) -> Mapping[str, Any]:
    datasets = require("datasets", "hf", "an hf: source")
    try:
        return datasets.load_dataset(*what, streaming=False, **settings)
    except Exception as error:  # network, name and file errors share no base class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"hf:{name} cannot be loaded: {reason}") from error


def rows_stamp(rows: Any) -> str:
    """A few words that change with the rows of one split of a Hugging Face set."""
    return f"{len(rows)} {getattr(rows, '_fingerprint', '')}"


def known_splits(title: str, names: Iterable[str]) -> dict[str, str]:
    """Which of our splits each of a set's splits is; UserError when none of them is one."""
    names = list(names)
    known = {name: SPLIT_NAMES[name] for name in names if name in SPLIT_NAMES}
    if not known:
        raise UserError(f"{title} has splits {names}; none of them is called train, validation or test")
    return known


def _as_text(value, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: byte {error.start} of the text is not valid UTF-8") from error
    if not isinstance(value, str):
        raise UserError(f"{where}: holds a {type(value).__name__}, not a string; set data.text_field")
    return value
