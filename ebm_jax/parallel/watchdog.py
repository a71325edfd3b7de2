"""A thread that notices when nothing goes on, and tells where every thread stands."""

import faulthandler
import sys
import threading
import time
from types import TracebackType


class Watchdog:
    """While entered, ``beat`` must be called at least every ``seconds``; 0 turns it off.

    Otherwise the stacks of all threads are written to stderr, once for every time that it goes silent, and the run is left
    alone: it may be slow. A process that waits for one that is gone is ended by ``processes``, which names that one.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last, self._doing = time.monotonic(), "starting"
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Watchdog":
        self._last = time.monotonic()
        if self._seconds:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def beat(self, doing: str) -> None:
        """Something has been done, and ``doing`` comes next."""
        self._last, self._doing = time.monotonic(), doing

    def _watch(self) -> None:
        told_at = -1.0
        while not self._over.wait(min(1.0, self._seconds / 4)):
            last = self._last
            if last != told_at and time.monotonic() - last > self._seconds:
                told_at = last
                self._tell()

    def _tell(self) -> None:
        print(
            f"nothing has ended for {self._seconds:g} seconds (train.hang_seconds) while {self._doing}; all threads:",
            file=sys.stderr,
            flush=True,
        )
        faulthandler.dump_traceback(file=sys.stderr)
