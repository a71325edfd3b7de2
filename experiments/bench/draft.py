"""Sampling with a draft model ahead, over sampling without: the same law, another number of passes of the model.

The draft of ``lm_stories260k`` (``$EBM_JAX_DATA``) is its own first blocks, with its own head: no second model of its tokens is
at hand. 16 prompts, responses of up to 128 tokens.
"""

from dataclasses import replace
from typing import Any

from ebm_jax import rng
from ebm_jax.decoders.account import Account
from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.engine import Engine
from ebm_jax.decoders.job import PLAIN, Job
from ebm_jax.errors import UserError
from ebm_jax.language_model import LanguageModel
from experiments.bench.decoding import prompts, real_model, timed

HORIZON = 128


def run(repeats: int = 5, blocks: int = 2) -> dict[str, Any]:
    """``speedup``: time of a token without a draft over that with one."""
    model, asked, key = real_model(), prompts(), rng.root_key(0)
    tokens = [model.encode(prompt) for prompt in asked]
    engines = {
        "plain": Engine(model, PLAIN, HORIZON, key),
        "drafted": Engine(model, PLAIN, HORIZON, key, draft=cut(model, blocks)),
    }

    def decode(name: str) -> Account:
        account = Account.of(len(asked))
        BestOfN(samples=1).decode(Job(engines[name], None, asked, tokens, range(len(asked)), key, account))
        return account

    drawn = {name: decode(name).totals() for name in engines}
    seconds = timed(lambda: decode("drafted"), lambda: decode("plain"), repeats)
    rates = {
        "tokens_per_s": drawn["drafted"]["tokens"] / seconds["ours"],
        "tokens_per_s_plain": drawn["plain"]["tokens"] / seconds["theirs"],
    }
    return {"speedup": rates["tokens_per_s"] / rates["tokens_per_s_plain"], **rates}


def cut(model: LanguageModel, blocks: int) -> LanguageModel:
    """The model with its first blocks alone."""
    depth = model.network.config.resolved_depth
    if not 0 < blocks < depth:
        raise UserError(f"blocks={blocks} must be from 1 to {depth - 1}, of {depth}")
    stack = {name: part for name, part in model.params["stack"].items() if int(name.rpartition("_")[2]) < blocks}
    network = model.network.clone(config=replace(model.network.config, depth=blocks))
    return replace(
        model, network=network, params=dict(model.params) | {"stack": stack}, name=f"{model.name}, {blocks} blocks"
    )
