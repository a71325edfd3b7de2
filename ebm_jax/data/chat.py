"""Chat templates as Hugging Face tokenizers publish them: Jinja programs that write a conversation as one text.

They are other people's programs, so they run in Jinja's sandbox. ``strftime_now`` is not given to them: a prepared set
must not depend on the day, and templates that know of it have a fixed date instead.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ebm_jax.data.digests import fingerprint
from ebm_jax.data.extras import require
from ebm_jax.data.paths import expand
from ebm_jax.data.sources import Part
from ebm_jax.errors import UserError

Message = dict[str, Any]

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


class ChatTemplate:
    """One template and the special tokens it may write."""

    def __init__(self, source: str, special: dict[str, str], where: str) -> None:
        """``where`` names the template in messages."""
        self._source, self._special, self._where = source, special, where
        self.fingerprint = fingerprint([source, special])

    def render(self, messages: Sequence[Message], *, generation_prompt: bool = False) -> str:
        """The conversation as text; with ``generation_prompt`` up to where the assistant would begin to speak."""
        import jinja2

        try:
            return self._compiled.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=generation_prompt,
                # Published templates may ask whether these are none, which an undefined name is not.
                tools=None,
                documents=None,
                **self._special,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"the chat template {self._where} fails on a conversation: {error}") from error

    def prompt(self, messages: Sequence[Message]) -> str:
        """What a model continues to answer ``messages``."""
        return self.render(messages, generation_prompt=True)

    def parts(self, messages: Sequence[Message]) -> tuple[Part, ...]:
        """The conversation in pieces, of which those are scored that the assistant says (and that end its turns).

        What the assistant says in message i is what rendering messages 0..i adds to the prompt that messages 0..i-1 give.

        Raises:
          UserError: there is no assistant message, or the template writes a conversation's beginning otherwise when it
            goes on, so that what the assistant said cannot be found again.
        """
        whole, done = self.render(messages), 0
        parts: list[Part] = []
        for number, message in enumerate(messages):
            if message.get("role") != "assistant":
                continue
            before, after = self.prompt(messages[:number]), self.render(messages[: number + 1])
            if not (whole.startswith(after) and after.startswith(before) and len(before) >= done):
                raise UserError(
                    f"the chat template {self._where} writes a conversation otherwise once it goes on after message"
                    f" {number + 1}, so its answers cannot be told apart: set data.examples.loss=last or"
                    " full, or data.examples.chat_template to a template that only adds"
                )
            parts += [Part(whole[done : len(before)], False), Part(whole[len(before) : len(after)], True)]
            done = len(after)
        if not parts:
            raise UserError("the conversation has no assistant message: there is nothing to learn")
        return tuple(part for part in [*parts, Part(whole[done:], False)] if part.text)

    def last_part(self, messages: Sequence[Message]) -> tuple[Part, ...]:
        """The conversation in two pieces: a prompt, and what the assistant says to it in the end, which is scored.

        Raises:
          UserError: the assistant has not the last word, or the template writes the prompt otherwise when it has.
        """
        if not messages or messages[-1].get("role") != "assistant":
            raise UserError("the conversation does not end with an assistant message: there is nothing to learn")
        before, whole = self.prompt(messages[:-1]), self.render(messages)
        if not whole.startswith(before):
            raise UserError(
                f"the chat template {self._where} writes the prompt otherwise when the answer follows: set"
                " data.examples.loss=full or data.examples.chat_template to a template that only adds"
            )
        return (Part(before, False), Part(whole[len(before) :], True))

    @cached_property
    def _compiled(self) -> Any:
        jinja2 = require("jinja2", "hf", "a chat template")
        sandbox = require("jinja2.sandbox", "hf", "a chat template")
        environment = sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _generation_extension()]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        try:
            return environment.from_string(self._source)
        except jinja2.TemplateError as error:
            raise UserError(f"the chat template {self._where} is not valid Jinja: {error}") from error


def open_chat_template(tokenizer: str, path: str | None = None) -> ChatTemplate:
    """The template of the tokenizer ``hf:PATH`` or ``sentencepiece:PATH``, or the one in the Jinja file ``path``."""
    file = expand(tokenizer.partition(":")[2] or ".")
    folder = file if file.is_dir() else file.parent
    settings = _settings(folder / "tokenizer_config.json") if tokenizer != "bytes" else {}
    special = {name: text for name in _SPECIAL if (text := _token(settings.get(name))) is not None}
    beside = folder / "chat_template.jinja"
    if path is not None:
        return ChatTemplate(_read(expand(path)), special, str(expand(path)))
    if tokenizer != "bytes" and beside.is_file():
        return ChatTemplate(_read(beside), special, str(beside))
    source = settings.get("chat_template")
    if isinstance(source, list):  # several by name
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        source = named.get("default")
    if not isinstance(source, str):
        raise UserError(
            f"data.tokenizer={tokenizer!r} has no chat template (chat_template.jinja or chat_template in"
            " tokenizer_config.json beside it): set data.examples.chat_template to a Jinja file"
        )
    return ChatTemplate(source, special, str(folder / "tokenizer_config.json"))


def check_messages(value: Any, where: str) -> list[Message]:
    """``value`` as a list of messages with a role and a text; UserError that says ``where`` it is not."""
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: a {type(value).__name__}, not a list of messages")
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict):
            raise UserError(f"{where}: message {number} is a {type(message).__name__}, not an object")
        for field in ("role", "content"):
            if not isinstance(message.get(field), str):
                raise UserError(f"{where}: message {number} has no {field!r} that is a string, only {sorted(message)}")
    return value


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    return settings if isinstance(settings, dict) else {}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the chat template {path} cannot be read: {error}") from error


def _token(value: Any) -> str | None:
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    # Jinja's own filter escapes for HTML, which no chat wants.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


def _generation_extension() -> type:
    """``{% generation %}`` blocks, which mark what the assistant says, as their content alone."""
    from jinja2.ext import Extension
    from jinja2.nodes import Node
    from jinja2.parser import Parser

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012  Jinja's own declaration

        def parse(self, parser: Parser) -> list[Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return Generation
