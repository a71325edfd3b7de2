"""The derived cache of a prepared set: memory-mapped arrays that make a batch one gather.

The array_record files are what is prepared; this is rebuilt from them when it is missing or not whole. A folder appears
under its name only when it is complete (it is written beside and renamed), and is trusted only if its files have the
sizes that its ``meta.json`` says.
"""

import array
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ebm_jax.data.packing import RowTable


class Texts:
    """Texts in one file, read one by one: ``texts[number]``."""

    def __init__(self, utf8: np.ndarray, offsets: np.ndarray) -> None:
        """``utf8`` holds the bytes of all, those of text ``n`` at ``offsets[n]:offsets[n + 1]``."""
        self._utf8, self._offsets = np.asarray(utf8), np.asarray(offsets)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < len(self):
            raise IndexError(f"there are texts 0 to {len(self) - 1}, not {number}")
        start, end = self._offsets[number : number + 2]
        return self._utf8[start:end].tobytes().decode("utf-8", "surrogatepass")


@dataclass(frozen=True, kw_only=True)
class SplitTokens:
    """One split's documents: ``tokens`` end to end, document ``d`` at ``offsets[d]:offsets[d + 1]``; ``text_bytes`` is
    the UTF-8 length of their texts. ``scored`` says of every token of examples whether it is a scored target, ``checks`` has
    a text for each where they were asked for."""

    tokens: np.ndarray
    offsets: np.ndarray
    text_bytes: int
    scored: np.ndarray | None = None
    checks: Texts | None = None


@dataclass(frozen=True)
class _Meta:
    dtype: str
    documents: int
    tokens: int
    text_bytes: int
    scored: bool = False
    checks: int | None = None
    """Bytes of all checks; None, and not written, where there are none."""


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``folder`` when the block ends, and is removed when it fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"unfinished-{folder.name}-"))
    try:
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest unsigned type that holds every id."""
    return np.dtype(np.uint8 if vocab_size <= 2**8 else np.uint16 if vocab_size <= 2**16 else np.int32)


class Stored(NamedTuple):
    """A document's tokens, the bytes of its text, and of an example which tokens are scored and its check in UTF-8."""

    tokens: np.ndarray
    text_bytes: int
    scored: np.ndarray | None = None
    check: bytes | None = None


def write_tokens(
    folder: Path, splits: dict[str, Iterable[Stored]], dtype: np.dtype, *, scored: bool = False, checks: bool = False
) -> None:
    """Writes the store from each split's documents, in order; ``scored`` where they are examples, ``checks`` where each of
    these has one."""
    meta: dict[str, dict] = {}
    with whole_folder(folder) as temporary:
        for split, documents in splits.items():
            offsets, check_offsets = array.array("q", [0]), array.array("q", [0])
            text_bytes = 0
            with contextlib.ExitStack() as files:
                file = files.enter_context((temporary / f"{split}.tokens").open("wb"))
                flags = files.enter_context((temporary / f"{split}.scored").open("wb")) if scored else None
                texts = files.enter_context((temporary / f"{split}.checks").open("wb")) if checks else None
                for document in documents:
                    file.write(document.tokens.astype(dtype).tobytes())
                    if flags is not None and document.scored is not None:
                        flags.write(document.scored.astype(bool).tobytes())
                    if texts is not None and document.check is not None:
                        texts.write(document.check)
                        check_offsets.append(check_offsets[-1] + len(document.check))
                    offsets.append(offsets[-1] + len(document.tokens))
                    text_bytes += document.text_bytes
            np.save(temporary / f"{split}.offsets.npy", np.frombuffer(offsets, np.int64))
            if checks:
                np.save(temporary / f"{split}.check_offsets.npy", np.frombuffer(check_offsets, np.int64))
            told = _Meta(
                dtype.name, len(offsets) - 1, offsets[-1], text_bytes, scored, check_offsets[-1] if checks else None
            )
            meta[split] = {name: value for name, value in asdict(told).items() if value is not None}
        (temporary / "meta.json").write_text(json.dumps(meta))


def open_tokens(folder: Path) -> dict[str, SplitTokens] | None:
    """The splits of the store as memory maps; None when it is missing or not whole."""
    try:
        stored = {split: _Meta(**meta) for split, meta in json.loads((folder / "meta.json").read_text()).items()}
        return {split: _open_split(folder, split, meta) for split, meta in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _open_split(folder: Path, split: str, meta: _Meta) -> SplitTokens:
    checks = None
    if meta.checks is not None:
        utf8 = _mapped(folder / f"{split}.checks", np.dtype(np.uint8), meta.checks)
        checks = Texts(utf8, _offsets(folder / f"{split}.check_offsets.npy", meta.documents))
    return SplitTokens(
        tokens=_mapped(folder / f"{split}.tokens", np.dtype(meta.dtype), meta.tokens),
        offsets=_offsets(folder / f"{split}.offsets.npy", meta.documents),
        text_bytes=meta.text_bytes,
        scored=_mapped(folder / f"{split}.scored", np.dtype(bool), meta.tokens) if meta.scored else None,
        checks=checks,
    )


def _offsets(path: Path, count: int) -> np.ndarray:
    offsets = np.load(path, mmap_mode="r")
    if len(offsets) != count + 1:
        raise ValueError(f"{path} is not whole")
    return offsets


def _mapped(path: Path, dtype: np.dtype, count: int) -> np.ndarray:
    if path.stat().st_size != count * dtype.itemsize:
        raise ValueError(f"{path} is not whole")
    return np.memmap(path, dtype, "r") if count else np.zeros(0, dtype)  # an empty file cannot be mapped


def write_table(folder: Path, table: RowTable) -> None:
    """Stores a split's row table."""
    with whole_folder(folder) as temporary:
        for name, part in table._asdict().items():
            np.save(temporary / f"{name}.npy", part)


def open_table(folder: Path) -> RowTable | None:
    """The stored row table of a split as memory maps; None when it is missing or not whole."""
    try:
        table = RowTable(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in RowTable._fields))
    except (OSError, ValueError, EOFError):
        return None
    return table if {len(part) for part in table[1:]} == {int(table.first[-1])} else None
