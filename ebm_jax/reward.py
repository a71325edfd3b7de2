"""A reward model as its users see it: prompts with answers in, one number for each out.

``open_reward`` opens a trained run (algorithm ``reward_model``) or a published sequence classifier with one label (folder,
``gs://`` address or name on the Hugging Face hub).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import Mesh

from ebm_jax.algorithms.reward_model import RewardModel
from ebm_jax.data.chat import ChatTemplate, open_chat_template
from ebm_jax.data.config import DataConfig
from ebm_jax.data.encoding import encode_documents
from ebm_jax.data.sources import Document, Part
from ebm_jax.data.tokenizers import Tokenizer
from ebm_jax.errors import UserError
from ebm_jax.evals.preferences import score_texts
from ebm_jax.evals.tasks.protocol import Prompt
from ebm_jax.experiment import open_run
from ebm_jax.interop.hugging_face.folder import is_model, locate, read_published
from ebm_jax.language_model import published_params, published_prefix, published_tokenizer, run_prefix
from ebm_jax.models.reward import RewardTransformer, reward_transformer
from ebm_jax.parallel.mesh import MeshConfig
from ebm_jax.parallel.multihost import to_global
from ebm_jax.parallel.rules import Rules, use
from ebm_jax.precision import Precision
from ebm_jax.records import RUN
from ebm_jax.types import Array, Params


@dataclass(frozen=True)
class Reward:
    """A network with a scalar head, its tokenizer, and how it reads texts, on a mesh."""

    name: str
    step: int | None
    """The checkpoint's, for a run."""
    network: RewardTransformer
    params: Params
    tokenizer: Tokenizer
    data: DataConfig
    """How texts are framed and cut: as in training, or as published."""
    mesh: Mesh
    rules: Rules
    prefix: tuple[int, ...] = ()
    """Tokens in front of every text that the tokenizer does not write itself."""
    suffix: tuple[int, ...] = ()
    """Tokens behind it."""
    ending: str | None = ""
    """Text behind every answer: what it is judged by. None: must be said before answers can be scored."""
    rows: int = 32
    """Texts that are scored side by side."""

    @property
    def context(self) -> int:
        """Tokens of the longest text: half of a row, in which a pair lies."""
        assert self.data.whole is not None
        return self.data.whole.longest

    @cached_property
    def chat(self) -> ChatTemplate:
        """The chat template; UserError where there is none."""
        return open_chat_template(self.data.tokenizer, self.data.examples.chat_template)

    def encode(self, prompt: Prompt, answer: str) -> np.ndarray:
        """The tokens of a prompt and its answer, as the model was trained to read them, cut if it read cut ones."""
        if self.ending is None:
            shown = self.data.examples.ending
            raise UserError(
                f"{self.name} was trained with data.examples.ending={shown!r}: open it with an ending to judge by"
            )
        front = self.prefix
        if prompt.messages is not None:
            turns = [*map(dict, prompt.messages), {"role": "assistant", "content": answer}]
            ids = self.tokenizer.encode(self.chat.render(turns) + self.ending)
            # What is published says in its template all that stands in front; a run may add to it.
            front = () if self.step is None else front
        else:
            before, answer = prompt.text or "", answer + self.ending
            parts = (Part(before, False), Part(answer, True))
            try:
                (encoded,) = encode_documents(self.tokenizer, [Document(key="text", text=before + answer, parts=parts)])
                ids = encoded.tokens
            except UserError:
                # Examples must fall apart where their answers begin; what a model writes may go on in the middle of a word.
                ids = self.tokenizer.encode(before + answer)
        # Not twice: templates write both themselves.
        front = () if tuple(ids[: len(front)]) == front else front
        behind = () if tuple(ids[len(ids) - len(self.suffix) :]) == self.suffix else self.suffix
        text, whole = np.array([*front, *ids, *behind], np.int32), self.data.whole
        assert whole is not None
        return text if whole.overlong == "drop" else whole.cut(text)

    def __call__(self, pairs: Sequence[tuple[Prompt, str]]) -> np.ndarray:
        """The reward of every answer to its prompt, float64 ``[pairs]``; what runs beside a text does not matter.

        Raises:
          UserError: a text is empty or longer than ``context``, or its reward is not finite.
        """
        return self.of_tokens([self.encode(prompt, answer) for prompt, answer in pairs])

    def of_tokens(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """The reward of every text by its tokens, float64 ``[texts]``."""
        for number, text in enumerate(texts, 1):
            if not 0 < len(text) <= self.context:
                raise UserError(
                    f"text {number} has {len(text)} tokens and {self.name} reads 1 to {self.context}: shorten it"
                )
        how = {"batch_size": self.rows, "shards": self.mesh.size, "pad_id": self.tokenizer.pad_id}
        rewards = score_texts(self.of_rows, texts, longest=self.context, **how)
        if not np.isfinite(rewards).all():
            number = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise UserError(f"{self.name} gives text {number + 1} the reward {rewards[number]}, which is not finite")
        return rewards

    def of_rows(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """The rewards ``[B]`` of rows of ``inputs``, ``positions``, ``segments`` ``[B, T]``, each one text and padding."""
        with use(self.mesh, self.rules):
            return np.asarray(self._score(self.params, to_global(dict(batch), mesh=self.mesh)))

    @cached_property
    def _score(self) -> Any:
        return jax.jit(partial(score_rows, self.network))


def score_rows(network: RewardTransformer, params: Params, batch: Mapping[str, Array]) -> Array:
    """The rewards ``[B]`` of rows of ``inputs``, ``positions``, ``segments`` ``[B, T]``, each one text and padding."""
    rows = (batch["inputs"], batch["positions"], batch["segments"])
    return cast(Array, network.apply({"params": params}, *rows, method="of_rows"))


def open_reward(
    name: str,
    *,
    step: int | None = None,
    ending: str | None = None,
    precision: Precision | None = None,
    mesh: MeshConfig | None = None,
    rows: int = 32,
) -> Reward:
    """A trained run by its folder, or a published classifier by folder, ``gs://`` address or ``OWNER/NAME``.

    ``step`` chooses a run's checkpoint; ``precision`` and ``mesh`` are a run's own. ``ending`` is what stands behind every
    answer; a run that was trained with ``data.examples.ending`` needs it to score answers, though not to score tokens.

    Raises:
      UserError: there is no such model, it gives no single number, or its files do not fit together.
    """
    path = Path(name).expanduser()
    if (path / RUN).is_file():
        return _from_run(path, step, ending, rows)
    return _published(locate(name), name, ending or "", precision or Precision(), mesh or MeshConfig(), rows)


def _from_run(folder: Path, step: int | None, ending: str | None, rows: int) -> Reward:
    experiment, params, found = open_run(folder, step)
    algorithm, data, tokenizer = experiment.algorithm, experiment.config.data, experiment.data.tokenizer
    if not isinstance(algorithm, RewardModel):
        raise UserError(
            f"{folder}: algorithm={experiment.config.algorithm.kind} gives no rewards: only reward_model does"
        )
    ends = data.append_eos and tokenizer.eos_id is not None
    return Reward(
        name=str(folder),
        step=found,
        network=cast(RewardTransformer, algorithm.module),
        params=params,
        tokenizer=tokenizer,
        data=data,
        mesh=experiment.program.mesh,
        rules=experiment.program.rules,
        prefix=run_prefix(experiment),
        suffix=(cast(int, tokenizer.eos_id),) if ends else (),
        ending=ending if data.examples.ending else ending or "",
        rows=rows,
    )


def _published(folder: Path, name: str, ending: str, precision: Precision, mesh: MeshConfig, rows: int) -> Reward:
    if not is_model(folder):
        raise UserError(f"{folder} is neither a trained run (run.json) nor a published model (config.json)")
    published = read_published(folder)
    if published.head != "score":
        raise UserError(f"{folder} writes text and gives no reward: a ...ForSequenceClassification model is needed")
    if published.labels != 1:
        raise UserError(f"{folder} tells {published.labels} labels apart: a reward model has one")
    source, tokenizer = published_tokenizer(folder, published)
    network = reward_transformer(published.model, published.vocab_size, precision)
    params, devices, rules = published_params(folder, published, network, mesh)
    prefix = published_prefix(folder, tokenizer)
    return Reward(
        name=name,
        step=None,
        network=network,
        params=params,
        tokenizer=tokenizer,
        data=DataConfig(
            source="pairs:PATH",
            tokenizer=source,
            context=2 * published.context,
            prepend_bos=bool(prefix),
        ),
        mesh=devices,
        rules=rules,
        prefix=prefix,
        ending=ending,
        rows=rows,
    )
