"""``pairs:PATH``: a better and a worse answer to the same prompt, as two documents that share a row.

A row of the table holds two whole dialogues (hh-rlhf, Bai et al. 2022), which are split at the last
``data.examples.separator``; two chats, whole or the last message of each; or two answers to a prompt of its own. Equal pairs
and those whose prompts differ compare nothing and are left out.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ebm_jax.data.chat import ChatTemplate, Message, check_messages
from ebm_jax.data.config import DataConfig
from ebm_jax.data.digests import FileDigests
from ebm_jax.data.example_rows import Row, open_table
from ebm_jax.data.examples import open_template, reading
from ebm_jax.data.sources import Document, Part
from ebm_jax.errors import UserError

_LOG = logging.getLogger(__name__)


class Pair(NamedTuple):
    """Two answers to a prompt; ``file`` is what they were read from."""

    key: str
    file: str
    prompt: str
    chosen: str
    rejected: str
    split: str | None

    def documents(self) -> tuple[Document, Document]:
        """The better text, then the worse."""
        better, worse = (
            Document(
                key=f"{self.key} ({name})",
                text=self.prompt + answer,
                split_key=self.prompt,
                split=self.split,
                parts=(Part(self.prompt, False), Part(answer, True)),
            )
            for name, answer in (("chosen", self.chosen), ("rejected", self.rejected))
        )
        return better, worse


class Pairs:
    """Preferences; those with equal prompts are in one split."""

    def __init__(self, config: DataConfig) -> None:
        self._table, self._options = open_table(config.source_path, "pairs", config.exclude), config.examples
        self._config = config
        self._template: ChatTemplate | None = None
        self.name, self.own_splits = self._table.name, self._table.own_splits
        self.left_out: Counter[str] = Counter()
        """Pairs that the last whole reading left out, by reason."""
        self._said = False

    def listing(self, digests: FileDigests) -> Iterable[str]:
        first = next(iter(self._table), None)
        chats = first is not None and isinstance(first.fields.get(self._options.chosen), list)
        return [*self._table.listing(digests), reading(self._options, self._chat_template() if chats else None)]

    def __iter__(self) -> Iterator[Document]:
        for pair in self.pairs():
            yield from pair.documents()
        if self.left_out and not self._said:  # each split reads the source once, and one line is enough
            self._said = True
            _LOG.warning("left out: %s", ", ".join(f"{count} pairs with {why}" for why, count in self.left_out.items()))

    def pairs(self) -> Iterator[Pair]:
        """The pairs that compare something, in order."""
        left_out: Counter[str] = Counter()
        for row in self._table:
            prompt, chosen = self._read(row, self._options.chosen)
            other, rejected = self._read(row, self._options.rejected)
            if prompt != other:
                left_out["prompts that differ"] += 1
            elif chosen == rejected:
                left_out["equal texts"] += 1
            elif not (prompt + chosen and prompt + rejected):
                raise UserError(f"{row.where}: an empty text: leave the row out")
            else:
                file = row.key.rpartition(":")[0]
                chosen, rejected = (answer + self._ending(row, file) for answer in (chosen, rejected))
                yield Pair(row.key, file, prompt, chosen, rejected, row.split)
        self.left_out = left_out

    def _ending(self, row: Row, file: str) -> str:
        named = row._replace(fields={**row.fields, "file": file.rpartition("/")[2].partition(".")[0]})
        return named.fill(self._options.ending, "data.examples.ending")

    def _read(self, row: Row, field: str) -> tuple[str, str]:
        """Prompt and answer of one side."""
        value: Any = row.value(field)
        if isinstance(value, list):
            return self._chat(row, field, value)
        text = row.text(field)
        separator = self._options.separator
        if separator is None:
            return row.fill(self._options.prompt, "data.examples.prompt"), text
        before, found, answer = text.rpartition(separator)
        if not found:
            raise UserError(
                f"{row.where}: field {field!r} holds no {separator!r}, after which its last answer would begin: set"
                " data.examples.separator, or to none where rows have a prompt of their own"
            )
        return before + separator, answer

    def _chat(self, row: Row, field: str, value: list) -> tuple[str, str]:
        messages = check_messages(value, f"{row.where}: field {field!r}")
        if messages[-1]["role"] != "assistant":
            raise UserError(f"{row.where}: field {field!r} does not end with what the assistant says")
        if len(messages) == 1:
            messages = [*self._asked(row, field), *messages]
        template = self._chat_template()
        try:
            prompt, whole = template.prompt(messages[:-1]), template.render(messages)
        except UserError as error:
            raise UserError(f"{row.where}: {error}") from error
        if not whole.startswith(prompt):
            raise UserError(
                f"{row.where}: the chat template writes the prompt otherwise when the answer follows: set"
                " data.examples.chat_template to a template that only adds"
            )
        return prompt, whole[len(prompt) :]

    def _asked(self, row: Row, field: str) -> list[Message]:
        """The prompt of an answer that stands alone: a chat or a text in the field that ``data.examples.prompt`` names."""
        name = self._options.prompt.removeprefix("{").removesuffix("}")
        value = row.fields.get(name)
        if isinstance(value, list):
            return check_messages(value, f"{row.where}: field {name!r}")
        if value is None:
            raise UserError(
                f"{row.where}: field {field!r} is an answer alone and there is no field {name!r} with its prompt: set"
                " data.examples.prompt to {FIELD}"
            )
        return [{"role": "user", "content": row.fill(self._options.prompt, "data.examples.prompt")}]

    def _chat_template(self) -> ChatTemplate:
        if self._template is None:
            self._template = open_template(self._config)
        return self._template
