"""The processes of a run: how they find each other, where they run, and which of them is missing.

Every process writes its name and, once a second, a sign of life into JAX's coordination service, which process 0 keeps. So
those that are left can say which host is gone, where a collective would only hang or tell of a closed connection.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any, Literal, get_args

import jax
from orbax.checkpoint import multihost as coordination

from ebm_jax.errors import LostProcessError, UserError

How = Literal["env", "off", "auto", "slurm"]
"""Where the number of processes comes from: ``ENVIRONMENT``, nowhere (there is one), what JAX finds out by itself (TPU pods,
Slurm, Open MPI, Kubernetes), or Slurm's variables alone."""
ENVIRONMENT = ("EBM_JAX_COORDINATOR", "EBM_JAX_PROCESSES", "EBM_JAX_PROCESS_ID")
"""``host:port`` of process 0, the number of processes, and this process's number; or ``EBM_JAX_COORDINATOR=auto``."""
SILENCE = "EBM_JAX_SILENCE_SECONDS"
"""After how many seconds without a sign of life a process counts as gone."""
_FOLDER = "ebm_jax"
_BEAT = 1.0
_INTRODUCED = 120
"""Seconds that processes wait for each other's names."""


@dataclass(frozen=True)
class Process:
    """One process of the run."""

    index: int
    host: str
    pid: int
    devices: int
    """Of its own."""
    kind: str

    def __str__(self) -> str:
        return f"process {self.index} on {self.host} (pid {self.pid})"


def initialize(
    how: str | None = None,
    coordinator: str | None = None,
    process_count: int | None = None,
    process_id: int | None = None,
) -> bool:
    """Joins the processes of a run, before anything else touches a device; says whether there are several.

    ``how`` is one of ``How``, by default ``env``: arguments that are None come from ``ENVIRONMENT``, and with nothing set there
    is one process and nothing happens. With several, every process then knows all others, and process 0 prints them.

    Raises:
      UserError: ``how`` is unknown; some but not all of the three are known, or they contradict each other; the processes
        do not find each other.
    """
    how = how or "env"
    if how not in get_args(How):
        raise UserError(f"distributed={how!r} is not one of {', '.join(get_args(How))}")
    if how == "off":
        return False
    coordinator = coordinator or (os.environ.get(ENVIRONMENT[0]) if how == "env" else None)
    if how == "auto" or coordinator == "auto":
        _join()
    elif how == "slurm":
        if absent := [name for name in ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_NTASKS") if name not in os.environ]:
            raise UserError(f"distributed=slurm: {absent[0]} is not set; start the command with srun")
        _join(cluster_detection_method="slurm")
    else:
        process_count = _number(process_count, ENVIRONMENT[1])
        process_id = _number(process_id, ENVIRONMENT[2])
        known = (coordinator, process_count, process_id)
        if known == (None, None, None) or (process_count == 1 and coordinator is None):
            return False
        if coordinator is None or process_count is None or process_id is None:
            said = ", ".join(f"{name}={value}" for name, value in zip(ENVIRONMENT, known, strict=True))
            raise UserError(f"a run of several processes needs all of {', '.join(ENVIRONMENT)}; got {said}")
        if not 0 <= process_id < process_count:
            raise UserError(f"{ENVIRONMENT[2]}={process_id} must lie in 0..{process_count - 1}")
        _join(coordinator_address=coordinator, num_processes=process_count, process_id=process_id)
    if jax.process_count() == 1:
        return False
    _roster.introduce()
    if jax.process_index() == 0:
        print(table(_roster.processes), file=sys.stderr, flush=True)
    return True


def _join(**known: Any) -> None:
    try:
        jax.distributed.initialize(**known)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the processes of this run do not find each other: {_first_line(error)}. Every one must be started with the same"
            f" {ENVIRONMENT[0]} and {ENVIRONMENT[1]} and its own {ENVIRONMENT[2]} (or with distributed=auto, slurm or off)"
        ) from error


