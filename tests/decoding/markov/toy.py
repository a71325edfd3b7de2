"""A language model of three tokens and four places, small enough that every response and every law can be written down.

Its 31 responses (15 that end and 16 that are cut off at four tokens), their probabilities and their rewards are float64 arrays;
figures of the laws are in ``FACTS``.
"""

import itertools
from typing import NamedTuple

import numpy as np

VOCAB, END, HORIZON, INV_TEMP = 3, 2, 4, 1.7
PAD = 0
FACTS = {
    "p(first)": (0.44967, 0.47241, 0.07792),
    "pi(first)": (0.22429, 0.75363, 0.02208),
    "E_p R": 0.025964,
    "E_pi R": 0.709348,
    "E_p |y|": 2.57419,
    "E_pi |y|": 2.46898,
    "log Z": 0.739874,
    "KL": 0.466017,
    "TV(p, pi)": 0.423831,
    "idle": 0.382754,
}


def code(tokens: tuple[int, ...]) -> int:
    return sum((token + 1) * 4**place for place, token in enumerate(tokens))


def logits(prefix: tuple[int, ...]) -> np.ndarray:
    return 1.3 * np.sin(1.7 * code(prefix) + 2.3 * np.arange(VOCAB) + 0.4)


def reward(tokens: tuple[int, ...]) -> float:
    return float(1.2 * np.sin(0.9 * code(tokens) + 0.7))


def responses() -> list[tuple[int, ...]]:
    """All of them, shorter ones first."""
    found = []
    for length in range(1, HORIZON + 1):
        for tokens in itertools.product(range(VOCAB), repeat=length):
            if END not in tokens[:-1] and (tokens[-1] == END or length == HORIZON):
                found.append(tokens)
    return found


class Law(NamedTuple):
    """A law of next tokens, through all responses."""

    each_RxH: np.ndarray
    """Log-probability of every token, 0 behind the end."""

    @property
    def whole_R(self) -> np.ndarray:
        return self.each_RxH.sum(-1)


def law(temperature: float = 1.0, top_p: float = 1.0) -> Law:
    """The model's law at a temperature, cut to a nucleus."""
    each = np.zeros((len(RESPONSES), HORIZON))
    for number, tokens in enumerate(RESPONSES):
        for place, token in enumerate(tokens):
            each[number, place] = log_probs(tokens[:place], temperature, top_p)[token]
    return Law(each)


def log_probs(prefix: tuple[int, ...], temperature: float = 1.0, top_p: float = 1.0) -> np.ndarray:
    p = np.exp(logits(prefix) / temperature)
    p /= p.sum()
    order = np.argsort(-p)
    before = np.cumsum(p[order]) - p[order]
    kept = np.zeros(VOCAB, bool)
    kept[order[before < top_p]] = True
    with np.errstate(divide="ignore"):
        return np.log(np.where(kept, p, 0) / p[kept].sum())


def normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def total_variation(one: np.ndarray, two: np.ndarray) -> float:
    """What either lacks of a whole is somewhere else."""
    return float((np.abs(one - two).sum() + abs(one.sum() - two.sum())) / 2)


RESPONSES = responses()
LENGTHS = np.array([len(tokens) for tokens in RESPONSES])
REWARDS = np.array([reward(tokens) for tokens in RESPONSES])
BASE = law()
P = np.exp(BASE.whole_R)
PI = normalised(P * np.exp(INV_TEMP * REWARDS))
SAME = np.array(
    [[[c < min(len(a), len(b)) + 1 and a[:c] == b[:c] for b in RESPONSES] for a in RESPONSES] for c in range(HORIZON)]
)
"""Whether two responses agree before a cut, ``[H, R, R]``."""
