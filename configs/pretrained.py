"""Small pretrained models, their options, tokenizers and where they lie: those under ``$EBM_JAX_DATA``, and one of our own."""

from ebm_jax.models.transformer import TransformerConfig

STORIES = "$EBM_JAX_DATA/lm_stories260k"
BABYLLAMA = "$EBM_JAX_DATA/lm_babyllama105"
ANSWERS, ANSWERS_TOKENIZER = "runs/reward/answers", "hf:runs/reward/tokenizer.json"
"""What configs/reward/answers.py trains."""
CODE, CODE_TOKENIZER = "runs/ebft/code", "hf:runs/ebft/tokenizer.json"
"""What configs/ebft/code_base.py trains."""


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
    """1,050,752 parameters; the token table is the head as well."""
    return TransformerConfig(depth=4, width=128, heads=4, hidden=344, tied=True, embed_std=0.05)


def tokenizer(folder: str) -> str:
    """The SentencePiece model beside the weights."""
    return f"sentencepiece:{folder}/tokenizer.model"
