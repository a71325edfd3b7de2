"""Power sampling of 16 prompts, over the same chains one prompt at a time and without a cache.

p^4 by suffixes at temperature 1/4, 4 stages of 32 tokens and 4 steps each, on ``lm_stories260k`` of ``$EBM_JAX_DATA``. Both
draw the same tokens.
"""

from typing import Any

import numpy as np

from ebm_jax.decoders.account import Account
from ebm_jax.decoders.job import Decoded, Job
from ebm_jax.decoders.power import PowerSampling
from experiments.bench.decoding import asked_of, raced
from experiments.bench.naive_decoding import power

CHAIN = PowerSampling(block=32, steps=4)
HORIZON = 128


def run(repeats: int = 3) -> dict[str, Any]:
    """``speedup``: their time over ours; ``tokens`` drawn by the counter, ``tokens_expected`` by the trace; no rewards."""
    asked, tokens, key, engine, naive = asked_of(CHAIN, HORIZON)

    def ours() -> tuple[Decoded, Account]:
        account = Account.of(len(asked))
        return CHAIN.decode(Job(engine, None, asked, tokens, range(len(asked)), key, account)), account

    def theirs() -> list[list[int]]:
        naive.tokens = 0
        return [power(naive, key, number, prompt, CHAIN).tokens for number, prompt in enumerate(tokens)]

    return raced(ours, theirs, naive, recounted, repeats)[0]


def recounted(found: Decoded) -> int:
    """Tokens by the record of the chains: what stages grew by, and of every step the proposal behind its cut."""
    steps = sum(int(np.sum((step.proposed_X - step.cut_X)[step.drawn_X])) for step in found.log["trace"])
    return int(np.sum(found.log["grown"])) + steps
