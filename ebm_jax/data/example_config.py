"""How rows of a table become examples to train on: prompts with completions, chats, and pairs of answers."""

import string
from dataclasses import dataclass
from typing import Literal

from ebm_jax.errors import UserError
from ebm_jax.languages import LANGUAGES


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig:
    """What a row holds, what of it is scored, and what happens to an example that is too long."""

    prompt: str = "{prompt}"
    """The prompt, as a Python format string over the row's fields: ``"Question: {question}\\nAnswer:"``."""
    completion: str = "{completion}"
    """What follows it: ``" {answer}\\n"``."""
    directions: tuple[str, ...] = ()
    """``sft:`` of translations, such as ``de-en,en-de``: of every row, whose texts are named by their languages (``de``) in it
    or in its field ``translation``, an example for each of these; the format strings have ``{source}``, ``{target}``,
    ``{source_language}`` (``German``) and ``{target_language}`` then."""
    messages: str | None = None
    """The field with a chat, a list of ``{"role": ..., "content": ...}``, in place of prompt and completion."""
    chat_template: str | None = None
    """A Jinja file; None: ``chat_template.jinja`` or ``tokenizer_config.json`` beside the tokenizer."""

    chosen: str = "chosen"
    """``pairs:`` the field of the better text, a string or a chat."""
    rejected: str = "rejected"
    """``pairs:`` the field of the worse one."""
    separator: str | None = "\n\nAssistant:"
    """``pairs:`` of whole dialogues: the prompt ends with the last of these. None: the texts are answers to ``prompt``."""
    ending: str = ""
    """``pairs:`` text behind both answers, a format string over the row's fields and ``{file}``, the name of its file: what a
    reward is to judge by, where people were asked different things (``"\\n\\nJudged: {file}"``)."""

    check: str = ""
    """``sft:`` what completions are verified against, a format string over the row's fields, where a list of strings is written
    a line each: unit tests (``"{test_setup_code}\n{test_list}"``) or the answer (``"{answer}"``). It is stored beside the
    tokens, and ``Data.checks`` finds it by what batches call ``examples``."""

    loss: Literal["completion", "last", "full"] = "completion"
    """Tokens that are scored: those of completions (in chats, of everything the assistant says), of the last thing it says (for
    templates that write earlier turns otherwise, as Qwen3's leaves out what was thought in them), or all."""
    longest: int | None = None
    """Tokens of the longest example; None: what fits a row, for pairs half a row for each text."""
    overlong: Literal["drop", "cut_end", "cut_start"] = "drop"
    """What happens to longer ones, which are counted at the start of a run; of a pair both texts are dropped."""

    def __post_init__(self) -> None:
        for name, known in (("loss", ("completion", "last", "full")), ("overlong", ("drop", "cut_end", "cut_start"))):
            if getattr(self, name) not in known:
                raise UserError(f"data.examples.{name}={getattr(self, name)!r} is not one of {', '.join(known)}")
        for direction in self.directions:
            source, _, target = direction.partition("-")
            if source == target or not {source, target} <= LANGUAGES.keys():
                raise UserError(
                    f"data.examples.directions: {direction!r} is not two different ones of {', '.join(LANGUAGES)}: write de-en"
                )
        if self.longest is not None and self.longest < 2:
            raise UserError(f"data.examples.longest={self.longest} must be at least 2")
        for name in ("prompt", "completion", "ending", "check"):
            text = getattr(self, name)
            _check_format(f"data.examples.{name}", text, fixed=name == "ending" or (name == "check" and not text))


def _check_format(key: str, text: str, *, fixed: bool = False) -> None:
    """Refuses what is no format string, or, unless it may be ``fixed``, one without fields."""
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    except ValueError as error:
        raise UserError(f"{key}={text!r} is not a format string: {error}; write {{{{ and }}}} for braces") from error
    if "" in fields:
        raise UserError(f"{key}={text!r} has braces without a field: write {{FIELD}}, or {{{{ and }}}} for braces")
    if not fields and not fixed:
        raise UserError(f"{key}={text!r} names no field of the rows: write {{FIELD}}")
