"""A profiler trace of chosen steps."""

from pathlib import Path

import jax

from ebm_jax.types import PyTree


class Profiler:
    """Traces the steps ``first <= step < end`` into a folder that TensorBoard and Perfetto read."""

    def __init__(self, steps: tuple[int, int] | None, directory: Path | str | None) -> None:
        self._steps = steps if directory is not None else None
        self._directory, self._tracing = str(directory), False

    def before(self, step: int, state: PyTree) -> None:
        """Starts or ends the trace before the step ``step``; waits for ``state``, so that it holds whole steps."""
        if self._steps is None:
            return
        if self._tracing and step >= self._steps[1]:
            self._end(state)
        elif not self._tracing and self._steps[0] <= step < self._steps[1]:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._directory)
            self._tracing = True

    def close(self, state: PyTree) -> None:
        """Ends a trace that is still running."""
        if self._tracing:
            self._end(state)

    def _end(self, state: PyTree) -> None:
        jax.block_until_ready(state)
        jax.profiler.stop_trace()
        self._tracing = False
