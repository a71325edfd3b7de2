"""Tasks by the names users write: ``NAME[:OPTION]...[=FILE]``.

::

    humaneval  mbpp  puzzles  gsm8k  math500  sums  countdown  mt:de-en  mtnt:en-fr  opensubtitles:fr-en  lambada
    ifeval  gpqa  multipl-e:js  alpacaeval  mtbench  writingbench  completion:FILE

Options are ``chat`` or ``plain`` (how the question is put; every task has its usual form), ``3shot`` (the number of
solved problems before it: gsm8k, mbpp), a pair of languages, a programming language, and ``mbpp`` or ``humaneval``
(which problems multipl-e asks). A file takes the place of the questions that the name alone would find.
"""

import difflib
import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.task import Task


class Entry(NamedTuple):
    """Where a task is defined, as module and class of this package, and which options it takes."""

    path: str
    shots: bool = False
    pair: bool = False
    language: bool = False

    def make(self, settings: Mapping[str, Any]) -> Task:
        """The task; its module is imported only now, as graders bring large packages."""
        module, _, name = self.path.partition(".")
        return getattr(importlib.import_module(f"{__package__}.{module}"), name)(**settings)


REGISTRY: dict[str, Entry] = {
    "humaneval": Entry("code.HumanEval"),
    "mbpp": Entry("code.MBPP", shots=True),
    "puzzles": Entry("code.Puzzles"),
    "gsm8k": Entry("maths.GSM8K", shots=True),
    "math500": Entry("maths.Math500"),
    "sums": Entry("made.Sums"),
    "countdown": Entry("made.Countdown"),
    "mt": Entry("translation.WMT", pair=True),
    "mtnt": Entry("translation.MTNT", pair=True),
    "opensubtitles": Entry("translation.OpenSubtitles", pair=True),
    "lambada": Entry("likelihood.Lambada"),
    "ifeval": Entry("instructions.IFEval"),
    "gpqa": Entry("choices.GPQA"),
    "multipl-e": Entry("multipl_e.MultiPLE", language=True),
    "alpacaeval": Entry("alpaca.AlpacaEval"),
    "mtbench": Entry("mt_bench.MTBench"),
    "writingbench": Entry("writing.WritingBench"),
    "completion": Entry("likelihood.Completions"),
}
_SHOTS = re.compile(r"(\d+)-?shots?")


def make_task(written: str) -> Task:
    """The task of a name with its options; UserError with the nearest name for an unknown one."""
    head, equals, file = written.strip().partition("=")
    name, *options = head.split(":")
    if name == "completion" and not equals:
        # The file may itself hold a colon (hf:NAME), so all that follows is the file.
        options, file = [], head.partition(":")[2]
    if name not in REGISTRY:
        close = difflib.get_close_matches(name, REGISTRY, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(f"task {name!r} is not one of {', '.join(REGISTRY)}{hint}")
    if equals and not file:
        raise UserError(f"task {written!r} names no file after the equals sign")
    entry, settings = REGISTRY[name], {"file": file}
    for option in options:
        key, value = _option(name, entry, option)
        if key in settings and key != "file":
            raise UserError(f"task {written!r} sets its {key} twice")
        settings[key] = value
    for needed, example in (("pair", "de-en"), ("language", "js")):
        if getattr(entry, needed) and needed not in settings:
            raise UserError(f"task {written!r} lacks its {needed}: write {name}:{example}")
    task = entry.make(settings)
    task.name = written.strip()
    return task


def _option(name: str, entry: Entry, option: str) -> tuple[str, Any]:
    if option in ("chat", "plain"):
        return "form", option
    if entry.shots and (match := _SHOTS.fullmatch(option)):
        return "shots", int(match[1])
    if entry.language and option in ("humaneval", "mbpp"):
        return "problems", option
    if entry.language:
        return "language", option
    if entry.pair:
        return "pair", option
    takes = ["chat", "plain", *(["a number of solved problems such as 3shot"] if entry.shots else [])]
    raise UserError(f"task {name}: option {option!r} is not one of {', '.join(takes)}")


def split_names(names: str | Sequence[str]) -> list[str]:
    """The names of a comma-separated list, or of a list; UserError for none, and for the same one twice."""
    listed = [one.strip() for one in (names.split(",") if isinstance(names, str) else names) if one.strip()]
    if not listed:
        raise UserError(f"no task is named: write some of {', '.join(REGISTRY)}")
    for name in listed:
        if listed.count(name) > 1:
            raise UserError(f"task {name!r} is named twice")
    return listed
