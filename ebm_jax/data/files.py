"""Local text and JSON-lines files as documents, plain or compressed (``.gz``, ``.xz``)."""

import gzip
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from ebm_jax.data.digests import FileDigests
from ebm_jax.data.paths import FoundFiles, find_files
from ebm_jax.data.sources import Document
from ebm_jax.data.splits import SPLIT_NAMES
from ebm_jax.data.stdlib import read_python
from ebm_jax.errors import UserError

_TEXT = (".txt", ".md", ".rst", ".tex", ".html", ".xml", ".csv", ".tsv",
         ".py", ".c", ".h", ".cc", ".cpp", ".js", ".java")  # fmt: skip
TEXT_SUFFIXES = tuple(suffix + packed for suffix in _TEXT for packed in ("", ".gz", ".xz"))
JSONL_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.xz")
JSON_SUFFIXES = (".json", ".json.gz", ".json.xz")
_MEND = "mend the file or leave it out with data.exclude"


def open_binary(path: Path) -> BinaryIO:
    """The file's bytes, decompressed by its suffix."""
    if path.name.endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.name.endswith(".xz"):
        return cast(BinaryIO, lzma.open(path, "rb"))
    return path.open("rb")


class LocalFiles:
    """What file corpora share: where the files are and what identifies their content."""

    def __init__(self, found: FoundFiles, kind: str) -> None:
        self._found = found
        self._split_of = splits_of_files(found)
        self.own_splits = frozenset(self._split_of.values())
        stem = found.root.name if len(found.names) > 1 else Path(found.names[0]).name.split(".")[0]
        self.name = f"{kind}-{re.sub(r'[^A-Za-z0-9_]+', '_', stem)[:40]}"

    def listing(self, digests: FileDigests) -> Iterable[str]:
        lines = [f"{name} {digests(self._found.root / name)}" for name in self._found.names]
        return lines + [f"{name} is {split}" for name, split in self._split_of.items()]


def splits_of_files(found: FoundFiles) -> dict[str, str]:
    """The split of every file of a folder that holds files of splits and nothing else; empty for any other corpus.

    A file of a split lies directly in the folder and is called ``train``, ``validation`` (``valid``, ``val``, ``dev``)
    or ``test``, with anything after a full stop, a hyphen or an underscore (``train-00000-of-00004.jsonl.gz``). A corpus
    without a training file is no such folder; nor is a file or a glob, whose documents are split by their hash.
    """
    split_of = {name: SPLIT_NAMES.get(re.split(r"[-._]", name)[0], "") for name in found.names}
    splits = set(split_of.values())
    return split_of if found.whole_folder and "" not in splits and "train" in splits and len(splits) > 1 else {}


class TextFiles(LocalFiles):
    """Text files; a document is a file, a paragraph, a line or a block of lines.

    Whole files are split by their path inside the corpus, parts of files by their content, unless the files are those of
    splits (see ``splits_of_files``). Text is UTF-8, except that
    Python files may declare another encoding.
    """

    def __init__(self, path: str, documents: str, block_chars: int, exclude: tuple[str, ...] = ()) -> None:
        super().__init__(find_files(path, TEXT_SUFFIXES, exclude), "text")
        self._documents, self._block_chars = documents, block_chars

    def __iter__(self) -> Iterator[Document]:
        for name, path in zip(self._found.names, self._found.paths(), strict=True):
            text = read_text(path)
            split = self._split_of.get(name)
            if self._documents == "file":
                yield Document(key=name, text=text, split_key=name, split=split)
                continue
            for number, part in enumerate(_parts(text, self._documents, self._block_chars), 1):
                yield Document(key=f"{name}#{number}", text=part, split=split)


class JsonLines(LocalFiles):
    """One JSON object a line, its text in one field; split by content, or by file (see ``splits_of_files``)."""

    def __init__(self, path: str, text_field: str, exclude: tuple[str, ...] = ()) -> None:
        super().__init__(find_files(path, JSONL_SUFFIXES, exclude), "jsonl")
        self._field = text_field

    def __iter__(self) -> Iterator[Document]:
        for name, path in zip(self._found.names, self._found.paths(), strict=True):
            split = self._split_of.get(name)
            for number, row in json_rows(path):
                yield Document(key=f"{name}:{number}", text=_field(path, number, row, self._field), split=split)


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file with their line numbers; UserError that names file and line for anything else."""
    empty = True
    for number, line in _lines(path):
        if line.strip():
            empty = False
            yield number, _object(path, number, line)
    if empty:
        raise UserError(f"{path}: empty: no JSON line at byte 0; {_MEND}")


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, compressed where the suffix says so; a reader sees the whole file or none of it."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    # The same rows are the same bytes: no time of day.
    packed = {".gz": lambda: gzip.compress(text, mtime=0), ".xz": lambda: lzma.compress(text)}
    aside.write_bytes(packed.get(path.suffix, lambda: text)())
    aside.replace(path)


def json_list(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file that is one JSON list, or JSON lines by another name, with the words that name one's place."""
    text = read_text(path)
    if not text.lstrip().startswith("["):
        yield from ((f"line {number}", row) for number, row in json_rows(path))
        return
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: line {error.lineno}: not JSON: {error.msg} at column {error.colno}; {_MEND}"
        ) from error
    if not rows:
        raise UserError(f"{path}: empty: a JSON list without rows; {_MEND}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UserError(f"{path}: row {number}: a {type(row).__name__}, not an object with fields; {_MEND}")
        yield f"row {number}", row


def read_text(path: Path) -> str:
    """The text of a file; UserError that names file and byte when it is empty or not decodable."""
    if path.suffix == ".py":
        text = read_python(path)
    else:
        try:
            with open_binary(path) as file:
                raw = file.read()
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise UserError(f"{path}: not a whole compressed file ({error}); {_MEND}") from error
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            bad = f"byte {error.start} (0x{raw[error.start]:02x})"
            raise UserError(
                f"{path}: {bad} is not valid UTF-8; convert the file or leave it out with data.exclude"
            ) from error
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise UserError(f"{path}: empty: no text from byte 0 to its end; {_MEND}")
    return text


def _parts(text: str, rule: str, block_chars: int) -> Iterator[str]:
    if rule == "paragraphs":
        parts: Iterable[str] = re.split(r"\n[ \t\r]*\n\s*", text)
    elif rule == "lines":
        parts = text.splitlines()
    else:
        parts = _blocks(text, block_chars)
    return (part for part in parts if part.strip())


def _blocks(text: str, size: int) -> Iterator[str]:
    start = 0
    while start < len(text):
        line_end = text.rfind("\n", start, start + size)
        stop = line_end + 1 if line_end > start and start + size < len(text) else start + size
        yield text[start:stop]
        start = stop


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        with open_binary(path) as file:
            for number, line in enumerate(file, 1):
                yield number, line
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: not a whole compressed file after line {number} ({error}); {_MEND}") from error


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.rstrip(b"\r\n").decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: line {number}: byte {error.start} of the line is not valid UTF-8; {_MEND}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {number}: not JSON: {error.msg} at column {error.colno}; {_MEND}") from error
    if not isinstance(row, dict):
        raise UserError(f"{path}: line {number}: a {type(row).__name__}, not an object with fields; {_MEND}")
    return row


def _field(path: Path, number: int, row: dict[str, Any], field: str) -> str:
    if field not in row:
        raise UserError(f"{path}: line {number}: no field {field!r}, only {sorted(row)}; set data.text_field")
    if not isinstance(row[field], str):
        raise UserError(f"{path}: line {number}: field {field!r} holds a {type(row[field]).__name__}, not a string")
    return row[field]
