"""Energy-based decoding of 16 prompts, over the same chains one prompt at a time and without a cache.

12 steps from the best of 4, responses of up to 128 tokens, on ``lm_stories260k`` of ``$EBM_JAX_DATA``. Both draw the same
tokens.
"""

from typing import Any

import numpy as np

from ebm_jax.decoders.account import Account
from ebm_jax.decoders.ebd import EBD
from ebm_jax.decoders.job import Decoded, Job
from ebm_jax.decoders.rewards import CallableReward, Scorer
from ebm_jax.decoding.markov.acceptance import TargetConfig
from ebm_jax.language_model import LanguageModel
from experiments.bench.decoding import asked_of, letters, raced
from experiments.bench.naive_decoding import energy_based

CHAIN = EBD(steps=12, inits=4, blocks=12, target=TargetConfig(inv_temp=3.5))
HORIZON = 128


def run(repeats: int = 3) -> dict[str, Any]:
    """``speedup``: their time over ours; ``tokens`` and ``reward_calls`` by the counters, ``tokens_expected`` by the trace."""
    asked, tokens, key, engine, naive = asked_of(CHAIN, HORIZON)
    calls: list[int] = []

    def ours() -> tuple[Decoded, Account]:
        account = Account.of(len(asked))
        scorer = Scorer(CallableReward(letters))
        return CHAIN.decode(Job(engine, scorer, asked, tokens, range(len(asked)), key, account)), account

    def theirs() -> list[list[int]]:
        naive.tokens, found = 0, []
        calls.clear()
        for number, prompt in enumerate(tokens):
            worth = lambda said, number=number, prompt=prompt: letters(
                asked[number], _text(engine.model, prompt, said), True
            )
            text, asked_for = energy_based(naive, key, number, prompt, worth, CHAIN)
            found.append(text.tokens)
            calls.append(asked_for)
        return found

    figures, found = raced(ours, theirs, naive, recounted, repeats)
    return figures | {
        "tokens_by_formula": mean_cost(found),
        "reward_calls_asked": sum(calls),
        "mean_length": float(np.mean([len(response.tokens) for response in found.responses])),
    }


def recounted(found: Decoded) -> int:
    """Tokens by the record of the chains: the first responses, and of every step the proposal behind its cut."""
    steps = sum(int(np.sum((step.proposed_X - step.cut_X)[step.drawn_X])) for step in found.log["trace"])
    return int(found.log["first"].sum()) + steps


def mean_cost(found: Decoded) -> float:
    """What chains on a grid of M blocks cost in the mean: ``(n + K (M + 1) / (2 M)) T`` a prompt."""
    length = float(found.log["first"].mean())
    return length * (CHAIN.inits + CHAIN.steps * (CHAIN.blocks + 1) / (2 * CHAIN.blocks)) * len(found.log["first"])


def _text(model: LanguageModel, prompt: list[int], said: list[int]) -> str:
    """A response as its reward reads it."""
    kept = said[:-1] if said and said[-1] in model.ends else said
    return model.tokenizer.decode([*prompt, *kept])[len(model.tokenizer.decode(prompt)) :]
