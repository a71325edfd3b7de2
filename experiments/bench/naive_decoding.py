"""Chains over responses as they are published: one prompt and one response at a time, a whole pass for every token, no cache.

The sequence is padded to the next multiple of 16. Random numbers are addressed as the package's, by (prompt, chain, step,
place), so that the tokens can be compared.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import rng
from ebm_jax.decoders.ebd import EBD
from ebm_jax.decoders.power import PowerSampling
from ebm_jax.decoding.markov.suffixes import row_keys
from ebm_jax.decoding.sampling import choose
from ebm_jax.language_model import LanguageModel
from ebm_jax.types import Array

GROWN_BY = 16


class Text(NamedTuple):
    """A response, with what the acceptance may ask of it token by token."""

    tokens: list[int]
    log_p: list[float]
    log_q: list[float]


@dataclass
class NaiveModel:
    """The model of one response at a time."""

    model: LanguageModel
    temperature: float
    horizon: int
    key: Any
    tokens: int = 0
    """Drawn so far."""
    _pass: Any = field(init=False)

    def __post_init__(self) -> None:
        def one(params, tokens_T, last, key, place):
            at, same = jnp.arange(len(tokens_T))[None], jnp.ones((1, len(tokens_T)), jnp.int32)
            logits = cast(Array, self.model.network.apply({"params": params}, tokens_T[None], at, same))[0, last]
            drawable = logits / self.temperature
            token = choose(drawable[None], jax.random.uniform(jax.random.fold_in(key, place))[None])[0]
            return token, jax.nn.log_softmax(logits)[token], jax.nn.log_softmax(drawable)[token]

        self._pass = jax.jit(one)

    def drawn(self, number: int, chain: int, step: int, prompt: list[int], kept: Text, until: int) -> Text:
        """The rest of a response behind what is kept of it."""
        made = Text(list(kept.tokens), list(kept.log_p), list(kept.log_q))
        key = row_keys(self.key, jnp.array([number]), jnp.array([chain]), step)[0]
        while len(made.tokens) < until and not (
            len(made.tokens) > len(kept.tokens) and made.tokens[-1] in self.model.ends
        ):
            text = prompt + made.tokens
            padded = np.zeros(-(-len(text) // GROWN_BY) * GROWN_BY, np.int32)
            padded[: len(text)] = text
            token, log_p, log_q = self._pass(self.model.params, padded, len(text) - 1, key, len(made.tokens))
            for where, value in zip(made, (int(token), float(log_p), float(log_q)), strict=True):
                where.append(value)
            self.tokens += 1
        return made


def cut_to(text: Text, length: int) -> Text:
    """What stands before a cut."""
    return Text(text.tokens[:length], text.log_p[:length], text.log_q[:length])


def uniforms(key: Any, number: int, step: int) -> np.ndarray:
    """Three numbers of a chain's step: of its cut, of its acceptance, and one that plain chains do not use."""
    rows = rng.per_row(rng.stream(key, "moves"), jnp.array([number]))
    one = jax.random.fold_in(jax.random.fold_in(rows[0], 0), step)
    return np.asarray(jax.random.uniform(one, (3,)), np.float64)


def energy_based(
    naive: NaiveModel,
    key: Any,
    number: int,
    prompt: list[int],
    reward: Callable[[list[int]], float],
    chain: EBD,
) -> tuple[Text, int]:
    """Energy-based decoding of a prompt; and how many rewards it asked for."""
    empty = Text([], [], [])
    first = [naive.drawn(number, n, 0, prompt, empty, naive.horizon) for n in range(chain.inits)]
    rewards = [reward(text.tokens) for text in first]
    calls = chain.inits
    now, worth = first[int(np.argmax(rewards))], max(rewards)
    block = int(np.ceil(max(1.0, float(np.median([len(text.tokens) for text in first]))) / chain.blocks))
    for step in range(1, chain.steps + 1):
        count = -(-len(now.tokens) // block)
        u = uniforms(key, number, step)
        cut = block * min(int(u[0] * count), count - 1)
        new = naive.drawn(number, 0, step, prompt, cut_to(now, cut), naive.horizon)
        gained = reward(new.tokens)
        calls += 1
        log_a = chain.target.inv_temp * (gained - worth) + np.log(count) - np.log(-(-len(new.tokens) // block))
        if np.log(u[1]) < log_a:
            now, worth = new, gained
    return now, calls


def power(naive: NaiveModel, key: Any, number: int, prompt: list[int], chain: PowerSampling) -> Text:
    """Power sampling of a prompt, with its whole acceptance and cuts at any token."""
    now, at = Text([], [], []), 0
    for until in [*range(chain.block, naive.horizon, chain.block), naive.horizon]:
        if not (now.tokens and now.tokens[-1] in naive.model.ends):
            now = naive.drawn(number, 0, at, prompt, now, until)
        for _ in range(chain.steps):
            at += 1
            u = uniforms(key, number, at)
            cut = min(int(u[0] * len(now.tokens)), len(now.tokens) - 1)
            new = naive.drawn(number, 0, at, prompt, cut_to(now, cut), until)
            weight = lambda text, cut=cut: chain.target.power * sum(text.log_p[cut:]) - sum(text.log_q[cut:])
            log_a = weight(new) - weight(now) + np.log(len(now.tokens)) - np.log(len(new.tokens))
            if np.log(u[1]) < log_a:
                now = new
        at += 1
    return now
