"""The processes of a run: how they find each other, where they run, and which of them is missing.

Every process writes its name and, once a second, a sign of life into JAX's coordination service, which process 0 keeps. So
those that are left can say which host is gone, where a collective would only hang or tell of a closed connection.
"""

import atexit
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from typing import Any, Literal, get_args

import jax
from jax._src import distributed
from orbax.checkpoint import multihost as coordination

from ebm_jax.errors import LostProcessError, UserError

How = Literal["env", "off", "auto", "slurm"]
"""Where the number of processes comes from: ``ENVIRONMENT``, nowhere (there is one), what JAX finds out by itself (TPU pods,
Slurm, Open MPI, Kubernetes), or Slurm's variables alone."""
ENVIRONMENT = ("EBM_JAX_COORDINATOR", "EBM_JAX_PROCESSES", "EBM_JAX_PROCESS_ID")
"""``host:port`` of process 0, the number of processes, and this process's number; or ``EBM_JAX_COORDINATOR=auto``."""
SILENCE = "EBM_JAX_SILENCE_SECONDS"
"""After how many seconds without a sign of life a process counts as gone; 60 by default."""
_FOLDER = "ebm_jax"
_BEAT = 1.0
_GRACE = 5.0
"""Seconds that a process has to end by itself after another one has."""
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
def together() -> Iterator[None]:
    """What all processes of a run do together: an error in one ends all of them, and each says which one it was.

    With several processes an error ends this one at once with its exit status, past the interpreter's own way out, on which JAX
    would wait for the others. One that comes of another process's end is a ``LostProcessError`` and names it.
    """
    if jax.process_count() == 1:
        yield
        return
    try:
        yield
    except Exception as error:
        status = error.exit_status if isinstance(error, UserError) else 1
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
            if gone := _roster.missing(wait=True):
                status = LostProcessError.exit_status
                print(f"error: {told_of(gone)}", file=sys.stderr)
        _roster.fail(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


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
        self._gone: list[Process] = []
        self._threads: list[threading.Thread] = []
        self._leaving = threading.Event()
        self._service = ""
        self._on_abort: Any = None

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
        # Its address is known to JAX alone where JAX has found it out.
        self._service = getattr(distributed.global_state, "coordinator_address", None) or ""
        self.speak_on_abort()
        self._beat(0)
        for name, target in (("signs of life", self._beats), ("watch over others", self._watch)):
            self._threads.append(threading.Thread(target=target, name=name, daemon=True))
            self._threads[-1].start()
        # Before JAX's own, which ends the service.
        atexit.register(self.leave)

    def leave(self) -> None:
        """The end of a process that ends well: the others no longer expect signs of life of it."""
        with suppress(Exception):
            self._client.key_value_set(f"{_FOLDER}/left/{jax.process_index()}", "")
        self._leaving.set()
        for thread in self._threads:
            thread.join()
        ctypes.CDLL(None).signal(int(signal.SIGABRT), 0)

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

    def fail(self, error: Exception) -> None:
        """Tells the others that this process ends, and why."""
        with suppress(Exception):
            self._client.key_value_set(f"{_FOLDER}/failed/{jax.process_index()}", _first_line(error))

    def speak_on_abort(self) -> None:
        """Lets this process say which host it lost where JAX's client aborts it: at once, when process 0 is gone.

        An abort while everybody is there is one of another kind, and goes on as it would have.
        """
        libc = ctypes.CDLL(None)

        def told(number: int) -> None:
            libc.alarm(int(2 * _GRACE))  # Ends the process in any case: the lock that this waits for may never be free.
            gone = self._gone or ([] if _answers(self._service) else list(self.processes[:1]))
            if gone:
                print(f"error: {told_of(gone)}", file=sys.stderr, flush=True)
                os._exit(LostProcessError.exit_status)
            libc.signal(number, 0)

        self._on_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(told)
        libc.signal(int(signal.SIGABRT), self._on_abort)

    def missing(self, wait: bool = False) -> list[Process]:
        """Processes that are gone by now; with ``wait``, after as much time as it takes to tell."""
        until = time.monotonic() + (_silence() + 2 * _BEAT if wait else 0)
        while not self._gone and time.monotonic() < until:
            time.sleep(_BEAT / 4)
        return list(self._gone)

    def _watch(self) -> None:
        """Ends this process soon after another one is gone or has failed, if it does not end by itself."""
        before, since = dict[int, str](), dict[int, float]()
        silence, failed = _silence(), dict[int, str]()
        while not self._gone and not failed:
            if self._leaving.wait(_BEAT / 2):
                return
            try:
                beats, failed, left = self._signs("beat"), self._signs("failed"), self._signs("left")
            except Exception:  # Whoever keeps the service does not answer.
                beats, failed, left = {}, {}, {}
                self._gone = [self.processes[0]]
            now = time.monotonic()
            for index, text in beats.items():
                if before.get(index) != text:
                    before[index], since[index] = text, now
            present = [p for p in self.processes if p.index in since and p.index not in left]
            self._gone = self._gone or [p for p in present if now - since[p.index] >= silence]
            failed.pop(jax.process_index(), None)
        # What this process itself says of it is better, if it can.
        if self._leaving.wait(_GRACE):
            return
        ended = [f"{self.processes[index]} ended: {why}" for index, why in failed.items()]
        print(f"error: {'; '.join(ended) or told_of(self._gone)}", file=sys.stderr, flush=True)
        os._exit(LostProcessError.exit_status)

    def _signs(self, kind: str) -> dict[int, str]:
        return {int(key.rpartition("/")[2]): text for key, text in self._directory(f"{_FOLDER}/{kind}")}

    def _directory(self, place: str) -> list[tuple[str, str]]:
        return list(self._client.key_value_dir_get(place))

    def _beats(self) -> None:
        number = 0
        while not self._leaving.wait(_BEAT):
            number += 1
            try:
                self._beat(number)
            except Exception:  # The service has gone; whoever waits for anything finds out.
                return

    def _beat(self, number: int) -> None:
        self._client.key_value_set(f"{_FOLDER}/beat/{jax.process_index()}", str(number), allow_overwrite=True)


_roster = _Roster()


def _answers(address: str) -> bool:
    """Whether something listens at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_GRACE):
            return True
    except (OSError, ValueError):
        return False


def _silence() -> float:
    text = os.environ.get(SILENCE, "60")
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
