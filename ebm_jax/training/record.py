"""What a run leaves for readers: ``run.json`` at its start, ``metrics.jsonl`` on its way, ``result.json`` at its end.

Tables and plots are made from these files alone; ``ebm_jax.records`` reads them. Only process 0 writes.
"""

import contextlib
import datetime
import importlib.metadata
import json
import logging
import os
import platform
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from ebm_jax.parallel.multihost import is_main
from ebm_jax.records import METRICS, RESULT, RUN, read_metrics, read_run_record
from ebm_jax.serialize import diff

TENSORBOARD = "tensorboard"

_PACKAGES = (
    *("ebm_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "numpy"),
    *("grain", "tensorflow-datasets", "libtpu"),
)
_GIT_SECONDS = 10
_BOARD_SECONDS = 10
"""How long an event may wait for its file."""

log = logging.getLogger(__name__)


def write_run_record(
    workdir: Path | str,
    config: Mapping[str, Any],
    argv: Sequence[str],
    *,
    resumed_at: int | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes ``run.json``, or adds one more launch to the one that is there; returns its content.

    ``config`` is the resolved config's ``to_dict`` form. A launch says when, where, from which code and with which
    devices and command the run was started, at which step it resumed, and which config keys differ from the launch
    before. ``extra`` is added to the launch.
    """
    workdir = Path(workdir)
    known = read_run_record(workdir) if (workdir / RUN).exists() else {"config": config, "launches": []}
    launch = {
        "start": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": list(argv),
        "resumed_at": resumed_at,
        "changes": [change._asdict() for change in diff(known["config"], config)],
        "git": git_state(),
        "versions": versions(),
        "devices": devices(),
        "host": {"name": platform.node(), "system": platform.platform(), "cpus": os.cpu_count()},
        **(extra or {}),
    }
    record = {**known, "config": config, "launches": [*known["launches"], launch]}
    if is_main():
        workdir.mkdir(parents=True, exist_ok=True)
        write_atomically(workdir / RUN, _pretty(record))
    return record


def write_result(workdir: Path | str, result: Mapping[str, Any]) -> None:
    """Writes ``result.json``: the numbers that a run ended with."""
    if is_main():
        Path(workdir).mkdir(parents=True, exist_ok=True)
        write_atomically(Path(workdir) / RESULT, _pretty(result))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes any other record of a run, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _pretty(values))


class MetricsWriter:
    """Appends one JSON object a step to ``metrics.jsonl``, and to TensorBoard where tensorboardX is installed.

    A line is in the file before ``write`` returns, so that a killed run loses none. A run that resumes at
    ``resume_step`` cuts what its predecessor wrote for later steps, and its file ends up like an uninterrupted one's;
    ``None`` starts the file anew.
    """

    def __init__(self, workdir: Path | str, *, resume_step: int | None = None, tensorboard: bool = True) -> None:
        self.path = Path(workdir) / METRICS
        self._file = self._board = None
        if not is_main():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        known = read_metrics(self.path) if resume_step is not None and self.path.exists() else []
        kept = [line for line in known if line["step"] <= (resume_step or 0)]
        write_atomically(self.path, "".join(_line(line) for line in kept))
        self._file = self.path.open("a", encoding="utf-8")
        if tensorboard:
            self._board = _tensorboard(self.path.parent / TENSORBOARD, resume_step)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds one line: ``{"step": step, **values}``; scalars may be JAX or numpy arrays."""
        if self._file is None:
            return
        plain = {name: _plain(value) for name, value in values.items()}
        self._file.write(_line({"step": int(step), **plain}))
        self._file.flush()
        scalars = {name: value for name, value in plain.items() if isinstance(value, int | float)}
        self._on_board(lambda board: board.write(int(step), scalars))

    def close(self) -> None:
        """Closes the files; writing afterwards does nothing."""
        self._on_board(lambda board: board.close())
        file, self._file, self._board = self._file, None, None
        if file is not None:
            file.close()

    def _on_board(self, use: Callable[["_Board"], None]) -> None:
        """TensorBoard has a copy of the metrics: where it cannot be written it ends, and the run goes on."""
        board = self._board
        if board is None:
            return
        try:
            use(board)
        except OSError as error:
            log.warning("no more TensorBoard events are written: %s", error)
            self._board = None
            with contextlib.suppress(OSError):
                board.close()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OSError:
            # A full disk also fails the last write: what ended the run is the error to report.
            if error is None:
                raise


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file's content so that a reader, or a crash, sees either the old or the new one in full."""
    # Not the process number: those of two machines may be equal.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def git_state() -> dict[str, Any] | None:
    """Commit of the code that runs, and whether files differ from it; ``None`` outside a repository that tracks it."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        return {"commit": _git("rev-parse", "HEAD").strip(), "dirty": bool(_git("status", "--porcelain").strip())}
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a run's numbers may depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def devices() -> dict[str, Any]:
    """Kind and number of the devices of all processes; starts the backend."""
    first, *_ = jax.devices()
    kind = {"platform": first.platform, "kind": first.device_kind, "count": jax.device_count()}
    return {**kind, "processes": jax.process_count()}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS).stdout


class _Board:
    """An event file of scalars for TensorBoard.

    Events are written here and now: tensorboardX's ``SummaryWriter`` hands them to a thread, which a full disk kills, and
    then waits for it for ever.
    """

    def __init__(self, folder: Path, resume_step: int | None) -> None:
        from tensorboardX import record_writer, summary
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._event, self._scalar = Event, summary.scalar
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{platform.node()}.{os.getpid()}"
        self._file = record_writer.RecordWriter(str(folder / name))
        self._flushed = time.monotonic()
        self._add(file_version="brain.Event:2")
        if resume_step is not None:
            self._add(step=resume_step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._add(step=step, summary=self._scalar(name, value))
        if time.monotonic() - self._flushed > _BOARD_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._file.close()

    def _add(self, **fields: Any) -> None:
        self._file.write(self._event(wall_time=time.time(), **fields).SerializeToString())


def _tensorboard(folder: Path, resume_step: int | None) -> _Board | None:
    """A TensorBoard writer that forgets the steps after ``resume_step``, or ``None`` without tensorboardX."""
    try:
        return _Board(folder, resume_step)
    except ImportError:
        return None


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values) + "\n"


def _pretty(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, indent=2, default=_plain)
    # A list of numbers is one line, however many they are; a text holds no line break that is not escaped.
    return re.sub(r'\[\n([^"\[\]{}]*)\]', lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"
