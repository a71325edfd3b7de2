"""Rows of JSON and Parquet files or of a Hugging Face set, with the words that name one in a message."""

import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ebm_jax.data.digests import FileDigests
from ebm_jax.data.files import JSON_SUFFIXES, JSONL_SUFFIXES, LocalFiles, json_list, json_rows
from ebm_jax.data.paths import find_files
from ebm_jax.data.tables import known_splits, load_hugging_face, parquet_rows, rows_stamp
from ebm_jax.errors import UserError


class Row(NamedTuple):
    """One row of a table."""

    key: str
    """``FILE:LINE`` (or the number of the row), short."""
    where: str
    """The same for a message, path in full."""
    fields: dict[str, Any]
    split: str | None
    """The split of a table that has its own."""
    split_key: str | None = None
    """What decides its split in a table that has none, where its prompt does not."""

    def text(self, field: str) -> str:
        """The string in ``field``; UserError for anything else."""
        value = self.value(field)
        if not isinstance(value, str):
            raise UserError(f"{self.where}: field {field!r} holds {_kind(value)}, not a string")
        return value

    def value(self, field: str) -> Any:
        """Whatever is in ``field``; UserError when the row has none."""
        if field not in self.fields:
            raise UserError(f"{self.where}: no field {field!r}, only {sorted(self.fields)}")
        return self.fields[field]

    def fill(self, template: str, key: str, *, lists: bool = False) -> str:
        """The format string ``template`` (the config's ``key``) filled in.

        Numbers are written out and, with ``lists``, lists of strings, a line each; nothing else is.
        """
        try:
            return _Filler(self, lists).vformat(template, (), self.fields)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{self.where}: {key}={template!r} does not fit the row: {error!r}") from error


class Table(Protocol):
    """Rows that can be read any number of times, in the same order."""

    name: str
    own_splits: frozenset[str]

    def listing(self, digests: FileDigests) -> Iterable[str]: ...

    def __iter__(self) -> Iterator[Row]: ...


def open_table(path: str, kind: str, exclude: tuple[str, ...] = ()) -> Table:
    """The rows of ``path``: a file, a folder or a glob of JSON lines, JSON lists or Parquet, or ``hf:NAME[:CONFIG]``."""
    if path.startswith("hf:"):
        return HuggingFaceTable(path.removeprefix("hf:"), kind)
    return FileTable(path, kind, exclude)


class FileTable(LocalFiles):
    """The objects of JSON lines, of JSON lists (``.json``) and of Parquet files.

    Of a folder with rows in other files, those that end in ``.json`` are left out: they say something about the rows.
    """

    def __init__(self, path: str, kind: str, exclude: tuple[str, ...] = ()) -> None:
        found = find_files(path, (*JSONL_SUFFIXES, ".parquet", *JSON_SUFFIXES), exclude)
        others = [name for name in found.names if not name.endswith(JSON_SUFFIXES)]
        super().__init__(found._replace(names=others) if found.whole_folder and others else found, kind)

    def __iter__(self) -> Iterator[Row]:
        for name, path in zip(self._found.names, self._found.paths(), strict=True):
            for place, fields in _rows(path):
                key = f"{name}:{place.partition(' ')[2]}"
                yield Row(key, f"{path}: {place}", fields, self._split_of.get(name))


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.name.endswith(".parquet"):
        return ((f"row {number}", fields) for number, fields in parquet_rows(path))
    if path.name.endswith(JSON_SUFFIXES):
        return json_list(path)
    return ((f"line {number}", fields) for number, fields in json_rows(path))


class HuggingFaceTable:
    """The rows of a set of the ``datasets`` package."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = f"{kind}-hf-" + re.sub(r"[^A-Za-z0-9_]+", "_", name)
        self._title, self._sets = f"hf:{name}", load_hugging_face(name)
        self._splits = known_splits(self._title, self._sets)
        self.own_splits = frozenset(self._splits.values())

    def listing(self, digests: FileDigests) -> Iterable[str]:
        return [self._title] + [f"{split} {rows_stamp(self._sets[split])}" for split in self._splits]

    def __iter__(self) -> Iterator[Row]:
        for split, ours in self._splits.items():
            for number, fields in enumerate(self._sets[split]):
                key = f"{self._title}/{split}:{number}"
                yield Row(key, key, dict(fields), ours)


class _Filler(string.Formatter):
    """``str.format`` over a row's fields that lets no missing, empty or structured value pass for text."""

    def __init__(self, row: Row, lists: bool) -> None:
        self._row, self._lists = row, lists

    def get_value(self, key: int | str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        return self._row.value(str(key))

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
        value, first = super().get_field(field_name, args, kwargs)
        if self._lists and isinstance(value, list) and all(isinstance(line, str) for line in value):
            return "\n".join(value), first
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UserError(f"{self._row.where}: field {field_name!r} holds {_kind(value)}, not a string or a number")
        return value, first


def _kind(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {json.dumps(value, default=str)[:60]}"
