"""The corpus every machine has: the source of the Python standard library, and the English of its topic help.

Training text is Python source; ``pydoc_data.topics`` (language reference in English) is never part of it, so it serves
as the out-of-distribution set.
"""

import fnmatch
import re
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

from ebm_jax.data.digests import FileDigests, fingerprint
from ebm_jax.data.sources import Document
from ebm_jax.errors import UserError

# Installed packages, the out-of-distribution text, CPython's own tests (large, repetitive, some not decodable on
# purpose), and files whose content depends on the machine that built Python.
_LEFT_OUT = re.compile(
    r"(^|/)(site-packages|dist-packages|__pycache__|pydoc_data|test|tests|idle_test|ensurepip/_bundled)/"
    r"|(^|/)_sysconfigdata[^/]*\.py$|^config-[^/]*/"
)


class StandardLibrary:
    """Every ``.py`` file of the running Python's library, keyed and split by its path inside the library."""

    name = "stdlib"
    own_splits: frozenset[str] = frozenset()

    def __init__(self, exclude: tuple[str, ...] = (), root: str | Path | None = None) -> None:
        self._root = Path(root or sysconfig.get_path("stdlib"))
        names = (path.relative_to(self._root).as_posix() for path in self._root.rglob("*.py"))
        names = (name for name in names if not _LEFT_OUT.search(name))
        self._names = sorted(n for n in names if not any(fnmatch.fnmatch(n, pattern) for pattern in exclude))
        if not self._names:
            raise UserError(
                f"no .py files under {self._root}: this Python ships its library without source; "
                "read another corpus, for example data.source=text:FOLDER"
            )

    def listing(self, digests: FileDigests) -> Iterable[str]:
        return [f"{name} {digests(self._root / name)}" for name in self._names]

    def __iter__(self) -> Iterator[Document]:
        for name in self._names:
            text = read_python(self._root / name)
            if text:
                yield Document(key=name, text=text, split_key=name)


class StandardLibraryTopics:
    """The texts of ``help("...")`` on the language, one document a topic."""

    name = "stdlib-topics"
    own_splits: frozenset[str] = frozenset()

    def __init__(self) -> None:
        try:
            from pydoc_data.topics import topics
        except ImportError as error:
            raise UserError("this Python ships without pydoc_data.topics; use another corpus") from error
        self._topics: dict[str, str] = topics

    def listing(self, digests: FileDigests) -> Iterable[str]:
        return [f"{name} {fingerprint(self._topics[name])}" for name in sorted(self._topics)]

    def __iter__(self) -> Iterator[Document]:
        for name in sorted(self._topics):
            yield Document(key=name, text=self._topics[name], split_key=name)


def read_python(path: Path) -> str:
    """The text of a Python file in the encoding it declares; UserError with the byte where it cannot be decoded."""
    raw = path.read_bytes()
    lines = iter(raw.splitlines(keepends=True))
    try:
        encoding, _ = tokenize.detect_encoding(lambda: next(lines, b""))
    except SyntaxError as error:
        raise UserError(f"{path}: byte 0: {error}; mend the file or leave it out with data.exclude") from error
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} is not valid {encoding}; mend the file or leave it out with data.exclude"
        ) from error
