"""``sft:PATH``: rows with a prompt and a completion, or with a chat, as documents of which a part is scored."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from ebm_jax.data.chat import ChatTemplate, check_messages, open_chat_template
from ebm_jax.data.config import DataConfig
from ebm_jax.data.digests import FileDigests, fingerprint
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.data.example_rows import Row, open_table
from ebm_jax.data.sources import Document, Part
from ebm_jax.data.translations import in_directions
from ebm_jax.errors import UserError


class Examples:
    """Examples for supervised fine-tuning; those with equal prompts are in one split."""

    def __init__(self, config: DataConfig) -> None:
        self._table = open_table(config.source_path, "sft", config.exclude)
        self._options, self._ends = config.examples, config.append_eos
        self._template = open_template(config) if self._options.messages else None
        self.name, self.own_splits = self._table.name, self._table.own_splits

    def listing(self, digests: FileDigests) -> Iterable[str]:
        return [*self._table.listing(digests), reading(self._options, self._template)]

    def __iter__(self) -> Iterator[Document]:
        for row in self._rows():
            shared, parts = self._parts(row)
            if self._options.loss == "full":
                parts = (Part("".join(part.text for part in parts), True),)
            elif not self._ends and not any(part.scored and part.text for part in parts):
                raise UserError(f"{row.where}: the completion is empty: leave the row out or set data.append_eos=true")
            yield Document(
                key=row.key,
                text="".join(part.text for part in parts),
                split_key=shared if row.split_key is None else row.split_key,
                split=row.split,
                parts=parts,
                exact=self._template is not None,
                check=self._check(row),
            )

    def _rows(self) -> Iterator[Row]:
        for row in self._table:
            yield from in_directions(row, self._options.directions) if self._options.directions else (row,)

    def _check(self, row: Row) -> str | None:
        if not self._options.check:
            return None
        text = row.fill(self._options.check, "data.examples.check", lists=True)
        if not text.strip():
            raise UserError(f"{row.where}: data.examples.check={self._options.check!r} is blank: leave the row out")
        return text

    def _parts(self, row: Row) -> tuple[str, tuple[Part, ...]]:
        """What the row shares with others that belong to its split, and its text."""
        if self._template is None:
            prompt = row.fill(self._options.prompt, "data.examples.prompt")
            completion = row.fill(self._options.completion, "data.examples.completion")
            return prompt, (Part(prompt, False), Part(completion, True))
        field = self._options.messages or ""
        messages = check_messages(row.value(field), f"{row.where}: field {field!r}")
        opening = itertools.takewhile(lambda message: message["role"] != "assistant", messages)
        shared = "\0".join(message["content"] for message in opening)
        try:
            if self._options.loss == "full":
                return shared, (Part(self._template.render(messages), True),)
            if self._options.loss == "last":
                return shared, self._template.last_part(messages)
            return shared, self._template.parts(messages)
        except UserError as error:
            raise UserError(f"{row.where}: {error}") from error


def open_template(config: DataConfig) -> ChatTemplate:
    """The chat template that ``config`` names, or that lies beside its tokenizer."""
    return open_chat_template(config.tokenizer, config.examples.chat_template)


def reading(options: ExamplesConfig, template: ChatTemplate | None) -> str:
    """A line that changes with how rows are read, for a source's listing."""
    fields = {name: value for name, value in asdict(options).items() if name not in ("longest", "overlong")}
    for name in ("check", "directions"):
        if not fields[name]:
            del fields[name]  # sets without it keep their names
    return f"reading {fingerprint([fields, template.fingerprint if template else None])}"
