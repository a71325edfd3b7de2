"""The one TFDS builder: any source's documents as tokens, in array_record files, without TensorFlow.

Importing this module imports TFDS, so only ``prepare`` does, and only when a set is not prepared yet.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ebm_jax.data.encoding import Encoded, encode_documents, framed
from ebm_jax.data.extras import require
from ebm_jax.data.sources import Document, Source, read
from ebm_jax.data.splits import SplitRule
from ebm_jax.data.store import token_dtype
from ebm_jax.data.tokenizers import Tokenizer
from ebm_jax.errors import UserError

require("importlib_resources", "data", "preparing a corpus")
tfds = require("tensorflow_datasets", "data", "preparing a corpus")

_Examples = Iterator[tuple[int, dict[str, Any]]]
_AT_ONCE = 256  # documents tokenised together: enough to keep a parallel tokenizer busy


class EbmDocuments(tfds.core.GeneratorBasedBuilder):  # type: ignore[name-defined]
    """Documents with ``key`` (what the source calls them), ``tokens`` and ``text_bytes`` (UTF-8 length of the text).

    Examples have ``scored`` as well: 1 for every token that is a scored target; and ``check`` where they have one.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        data_dir: Path,
        title: str,
        source: Source,
        tokenizer: Tokenizer,
        rule: SplitRule,
        append_eos: bool = False,
        prepend_bos: bool = False,
        max_documents: int | None = None,
        examples: bool = False,
        checks: bool = False,
    ) -> None:
        self._source, self._tokenizer, self._rule = source, tokenizer, rule
        self._ends = {"begin": prepend_bos, "end": append_eos}
        self._max_documents, self._scored, self._checks = max_documents, examples, checks
        self.failure: UserError | None = None
        """The mistake in the input that stopped the preparation; TFDS re-raises errors in words of its own."""
        config = tfds.core.BuilderConfig(name=title, version="1.0.0", description="Tokenised documents of ebm_jax.")
        super().__init__(data_dir=str(data_dir), config=config, file_format="array_record")

    def _info(self):
        dtype = token_dtype(self._tokenizer.vocab_size)
        features = {
            "key": tfds.features.Text(),
            "tokens": tfds.features.Tensor(shape=(None,), dtype=dtype, encoding="bytes"),
            "text_bytes": tfds.features.Scalar(np.int64),
        }
        if self._scored:
            features["scored"] = tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding="bytes")
        if self._checks:
            features["check"] = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager) -> dict[str, _Examples]:
        # TFDS cannot write an empty split, so each is opened far enough to see its first document. A pass for each
        # split costs reading the texts again, never tokenising them again.
        splits: dict[str, _Examples] = {}
        for split in self._rule.possible():
            examples = self._examples(split)
            first = next(examples, None)
            if first is not None:
                splits[split] = itertools.chain([first], examples)
        if not splits:
            raise self._fail(UserError(f"{self._source.name} has no documents with text"))
        return splits

    def _generate_examples(self, split: str) -> _Examples:
        return self._examples(split)

    def _examples(self, split: str) -> _Examples:
        dtype = token_dtype(self._tokenizer.vocab_size)
        number = 0
        for documents in _chunks(self._documents(split)):
            for document, encoded in zip(documents, self._encoded(documents), strict=True):
                if not len(encoded.tokens):
                    if document.parts is not None:
                        raise self._fail(UserError(f"{document.key}: the text has no tokens: leave the row out"))
                    continue
                whole = framed(encoded, self._tokenizer, **self._ends)
                example = {
                    "key": document.key,
                    "tokens": whole.tokens.astype(dtype),
                    "text_bytes": len(document.text.encode("utf-8", "surrogatepass")),
                }
                if whole.scored is not None:
                    example["scored"] = whole.scored.astype(np.uint8)
                if document.check is not None:
                    example["check"] = document.check.encode("utf-8", "surrogatepass")
                yield number, example
                number += 1

    def _documents(self, split: str) -> Iterator[Document]:
        try:
            yield from (d for d in read(self._source, self._max_documents) if self._rule(d) == split)
        except UserError as error:
            raise self._fail(error) from error.__cause__

    def _encoded(self, documents: list[Document]) -> list[Encoded]:
        try:
            return encode_documents(self._tokenizer, documents)
        except UserError as mistake:
            for document in documents:  # once more one by one, to name the document
                try:
                    self._tokenizer.encode(document.text)
                except UserError as error:
                    raise self._fail(UserError(f"{document.key}: {error}")) from error
            raise self._fail(mistake) from mistake.__cause__

    def _fail(self, error: UserError) -> UserError:
        self.failure = error
        return error


def _chunks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while chunk := list(itertools.islice(documents, _AT_ONCE)):
        yield chunk
