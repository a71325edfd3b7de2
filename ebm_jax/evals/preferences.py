"""How often a reward agrees with people's choices, for each file of pairs, beside the rules that length alone decides.

Accuracy counts ties half. People tend to choose the longer answer (Singhal et al. 2023), so a reward that knows nothing but
length may look good: "the longer wins" and "the shorter wins" are judged on the same pairs, and ``gain`` is the accuracy over
the better of the two, pair by pair. Intervals are at 95 percent: Wilson's (1927) for accuracies, normal for the gain.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ebm_jax.data.config import DataConfig
from ebm_jax.data.encoding import encode_documents, framed
from ebm_jax.data.pairs import Pair, Pairs
from ebm_jax.data.splits import SPLITS, SplitRule
from ebm_jax.data.tokenizers import Tokenizer
from ebm_jax.decoding.writer import batches, bucket
from ebm_jax.errors import UserError

_Z = 1.959964
"""97.5 percent quantile of the normal distribution."""

Score = Callable[[Mapping[str, np.ndarray]], Any]
"""From rows of ``inputs``, ``positions``, ``segments`` ``[B, T]`` to rewards ``[B]``."""


class Choice(NamedTuple):
    """A pair and its texts' tokens as the model reads them."""

    pair: Pair
    chosen: np.ndarray
    rejected: np.ndarray


class Choices(NamedTuple):
    """The pairs of one split; ``dropped`` ones are too long, ``cut`` ones were shortened, as the data's config says."""

    choices: list[Choice]
    dropped: int
    cut: int
    left_out: dict[str, int]
    """Pairs of the whole corpus that compare nothing, by reason."""


def read_choices(config: DataConfig, tokenizer: Tokenizer, split: str) -> Choices:
    """The pairs of ``config.source`` in ``split``, in order, as training would see them.

    Raises:
      UserError: the source has no pairs, the split is unknown or empty.
    """
    whole = config.whole
    if config.source_kind != "pairs" or whole is None:
        raise UserError(f"data.source={config.source!r} has no pairs: pairs:PATH has")
    if split not in SPLITS:
        raise UserError(f"split={split!r} is not one of {', '.join(SPLITS)}")
    source = Pairs(config)
    shares = {"validation": config.validation_fraction, "test": config.test_fraction}
    rule = SplitRule(**shares, own=source.own_splits, seed=config.split_seed)
    found, dropped, cut = [], 0, 0
    for pair in source.pairs():
        documents = pair.documents()
        if rule(documents[0]) != split:
            continue
        texts = [
            framed(encoded, tokenizer, begin=config.prepend_bos, end=config.append_eos).tokens
            for encoded in encode_documents(tokenizer, documents)
        ]
        long = any(len(text) > whole.longest for text in texts)
        if long and whole.overlong == "drop":
            dropped += 1
            continue
        cut += long
        found.append(Choice(pair, *(whole.cut(text) for text in texts)))
    if not found:
        raise UserError(f"{config.source}: the {split} split has no pairs ({dropped} are too long)")
    return Choices(found, dropped, cut, dict(source.left_out))


def score_texts(
    score: Score,
    texts: Sequence[np.ndarray],
    *,
    batch_size: int,
    shards: int = 1,
    longest: int | None = None,
    pad_id: int = 0,
) -> np.ndarray:
    """The reward of every text, float64 ``[texts]``.

    Texts of like lengths are scored together in shapes that repeat (``decoding.writer``), up to ``batch_size`` and rounded up
    to whole ``shards``, which empty rows fill; ``longest`` bounds the widths.
    """
    rewards = np.zeros(len(texts))
    lengths = [len(text) for text in texts]
    for batch, size in batches(sorted(range(len(texts)), key=lengths.__getitem__), lengths, batch_size):
        rows, width = -(-size // shards) * shards, bucket(lengths[batch[-1]], longest)
        inputs, segments = np.full((rows, width), pad_id, np.int32), np.zeros((rows, width), np.int32)
        for row, number in enumerate(batch):
            inputs[row, : lengths[number]], segments[row, : lengths[number]] = texts[number], 1
        positions = np.arange(width, dtype=np.int32) * segments
        found = score({"inputs": inputs, "positions": positions, "segments": segments})
        rewards[batch] = np.asarray(found)[: len(batch)]
    return rewards


def agreement(files: Sequence[str], chosen: np.ndarray, rejected: np.ndarray, longer: np.ndarray) -> dict[str, Any]:
    """Figures for each of ``files`` and for ``all`` pairs.

    Args:
      files: the file of each pair.
      chosen: reward of the better answer of each pair.
      rejected: reward of the worse one.
      longer: length of the better answer minus that of the worse, in characters.
    """
    right, long_wins = (0.5 * (1 + np.sign(np.asarray(d, np.float64))) for d in (np.subtract(chosen, rejected), longer))
    names = np.array(files)
    groups = {name: names == name for name in sorted(set(files))} | {"all": np.ones(len(names), bool)}
    return {name: _figures(right[mask], long_wins[mask]) for name, mask in groups.items()}


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """Both ends of the 95 percent interval of a share; ``successes`` may count ties half."""
    share, spread = successes / trials, _Z**2 / trials
    center, half = share + spread / 2, _Z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return (center - half) / (1 + spread), (center + half) / (1 + spread)


def _figures(right: np.ndarray, long_wins: np.ndarray) -> dict[str, Any]:
    figures: dict[str, Any] = {"pairs": len(right)}
    for name, wins in (("accuracy", right), ("longer", long_wins), ("shorter", 1 - long_wins)):
        figures |= {name: float(wins.mean()), f"{name}_interval": list(wilson(float(wins.sum()), len(wins)))}
    gains = right - (long_wins if long_wins.mean() >= 0.5 else 1 - long_wins)
    half = _Z * float(gains.std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    return figures | {
        "gain": float(gains.mean()),
        "gain_interval": [float(gains.mean()) - half, float(gains.mean()) + half],
    }


def preference_record(
    rewards_of: Callable[[Sequence[np.ndarray]], np.ndarray], config: DataConfig, tokenizer: Tokenizer, *, split: str
) -> dict[str, Any]:
    """The whole evaluation of one split as JSON values; ``rewards_of`` gives the reward of every text by its tokens."""
    read = read_choices(config, tokenizer, split)
    texts = [text for choice in read.choices for text in (choice.chosen, choice.rejected)]
    rewards = rewards_of(texts).reshape(-1, 2)
    if not np.isfinite(rewards).all():
        raise UserError("the model gives rewards that are not finite")
    pairs = [choice.pair for choice in read.choices]
    longer = np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs])
    figures = agreement([pair.file for pair in pairs], rewards[:, 0], rewards[:, 1], longer)
    counts = {"dropped": read.dropped, "cut": read.cut, "left_out": read.left_out}
    return {"source": config.source, "split": split, **counts, "files": figures}
