"""The rows of a benchmark: a file that the user names, else the files under ``$EBM_JAX_DATA``, else a public set.

A file is JSON lines (plain, ``.gz``, ``.xz``), a JSON list of objects, Parquet, a ``.csv`` table under its names of columns
(as GPQA is published), or tab-separated ``id, source, target`` lines;
``hf:NAME[:CONFIG]`` in its place names a Hugging Face set. A row knows where it stands, so that a malformed one can be
named.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ebm_jax.data.extras import require
from ebm_jax.data.files import json_rows, read_text
from ebm_jax.data.paths import DATA_VARIABLE, expand, find_files
from ebm_jax.data.tables import load_hugging_face, load_hugging_face_file, parquet_rows
from ebm_jax.errors import UserError

_TYPES = {str: "text", list: "a list", dict: "an object", int: "a whole number", float: "a number"}


class Row:
    """One object of a set with the place it came from; every look-up that fails is a UserError with that place."""

    def __init__(self, fields: Mapping[str, Any], where: str) -> None:
        self.fields, self.where = fields, where

    def __contains__(self, name: str) -> bool:
        return self.fields.get(name) is not None

    def get(self, name: str, kind: type = str) -> Any:
        """A field of the given type."""
        value = self.fields.get(name)
        if value is None:
            self.refuse(f"no field {name!r}, only {sorted(map(str, self.fields))}")
        if kind is float and isinstance(value, int):
            return float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.refuse(f"field {name!r} holds a {type(value).__name__}, not {_TYPES[kind]}")
        return value

    def text(self, *names: str) -> str:
        """The text of the first of these fields that the row has; it must not be blank."""
        name = next((n for n in names if n in self), names[0])
        value = self.get(name)
        if not value.strip():
            self.refuse(f"field {name!r} is blank")
        return value

    def texts(self, name: str) -> list[str]:
        """A field that is a list of texts."""
        values = self.get(name, list)
        if not all(isinstance(value, str) for value in values):
            self.refuse(f"field {name!r} is not a list of texts")
        return values

    def refuse(self, reason: str) -> NoReturn:
        raise UserError(f"{self.where}: {reason}; mend the row or take it out")


@dataclass(frozen=True)
class RowSet:
    """Rows and where they came from."""

    rows: list[Row]
    source: str
    local: Path | None
    """The folder of the files, None for a public set."""

    def provenance(self) -> dict[str, Any]:
        """Source, number of rows and a digest of their content."""
        digest = hashlib.blake2b(digest_size=8)
        for row in self.rows:
            digest.update(json.dumps(row.fields, sort_keys=True, default=str, ensure_ascii=False).encode())
        return {"source": self.source, "rows": len(self.rows), "digest": digest.hexdigest()}


def read_rows(
    title: str, *, file: str = "", local: str = "", hub: str = "", splits: Sequence[str] = ("test",)
) -> RowSet:
    """The rows of ``file``; without one those of ``local`` (a glob below ``$EBM_JAX_DATA``), else of the set ``hub``."""
    if file.startswith("hf:"):
        return _public(file.removeprefix("hf:"), splits)
    if file:
        return _files(file)
    wanted = f"${DATA_VARIABLE}/{local}"
    ways = [f"put {local} under ${DATA_VARIABLE}"] if local else []
    reason = ""
    if local:
        try:
            find_files(wanted, (), ())
        except UserError as error:  # no such variable, or no such files below it
            reason = str(error)
        else:
            return _files(wanted)
    if hub:
        try:
            return _public(hub, splits)
        except UserError as error:
            reason = str(error)
            ways.append(f"have hf:{hub} at hand")
    ways.append(f"name a file: {title}=FILE")
    raise UserError(f"{title}: its questions are not here: {', or '.join(ways)}" + (f" ({reason})" if reason else ""))


def _files(path: str) -> RowSet:
    found = find_files(path, (".jsonl", ".jsonl.gz", ".jsonl.xz", ".json", ".parquet", ".csv", ".tsv"), ())
    rows = [row for name, full in zip(found.names, found.paths(), strict=True) for row in _read(full, name)]
    return RowSet(rows, path, found.root)


def _read(path: Path, name: str) -> Iterator[Row]:
    stem = name.removesuffix(".gz").removesuffix(".xz")
    if stem.endswith(".tsv"):
        for number, line in enumerate(read_text(path).rstrip("\n").split("\n"), 1):
            cells = line.rstrip("\r").split("\t")
            if len(cells) not in (2, 3):
                raise UserError(f"{path}: line {number}: {len(cells)} tab-separated cells, not id, source and target")
            yield Row({"source": cells[-2], "target": cells[-1]}, f"{path}: line {number}")
    elif stem.endswith(".parquet"):
        yield from (Row(row, f"{path}: row {number}") for number, row in parquet_rows(path))
    elif stem.endswith(".csv"):
        yield from _csv(path)
    elif stem.endswith(".json"):
        try:
            listed = json.loads(read_text(path))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: line {error.lineno}: not JSON: {error.msg} at column {error.colno}") from error
        if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
            raise UserError(f"{path}: not a JSON list of objects; one object a line goes by the name .jsonl")
        yield from (Row(row, f"{path}: row {number}") for number, row in enumerate(listed, 1))
    else:
        yield from (Row(row, f"{path}: line {number}") for number, row in json_rows(path))


def _csv(path: Path) -> Iterator[Row]:
    table = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for row in table:
            where = f"{path}: line {table.line_num}"
            if None in row or None in row.values():
                raise UserError(f"{where}: it has not the {len(table.fieldnames or ())} cells of the first line")
            yield Row(row, where)
    except csv.Error as error:
        raise UserError(f"{path}: line {table.reader.line_num}: no comma-separated table: {error}") from error


def _public(hub: str, splits: Sequence[str]) -> RowSet:
    if hub.startswith("sacrebleu:"):
        return _sacrebleu(hub)
    sets = load_hugging_face_file(hub) if hub.endswith((".json", ".jsonl")) else load_hugging_face(hub)
    split = next((name for name in splits if name in sets), None)
    if split is None:
        raise UserError(f"hf:{hub} has splits {sorted(sets)}, none of {', '.join(splits)}")
    where = f"hf:{hub}/{split}"
    return RowSet([Row(dict(row), f"{where}: row {number}") for number, row in enumerate(sets[split])], where, None)


def _sacrebleu(hub: str) -> RowSet:
    """``sacrebleu:SET:xx-yy``: a test set that the sacrebleu package knows and fetches."""
    _, name, pair = hub.split(":")
    package = require("sacrebleu", "eval", f"the test set {name}")
    try:
        source = package.get_source_file(name, pair)
        targets = package.get_reference_files(name, pair)
        lines = [Path(path).read_text(encoding="utf-8").splitlines() for path in (source, targets[0])]
    except Exception as error:  # unknown names, no network and broken downloads share no base class
        raise UserError(f"{hub} cannot be had: {str(error) or type(error).__name__}") from error
    pairs = zip(*lines, strict=True)
    return RowSet([Row({"source": s, "target": t}, f"{hub}: line {n}") for n, (s, t) in enumerate(pairs, 1)], hub, None)


def beside(rows: RowSet, name: str) -> Path | None:
    """A file in the same folder as the rows, when there is one."""
    if rows.local is None:
        return None
    return next((path for path in (rows.local / name, rows.local / f"{name}.gz") if path.is_file()), None)


def read_file(path: str | Path) -> RowSet:
    """The rows of one file that must be there."""
    return _files(str(expand(str(path))))
