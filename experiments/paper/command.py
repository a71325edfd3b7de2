"""What the scripts of this folder share: folders of runs and options in; tables to the terminal, files beside them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebm_jax import cli
from ebm_jax.errors import UserError
from ebm_jax.reporting.families import read_families
from ebm_jax.reporting.runs import Run
from experiments.paper.pictures import Picture, save

OUT = "runs/paper"
"""Where tables and plots go unless ``out=FOLDER`` says otherwise."""


@dataclass(frozen=True)
class Request:
    """What a user asked a script for."""

    runs: list[Run]
    out: Path
    options: dict[str, str]

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """An option that is one of ``choices``, the first by default."""
        value = self.options.get(name, choices[0])
        if value not in choices:
            raise UserError(f"{name}={value} is not one of {', '.join(choices)}")
        return value


def request(argv: list[str], about: str, options: Sequence[str] = ()) -> Request | None:
    """The runs and options that a command line names; None, and ``about`` on the terminal, for ``--help``."""
    missing = "no run given: name the folders of runs, or a folder of them, as runs/small_seeds"
    parts = arguments(argv, about, missing, options)
    if parts is None:
        return None
    return Request(read_families(parts.positionals), Path(parts.options.get("out") or OUT), parts.options)


def arguments(argv: list[str], about: str, missing: str, options: Sequence[str] = ()) -> cli.Arguments | None:
    """A command line of folders and options; None, and ``about`` on the terminal, for ``--help``.

    Raises ``UserError`` for other options, and, which says what is ``missing``, where no folder is named.
    """
    parts = cli.arguments(argv, options=("out", *options))
    if "--help" in parts.flags:
        print(about)
        return None
    if parts.overrides:
        known = ", ".join(f"{name}=" for name in (*options, "out"))
        raise UserError(f"{parts.overrides[0]}: no such option; there are {known}")
    if not parts.positionals:
        raise UserError(missing)
    return parts


def with_record(
    runs: Sequence[Run], read: Callable[[Path], dict[str, Any]], file: str
) -> tuple[list[tuple[Run, dict[str, Any]]], str]:
    """Runs that have a record, with it, and a note on those that have none.

    Raises ``UserError``, which names the command that makes the record, where no run has it.
    """
    found = [(run, read(run.folder)) for run in runs if (run.folder / file).exists()]
    missing = [run for run in runs if not (run.folder / file).exists()]
    if not found:
        read(missing[0].folder)
    names = ", ".join(str(run.folder) for run in missing)
    return found, f"Left out, for they have no {file}: {names}." if missing else ""


def number(text: str, name: str) -> float:
    """``3e6``, ``250k``, ``1.5M`` or ``2B`` as a number."""
    scale = {"k": 1e3, "m": 1e6, "b": 1e9}.get(text[-1:].lower(), 1.0)
    try:
        value = float(text[:-1] if scale != 1 else text) * scale
    except ValueError:
        raise UserError(f"{name}={text!r} is not a number, as 250000, 250k or 1.5M") from None
    if not 0 <= value < float("inf"):
        raise UserError(f"{name}={text} must be a number that is not negative")
    return value


def deliver(out: Path, name: str, title: str, blocks: Sequence[str], pictures: Mapping[str, Picture]) -> None:
    """Prints the tables, and writes them to ``out/name.md`` and every picture to an SVG file beside it."""
    text = "\n\n".join([f"# {title}", *(block for block in blocks if block)])
    print(text)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for stem, picture in pictures.items():
            save(out / f"{stem}.svg", picture)
        links = [f"![{title}]({stem}.svg)" for stem in pictures]
        (out / f"{name}.md").write_text("\n\n".join([text, *links]) + "\n", encoding="utf-8")
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"out={out}: {error.strerror}; give a folder that can be written to") from error
    plots = ", ".join(str(out / f"{stem}.svg") for stem in pictures)
    print(f"\ntable: {out / f'{name}.md'}" + (f"   plots: {plots}" if plots else ""))
