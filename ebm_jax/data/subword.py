"""Subword tokenizers from files: Hugging Face ``tokenizer.json`` and SentencePiece models.

``byte_lengths`` are exact for byte-level BPE, SentencePiece pieces and byte fallback. A tokenizer that normalises text
(lower case, NFKC) counts the bytes of what it kept.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ebm_jax.data.extras import require
from ebm_jax.data.paths import expand
from ebm_jax.errors import UserError

_SPACE = "\u2581"  # how SentencePiece writes a space
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_BEGIN_OF_TEXT = ("<|begin_of_text|>", "<s>", "<bos>", "[CLS]")
_END_OF_TEXT = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "<|eos|>", "[SEP]")


class HuggingFaceTokenizer:
    """A ``tokenizer.json``; its truncation, padding and template tokens are not used."""

    pad_id = 0

    def __init__(self, path: str) -> None:
        package = require("tokenizers", "data", "an hf: tokenizer")
        file = expand(path)
        raw = _read(file, "hf")
        try:
            self._tokenizer = package.Tokenizer.from_str(raw.decode("utf-8"))
        except Exception as error:  # the package raises bare Exception
            raise UserError(f"data.tokenizer: {file} is not a Hugging Face tokenizer.json: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise UserError(f"data.tokenizer: {file} has an empty vocabulary")
        self.vocab_size = max(vocabulary.values()) + 1
        self.fingerprint = hashlib.sha256(raw).hexdigest()[:32]
        self.eos_id = _named(file, "eos_token", vocabulary, _END_OF_TEXT)
        self.bos_id = _named(file, "bos_token", vocabulary, _BEGIN_OF_TEXT)
        self.byte_lengths = self._count_bytes(vocabulary, json.loads(raw))

    def encode(self, text: str) -> np.ndarray:
        return np.asarray(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int32)

    def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, np.int32) for encoding in encodings]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return self._tokenizer.decode(np.asarray(ids).tolist(), skip_special_tokens=False)

    def _count_bytes(self, vocabulary: dict[str, int], description: dict) -> np.ndarray:
        byte_level = '"ByteLevel"' in json.dumps([description.get("decoder"), description.get("pre_tokenizer")])
        prefix = ((description.get("model") or {}).get("continuing_subword_prefix")) or ""
        lengths = np.zeros(self.vocab_size, np.int32)
        for token, index in vocabulary.items():
            if byte_level:
                lengths[index] = len(token)  # each character of a byte-level token stands for one byte
            else:
                lengths[index] = _piece_bytes(token.removeprefix(prefix) if token != prefix else token)
        unknown = (description.get("model") or {}).get("unk_token")
        if unknown in vocabulary:
            lengths[vocabulary[unknown]] = 0
        for index, added in self._tokenizer.get_added_tokens_decoder().items():
            lengths[index] = 0 if added.special else len(added.content.encode())
        return lengths


class SentencePieceTokenizer:
    """A SentencePiece ``.model``; begin and end tokens are not added."""

    pad_id = 0

    def __init__(self, path: str) -> None:
        package = require("sentencepiece", "data", "a sentencepiece: tokenizer")
        file = expand(path)
        raw = _read(file, "sentencepiece")
        self._model = package.SentencePieceProcessor()
        try:
            loaded = self._model.LoadFromSerializedProto(raw)
        except (RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"data.tokenizer: {file} is not a SentencePiece model: {error}") from error
        self.vocab_size = self._model.get_piece_size() if loaded else 0
        if not self.vocab_size:
            raise UserError(f"data.tokenizer: {file} is not a SentencePiece model")
        self.fingerprint = hashlib.sha256(raw).hexdigest()[:32]
        self.eos_id = self._model.eos_id() if self._model.eos_id() >= 0 else None
        self.bos_id = self._model.bos_id() if self._model.bos_id() >= 0 else None
        silent = (self._model.IsControl, self._model.IsUnknown, self._model.IsUnused)
        self.byte_lengths = np.array(
            [
                0 if any(is_silent(i) for is_silent in silent) else _piece_bytes(self._model.IdToPiece(i))
                for i in range(self.vocab_size)
            ],
            np.int32,
        )

    def encode(self, text: str) -> np.ndarray:
        return np.asarray(self._model.encode(text, add_bos=False, add_eos=False), np.int32)

    def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.asarray(ids, np.int32) for ids in self._model.encode(list(texts), add_bos=False, add_eos=False)]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        # A model's tables may have more rows than there are pieces.
        return self._model.decode([i for i in np.asarray(ids).tolist() if i < self.vocab_size])


def _read(file: Path, kind: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"data.tokenizer={kind}:{file} cannot be read: {error.strerror or error}") from error


def _piece_bytes(piece: str) -> int:
    return 1 if _BYTE.fullmatch(piece) else len(piece.replace(_SPACE, " ").encode("utf-8"))


def _named(file: Path, role: str, vocabulary: dict[str, int], usual: tuple[str, ...]) -> int | None:
    """The token that plays a ``role`` such as ``eos_token``."""
    names = list(usual)
    try:  # the file beside it, where there is one, knows better than a list of usual names
        token = json.loads(file.with_name("tokenizer_config.json").read_text(encoding="utf-8")).get(role)
        token = token.get("content") if isinstance(token, dict) else token
        names[:0] = [token] if isinstance(token, str) else []  # null, where there is none: "None" is a word
    except (OSError, ValueError, AttributeError):
        pass
    return next((vocabulary[name] for name in names if name in vocabulary), None)
