"""What a source of documents is, and the one place that opens the source a config names.

A new kind of source is a class with ``name``, ``listing`` and ``__iter__`` and one line in ``open_source``: tokens,
splits, rows and order follow from the documents.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from ebm_jax.data.config import DataConfig
from ebm_jax.data.digests import FileDigests


class Part(NamedTuple):
    """A piece of a document's text, and whether its tokens are scored."""

    text: str
    scored: bool


class Document(NamedTuple):
    """A text and what it is called.

    ``split_key`` decides the split (None: the content does, so that equal texts never end up on both sides); ``split``
    is set where the source has splits of its own. ``parts`` are the pieces of an example's text; ``exact`` ones must end where
    a token of the whole text ends, others are cut there (see ``encoding``). ``check`` is what another completion of it would
    be verified against.
    """

    key: str
    text: str
    split_key: str | None = None
    split: str | None = None
    parts: tuple[Part, ...] | None = None
    exact: bool = False
    check: str | None = None


class Source(Protocol):
    """A corpus that can be read from the start any number of times, in the same order."""

    name: str
    """Short, safe in file names."""
    own_splits: frozenset[str]
    """Those of train, validation and test that the source brings itself."""

    def listing(self, digests: FileDigests) -> Iterable[str]:
        """Lines that change whenever the documents do, and never with the place where they lie."""
        ...

    def __iter__(self) -> Iterator[Document]: ...


def open_source(config: DataConfig) -> Source:
    """The source of ``config.source``; UserError when it is not there."""
    # Imported here because these modules need this one, and so that pyarrow, tfds and datasets stay optional.
    match config.source_kind:
        case "stdlib":
            from ebm_jax.data.stdlib import StandardLibrary

            return StandardLibrary(config.exclude)
        case "stdlib-topics":
            from ebm_jax.data.stdlib import StandardLibraryTopics

            return StandardLibraryTopics()
        case "text":
            from ebm_jax.data.files import TextFiles

            return TextFiles(config.source_path, config.documents, config.block_chars, config.exclude)
        case "jsonl":
            from ebm_jax.data.files import JsonLines

            return JsonLines(config.source_path, config.text_field, config.exclude)
        case "parquet":
            from ebm_jax.data.tables import ParquetFiles

            return ParquetFiles(config.source_path, config.text_field, config.exclude)
        case "tfds":
            from ebm_jax.data.tables import TFDSSet

            return TFDSSet(config.source_path, config.text_field, config.data_dir)
        case "hf":
            from ebm_jax.data.tables import HuggingFaceSet

            return HuggingFaceSet(config.source_path, config.text_field)
        case "task":
            from ebm_jax.data.tasks import TaskText

            return TaskText(config.source_path)
        case "sft":
            from ebm_jax.data.examples import Examples

            return Examples(config)
        case "pairs":
            from ebm_jax.data.pairs import Pairs

            return Pairs(config)
    raise AssertionError(config.source_kind)


def read(source: Source, max_documents: int | None) -> Iterator[Document]:
    """The documents with text, at most ``max_documents`` (of each split that the source brings itself)."""
    seen: Counter[str | None] = Counter()
    for document in source:
        if document.text:
            seen[document.split] += 1
            if max_documents is None or seen[document.split] <= max_documents:
                yield document
            elif not source.own_splits:
                return
