"""Text from a model as it is made: prompts in, a stream of text out, with the energies of every token on request."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ebm_jax import rng
from ebm_jax.accounting.memory import available_bytes
from ebm_jax.algorithms.ebt import EBT
from ebm_jax.algorithms.lm import LM
from ebm_jax.data.chat import ChatTemplate, open_chat_template
from ebm_jax.data.tokenizers import Tokenizer
from ebm_jax.decoding.decoder import Decoder, Written
from ebm_jax.decoding.lm import LMDecoder
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.decoding.writer import Writer
from ebm_jax.energy.thinking import ThinkingConfig
from ebm_jax.errors import UserError
from ebm_jax.experiment import Experiment
from ebm_jax.language_model import LanguageModel, run_ends, run_prefix
from ebm_jax.parallel.rules import Rules, use
from ebm_jax.types import Params

SIDE_BY_SIDE = 64


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """What to write, and how."""

    tokens: int = 256
    """Tokens to make. Where they outgrow the context, the latest half of it is read again and the text goes on."""
    samples: int = 1
    """Texts per prompt."""
    seed: int = 0
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    thinking: ThinkingConfig = field(default_factory=lambda: ThinkingConfig(at_once=SIDE_BY_SIDE))
    """How an EBT finds each token; other models do not think."""
    energies: bool = False
    """Tell the energies and forward passes of every token."""
    stop: tuple[str, ...] = ()
    """Texts that end a sample and are left out of it; quoted where they hold commas or only spaces: ``stop=['a, b']``."""
    chunk: int = 8
    """Tokens made between two looks at the screen."""

    def __post_init__(self) -> None:
        for name in ("tokens", "samples", "chunk"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Source:
    """What text is drawn from: a decoder with its parameters and its tokenizer."""

    decoder: Callable[[ThinkingConfig], Decoder]
    params: Params
    tokenizer: Tokenizer
    context: int
    prefix: tuple[int, ...]
    """Tokens in front of every text."""
    ends: tuple[int, ...]
    """Tokens that end a text."""
    mesh: Mesh
    rules: Rules
    chat: Callable[[], ChatTemplate] | None = None
    """Opens the chat template."""
    chat_prefix: tuple[int, ...] = ()
    """Tokens in front of a chat where its template does not write them."""
    thinking: ThinkingConfig | None = None
    """How its validation thinks; None for models that do not think."""

    def options(self) -> GenerationOptions:
        """Options that think as the validation does, candidates side by side."""
        if self.thinking is None:
            return GenerationOptions()
        return GenerationOptions(thinking=dataclasses.replace(self.thinking, at_once=SIDE_BY_SIDE))


def run_source(experiment: Experiment, params: Params) -> Source:
    """A trained run; UserError for methods that do not write text."""
    algorithm, tokenizer, data = experiment.algorithm, experiment.data.tokenizer, experiment.config.data
    shared: dict[str, Any] = {
        "params": params,
        "tokenizer": tokenizer,
        "context": data.context,
        "prefix": run_prefix(experiment),
        "ends": run_ends(experiment),
        "chat": partial(open_chat_template, data.tokenizer, data.examples.chat_template),
        "chat_prefix": run_prefix(experiment),
        "mesh": experiment.program.mesh,
        "rules": experiment.program.rules,
    }
    if isinstance(algorithm, EBT):
        return Source(decoder=algorithm.decoder, thinking=algorithm.config.thinking, **shared)
    if isinstance(algorithm, LM):
        return Source(decoder=lambda thinking: algorithm.decoder(), **shared)
    raise UserError(f"algorithm={experiment.config.algorithm.kind} does not generate text: lm and ebt do")


def model_source(model: LanguageModel) -> Source:
    """A published language model."""
    return Source(
        decoder=lambda thinking: LMDecoder(model.network),
        params=model.params,
        tokenizer=model.tokenizer,
        context=model.context,
        prefix=model.prefix,
        ends=model.ends,
        mesh=model.mesh,
        rules=model.rules,
        chat=lambda: model.chat,
        chat_prefix=model.chat_prefix,
    )


def as_chat(source: Source, message: str, system: str | None = None) -> tuple[Source, str]:
    """A user's ``message`` as the model's chat template writes it, and the source that goes on from that text.

    Raises:
      UserError: the model has no chat template, or it refuses the conversation.
    """
    if source.chat is None:
        raise UserError("this model has no chat template: use plain prompts")
    turns = [] if system is None else [{"role": "system", "content": system}]
    text = source.chat().prompt([*turns, {"role": "user", "content": message}])
    begins = tuple(source.tokenizer.encode(text)[: len(source.chat_prefix)].tolist()) == source.chat_prefix
    return dataclasses.replace(source, prefix=() if begins else source.chat_prefix), text


class Token(NamedTuple):
    """One generated token, with what an EBT can tell of it."""

    id: int
    text: str
    """The token alone; incomplete characters are shown as U+FFFD."""
    log_prob: float
    """Under the model, neither tempered nor cut."""
    energies: list[float]
    """Before each inner step and at the end."""
    passes: int


class Chunk(NamedTuple):
    """What became known of one row."""

    row: int
    text: str
    """Further text; incomplete characters and beginnings of stop texts wait for the next chunk."""
    tokens: list[Token]


def stream(source: Source, prompts: Sequence[str], options: GenerationOptions) -> Iterator[Chunk]:
    """Goes on with the prompts, ``options.samples`` times each; row ``p * samples + s`` is sample s of prompt p.

    A row ends at a token that ends texts, or at a stop text. Raises ``UserError`` for prompts that are empty, no text or longer
    than the context, and where the candidates do not fit in memory.
    """
    context, tokenizer = source.context, source.tokenizer
    encoded = [encode_prompt(prompt, source) for prompt in prompts]
    rows = [_Row(ids, tokenizer, source.ends, options.stop) for ids in encoded for _ in range(options.samples)]
    with use(source.mesh, source.rules):
        writer = _writer(source, options)
    index = np.arange(len(rows))
    left, window = options.tokens, 0
    while left and not all(row.ended for row in rows):
        # A window ends one token behind the context: that one is predicted from all of it and read by nobody.
        latest = encoded if window == 0 else [row.recent(max(context // 2, 1)) for row in rows]
        room = min(left, context + 1 - max(map(len, latest)))
        key = rng.at_step(rng.root_key(options.seed), window)
        with use(source.mesh, source.rules):
            state = writer.start(latest, index, room)
        while room and not all(row.ended for row in rows):
            count = min(options.chunk, room)
            with use(source.mesh, source.rules):
                state, written = writer.go_on(state, key, count)
            left, room = left - count, room - count
            for number, row in enumerate(rows):
                if not row.ended:
                    yield Chunk(number, *row.take(written, number, count, last=not left))
        window += 1


def encode_prompt(prompt: str, source: Source) -> list[int]:
    """The prompt's tokens, with those in front of every text; ``UserError`` where there are none or too many."""
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"the prompt is not text: character {error.start} stands for a byte that is not UTF-8"
        ) from error
    if not prompt:
        raise UserError("the prompt is empty: give at least one character to go on from")
    ids = source.tokenizer.encode(prompt).tolist()
    if not ids:
        raise UserError(f"the prompt {prompt!r} has no tokens: give at least one character to go on from")
    ids = [*source.prefix, *ids]
    if (surplus := len(ids) - source.context) > 0:
        raise UserError(
            f"the prompt has {len(ids)} tokens and the model's context holds {source.context}: shorten it by {surplus}"
        )
    return ids


