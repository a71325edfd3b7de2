"""What to read, how to cut it into tokens and rows, and how to split it."""

import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import Any

from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.data.packing import Whole
from ebm_jax.errors import UserError

PLAIN_SOURCES = ("stdlib", "stdlib-topics")
PREFIXED_SOURCES = ("text", "jsonl", "parquet", "tfds", "hf", "task", "sft", "pairs")
EXAMPLES = ("sft", "pairs")
"""Sources of examples, which only the ``stream`` layout cuts, and of which a part is scored."""
LAYOUTS = ("packed", "truncate", "stream")
DOCUMENT_RULES = ("file", "paragraphs", "lines", "blocks")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """One corpus and its rows; paths may start with ``~`` or ``$EBM_JAX_DATA``."""

    source: str = "stdlib"
    """``stdlib``, ``stdlib-topics`` (out of distribution), ``text:PATH``, ``jsonl:PATH``, ``parquet:PATH`` (each a
    file, a folder or a glob), ``tfds:NAME`` (prepared under ``data_dir``), ``hf:NAME[:CONFIG]`` or ``task:NAME``
    (evaluation texts: gsm8k, squad2, dyck, aqua, elementary_math_qa, lambada). Examples, as ``examples`` says, come from
    ``sft:PATH`` (prompts with completions, or chats) and ``pairs:PATH`` (a better and a worse text): JSON lines, JSON
    lists, Parquet files, or ``sft:hf:NAME``."""
    tokenizer: str = "bytes"
    """``bytes``, ``hf:PATH/tokenizer.json`` or ``sentencepiece:PATH.model``."""
    context: int = 256
    """Positions in a row."""
    layout: str = "packed"
    """``packed``: every token but a document's first is predicted once, documents share rows.
    ``truncate``: one document a row, its first ``context + 1`` tokens, padded on the right (the EBT paper's). Examples are
    never cut to fit: ``packed`` puts several into a row whole, ``truncate`` one (a pair's two texts count as one).
    ``stream``: documents and examples alike are joined end to end in the source's order and cut into rows wherever these
    end (the EBFT paper's; with ``append_eos``, which ends all documents but the last). The next document's first token is
    predicted as any other; a row's last token predicts what the next row begins with, which is not scored."""
    examples: ExamplesConfig = field(default_factory=ExamplesConfig)

    text_field: str = "text"
    """The column that holds the text in JSONL, Parquet, TFDS and Hugging Face rows."""
    documents: str = "file"
    """What one document of a text file is: the ``file``, its ``paragraphs`` (split at blank lines), its ``lines``, or
    ``blocks`` of about ``block_chars`` characters that end with a line."""
    block_chars: int = 16384
    exclude: tuple[str, ...] = ()
    """Globs of file paths, relative to the corpus, to leave out."""
    max_documents: int | None = None
    """Reads only the first documents of the source, for a quick trial."""

    validation_fraction: float = 0.05
    test_fraction: float = 0.05
    """Shares of the documents by a stable hash of their path or content. A split that the source brings stays as it
    is: those of TFDS and Hugging Face sets, and those of a folder of files that are all called
    train, validation (valid, val, dev) or test, training files among them; a glob of the same files brings none."""
    split_seed: int = 0
    """Another number, another division of the documents among the splits."""
    min_tokens: int = 2
    """Shorter documents make no rows; the ``stream`` layout leaves none out."""
    append_eos: bool = False
    """Ends every document with the tokenizer's end-of-text token."""
    prepend_bos: bool = False
    """Begins every document with the tokenizer's begin-of-text token, which is not scored."""
    ignore_id: int | None = 0
    """Targets with this id are not scored when the id stands for no text (the paper's eos and pad). Id 0 of a tokenizer
    that uses it for ordinary text is always scored. Of examples, what is scored is said by ``examples.loss`` alone."""

    cache_dir: str = "data_cache"
    data_dir: str | None = None
    """Where TFDS sets are prepared; None is TFDS's own default."""
    packing_seed: int = 0
    """Fixes which documents share a row and the order of the rows of the stored table."""
    shuffle_seed: int | None = None
    """Order of the training rows; None takes the run's seed."""
    workers: int = 1
    """Threads that make batches ahead of time; 0 makes each batch when it is asked for."""
    prefetch: int = 4
    """Batches held ready."""

    def __post_init__(self) -> None:
        self.source_kind  # noqa: B018  a property that raises on a source nobody knows
        one_of("data.layout", self.layout, LAYOUTS)
        one_of("data.documents", self.documents, DOCUMENT_RULES)
        for name, least in (("context", 1), ("block_chars", 1), ("min_tokens", 1), ("workers", 0), ("prefetch", 1)):
            if getattr(self, name) < least:
                raise UserError(f"data.{name}={getattr(self, name)} must be at least {least}")
        if self.max_documents is not None and self.max_documents < 1:
            raise UserError(f"data.max_documents={self.max_documents} must be at least 1, or none for all documents")
        if not 0 <= self.split_seed < 2**64:
            raise UserError(f"data.split_seed={self.split_seed} must be a number from 0 to 2**64 - 1")
        for name in ("validation_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"data.{name}={getattr(self, name)} must lie between 0 and 1")
        self.whole  # noqa: B018  a property that raises when no example fits
        if self.layout == "stream":
            self._check_stream()
        if self.examples.check and (self.source_kind != "sft" or self.layout == "stream"):
            told = f"data.layout={self.layout!r}" if self.source_kind == "sft" else f"data.source={self.source!r}"
            raise UserError(f"data.examples.check: {told} has no whole examples whose completions could be verified")
        if self.validation_fraction + self.test_fraction > 1:
            total = self.validation_fraction + self.test_fraction
            raise UserError(f"data.validation_fraction + data.test_fraction = {total} leaves nothing to train on")

    @property
    def source_kind(self) -> str:
        """``stdlib``, ``text``, ``tfds``, ...: the part of ``source`` before the colon."""
        if self.source in PLAIN_SOURCES:
            return self.source
        kind, colon, rest = self.source.partition(":")
        if kind in PREFIXED_SOURCES:
            if not rest:
                raise UserError(f"data.source={self.source!r} lacks what to read: write {kind}:PATH_OR_NAME")
            return kind
        one_of("data.source", kind if colon else self.source, PLAIN_SOURCES + PREFIXED_SOURCES)
        raise UserError(f"data.source={self.source!r}: {kind} takes nothing after the colon")

    @property
    def source_path(self) -> str:
        """The part of ``source`` after the colon, unexpanded; empty where there is none."""
        return self.source.partition(":")[2]

    @property
    def holds_examples(self) -> bool:
        """Whether documents are examples, of which ``examples`` says what is scored."""
        return self.source_kind in EXAMPLES

    @property
    def whole(self) -> Whole | None:
        """How examples are laid into rows; None for documents that rows may cut."""
        if not self.holds_examples or self.layout == "stream":
            return None
        pair = self.source_kind == "pairs"
        # Of a document that is predicted, all tokens but the last are read; of one that is judged, all.
        room = self.context // 2 if pair else self.context + 1
        longest = self.examples.longest or room
        if longest > room or longest < 2:
            rows = "half of data.context, as a pair's two texts share a row" if pair else "data.context + 1"
            raise UserError(f"data.examples.longest={longest} does not fit: it must lie between 2 and {room}, {rows}")
        return Whole(longest, self.examples.overlong, group=2 if pair else 1, predicts=not pair)

    def _check_stream(self) -> None:
        if self.source_kind == "pairs":
            raise UserError("data.layout='stream' would cut pairs, whose texts share a row: use packed or truncate")
        unused: dict[str, Any] = {"min_tokens": self.min_tokens} if self.min_tokens > 2 else {}
        if self.holds_examples and self.examples.longest is not None:
            unused["examples.longest"] = self.examples.longest
        if self.holds_examples and self.examples.overlong != "drop":
            unused["examples.overlong"] = self.examples.overlong
        for name, value in unused.items():
            raise UserError(f"data.{name}={value}: data.layout='stream' joins texts of any length: leave it out")

    def evaluation_of(self, source: str, **changes) -> "DataConfig":
        """The same tokens and rows of another corpus, all of it as the test split (out-of-distribution sets)."""
        changes = {"validation_fraction": 0.0, "test_fraction": 1.0, **changes}
        if not source.startswith("sft:"):
            changes = {"examples": dataclasses.replace(self.examples, check=""), **changes}
        return dataclasses.replace(self, source=source, **changes)


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ``UserError``, with the nearest of ``allowed``, for any other value."""
    if value in allowed:
        return
    close = difflib.get_close_matches(value, allowed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UserError(f"{name}={value!r} is not one of {', '.join(allowed)}{hint}")
