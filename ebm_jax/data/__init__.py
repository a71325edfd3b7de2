"""Text corpora: read, tokenised and split once, cut to rows, loaded in an exact order.

::

    data = load_data(DataConfig(source="stdlib", context=256), batch_size=32, seed=0)
    batch = next(data.train)          # inputs targets weights segments positions [B, T], index [B]
    for batch in data.eval("validation"): ...

The way of a text, one module a step::

    config      DataConfig: source, tokenizer, layout, splits
    sources     what a source is, open_source     stdlib  files  tables  tasks   the sources
    tokenizers  bytes, open_tokenizer             subword                 tokenizer.json, SentencePiece
    example_config  example_rows  examples  pairs  chat      prompts with completions, chats, better and worse answers
    translations   sentences in several languages as examples
    encoding    documents to tokens, and which of them are scored
    splits      train, validation, test by stable hash
    builder     the TFDS builder (array_record)   prepare                 lock, fingerprint, atomic preparation
    store       memory maps made from a prepared set
    packing     row tables: (document, start, length)      rows           a batch of rows as one gather
    order       shuffling as a keyed permutation           pipeline       TrainStream, EvalBatches
    loading     load_data, Data                            baselines      byte bigrams
    paths  digests  extras    path expansion, content hashes, optional imports

``rows``, ``packing``, ``order``, ``pipeline`` and ``Data.from_documents`` need NumPy alone. TFDS is needed to prepare a
corpus, not to read it again; Grain only to make batches ahead of time.
"""

from ebm_jax.data.baselines import bigram_bits_per_byte
from ebm_jax.data.config import DataConfig
from ebm_jax.data.loading import Data, SplitStats, load_data
from ebm_jax.data.pipeline import EvalBatches, TrainStream
from ebm_jax.data.rows import Rows
from ebm_jax.data.tokenizers import ByteTokenizer, Tokenizer, open_tokenizer

__all__ = [
    "ByteTokenizer",
    "Data",
    "DataConfig",
    "EvalBatches",
    "Rows",
    "SplitStats",
    "Tokenizer",
    "TrainStream",
    "bigram_bits_per_byte",
    "load_data",
    "open_tokenizer",
]
