"""A tokenizer whose tokens are letters, for the tiny published models."""

import json
import shutil
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "parity" / "golden"
WORDS = ["<pad>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]


def letters(model: Path, folder: Path) -> Path:
    """A copy of ``model`` in ``folder`` with that tokenizer and a chat template."""
    tokenizers = pytest.importorskip("tokenizers")
    shutil.copytree(model, folder)
    words = tokenizers.models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<pad>")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{{ bos_token }} {% for m in messages %}{{ m.role[0] }} {{ m.content }} {% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "bos_token": "<s>"}))
    return folder
