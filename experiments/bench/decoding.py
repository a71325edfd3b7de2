"""What benchmarks of decoding share: a real model, real prompts, a reward that costs nothing, and the timing of both ways."""

import time
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ebm_jax import rng
from ebm_jax.data.files import json_rows
from ebm_jax.data.paths import expand
from ebm_jax.decoders.account import Account
from ebm_jax.decoders.engine import Engine
from ebm_jax.decoders.job import Decoded, Method, engine_for
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Prompt
from ebm_jax.language_model import LanguageModel, open_model
from ebm_jax.types import Array
from experiments.bench.naive_decoding import NaiveModel

MODEL, TEXTS = "$EBM_JAX_DATA/lm_stories260k", "$EBM_JAX_DATA/text_tinystories/stories.jsonl.gz"
PROMPTS, CHARACTERS = 16, 80


def real_model() -> LanguageModel:
    """The small pretrained model."""
    return open_model(str(expand(MODEL)), rows=PROMPTS)


def prompts() -> list[Prompt]:
    """Beginnings of stories."""
    texts = [row["text"] for _, row in islice(json_rows(expand(TEXTS)), PROMPTS)]
    return [Prompt(text=text[:CHARACTERS].rsplit(" ", 1)[0]) for text in texts]


class Asked(NamedTuple):
    """The prompts of a chain's benchmark, and both ways of drawing it."""

    prompts: list[Prompt]
    tokens: list[list[int]]
    key: Array
    engine: Engine
    naive: NaiveModel


def asked_of(chain: Method, horizon: int) -> Asked:
    """The same model, prompts and keys for our engine and for the model without a cache."""
    model, asked, key = real_model(), prompts(), rng.root_key(0)
    engine = engine_for(chain, model, horizon, rng.stream(key, "tokens"))
    naive = NaiveModel(model, chain.sampling.temperature, horizon, rng.stream(key, "tokens"))
    return Asked(asked, [model.encode(prompt) for prompt in asked], key, engine, naive)


def letters(prompt: Prompt, text: str, complete: bool) -> float:
    """The share of letters e in a text, times ten: a reward that is no part of what is measured."""
    return 10 * text.count("e") / max(1, len(text))


def raced(
    ours: Callable[[], tuple[Decoded, Account]],
    theirs: Callable[[], list[list[int]]],
    naive: NaiveModel,
    recounted: Callable[[Decoded], int],
    repeats: int,
) -> tuple[dict[str, Any], Decoded]:
    """The figures of chains against the same without a cache, and what ours decoded.

    Raises:
      UserError: the two do not draw the same tokens.
    """
    (found, account), other = ours(), theirs()
    same = np.mean([list(response.tokens) == text for response, text in zip(found.responses, other, strict=True)])
    if same < 1 or naive.tokens != account.tokens.sum():
        raise UserError(f"the two ways agree on {same:.0%} of the responses: they do not run the same chains")
    seconds, drawn = timed(ours, theirs, repeats), int(account.tokens.sum())
    return {
        "speedup": seconds["theirs"] / seconds["ours"],
        "tokens": drawn,
        "tokens_expected": recounted(found),
        "reward_calls": int(account.reward_calls.sum()),
        "tokens_per_s": drawn / seconds["ours"],
        "tokens_per_s_naive": drawn / seconds["theirs"],
        "accepted": float(account.accepted.sum() / account.steps.sum()),
    }, found


def timed(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median seconds of both, taken in turns; each has run once before."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(repeats):
        for name, run in (("ours", ours), ("theirs", theirs)):
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(values)) for name, values in seconds.items()}
