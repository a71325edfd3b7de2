"""A learned vocabulary: of the training documents alone, the same every time, and able to write every text."""

import json

import pytest

from ebm_jax import cli
from ebm_jax.data.config import DataConfig
from ebm_jax.data.make_tokenizer import learn_vocabulary
from ebm_jax.data.tokenizers import open_tokenizer
from ebm_jax.errors import UserError
from experiments import tokenizer as command

pytest.importorskip("tokenizers")
TEXT = "the cat sat on the mat; the dog sat on the log. " * 8


@pytest.fixture
def corpus(tmp_path):
    """Files ``train.txt`` and ``test.txt``: a split that the corpus brings itself."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "train.txt").write_text(TEXT)
    (folder / "test.txt").write_text("zyzzyva " * 50)
    return DataConfig(source=f"text:{folder}")


def test_it_is_learned_from_training_documents_alone(corpus, tmp_path):
    assert learn_vocabulary(corpus, 270, tmp_path / "a.json") == 270
    learn_vocabulary(corpus, 270, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    tokens = json.loads((tmp_path / "a.json").read_text())["model"]["vocab"]
    assert "Ġthe" in tokens and not any("zy" in token for token in tokens)


def test_every_text_can_be_written(corpus, tmp_path):
    learn_vocabulary(corpus, 270, tmp_path / "a.json")
    tokenizer = open_tokenizer(f"hf:{tmp_path / 'a.json'}")
    assert tokenizer.vocab_size == 270 and tokenizer.eos_id == 0
    for text in (TEXT, "λ → ∞, 猫\n\t\x00"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(TEXT)) < len(TEXT) / 2
    assert tokenizer.byte_lengths[tokenizer.encode(TEXT)].sum() == len(TEXT)


def test_what_cannot_be_learned_is_said(corpus, tmp_path, capsys):
    with pytest.raises(UserError, match="vocab=257 leaves nothing to learn"):
        learn_vocabulary(corpus, 257, tmp_path / "a.json")
    with pytest.raises(UserError, match=r"give \d+ tokens, not vocab=5000: ask for fewer"):
        learn_vocabulary(corpus, 5000, tmp_path / "a.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: "):
        learn_vocabulary(corpus, 270, tmp_path / "file" / "a.json")
    assert cli.main(command.main, ["configs/smoke/lm.py", "vocab=many", "out=x"]) == 2
    assert "vocab=N out=FILE" in capsys.readouterr().err


def test_the_command_reads_a_config(corpus, tmp_path, capsys):
    out = tmp_path / "deep" / "t.json"
    words = ["configs/smoke/lm.py", "vocab=270", f"out={out}", f"data.source={corpus.source}"]
    assert cli.main(command.main, words) == 0
    assert f"data.tokenizer=hf:{out}" in capsys.readouterr().out and out.is_file()
