"""SIGTERM and SIGINT as a wish that the loop fulfils at its next step."""

import signal
import threading
from types import FrameType


class StopSignals:
    """While entered, the first SIGTERM or SIGINT sets ``asked``; a second one acts as it always did."""

    def __init__(self) -> None:
        self.asked: str | None = None
        """Name of the signal that came."""
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        # Python only lets the main thread set handlers; elsewhere the run simply cannot be asked to stop.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.asked = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}
