"""Tokenizers: ids and back, and how many bytes of text each token stands for."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from ebm_jax.data import ByteTokenizer, open_tokenizer
from ebm_jax.data.tokenizers import ignored_target
from ebm_jax.errors import UserError

TEXT = "The naïve café — 10 µm\n\n    def f(x):\n\treturn x ** 2  # 你好 🙂\n"
DATA = os.environ.get("EBM_JAX_DATA")
real = pytest.mark.skipif(not DATA, reason="EBM_JAX_DATA names no folder with real tokenizers")


def text_bytes(tokenizer, ids):
    return int(tokenizer.byte_lengths[ids].sum())


def test_bytes():
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(TEXT)
    assert ids.dtype == np.int32 and bytes(ids.tolist()) == TEXT.encode() and tokenizer.decode(ids) == TEXT
    assert text_bytes(tokenizer, ids) == len(TEXT.encode()) and tokenizer.byte_lengths[0] == 0
    assert tokenizer.decode([0, 72, 0, 195]) == "H\ufffd"
    assert tokenizer.encode("").shape == (0,)


def test_bytes_that_cannot_be():
    with pytest.raises(UserError, match="byte 3 of the text is NUL"):
        ByteTokenizer().encode("é?\0x")
    with pytest.raises(UserError, match="character 1 is half of a surrogate pair"):
        ByteTokenizer().encode("a\ud800")


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    """A byte-level BPE of Hugging Face's package, trained here, with <|endoftext|> as id 0."""
    package = pytest.importorskip("tokenizers")
    tokenizer = package.Tokenizer(package.models.BPE())
    tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = package.decoders.ByteLevel()
    trainer = package.trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=package.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT * 3], trainer)
    tokenizer.add_tokens(["    "])
    tokenizer.enable_truncation(4)
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_byte_level_bpe(bpe):
    tokenizer = open_tokenizer(f"hf:{bpe}")
    ids = tokenizer.encode(TEXT)
    assert ids.dtype == np.int32 and len(ids) > 4, "truncation of the file is not used"
    assert tokenizer.decode(ids) == TEXT and tokenizer.encode_many([TEXT, ""])[0].tolist() == ids.tolist()
    assert text_bytes(tokenizer, ids) == len(TEXT.encode())
    assert tokenizer.vocab_size == len(tokenizer.byte_lengths) and tokenizer.eos_id == 0
    assert tokenizer.byte_lengths[0] == 0 and tokenizer.byte_lengths[tokenizer.vocab_size - 1] == 4
    assert tokenizer.encode_many([]) == []


def test_word_piece_counts_without_its_prefix(tmp_path):
    package = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "over": 1, "##heat": 2, "é": 3, "##": 4}
    tokenizer = package.Tokenizer(package.models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = package.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert open_tokenizer(f"hf:{tmp_path}/tokenizer.json").byte_lengths.tolist() == [0, 4, 4, 2, 2]


def test_end_of_text_named_beside_the_file(bpe, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(bpe.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "a"}}))
    tokenizer = open_tokenizer(f"hf:{tmp_path}/tokenizer.json")
    assert tokenizer.eos_id == tokenizer.encode("a")[0]
    assert tokenizer.fingerprint == open_tokenizer(f"hf:{bpe}").fingerprint


def test_no_token_is_not_the_word_none(tmp_path):
    package = pytest.importorskip("tokenizers")
    package.Tokenizer(package.models.WordLevel({"None": 0, "</s>": 1}, unk_token="None")).save(
        str(tmp_path / "tokenizer.json")
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": None}))
    tokenizer = open_tokenizer(f"hf:{tmp_path}/tokenizer.json")
    assert tokenizer.bos_id is None and tokenizer.eos_id == 1


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    package = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text.txt").write_text("the cat sat on the mat\nthe dog ate the cat's hat\ncafé\n" * 20)
    package.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "tiny"),
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return folder / "tiny.model"


def test_sentencepiece(pieces):
    tokenizer = open_tokenizer(f"sentencepiece:{pieces}")
    text = "the cat ate 你 café"
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32 and tokenizer.decode(ids) == text
    # One more: the space that SentencePiece puts before a text, in its first token, which is never predicted.
    assert text_bytes(tokenizer, ids) == len(text.encode()) + 1
    assert tokenizer.byte_lengths[:3].tolist() == [0, 0, 0] and tokenizer.eos_id == 2
    assert [x.tolist() for x in tokenizer.encode_many([text, "dog"])] == [
        ids.tolist(),
        tokenizer.encode("dog").tolist(),
    ]
    # A model's tables may have more rows than there are pieces.
    assert tokenizer.decode([*ids, tokenizer.vocab_size + 3]) == text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("byte", "is not bytes, hf:PATH"),
        ("hf:", "is not bytes, hf:PATH"),
        ("hf:/nowhere/tokenizer.json", "cannot be read: No such file"),
        ("sentencepiece:/nowhere/x.model", "cannot be read: No such file"),
        ("hf:{tmp}/junk", "junk is not a Hugging Face tokenizer.json"),
        ("sentencepiece:{tmp}/junk", "junk is not a SentencePiece model"),
    ],
)
def test_bad_tokenizers_are_named(tmp_path, name, message):
    pytest.importorskip("tokenizers")
    pytest.importorskip("sentencepiece")
    (tmp_path / "junk").write_bytes(b"\xff\x00 junk")
    with pytest.raises(UserError, match=message):
        open_tokenizer(name.format(tmp=tmp_path))


def test_missing_packages_name_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    for name in ("hf:x.json", "sentencepiece:x.model"):
        with pytest.raises(UserError, match=r'pip install "ebm_jax\[data\]"'):
            open_tokenizer(name)


def test_only_tokens_without_text_are_ignored():
    tokenizer = ByteTokenizer()
    assert ignored_target(tokenizer, 0) == 0 and ignored_target(tokenizer, None) is None
    with pytest.raises(UserError, match="stands for the text 'A'"):
        ignored_target(tokenizer, 65)
    with pytest.raises(UserError, match="outside the vocabulary of 256"):
        ignored_target(tokenizer, 256)
    tokenizer.byte_lengths[0] = 1  # a vocabulary whose id 0 is text, like GPT-2's "!"
    assert ignored_target(tokenizer, 0) is None


@real
def test_neox():
    pytest.importorskip("tokenizers")
    tokenizer = open_tokenizer("hf:$EBM_JAX_DATA/tok_neox20b/20B_tokenizer.json")
    ids = tokenizer.encode(TEXT)
    assert tokenizer.vocab_size == 50277 and tokenizer.eos_id == 0 and ignored_target(tokenizer, 0) == 0
    assert tokenizer.decode(ids) == TEXT and text_bytes(tokenizer, ids) == len(TEXT.encode())


@real
@pytest.mark.parametrize(
    ("model", "size"), [("tok_mistral_v1", 32000), ("lm_stories260k", 512), ("lm_babyllama105", 105)]
)
def test_real_sentencepiece(model, size):
    pytest.importorskip("sentencepiece")
    tokenizer = open_tokenizer(f"sentencepiece:$EBM_JAX_DATA/{model}/tokenizer.model")
    assert tokenizer.vocab_size == size and tokenizer.eos_id == 2
    golden = Path(DATA) / model / "golden.npz"
    text = "Once upon a time" if golden.exists() else TEXT
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text and text_bytes(tokenizer, ids) == len(text.encode()) + 1
    if golden.exists():
        stored = np.load(golden)
        prompt = tokenizer.encode(str(stored["prompt"]))
        assert stored["prompt_ids"].reshape(-1)[-len(prompt) :].tolist() == prompt.tolist()
