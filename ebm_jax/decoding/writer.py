"""Generation as a caller on the host sees it: lists of tokens in, more tokens out, a handful of compiled programs.

Prompts are padded to the next of few lengths, and so is the room behind them: shapes repeat, and with them programs.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax.decoding.decoder import Decoder, DecodingState, Written, generate
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.types import Params, PRNGKey

SHORTEST = 16
READ = 1 << 16
"""Tokens of prompts that are read at once: what is kept of them for attention grows with their number."""


def bucket(length: int, most: int | None = None) -> int:
    """The least of 16, 32, 64, ... that holds ``length``; ``most`` where that is less."""
    size = SHORTEST
    while size < length:
        size *= 2
    return size if most is None else max(length, min(size, most))


def batch_size(count: int, most: int) -> int:
    """The least of 1, 2, 4, ... that holds ``count``, at most ``most``."""
    return min(most, 1 << (count - 1).bit_length())


def batches(order: Sequence[int], lengths: Sequence[int], most: int) -> Iterator[tuple[list[int], int]]:
    """Texts that are read together, with the rows of their batch; ``order`` goes from short to long.

    There are up to ``most`` rows, fewer where texts are so long that those would have more than ``READ`` tokens.
    """
    rows, first = batch_size(len(order), most), 0
    while first < len(order):
        batch = list(order[first : first + rows])
        while rows > 1 and rows * bucket(lengths[batch[-1]]) > READ:
            rows //= 2
            batch = batch[:rows]
        yield batch, rows
        first += len(batch)


class Writer:
    """The two compiled functions of generation, for one model and one way of sampling."""

    def __init__(
        self,
        decoder: Decoder,
        params: Params,
        *,
        sampling: SamplingConfig,
        ends: Sequence[int] = (),
        chunk: int = 32,
        tell: bool = False,
        context: int | None = None,
        ready: "Callable[[Any, Writer, DecodingState], None] | None" = None,
    ) -> None:
        """``params`` are in the decoder's form. A call of ``go_on`` makes up to ``chunk`` tokens. ``ready`` sees each program
        before its first run, and may refuse it."""
        self.decoder, self.params, self.chunk = decoder, params, chunk
        self._sampling, self._ends, self._tell = sampling, tuple(ends), tell
        self._context, self._ready = context, ready
        self._start = jax.jit(decoder.start, static_argnames="room")
        self._programs: dict[Any, Any] = {}

    def start(self, prompts: Sequence[Sequence[int]], index: Sequence[int] | np.ndarray, room: int) -> DecodingState:
        """Reads the prompts; ``index`` numbers the rows that go on from them, several for each if there are more."""
        lengths = np.array([len(prompt) for prompt in prompts], np.int32)
        tokens = np.zeros((len(prompts), bucket(int(lengths.max()), self._context)), np.int32)
        for row, prompt in zip(tokens, prompts, strict=True):
            row[: len(prompt)] = prompt
        return self._start(self.params, tokens, lengths, np.asarray(index, np.uint32), room=bucket(room, self._context))

    def go_on(self, state: DecodingState, key: PRNGKey, count: int) -> tuple[DecodingState, Written]:
        """Up to ``count`` more tokens (at most ``chunk``), as host arrays; the state that went in is used up."""
        shapes = tuple((x.shape, str(x.dtype)) for x in jax.tree.leaves(state))
        if shapes not in self._programs:
            self._programs[shapes] = self.compiled(state)
            if self._ready is not None:
                self._ready(self._programs[shapes], self, state)
        state, written = self._programs[shapes](self.params, state, key, jnp.asarray(count, jnp.int32))
        return state, jax.device_get(written)

    def compiled(self, state: DecodingState, decoder: Decoder | None = None) -> Any:
        """The program that goes on from such a state, with another decoder if one is given."""

        def go_on(params, state, key, count):
            how = (self._sampling, count, self.chunk, self._tell, self._ends)
            return generate(decoder or self.decoder, params, state, key, *how)

        key, count = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), jnp.int32)
        # The state comes out as it went in: left to itself the compiler splits it otherwise, and the next call refuses it.
        places = jax.tree.map(lambda x: x.sharding, state)
        go_on = jax.jit(go_on, donate_argnums=1, out_shardings=(places, None))
        return go_on.lower(self.params, state, key, count).compile()