class _Row:
    """One text: its tokens, and how much of it has been told."""

    def __init__(self, prompt: list[int], tokenizer: Tokenizer, ends: Sequence[int], stop: Sequence[str] = ()) -> None:
        self._ids, self._tokenizer, self._ends, self.ended = list(prompt), tokenizer, frozenset(ends), False
        self._stop = [text for text in stop if text]
        self._begin = self._told = len(tokenizer.decode(prompt))

    def recent(self, most: int) -> list[int]:
        return self._ids[-most:]

    def take(self, written: Written, row: int, count: int, last: bool) -> tuple[str, list[Token]]:
        new = []
        for k, token in enumerate(written.tokens_XxN[row, :count].tolist()):
            if token in self._ends:
                self.ended = True
                break
            self._ids.append(token)
            energies = [] if written.energies_XxNxI is None else written.energies_XxNxI[row, k].tolist()
            passes = 0 if written.passes_XxN is None else int(written.passes_XxN[row, k])
            log_prob = float(written.log_probs_XxN[row, k])
            new.append(Token(token, self._tokenizer.decode([token]), log_prob, energies, passes))
        text = self._tokenizer.decode(self._ids)
        end = len(text) if last or self.ended else len(text.rstrip("\ufffd"))
        if (place := self._stopped(text)) is not None:
            end, self.ended = place, True
            while len(new) > 1 and self._stopped(self._tokenizer.decode(self._ids[:-1])) is not None:
                del self._ids[-1], new[-1]
        elif not (last or self.ended):
            end -= max((n for word in self._stop for n in range(len(word)) if text[:end].endswith(word[:n])), default=0)
        fresh, self._told = text[self._told : end], max(self._told, end)
        return fresh, new

    def _stopped(self, text: str) -> int | None:
        """Where the first stop text begins."""
        return min((place for word in self._stop if (place := text.find(word, self._begin)) >= 0), default=None)


def _writer(source: Source, options: GenerationOptions) -> Writer:
    decoder = source.decoder(options.thinking)
    return Writer(
        decoder,
        decoder.parameters(source.params),
        sampling=options.sampling,
        ends=source.ends,
        chunk=options.chunk,
        tell=options.energies and source.thinking is not None,
        context=source.context,
        ready=partial(_require_memory, source, options.thinking),
    )


def _require_memory(source: Source, thinking: ThinkingConfig, program: Any, writer: Writer, state: Any) -> None:
    """Refuses candidates side by side that the device has no room for, and says how many it has."""
    device: jax.Device = source.mesh.devices.flat[0]
    free, needed = available_bytes(device), _temporary(program)
    at_once = min(thinking.at_once, thinking.candidates)
    if free is None or needed <= free or at_once == 1:
        return
    fits, room = at_once, needed
    while room > free and fits > 1:
        fits = max(1, min(fits - 1, int(fits * free / room)))
        fewer = source.decoder(dataclasses.replace(thinking, at_once=fits, candidates=fits))
        room = _temporary(writer.compiled(state, fewer))
    raise UserError(
        f"{at_once} candidates side by side need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free: "
        f"{fits} fit. Set thinking.at_once={fits} to take them in turns, or fewer thinking.candidates"
    )


def _temporary(compiled: Any) -> int:
    analysis = compiled.memory_analysis()
    return 0 if analysis is None else analysis.temp_size_in_bytes
