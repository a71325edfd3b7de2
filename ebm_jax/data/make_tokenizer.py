"""Learns a subword vocabulary from a corpus: byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019)."""

from collections.abc import Iterator
from pathlib import Path

from ebm_jax.data.config import DataConfig
from ebm_jax.data.extras import require
from ebm_jax.data.sources import open_source
from ebm_jax.data.splits import SplitRule
from ebm_jax.errors import UserError

END_OF_TEXT = "<|endoftext|>"
BYTES = 256


def learn_vocabulary(config: DataConfig, size: int, path: Path) -> int:
    """Writes a ``tokenizer.json`` learned from the training documents of ``config``, and returns its tokens.

    The 256 bytes and ``<|endoftext|>`` (id 0) are among its ``size`` tokens, so every text can be written. The same documents
    give the same file.

    Raises:
      UserError: ``size`` leaves nothing to learn, there are no training documents or too few to fill the vocabulary, or
        ``path`` cannot be written.
    """
    if size <= BYTES + 1:
        raise UserError(f"vocab={size} leaves nothing to learn beside {BYTES} bytes and {END_OF_TEXT}: ask for more")
    package = require("tokenizers", "data", "learning a vocabulary")
    tokenizer = package.Tokenizer(package.models.BPE())
    tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = package.decoders.ByteLevel()
    trainer = package.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(package.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_texts(config), trainer)
    found = tokenizer.get_vocab_size()
    if found < size:
        raise UserError(f"{config.source}: its training documents give {found} tokens, not vocab={size}: ask for fewer")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tokenizer.to_str(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"out={path} cannot be written: {error.strerror}") from error
    return found


def _training_texts(config: DataConfig) -> Iterator[str]:
    source = open_source(config)
    shares = {"validation": config.validation_fraction, "test": config.test_fraction}
    rule = SplitRule(**shares, own=source.own_splits, seed=config.split_seed)
    empty = True
    for count, document in enumerate(source):
        if config.max_documents is not None and count >= config.max_documents:
            break
        if rule(document) == "train":
            empty = False
            yield document.text
    if empty:
        raise UserError(f"{config.source} has no training documents to learn a vocabulary from")
