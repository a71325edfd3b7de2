"""How fast a run goes, and one line that says so while it does."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from ebm_jax.parallel.multihost import is_main


class Meter:
    """Rates between two readings; time spent evaluating or writing checkpoints does not count.

    ``mfu = flops_per_step / (step_time * devices * peak_flops)``, with the FLOPs of the whole step over all devices.
    """

    def __init__(
        self, *, devices: int = 1, flops_per_step: float | None = None, peak_flops: float | None = None
    ) -> None:
        """``peak_flops`` is one device's, per second; what is ``None`` is not reported."""
        self._devices, self._flops, self._peak = devices, flops_per_step, peak_flops
        self._began: float | None = None
        self._steps, self._tokens, self._idle = 0, 0.0, 0.0

    def count(self, tokens: float) -> None:
        """One more step, which scored ``tokens``; the first one after a start holds the compilation and is left out."""
        if self._began is None:
            self._began = time.perf_counter()
            return
        self._steps += 1
        self._tokens += tokens

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that does not count."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._idle += time.perf_counter() - began

    def read(self) -> dict[str, float]:
        """Rates since the last reading; empty before two steps were counted."""
        if self._began is None or not self._steps:
            return {}
        now = time.perf_counter()
        seconds = max(now - self._began - self._idle, 1e-9)
        step_time, tokens = seconds / self._steps, self._tokens / seconds
        rates = {"step_time": step_time, "tokens_per_s": tokens, "tokens_per_s_per_device": tokens / self._devices}
        if self._flops is not None:
            rates["flops_per_s"] = self._flops / step_time
            if self._peak is not None:
                rates["mfu"] = rates["flops_per_s"] / (self._devices * self._peak)
        self._began, self._steps, self._tokens, self._idle = now, 0, 0.0, 0.0
        return rates


class Progress:
    """One live line on a terminal; elsewhere a line every so many seconds. Only process 0 speaks."""

    def __init__(
        self,
        total_steps: int,
        *,
        name: str = "train",
        shown: Mapping[str, str] | None = None,
        every_s: float = 10.0,
        out: TextIO | None = None,
    ) -> None:
        """``shown`` maps metric names to what the line calls them, besides the loss and the rates."""
        self._total, self._name, self._every, self._out = total_steps, name, every_s, out or sys.stderr
        self._shown = dict(shown or {})
        self._live = self._out.isatty()
        self._silent = not is_main()
        self._last, self._width, self._rates = -float("inf"), 0, dict[str, float]()

    def update(self, step: int, metrics: Mapping[str, float], rates: Mapping[str, float]) -> None:
        """The state after ``step`` steps; ``rates`` are kept until there are new ones."""
        self._rates = dict(rates) or self._rates
        now = time.monotonic()
        due = now - self._last >= (0.1 if self._live else self._every) or step >= self._total
        if self._silent or not due:
            return
        self._last = now
        self._write(self._line(step, metrics))

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._silent:
            return
        if self._live and self._width:
            self._out.write("\r" + " " * self._width + "\r")
            self._width = 0
        self._out.write(f"{text}\n")
        self._out.flush()

    def close(self) -> None:
        """Ends the live line."""
        if self._live and self._width and not self._silent:
            self._out.write("\n")
            self._out.flush()
            self._width = 0

    def _line(self, step: int, metrics: Mapping[str, float]) -> str:
        parts = [f"{self._name} {step}/{self._total}"]
        if "loss" in metrics:
            parts.append(f"loss {metrics['loss']:.4g}")
        parts += [f"{label} {metrics[key]:.4g}" for key, label in self._shown.items() if key in metrics]
        rates = self._rates
        if rates:
            parts.append(f"{_si(rates['tokens_per_s'])} tok/s")
            if "flops_per_s" in rates:
                parts.append(f"{_si(rates['flops_per_s'])}FLOP/s")
            if "mfu" in rates:
                parts.append(f"MFU {100 * rates['mfu']:.1f}%")
            parts.append(f"ETA {_duration((self._total - step) * rates['step_time'])}")
        return " | ".join(parts)

    def _write(self, line: str) -> None:
        if self._live:
            self._out.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._out.write(f"{line}\n")
        self._out.flush()


def _si(value: float) -> str:
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} "


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
