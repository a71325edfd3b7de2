"""Pretrained models, their options, tokenizers and where they lie: small ones under ``$EBM_JAX_DATA`` and of our own, and those
of the EBFT paper, each a folder as ``hf download OWNER/NAME --local-dir models/NAME`` makes it."""

from typing import Any

from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.nn.rope import RopeScaling

STORIES = "$EBM_JAX_DATA/lm_stories260k"
BABYLLAMA = "$EBM_JAX_DATA/lm_babyllama105"
ANSWERS, ANSWERS_TOKENIZER = "runs/reward/answers", "hf:runs/reward/tokenizer.json"
"""What configs/reward/answers.py trains."""
CODE, CODE_TOKENIZER = "runs/ebft/code", "hf:runs/ebft/tokenizer.json"
"""What configs/ebft/code_base.py trains."""
PROBLEMS, SECOND = "runs/ebd/problems_base", "runs/ebd/problems_second"
"""What configs/ebd/problems_base.py trains."""
QWEN, QWEN_3B, QWEN_7B = "models/Qwen2.5-1.5B", "models/Qwen2.5-3B", "models/Qwen2.5-7B"
LLAMA = "models/Llama-3.2-1B"
QWEN_TOKENS, QWEN_7B_TOKENS, LLAMA_TOKENS = 151_936, 152_064, 128_256
"""Rows of their token tables, some more than their tokenizers have tokens."""


def stories() -> TransformerConfig:
    """A Llama of 260,032 parameters and 512 tokens, trained on TinyStories at context 512."""
    return TransformerConfig(depth=5, width=64, heads=8, kv_heads=4, hidden=172, tied=True)


def babyllama() -> TransformerConfig:
    """A Llama of 936,448 parameters and 105 characters, trained on TinyStories at context 256."""
    return TransformerConfig(depth=5, width=128, heads=8, kv_heads=4, hidden=352, tied=True)


def answers() -> TransformerConfig:
    """984,192 parameters; the token table is the head as well, so its numbers are small."""
    return TransformerConfig(depth=4, width=128, heads=4, tied=True, embed_std=0.05)


def code() -> TransformerConfig:
    """1,053,824 parameters; the token table is the head as well."""
    return TransformerConfig(depth=4, width=128, heads=4, hidden=344, tied=True, embed_std=0.05)


def qwen() -> TransformerConfig:
    """Qwen2.5-1.5B: 1.54 B parameters."""
    return _qwen(depth=28, width=1536, heads=12, kv_heads=2, hidden=8960, tied=True)


def qwen_3b() -> TransformerConfig:
    """Qwen2.5-3B: 3.09 B parameters."""
    return _qwen(depth=36, width=2048, heads=16, kv_heads=2, hidden=11_008, tied=True)


def qwen_7b() -> TransformerConfig:
    """Qwen2.5-7B: 7.62 B parameters, the head a matrix of its own."""
    return _qwen(depth=28, width=3584, heads=28, kv_heads=4, hidden=18_944)


def llama() -> TransformerConfig:
    """Llama-3.2-1B: 1.24 B parameters."""
    scaling = RopeScaling(kind="llama3", factor=32.0, original_context=8192, low_freq_factor=1.0, high_freq_factor=4.0)
    sizes = {"depth": 16, "width": 2048, "heads": 32, "kv_heads": 8, "head_width": 64, "hidden": 8192}
    return TransformerConfig(**sizes, tied=True, rope_theta=500_000.0, rope_scaling=scaling, remat="full")


def tokenizer(folder: str) -> str:
    """The SentencePiece model beside the weights."""
    return f"sentencepiece:{folder}/tokenizer.model"


def hub_tokenizer(folder: str) -> str:
    """The Hugging Face tokenizer beside the weights."""
    return f"hf:{folder}/tokenizer.json"


def _qwen(**sizes: Any) -> TransformerConfig:
    return TransformerConfig(**sizes, qkv_bias=True, rope_theta=1_000_000.0, norm_eps=1e-6, remat="full")
