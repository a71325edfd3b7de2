"""A frozen language model as decoders use it: many prompts and chains in one batch, a handful of compiled programs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax.decoders.rewards import Response
from ebm_jax.decoding.markov.speculative import DraftedSuffixes
from ebm_jax.decoding.markov.suffixes import Memory, Responses, Suffixes, merged, row_keys
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.decoding.writer import bucket
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import cut
from ebm_jax.language_model import LanguageModel
from ebm_jax.models.lm import TransformerLM
from ebm_jax.parallel.rules import use
from ebm_jax.types import Array, PRNGKey


@dataclass(frozen=True)
class Batch:
    """Prompts with the responses of their chains; row x is chain ``chain_X[x]`` of prompt number ``prompt_X[x]``."""

    prompts: tuple[tuple[int, ...], ...]
    """Tokens of every prompt, B of them; row x goes on with prompt ``x // (X / B)``."""
    prompt_X: np.ndarray
    chain_X: np.ndarray
    responses: Responses
    memory: Memory

    @property
    def rows(self) -> int:
        return len(self.prompt_X)

    @property
    def each(self) -> int:
        """Rows of a prompt."""
        return self.rows // len(self.prompts)

    @property
    def lengths(self) -> np.ndarray:
        return np.asarray(self.responses.length_X)


class Programs:
    """What is compiled, once for each model, way of sampling and longest response."""

    def __init__(self, suffixes: Suffixes) -> None:
        self.read = jax.jit(suffixes.read, static_argnames="each")
        self.draw = jax.jit(suffixes.draw)
        self.front = jax.jit(suffixes.front)
        self.with_token = jax.jit(suffixes.with_token)
        self.keep = jax.jit(suffixes.keep, donate_argnums=0)
        self.merged = jax.jit(merged)
        self.taken = jax.jit(lambda tree, rows: jax.tree.map(lambda x: jnp.take(x, rows, axis=0), tree))
        self.keys = jax.jit(row_keys)


@lru_cache(maxsize=32)
def programs(place: Any, network: TransformerLM, draft: TransformerLM | None, *how: Any) -> Programs:
    """The programs of a network, with a draft's where there is one.

    ``place`` tells meshes and rules apart, which programs are traced for; ``how`` is what ``Suffixes`` asks besides.
    """
    return Programs(Suffixes(network, *how) if draft is None else DraftedSuffixes(network, draft, *how))


