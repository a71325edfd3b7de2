"""The command line of every experiment: ``CONFIG key=value ... workdir=DIR``, help, errors without traceback.

An experiment is a module with ``main(argv) -> int`` that ends in ``sys.exit(cli.main(main))``.
"""

import errno
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

from ebm_jax.describe import describe
from ebm_jax.errors import UserError
from ebm_jax.overrides import override

C = TypeVar("C")

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_USAGE = """\
usage: {program} CONFIG [key=value ...] [workdir=DIR] [distributed=HOW]
       {program} [CONFIG] --help

  CONFIG       a Python file with get_config(), as in configs/smoke/ebt.py
  key=value    sets one key of the config; later ones win
  workdir=DIR  where the run lives, and from where it resumes when it is already there
  distributed=HOW  how the processes of a run find each other: env (EBM_JAX_COORDINATOR, _PROCESSES, _PROCESS_ID; one process
               where they are not set), auto (TPU pods, Slurm and others by themselves), slurm, off

examples:
  {program} configs/smoke/ebt.py
  {program} configs/smoke/ebt.py optim.peak_lr=3e-4 model.depth=8 workdir=runs/deeper
"""


class Arguments(NamedTuple):
    """A command line taken apart; ``options`` are ``name=value`` that belong to the command and not to the config."""

    positionals: list[str]
    options: dict[str, str]
    overrides: list[str]
    flags: set[str]


@dataclass(frozen=True)
class Command(Generic[C]):
    """What a user asked for: the resolved config, where it came from, and where the run shall live."""

    config: C
    config_path: Path
    overrides: tuple[str, ...]
    workdir: Path | None
    distributed: str | None = None
    """How processes find each other (``parallel.processes.initialize``)."""


def main(run: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Calls ``run(argv)`` and returns the process's exit status.

    A ``UserError`` prints its message alone and gives its own status; an interrupt gives 130, a closed pipe 141, a full
    disk 28. Anything else is a bug and keeps its traceback.
    """
    try:
        return run(list(sys.argv[1:] if argv is None else argv)) or 0
    except UserError as error:
        return _fail(str(error), errno.ENOSPC if disk_full(error) else error.exit_status)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output has gone; the interpreter must not try to flush to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        full = disk_full(error)
        if full is None:
            raise
        return _fail(f"{full}: free some and start the same command again; what was written is kept", errno.ENOSPC)


def arguments(argv: Sequence[str], options: Sequence[str] = ("workdir",), flags: Sequence[str] = ()) -> Arguments:
    """Takes a command line apart; raises ``UserError`` for an unknown flag."""
    known = {"-h", "--help", *flags}
    parts = Arguments([], {}, [], set())
    for argument in argv:
        name, equals, value = argument.partition("=")
        if argument in known:
            parts.flags.add("--help" if argument == "-h" else argument)
        elif argument.startswith("-"):
            fix = f"write {argument.lstrip('-')}" if equals else f"the flags are {', '.join(sorted(known))}"
            raise UserError(f"unknown flag {argument!r}: {fix}")
        elif equals and name in options:
            parts.options[name] = value
        elif equals and not Path(argument).exists():  # a run of a sweep lies in a folder called key=value
            parts.overrides.append(argument)
        else:
            parts.positionals.append(argument)
    return parts


def parse(argv: Sequence[str], config_class: type[C], about: str | None = None) -> Command[C]:
    """The command of an experiment that takes one config; ``--help`` prints ``about`` and every key and exits 0."""
    parts = arguments(argv, options=("workdir", "distributed"))
    if len(parts.positionals) > 1:
        raise UserError(f"one config file is expected, not {len(parts.positionals)}: {', '.join(parts.positionals)}")
    path = Path(parts.positionals[0]) if parts.positionals else None
    if "--help" in parts.flags:
        sys.stdout.write(_help(path, parts.overrides, config_class, about))
        raise SystemExit(0)
    if path is None:
        raise UserError(f"no config file given: {_program()} CONFIG [key=value ...] (more with --help)")
    config = override(load_config(path, config_class), parts.overrides)
    workdir = Path(parts.options["workdir"]) if parts.options.get("workdir") else None
    return Command(config, path, tuple(parts.overrides), workdir, parts.options.get("distributed"))


def load_config(path: Path | str, config_class: type[C]) -> C:
    """What the file's ``get_config()`` returns; raises ``UserError`` where that is not a ``config_class``."""
    config = load_and_call(path, "get_config")
    if not isinstance(config, config_class):
        raise UserError(f"{path}: get_config() returned {type(config).__name__}, not {config_class.__name__}")
    return config


def load_and_call(path: Path | str, function: str) -> Any:
    """Calls a function of a Python file; its mistakes become a ``UserError`` that names file and line."""
    path = Path(path)
    with _mistakes_of(path):
        module = load_module(path)
        call = getattr(module, function, None)
        if not callable(call):
            raise UserError(f"{path} has no {function}()")
        return call()


def load_module(path: Path) -> ModuleType:
    """Runs a Python file by its path; it need not be importable.

    A file below a folder called ``configs`` may import the others there as ``configs.NAME``, wherever the command was
    started.
    """
    if not path.is_file():
        raise UserError(f"{path}: {_missing(path)}")
    roots = (str(folder.parent) for folder in path.resolve().parents if folder.name == "configs")
    if (root := next(roots, None)) is not None and root not in sys.path:
        sys.path.append(root)  # last, so that it hides nothing
    name = "_loaded_" + "".join(letter if letter.isalnum() else "_" for letter in str(path.resolve()))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while they are being made.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def disk_full(error: BaseException | None) -> str | None:
    """What to say when a full disk is what caused this error, however deep; ``None`` otherwise."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            return f"the disk is full (writing {error.filename})" if error.filename else "the disk is full"
        if os.strerror(errno.ENOSPC) in str(error):
            return "the disk is full"
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def _mistakes_of(path: Path) -> Iterator[None]:
    """Turns exceptions that the user's own file raises into a ``UserError`` with its line."""
    try:
        yield
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"{error.filename or path}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        files = {str(path), str(path.resolve())}
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
        if not lines:
            raise
        raise UserError(f"{path}:{lines[-1]}: {type(error).__name__}: {error}") from error


def _help(path: Path | None, overrides: list[str], config_class: type, about: str | None) -> str:
    sections = [inspect.cleandoc(about)] if about else []
    sections.append(_USAGE.format(program=_program()))
    config: Any = config_class
    if path is not None:
        config = override(load_config(path, config_class), overrides)
        module = load_module(path)
        notes = [inspect.cleandoc(note) for note in (module.__doc__, module.get_config.__doc__) if note]
        sections.append("\n\n".join([f"{path}:", *notes]) + "\n")
    whose = f"with the values of {path}" if path else "with their defaults; CONFIG --help shows a config's own values"
    sections.append(f"keys ({whose}):\n\n{describe(config)}\n")
    return "\n".join(sections)


def _missing(path: Path) -> str:
    if path.is_dir():
        inside = sorted(str(found) for found in path.glob("*.py"))[:8]
        return "is a folder; a config is a Python file" + (f", as {', '.join(inside)}" if inside else "")
    near = get_close_matches(str(path), [str(found) for found in path.parent.glob("*.py")], n=1)
    return f"no such file. Did you mean {near[0]}?" if near else "no such file"


def _program() -> str:
    """How this program was started, in words that can be typed."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return f"python -m {spec.name}" if spec is not None else Path(sys.argv[0]).name or "python -m experiments.pretrain"


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return status
