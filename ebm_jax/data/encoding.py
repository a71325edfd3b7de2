"""From documents to tokens, and of examples which tokens are scored."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ebm_jax.data.sources import Document
from ebm_jax.data.tokenizers import Tokenizer
from ebm_jax.errors import UserError


class Encoded(NamedTuple):
    """A document's ids, and which of them are scored where it is an example."""

    tokens: np.ndarray
    scored: np.ndarray | None


def encode_documents(tokenizer: Tokenizer, documents: Sequence[Document]) -> list[Encoded]:
    """The tokens of every document.

    An example's parts must end where a token of the whole text ends: then a prompt's tokens are the same whether or not its
    completion follows, and generation sees what training saw. Where a token runs over the end of a prompt, the prompt keeps
    the tokens that it has alone and the rest is encoded by itself; ``exact`` documents are refused.

    Raises:
      UserError: an ``exact`` document's parts do not end with a token; parts encoded one by one are another text.
    """
    beginnings: list[str] = []
    for document in documents:
        parts = [part.text for part in document.parts or ()]
        beginnings += ["".join(parts[: n + 1]) for n in range(len(parts))] or [document.text]
    ids = iter(tokenizer.encode_many(beginnings))
    return [_encode(tokenizer, document, ids) for document in documents]


def framed(encoded: Encoded, tokenizer: Tokenizer, *, begin: bool, end: bool) -> Encoded:
    """With the begin-of-text token in front, which nobody scores, and the end-of-text token behind, which an example scores.

    An example that has them from its chat template does not get them twice: generation gives one as well.
    """
    if encoded.scored is not None and len(encoded.tokens):
        begin, end = begin and encoded.tokens[0] != tokenizer.bos_id, end and encoded.tokens[-1] != tokenizer.eos_id
    before = np.array([tokenizer.bos_id] if begin else [], np.int32)
    after = np.array([tokenizer.eos_id] if end else [], np.int32)
    tokens = np.concatenate([before, encoded.tokens, after])
    if encoded.scored is None:
        return Encoded(tokens, None)
    return Encoded(tokens, np.concatenate([np.zeros(len(before), bool), encoded.scored, np.ones(len(after), bool)]))


def _encode(tokenizer: Tokenizer, document: Document, ids: Iterator[np.ndarray]) -> Encoded:
    if document.parts is None:
        return Encoded(next(ids), None)
    beginnings = [next(ids) for _ in document.parts]
    tokens = beginnings[-1]
    ends = [len(beginning) for beginning in beginnings]
    broken = [n for n, part in enumerate(beginnings) if not np.array_equal(part, tokens[: len(part)])]
    if broken:
        if document.exact:
            tail = document.parts[broken[0]].text[-40:]
            raise UserError(
                f"{document.key}: a token runs over the end of a turn, after {tail!r}: the chat template must end turns"
                " with a special token, which the tokenizer does not know or splits; set data.examples.loss=full"
            )
        tokens, ends = _one_by_one(tokenizer, document, tokens)
    scored = np.zeros(len(tokens), bool)
    for part, start, end in zip(document.parts, [0, *ends], ends, strict=False):
        scored[start:end] = part.scored
    return Encoded(tokens, scored)


def _one_by_one(tokenizer: Tokenizer, document: Document, whole: np.ndarray) -> tuple[np.ndarray, list[int]]:
    pieces = tokenizer.encode_many([part.text for part in document.parts or ()])
    tokens = np.concatenate(pieces)
    if tokenizer.decode(tokens) != tokenizer.decode(whole):
        raise UserError(
            f"{document.key}: the tokenizer joins the end of the prompt and the beginning of the completion, and changes the"
            " text where they are apart: move the space between them from data.examples.prompt to data.examples.completion"
        )
    return tokens, np.cumsum([len(piece) for piece in pieces]).tolist()