class Engine:
    """Draws responses and their ends.

    Draws are functions of (key, prompt number, chain, step, place) alone: neither the batch nor its order matter.
    """

    def __init__(
        self,
        model: LanguageModel,
        sampling: SamplingConfig,
        horizon: int,
        key: PRNGKey,
        log_probs: bool = False,
        weighed: SamplingConfig | None = None,
        draft: LanguageModel | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        """``horizon`` is the longest response, in tokens; ``log_probs`` and ``weighed`` are those of ``Suffixes``.

        ``draft`` writes ahead of the model (``DraftedSuffixes``), at no change of law. Texts are told up to the first string of
        ``stop``; the tokens behind it are part of a response all the same, so chains keep their law.

        Raises:
          UserError: there is no room for a token, or the draft has another vocabulary.
        """
        if horizon < 1:
            raise UserError(f"max_new_tokens={horizon} must be at least 1")
        self.model, self.horizon, self._key, self._stop = model, horizon, key, tuple(stop)
        self._texts: dict[tuple[int, ...], int] = {}
        if draft is not None and draft.tokenizer.fingerprint != model.tokenizer.fingerprint:
            raise UserError(f"the draft {draft.name} has another tokenizer than {model.name}: it cannot write for it")
        how = (sampling, tuple(model.ends), horizon, log_probs, weighed)
        place = (model.mesh, tuple(model.rules.items()))
        self._run = programs(place, model.network, draft.network if draft else None, *how)
        self._params = {"model": model.params, "draft": draft.params} if draft else model.params

    @cached_property
    def ends(self) -> frozenset[int]:
        return frozenset(self.model.ends)

    def check(self, prompts: Sequence[Sequence[int]], numbers: Sequence[int]) -> None:
        """Refuses prompts that cannot be gone on from.

        Raises:
          UserError: a prompt is empty, or leaves no room for a response of ``horizon`` tokens.
        """
        for number, prompt in zip(numbers, prompts, strict=True):
            if not prompt:
                raise UserError(f"prompt {number + 1} is empty: give at least one character to go on from")
            if (surplus := len(prompt) + self.horizon - self.model.context) > 0:
                raise UserError(
                    f"prompt {number + 1} has {len(prompt)} tokens, which leaves no room for responses of"
                    f" max_new_tokens={self.horizon} in the context of {self.model.context} of {self.model.name}: shorten it by"
                    f" {surplus}, or ask for fewer"
                )

    def start(self, prompts: Sequence[Sequence[int]], numbers: Sequence[int], chains: int) -> Batch:
        """Empty responses behind prompts of these numbers, ``chains`` rows each; UserError where ``check`` has one."""
        self.check(prompts, numbers)
        lengths = np.array([len(prompt) for prompt in prompts], np.int32)
        tokens = np.zeros((len(prompts), bucket(int(lengths.max()), self.model.context)), np.int32)
        for row, prompt in zip(tokens, prompts, strict=True):
            row[: len(prompt)] = prompt
        with use(self.model.mesh, self.model.rules):
            responses, memory = self._run.read(self._params, tokens, lengths, each=chains)
        return Batch(
            prompts=tuple(map(tuple, prompts)),
            prompt_X=np.repeat(np.asarray(numbers, np.int32), chains),
            chain_X=np.tile(np.arange(chains, dtype=np.int32), len(prompts)),
            responses=responses,
            memory=memory,
        )

    def propose(
        self, batch: Batch, cut_X: np.ndarray, step: int | np.ndarray, until: int | np.ndarray | None = None
    ) -> tuple[Responses, Batch]:
        """What responses could become: ends drawn anew behind the cuts; the batch that comes back replaces the given one.

        ``step`` numbers the draws, for all rows or each; with ``until``, also for all or each, responses grow to that many
        tokens and no further.
        """
        most = self.horizon if until is None else until
        with use(self.model.mesh, self.model.rules):
            keys = self._run.keys(self._key, batch.prompt_X, batch.chain_X, jnp.asarray(step, jnp.int32))
            cut = jnp.asarray(cut_X, jnp.int32)
            made, memory = self._run.draw(
                self._params, batch.memory, batch.responses, cut, keys, jnp.asarray(most, jnp.int32)
            )
        return made, replace(batch, memory=memory)

    def front(self, batch: Batch) -> tuple[Array, Batch]:
        """Logits ``[X, V]`` of the next token of every response; the batch that comes back goes to ``with_token``."""
        with use(self.model.mesh, self.model.rules):
            logits_XxV, memory = self._run.front(self._params, batch.memory, batch.responses)
        return logits_XxV, replace(batch, memory=memory)

    def with_token(self, batch: Batch, token_X: np.ndarray, logits_XxV: Array) -> Batch:
        """The batch with one more token, of the caller's choice, in every response that goes on."""
        cut, all_X = batch.responses.length_X, jnp.ones(batch.rows, bool)
        with use(self.model.mesh, self.model.rules):
            memory = self._run.keep(batch.memory, cut, all_X)
            responses = self._run.with_token(batch.responses, jnp.asarray(token_X, jnp.int32), logits_XxV)
        return replace(batch, memory=memory, responses=responses)

    def settle(self, batch: Batch, proposed: Responses, cut_X: np.ndarray, accepted_X: np.ndarray) -> Batch:
        """The batch with proposals in the rows that accept them."""
        with use(self.model.mesh, self.model.rules):
            accepted = jnp.asarray(accepted_X, bool)
            memory = self._run.keep(batch.memory, jnp.asarray(cut_X, jnp.int32), accepted)
            responses = self._run.merged(batch.responses, proposed, accepted)
        return replace(batch, memory=memory, responses=responses)

    def take(self, batch: Batch, rows: np.ndarray, chain_X: np.ndarray | None = None) -> Batch:
        """The batch of some of its rows, as many for every prompt, prompt after prompt; a row may be taken several times.

        ``chain`` numbers them anew, else by their places behind the prompt: draws of copies are their own.
        """
        memory, prompts = batch.memory, len(batch.prompts)
        if chain_X is None:
            chain_X = np.tile(np.arange(len(rows) // prompts, dtype=np.int32), prompts)
        with use(self.model.mesh, self.model.rules):
            at = jnp.asarray(rows, jnp.int32)
            own, last, responses = self._run.taken((memory.own, memory.last_X, batch.responses), at)
        return replace(
            batch,
            prompt_X=batch.prompt_X[rows],
            chain_X=np.asarray(chain_X, np.int32),
            responses=responses,
            memory=memory.replace(own=own, last_X=last),
        )

    def told(self, batch: Batch, responses: Responses, rows: np.ndarray | None = None) -> list[Response]:
        """The responses of all rows on the host, or of some of them."""
        tokens_XxH, length_X, ended_X = map(
            np.asarray, jax.device_get((responses.tokens_XxH, responses.length_X, responses.ended_X))
        )
        return [
            self.response(batch, row, tokens_XxH[row, : int(length_X[row])].tolist(), bool(ended_X[row]))
            for row in (range(len(length_X)) if rows is None else rows.tolist())
        ]

    def response(self, batch: Batch, row: int, tokens: Sequence[int], ended: bool | None = None) -> Response:
        """Tokens behind a row's prompt, as text; whether they have ended is told by the last one where it is not said."""
        ended = bool(tokens) and tokens[-1] in self.ends if ended is None else ended
        said, prompt = tokens[:-1] if ended else tokens, batch.prompts[row // batch.each]
        # Some tokenizers write a token otherwise at the beginning of a text than in it.
        if prompt not in self._texts:
            self._texts[prompt] = len(self.model.tokenizer.decode(list(prompt)))
        text = self.model.tokenizer.decode([*prompt, *said])[self._texts[prompt] :]
        shown = cut(text, self._stop)
        return Response(tuple(tokens), shown, ended or shown != text)


def log_prob_of(responses: Responses) -> Array:
    """Log-probability of every whole response under the model, ``[X]``."""
    if responses.log_prior_XxH is None:
        raise ValueError("these responses were drawn without log-probabilities")
    return jnp.sum(responses.log_prior_XxH, -1)
