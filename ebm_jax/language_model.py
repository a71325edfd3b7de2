"""A language model as its users see it: prompts in, completions and likelihoods out.

``open_model`` opens a trained run or a published model (folder, ``gs://`` address or name on the Hugging Face hub).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ebm_jax import rng
from ebm_jax.algorithms.lm import LM
from ebm_jax.data.chat import ChatTemplate, open_chat_template
from ebm_jax.data.tokenizers import Tokenizer, open_tokenizer
from ebm_jax.decoding.completions import complete
from ebm_jax.decoding.lm import LMDecoder
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.decoding.writer import Writer, batches, bucket
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Completion, LogLikelihood, Prompt
from ebm_jax.experiment import Experiment, open_run
from ebm_jax.interop.hugging_face.families import Published
from ebm_jax.interop.hugging_face.folder import is_model, locate, read_json, read_published
from ebm_jax.interop.hugging_face.weights import load_params
from ebm_jax.models.lm import TransformerLM, parameter_shapes
from ebm_jax.parallel.mesh import MeshConfig, make_mesh
from ebm_jax.parallel.rules import Rules, get_rules, placed, use
from ebm_jax.precision import Precision
from ebm_jax.records import RUN
from ebm_jax.types import Array, Params

CHUNK = 64
"""Tokens made between two looks for stop strings."""


@dataclass(frozen=True)
class LanguageModel:
    """A network with its tokenizer, on a mesh."""

    name: str
    network: TransformerLM
    params: Params
    """With separate layers."""
    tokenizer: Tokenizer
    context: int
    prefix: tuple[int, ...]
    """Tokens in front of every text, as the model was trained: its begin-of-text token, or none."""
    ends: tuple[int, ...]
    """Tokens that end a completion."""
    mesh: Mesh
    rules: Rules
    chat_prefix: tuple[int, ...] = ()
    """Tokens in front of a chat where its template does not write them: a run's own; what is published says it all itself."""
    template: str | None = None
    """Where the chat template is looked for, as ``open_tokenizer`` takes it."""
    chat_file: str | None = None
    """The Jinja file that a run was trained with in place of that template."""
    rows: int = 32
    """Rows that run side by side."""
    step: int | None = None
    """Steps that a run was trained for; None for a published model."""

    @cached_property
    def chat(self) -> ChatTemplate:
        """The chat template; UserError where there is none."""
        if self.template is None:
            raise UserError(f"{self.name} has no chat template: use plain prompts")
        return open_chat_template(self.template, self.chat_file)

    def encode(self, prompt: Prompt) -> list[int]:
        """The tokens of a prompt, with those that stand in front of every text; UserError where it is no text."""
        if prompt.messages is not None:
            text = self.chat.prompt(list(map(dict, prompt.messages)))
            ids = self._ids(text)
            return ids if tuple(ids[: len(self.chat_prefix)]) == self.chat_prefix else [*self.chat_prefix, *ids]
        return [*self.prefix, *self._ids(prompt.text or "")]

    def _ids(self, text: str) -> list[int]:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(
                f"{text[:60]!r} is no text: character {error.start + 1} is half of a surrogate pair"
            ) from error
        return self.tokenizer.encode(text).tolist()

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        samples: int = 1,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> list[list[Completion]]:
        """``samples`` completions of every prompt; equal arguments give equal completions.

        Raises:
          UserError: a prompt has no tokens, or leaves no room in the context; nothing is asked for.
        """
        for option, value in (("samples", samples), ("max_new_tokens", max_new_tokens)):
            if value < 1:
                raise UserError(f"{option}={value} must be at least 1")
        ids = [self._checked(self.encode(prompt), number) for number, prompt in enumerate(prompts)]
        sampling = SamplingConfig(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
        made: list[list[Completion]] = [[] for _ in prompts]
        with use(self.mesh, self.rules):
            done = complete(
                self.writer(sampling, min(CHUNK, bucket(max_new_tokens))),
                self.tokenizer,
                ids,
                samples=samples,
                count=max_new_tokens,
                key=rng.root_key(seed),
                ends=self.ends,
                stop=stop,
                rows=self.rows,
                context=self.context,
            )
            for number, completions in done:
                made[number] = [
                    Completion(c.text, len(c.tokens), float(np.sum(c.log_probs)), c.finished, tuple(c.log_probs))
                    for c in completions
                ]
        return made

    def writer(self, sampling: SamplingConfig, chunk: int) -> Writer:
        """Compiled generation; made once for each way of sampling."""
        if (sampling, chunk) not in self._writers:
            decoder = LMDecoder(self.network)
            self._writers[sampling, chunk] = Writer(
                decoder, self.params, sampling=sampling, ends=self.ends, chunk=chunk, context=self.context
            )
        return self._writers[sampling, chunk]

    def log_likelihood(
        self, pairs: Sequence[tuple[Prompt, str]], ended: Sequence[bool] | None = None
    ) -> list[LogLikelihood]:
        """The likelihood of every continuation given its prompt; of those that have ``ended``, with the end behind them.

        Raises:
          UserError: a continuation has no tokens, or does not fit into the context with its prompt; the model has no end.
        """
        if ended is None:
            ended = [False] * len(pairs)
        elif any(ended) and not self.ends:
            raise UserError(f"{self.name} has no token that ends a text: the likelihood of an end cannot be told")
        rows = [
            self._pair(prompt, text, number, self.ends[:1] if end else ())
            for number, ((prompt, text), end) in enumerate(zip(pairs, ended, strict=True))
        ]
        order = sorted(range(len(rows)), key=lambda n: len(rows[n][0]))
        found: dict[int, LogLikelihood] = {}
        with use(self.mesh, self.rules):
            for batch, size in batches(order, [len(ids) for ids, _ in rows], self.rows):
                width = bucket(max(len(rows[n][0]) for n in batch), self.context + 1)
                tokens = np.zeros((size, width), np.int32)
                scored = np.zeros(tokens.shape, bool)
                for place, number in enumerate(batch):
                    ids, start = rows[number]
                    tokens[place, : len(ids)], scored[place, start : len(ids)] = ids, True
                nats, greedy = jax.device_get(self._score(self.params, tokens, scored))
                for place, number in enumerate(batch):
                    count = int(scored[place].sum())
                    found[number] = LogLikelihood(float(nats[place]), count, bool(greedy[place]))
        return [found[number] for number in range(len(rows))]

    @cached_property
    def _writers(self) -> dict[Any, Writer]:
        return {}

    @cached_property
    def _score(self) -> Any:
        return jax.jit(partial(_score, self.network))

    def misfit(self, prompt: Prompt, continuation: str | None = None) -> str:
        """What ``generate`` (without) or ``log_likelihood`` (with a continuation) would refuse; empty where nothing is."""
        try:
            if continuation is None:
                self._checked(self.encode(prompt), 0)
            else:
                self._pair(prompt, continuation, 0)
        except _Misfit as error:
            return str(error).replace("prompt 1", "the prompt", 1).replace("continuation 1", "the continuation", 1)
        return ""

    def _checked(self, ids: list[int], number: int) -> list[int]:
        if not ids:
            raise _Misfit(f"prompt {number + 1} is empty: give at least one character to go on from")
        if len(ids) >= self.context:
            raise _Misfit(
                f"prompt {number + 1} has {len(ids)} tokens and the context of {self.name} holds {self.context}: shorten it"
            )
        return ids

    def _pair(self, prompt: Prompt, text: str, number: int, end: tuple[int, ...] = ()) -> tuple[list[int], int]:
        before = self.encode(prompt)
        if prompt.text is not None:
            # As one text: the last token of the prompt may reach into the continuation.
            whole = [*self.prefix, *self._ids(prompt.text + text)]
            start = next((n for n, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before))
        else:
            whole, start = [*before, *self._ids(text)], len(before)
        whole, start = [*whole, *end], max(start, 1)
        if len(whole) <= start:
            raise _Misfit(f"continuation {number + 1}, {text!r}, has no tokens that could be scored")
        if len(whole) > self.context + 1:
            raise _Misfit(
                f"prompt {number + 1} and its continuation have {len(whole)} tokens and the context of {self.name}"
                f" holds {self.context}: shorten them"
            )
        return whole, start


class _Misfit(UserError):
    """A prompt that this model cannot be given, whatever else is asked with it."""


def _score(network: TransformerLM, params: Params, tokens_BxT: Array, scored_BxT: Array) -> tuple[Array, Array]:
    """Log-probability of the scored tokens of every row, and whether each of them is the most likely one."""
    inputs, targets, scored = tokens_BxT[:, :-1], tokens_BxT[:, 1:], scored_BxT[:, 1:]
    positions = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape)
    hidden = network.apply({"params": params}, inputs, positions, jnp.ones_like(inputs), method="hidden")

    def one(row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        x_TxD, target_T, counts_T = row
        logits_TxV = network.apply({"params": params}, x_TxD[None], method="logits")[0]
        log_p_T = jnp.take_along_axis(jax.nn.log_softmax(logits_TxV), target_T[:, None], 1)[:, 0]
        greedy = jnp.all((jnp.argmax(logits_TxV, -1) == target_T) | ~counts_T)
        return jnp.sum(jnp.where(counts_T, log_p_T, 0)), greedy

    # Row by row, so that no more than one row has its logits in memory.
    return jax.lax.map(one, (hidden, targets, scored))


def open_model(
    name: str,
    *,
    precision: Precision | None = None,
    mesh: MeshConfig | None = None,
    rows: int = 32,
    checkpoint: int | None = None,
) -> LanguageModel:
    """A trained run by its folder, or a published model by folder, ``gs://`` address or ``OWNER/NAME``.

    ``checkpoint`` is a run's step, if not its newest.

    Raises:
      UserError: there is no such model, it is not supported, or its files do not fit together.
    """
    path = Path(name).expanduser()
    if (path / RUN).is_file():
        return _from_run(path, rows, checkpoint)
    if checkpoint is not None:
        raise UserError(f"checkpoint={checkpoint} goes with a trained run, and {name} is none (it has no {RUN})")
    return _published(locate(name), name, precision or Precision(), mesh or MeshConfig(), rows)


def _from_run(folder: Path, rows: int, checkpoint: int | None) -> LanguageModel:
    experiment, params, step = open_run(folder, checkpoint)
    if not isinstance(experiment.algorithm, LM):
        raise UserError(
            f"{folder}: algorithm={experiment.config.algorithm.kind} is no language model that can be sampled"
        )
    network, tokenizer = experiment.algorithm.model, experiment.data.tokenizer
    decoder = LMDecoder(network)
    return LanguageModel(
        name=str(folder),
        network=decoder.network,
        params=decoder.parameters(params),
        tokenizer=tokenizer,
        context=experiment.config.data.context,
        prefix=run_prefix(experiment),
        chat_prefix=run_prefix(experiment),
        ends=run_ends(experiment),
        mesh=experiment.program.mesh,
        rules=experiment.program.rules,
        template=experiment.config.data.tokenizer,
        chat_file=experiment.config.data.examples.chat_template,
        rows=rows,
        step=step,
    )


def run_prefix(experiment: Experiment) -> tuple[int, ...]:
    """What stands in front of every text of a run."""
    bos = experiment.data.tokenizer.bos_id
    return (bos,) if experiment.config.data.prepend_bos and bos is not None else ()


def run_ends(experiment: Experiment) -> tuple[int, ...]:
    """The end-of-text token, and what ends a turn of the chats that the run was tuned on."""
    tokenizer, data = experiment.data.tokenizer, experiment.config.data
    ends = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
    if data.examples.messages is None:
        return ends
    said = "answer"
    chat = open_chat_template(data.tokenizer, data.examples.chat_template)
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": said}]
    behind = chat.render(turns).rpartition(said)[2]
    token = next(iter(tokenizer.encode(behind).tolist()), None)
    # A special token, such as <|im_end|>: a line end also ends other lines.
    special = token is not None and re.fullmatch(r"<.+>|\[.+\]", tokenizer.decode([token]).strip())
    return tuple(dict.fromkeys([*ends, token])) if special and token is not None else ends


def _published(folder: Path, name: str, precision: Precision, mesh: MeshConfig, rows: int) -> LanguageModel:
    if not is_model(folder):
        raise UserError(f"{folder} is neither a trained run (run.json) nor a published model (config.json)")
    published = read_published(folder)
    if published.head != "lm":
        raise UserError(f"{folder} classifies sequences and does not write text: a ...ForCausalLM model is needed")
    source, tokenizer = published_tokenizer(folder, published)
    network = TransformerLM(published.model, published.vocab_size, precision, separate_layers=True)
    params, devices, rules = published_params(folder, published, network, mesh)
    return LanguageModel(
        name=name,
        network=network,
        params=params,
        tokenizer=tokenizer,
        context=published.context,
        prefix=published_prefix(folder, tokenizer),
        ends=_ends(folder, published.eos_ids, tokenizer),
        mesh=devices,
        rules=rules,
        template=source,
        rows=rows,
    )


def published_tokenizer(folder: Path, published: Published) -> tuple[str, Tokenizer]:
    """What ``open_tokenizer`` takes for a model's tokenizer, and the tokenizer; UserError where it is another model's."""
    source = tokenizer_source(folder)
    tokenizer = open_tokenizer(source)
    if tokenizer.vocab_size > published.vocab_size:
        raise UserError(
            f"{source} has {tokenizer.vocab_size} tokens and the model {published.vocab_size}: it is not this model's"
        )
    return source, tokenizer


def published_params(
    folder: Path, published: Published, network: TransformerLM, mesh: MeshConfig
) -> tuple[Params, Mesh, Rules]:
    """A model's parameters in their places, with the mesh and the rules that say where those are."""
    devices, rules = make_mesh(mesh), get_rules(mesh.rules)
    with use(devices, rules):
        return load_params(folder, published, placed(parameter_shapes(network), devices, rules)), devices, rules


def tokenizer_source(folder: Path) -> str:
    """The tokenizer in a model's folder, as ``open_tokenizer`` takes it."""
    for kind, file in (("hf", "tokenizer.json"), ("sentencepiece", "tokenizer.model")):
        if (folder / file).is_file():
            return f"{kind}:{folder / file}"
    raise UserError(f"{folder} has neither tokenizer.json nor tokenizer.model")


def published_prefix(folder: Path, tokenizer: Tokenizer) -> tuple[int, ...]:
    """What the published tokenizer puts in front of a text: its own template, or a Llama tokenizer's begin token."""
    settings = folder / "tokenizer_config.json"
    said = read_json(settings).get("add_bos_token") if settings.is_file() else None
    if said is None and (folder / "tokenizer.json").is_file():
        processor = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")).get("post_processor")
        said = tokenizer.bos_id is not None and _begins(processor)
    if said is False or tokenizer.bos_id is None:
        return ()
    return (tokenizer.bos_id,)


def _begins(processor: Any) -> bool:
    """Whether a post-processor's template for one text begins with a special token."""
    if not isinstance(processor, dict):
        return False
    if processor.get("type") == "Sequence":
        return any(map(_begins, processor.get("processors") or ()))
    single = processor.get("single") or []
    return bool(single) and "SpecialToken" in single[0]


def _ends(folder: Path, config: tuple[int, ...], tokenizer: Tokenizer) -> tuple[int, ...]:
    """Tokens that end a completion: of ``generation_config.json``, else of ``config.json``, else of the tokenizer."""
    file = folder / "generation_config.json"
    said = read_json(file).get("eos_token_id") if file.is_file() else None
    if said is not None:
        return tuple(said) if isinstance(said, list) else (said,)
    return config or (() if tokenizer.eos_id is None else (tokenizer.eos_id,))
