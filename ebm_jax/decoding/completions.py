"""Many prompts at once: batches of like lengths, several samples a prompt, ends by token or by string."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ebm_jax.data.tokenizers import Tokenizer
from ebm_jax.decoding.writer import Writer, batches
from ebm_jax.types import PRNGKey


class Completion(NamedTuple):
    """What was written behind a prompt."""

    text: str
    """Without the token or string that ended it."""
    tokens: list[int]
    """All that were drawn, the one that ended it included."""
    log_probs: list[float]
    """Of every token under the model, neither tempered nor cut."""
    finished: bool
    """Ended by itself, not by the limit."""


def complete(
    writer: Writer,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    samples: int,
    count: int,
    key: PRNGKey,
    ends: Sequence[int] = (),
    stop: Sequence[str] = (),
    rows: int = 32,
    context: int | None = None,
) -> Iterator[tuple[int, list[Completion]]]:
    """Up to ``count`` tokens behind every prompt, ``samples`` times: prompts by number with completions, as they are done.

    At most ``rows`` rows run side by side, fewer behind long prompts (``writer.READ``). Draws are keyed by prompt and sample,
    so neither the batches nor the order of the prompts matter. ``writer`` must end rows at ``ends``; no text outgrows
    ``context``.
    """
    order = sorted(range(len(prompts)), key=lambda n: (len(prompts[n]), n))
    each = max(1, rows // samples)
    # More samples than rows are taken in equal parts, one after another.
    width = -(-samples // -(-samples // max(rows, 1)))
    for batch, size in batches(order, [len(prompt) for prompt in prompts], each):
        # Filled up, so that neither the last batch nor every number of prompts needs a program of its own.
        padded = batch + [batch[-1]] * (size - len(batch))
        made: list[list[Completion]] = [[] for _ in batch]
        for low in range(0, samples, width):
            wanted = min(width, samples - low)
            real = len(batch) * wanted
            group = _Batch([prompts[n] for n in padded], width, tokenizer, ends, stop, count, context, real)
            _write(writer, group, [prompts[n] for n in padded], [n * samples + low for n in padded], key)
            for place, done in enumerate(made):
                done += group.completions(place)[:wanted]
        yield from zip(batch, made, strict=True)


def _write(writer: Writer, group: "_Batch", prompts: list[Sequence[int]], firsts: list[int], key: PRNGKey) -> None:
    """Fills a batch; ``firsts`` number the first row of every prompt."""
    index, room = np.array([first + s for first in firsts for s in range(group.samples)]), max(group.limits)
    state, made = writer.start(prompts, index, room), 0
    while made < room and not all(group.ended):
        step = min(writer.chunk, room - made)
        state, written = writer.go_on(state, key, step)
        made += step
        group.take(np.asarray(written.tokens_XxN)[:, :step], np.asarray(written.log_probs_XxN)[:, :step])
        state = state.replace(ended_X=jnp.asarray(group.ended))


class _Batch:
    """The rows of a batch: what they have, and which of them have ended."""

    def __init__(self, prompts, samples, tokenizer, ends, stop, count, context, real) -> None:
        rows = [list(prompt) for prompt in prompts for _ in range(samples)]
        self._prompts, self.samples, self._tokenizer = rows, samples, tokenizer
        self._ends, self._stop = frozenset(ends), [s for s in stop if s]
        self._tokens: list[list[int]] = [[] for _ in rows]
        self._log_probs: list[list[float]] = [[] for _ in rows]
        self._texts, self._finished = [""] * len(rows), [False] * len(rows)
        self.limits = [count if context is None else max(1, min(count, context - len(row))) for row in rows]
        # Rows that only fill the batch end before they begin.
        self.ended = [place >= real for place in range(len(rows))]

    def take(self, tokens_XxN: np.ndarray, log_probs_XxN: np.ndarray) -> None:
        for row, (tokens, log_probs) in enumerate(zip(tokens_XxN.tolist(), log_probs_XxN.tolist(), strict=True)):
            if not self.ended[row]:
                self._take(row, tokens, log_probs)

    def _take(self, row: int, tokens: list[int], log_probs: list[float]) -> None:
        kept = self._tokens[row]
        for token, log_prob in zip(tokens, log_probs, strict=True):
            kept.append(token)
            self._log_probs[row].append(log_prob)
            if token in self._ends:
                self._finished[row] = True
            if self._finished[row] or len(kept) == self.limits[row]:
                self.ended[row] = True
                break
        self._texts[row] = self._text(row, kept)
        if self._stop:
            self._cut(row)

    def _text(self, row: int, tokens: list[int]) -> str:
        said = tokens[:-1] if tokens and tokens[-1] in self._ends else tokens
        # Some tokenizers write a token otherwise at the beginning of a text than in it.
        before = self._tokenizer.decode(self._prompts[row])
        return self._tokenizer.decode(self._prompts[row] + said)[len(before) :]

    def _cut(self, row: int) -> None:
        """Ends a row at its first stop string, with the token that completed it."""
        places = [place for place in (self._texts[row].find(word) for word in self._stop) if place >= 0]
        if not places:
            return
        kept, low, high = self._tokens[row], 1, len(self._tokens[row])
        while low < high:  # the fewest tokens whose text has one
            middle = (low + high) // 2
            text = self._text(row, kept[:middle])
            low, high = (low, middle) if any(word in text for word in self._stop) else (middle + 1, high)
        del kept[low:], self._log_probs[row][low:]
        text = self._text(row, kept)
        places = [place for place in (text.find(word) for word in self._stop) if place >= 0]
        self._texts[row] = text[: min(places)] if places else text
        self._finished[row] = self.ended[row] = True

    def completions(self, place: int) -> list[Completion]:
        rows = range(place * self.samples, (place + 1) * self.samples)
        return [Completion(self._texts[r], self._tokens[r], self._log_probs[r], self._finished[r]) for r in rows]