def table(processes: Sequence[Process]) -> str:
    """The processes and their devices, one a line."""
    head = ("process", "host", "pid", "devices")
    rows = [head, *((str(p.index), p.host, str(p.pid), f"{p.devices} x {p.kind}") for p in processes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    padded = (" ".join(f"{cell:{width}} " for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in padded)


def barrier(name: str, timeout: float = 600.0) -> None:
    """Waits until every process has come to the barrier called ``name``.

    Raises:
      UserError: ``timeout`` seconds went by; it names those that did not come.
    """
    if jax.process_count() > 1:
        _roster.meet(name, timeout)


@contextmanager
def naming_the_missing() -> Iterator[None]:
    """Turns what a lost process does to this one into a ``LostProcessError`` that names it.

    Everything else passes as it is: an error of this process itself, or of all of them.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if jax.process_count() == 1 or not (gone := missing(wait=True)):
            raise
        raise LostProcessError(told_of(gone)) from error


def missing(wait: bool = False) -> list[Process]:
    """Processes that give no sign of life; with ``wait``, those that have given none since."""
    return _roster.missing(wait) if _roster.processes else []


def told_of(gone: Sequence[Process]) -> str:
    """That processes are gone, in words."""
    return (
        f"{', '.join(map(str, gone))} {'has' if len(gone) == 1 else 'have'} given no sign of life for"
        f" {_silence():g} seconds: the run cannot go on without. Look at what it wrote last; the same command on all hosts"
        " resumes from the newest checkpoint"
    )


class _Roster:
    """What this process knows of the others."""

    def __init__(self) -> None:
        self.processes: tuple[Process, ...] = ()
        self._met: dict[str, int] = {}
        self._ended = threading.Event()

    @property
    def _client(self) -> Any:
        return coordination.get_jax_distributed_client()

    def introduce(self) -> None:
        """Tells the others of this process, hears of them, and begins to give signs of life."""
        own, devices = jax.process_index(), jax.local_devices()
        this = Process(own, socket.gethostname(), os.getpid(), len(devices), devices[0].device_kind)
        self._client.key_value_set(f"{_FOLDER}/process/{own}", json.dumps(astuple(this)))
        found = []
        for index in range(jax.process_count()):
            try:
                text = self._client.blocking_key_value_get(f"{_FOLDER}/process/{index}", _INTRODUCED * 1000)
            except Exception as error:
                raise UserError(
                    f"process {index} did not tell its name in {_INTRODUCED} seconds: is it running?"
                ) from error
            found.append(Process(*json.loads(text)))
        self.processes = tuple(found)
        self._beat(0)
        threading.Thread(target=self._beats, name="signs of life", daemon=True).start()

    def meet(self, name: str, timeout: float) -> None:
        """The barrier; its names may be used again."""
        number = self._met[name] = self._met.get(name, 0) + 1
        place, own = f"{_FOLDER}/barrier/{name}/{number}", jax.process_index()
        self._client.key_value_set(f"{place}/{own}", "here")
        try:
            self._client.wait_at_barrier(place, int(timeout * 1000))
        except Exception as error:
            here = {int(key.rpartition("/")[2]) for key, _ in self._directory(place)}
            absent = [str(process) for process in self.processes if process.index not in here]
            raise UserError(
                f"waited {timeout:g} seconds at {name!r} for {', '.join(absent) or 'the others, who came and went'}:"
                f" {_first_line(error)}"
            ) from error

    def missing(self, wait: bool = False) -> list[Process]:
        """Processes that are gone; with ``wait``, after as much time as it takes to tell."""
        until = time.monotonic() + (_silence() + 2 * _BEAT if wait else 0)
        before, since = dict[int, str](), dict[int, float]()
        while True:
            try:
                beats = {int(key.rpartition("/")[2]): text for key, text in self._directory(f"{_FOLDER}/beat")}
            except Exception:  # Whoever keeps the service does not answer.
                return [self.processes[0]]
            now = time.monotonic()
            for index, text in beats.items():
                if before.get(index) != text:
                    before[index], since[index] = text, now
            gone = [p for p in self.processes if p.index in since and now - since[p.index] >= _silence()]
            if gone or now >= until:
                return gone
            time.sleep(_BEAT / 2)

    def _directory(self, place: str) -> list[tuple[str, str]]:
        return list(self._client.key_value_dir_get(place))

    def _beats(self) -> None:
        number = 0
        while not self._ended.wait(_BEAT):
            number += 1
            try:
                self._beat(number)
            except Exception:  # The service has gone; whoever waits for anything finds out.
                return

    def _beat(self, number: int) -> None:
        self._client.key_value_set(f"{_FOLDER}/beat/{jax.process_index()}", str(number), allow_overwrite=True)


_roster = _Roster()


def _silence() -> float:
    text = os.environ.get(SILENCE, "30")
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{SILENCE}={text!r} is not a number of seconds") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _number(value: int | None, variable: str) -> int | None:
    text = os.environ.get(variable)
    if value is not None or text is None:
        return value
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{variable}={text!r} is not a whole number") from None
