"""The only loop over training steps.

Before the step number ``s`` (``s`` updates are done) the order is always

1. **evaluate**, if due at ``s``;
2. **checkpoint**, if due at ``s`` or the run ends here; it holds the state, the position of the data, and whether 1 was
   done, so that a run resumed from it goes on with 3;
3. **next batch**, and the algorithm's ``prepare``;
4. **step**: dispatched, not waited for;
5. **write** the metrics of the *previous* step while this one runs.

So at most one step's metrics are in flight, and nothing waits for the device but 5, for a step that was dispatched one
round ago (and 1 and 2, which read it before anything else). A transfer guard forbids hidden copies.

A wish to stop (SIGTERM, SIGINT) enters the step as a flag of each process and comes back with its metrics, the same for
all; the run then writes a checkpoint and returns. A step that is not finite leaves the state as it was and ends the
run.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from ebm_jax.algorithm import Algorithm
from ebm_jax.errors import NonFiniteError, UserError
from ebm_jax.parallel.multihost import is_main, to_global
from ebm_jax.parallel.rules import use
from ebm_jax.parallel.watchdog import Watchdog
from ebm_jax.rng import at_step
from ebm_jax.training.checkpoints import Checkpoints
from ebm_jax.training.config import TrainConfig
from ebm_jax.training.profiling import Profiler
from ebm_jax.training.program import Program
from ebm_jax.training.progress import Meter, Progress
from ebm_jax.training.signals import StopSignals
from ebm_jax.training.startup import Start
from ebm_jax.training.state import TrainState, replicate
from ebm_jax.training.step import StepOutput
from ebm_jax.types import Params, PRNGKey


class Stream(Protocol):
    """An endless iterator of this host's rows, whose position can be saved."""

    def __next__(self) -> Mapping[str, Any]: ...

    def state(self) -> dict[str, Any]:
        """The position after the last batch that was handed out, as JSON values."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from ``state``; raises ``UserError`` if it belongs to other data."""
        ...


class Writer(Protocol):
    """Where metrics go; called in process 0 only."""

    def write(self, step: int, values: Mapping[str, float]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended."""

    step: int
    """Updates done."""
    state: TrainState
    stopped_by: str
    """``steps``, or the name of the signal (``signal`` where another process got it)."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last step."""
    evaluation: dict[str, float] = field(default_factory=dict)
    """The last one of this process."""


class _Pending(NamedTuple):
    step: int
    output: StepOutput


def train(
    program: Program,
    start: Start,
    *,
    stream: Stream,
    config: TrainConfig,
    key: PRNGKey,
    evaluate: Callable[[TrainState, int], Mapping[str, float]] | None = None,
    checkpoints: Checkpoints | None = None,
    writer: Writer | None = None,
    progress: Progress | None = None,
    meter: Meter | None = None,
    profiler: Profiler | None = None,
) -> TrainResult:
    """Trains from ``start`` until ``config.steps`` updates are done, or a signal asks to stop.

    Args:
      key: of the run's training randomness; step ``s`` uses ``fold_in(key, s)``.
      evaluate: called with the state and the number of updates, every ``config.eval_every`` and at the end.

    Raises:
      NonFiniteError: a step produced NaN or infinity; the checkpoints are intact.
      UserError: the data ended, a checkpoint could not be written, and what the callables raise.
    """
    if start.data is not None:
        stream.restore(start.data)
    with use(program.mesh, program.rules), StopSignals() as signals, contextlib.ExitStack() as cleanup:
        run = _Run(program, config, checkpoints, writer, progress, meter or Meter(devices=program.mesh.size))
        watchdog = cleanup.enter_context(Watchdog(config.hang_seconds))
        if progress is not None:
            cleanup.callback(progress.close)
        if checkpoints is not None:
            cleanup.enter_context(_finish_writing(checkpoints))
        profiler = profiler or Profiler(None, None)
        key = replicate(key, program.mesh)
        state, evaluated, saved, step = start.state, start.evaluated, start.source == "resume", start.step

        for step in range(start.step, config.steps + 1):
            ending = step == config.steps or run.stopping
            with run.meter.paused():
                if evaluate is not None and not evaluated and run.evaluation_due(step):
                    watchdog.beat(f"evaluating at step {step}")
                    run.drain()
                    run.evaluate(evaluate, state, step)
                    evaluated = True
                if checkpoints is not None and not saved and (ending or run.checkpoint_due(step)):
                    watchdog.beat(f"writing the checkpoint of step {step}")
                    run.drain()
                    run.checkpoint(state, step, start.meta, stream.state(), evaluated)
            if ending:
                break
            watchdog.beat(f"making step {step + 1}")
            profiler.before(step, state)
            batch = _next_batch(stream, step)
            batch = _prepare(program.algorithm, state, batch, key, step)
            with jax.transfer_guard("disallow"):
                state, output = program.step(state, *_place(batch, signals, program), key)
            run.drain()
            run.pending = _Pending(step + 1, output)
            evaluated = saved = False

        run.drain()
        profiler.close(state)
        if checkpoints is not None:
            checkpoints.wait()
    return TrainResult(
        step=step,
        state=state,
        stopped_by=(signals.asked or "signal") if run.stopping and step < config.steps else "steps",
        metrics=run.metrics,
        evaluation=run.evaluation,
    )


class _Run:
    """What the loop remembers besides the state: the step in flight, the last values, the wish to stop."""

    def __init__(
        self,
        program: Program,
        config: TrainConfig,
        checkpoints: Checkpoints | None,
        writer: Writer | None,
        progress: Progress | None,
        meter: Meter,
    ) -> None:
        self._names = _leaf_names(program.abstract.params)
        self._config, self._checkpoints, self._writer, self._progress = config, checkpoints, writer, progress
        self.meter = meter
        self.pending: _Pending | None = None
        self.stopping = False
        self.metrics: dict[str, float] = {}
        self.evaluation: dict[str, float] = {}

    def evaluation_due(self, step: int) -> bool:
        """At the end, and every so many steps; not before the first step nor while a signal waits."""
        every = self._config.eval_every
        at_end = step == self._config.steps
        return not self.stopping and step > 0 and (at_end or bool(every and step % every == 0))

    def checkpoint_due(self, step: int) -> bool:
        """Every so many steps, not before the first, and at those that are named."""
        every = self._config.checkpoint_every
        return step in self._config.checkpoint_at or (step > 0 and bool(every and step % every == 0))

    def evaluate(
        self, evaluate: Callable[[TrainState, int], Mapping[str, float]], state: TrainState, step: int
    ) -> None:
        self.evaluation = {name: float(value) for name, value in evaluate(state, step).items()}
        self._write(step, self.evaluation)
        if self._progress is not None:
            self._progress.say(f"evaluation at step {step}: {_headline(self.evaluation)}")

    def checkpoint(
        self, state: TrainState, step: int, meta: dict[str, Any], data: dict[str, Any], evaluated: bool
    ) -> None:
        """Starts to save; a metric counts for this checkpoint only if the evaluation was of this very state."""
        assert self._checkpoints is not None
        metrics = self.evaluation if evaluated else None
        self._checkpoints.save(step, state, data=data, meta={**meta, "evaluated": evaluated}, metrics=metrics)

    def drain(self) -> None:
        """Waits for the step in flight, if any, and writes its metrics."""
        if self.pending is None:
            return
        (step, device_output), self.pending = self.pending, None
        output: StepOutput = jax.device_get(device_output)
        self.metrics = {name: float(value) for name, value in output.metrics.items()}
        if not output.finite:
            raise NonFiniteError(self._explain(step, output))
        self.stopping = self.stopping or bool(output.stop)
        self.meter.count(self.metrics["tokens"])
        every = self._config.log_every
        rates: dict[str, float] = {}
        if every and (step % every == 0 or step in (1, self._config.steps)):
            rates = self.meter.read()
            self._write(step, self.metrics | rates)
        if self._progress is not None:
            self._progress.update(step, self.metrics, rates)

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is not None and is_main():
            self._writer.write(step, values)

    def _explain(self, step: int, output: StepOutput) -> str:
        bad = [
            f"{name} is {self.metrics[name]}" for name in sorted(self.metrics) if not np.isfinite(self.metrics[name])
        ]
        grads = [name for name, fine in zip(self._names, output.finite_grads, strict=True) if not fine]
        if grads:
            bad.append(f"the gradient is not finite in {', '.join(grads[:3])}" + (", ..." if len(grads) > 3 else ""))
        if not output.finite_records:
            bad.append("the rows to be kept hold NaN")
        kept = self._checkpoints.steps() if self._checkpoints is not None else []
        lower = "lower optim.peak_lr or optim.clip_norm"
        if self._checkpoints is None or not kept:
            after = f"no checkpoint was written yet; {lower} and start again"
        else:
            run = self._checkpoints.directory.parent
            after = (
                f"the checkpoint of step {kept[-1]} is intact; {lower}, with continue_from={run} and another workdir"
            )
        return f"step {step} is not finite: {'; '.join(bad)}; {after}"


def _headline(evaluation: Mapping[str, float]) -> str:
    """What one line has room for: bits per byte and cross-entropy after the last inner step, or else two other figures."""
    names = [name for name in evaluation if "_step_" not in name]
    known = [
        name for figure in ("bits_per_byte", "accuracy", "nll") for name in names if name.rpartition("/")[2] == figure
    ]
    shown, split = [], ""
    for name in known or names[:2]:
        group, _, figure = name.rpartition("/")
        shown.append(f"{figure if group == split else f'{group} {figure}'} {evaluation[name]:.4g}")
        split = group
    return ", ".join(shown)


@contextlib.contextmanager
def _finish_writing(checkpoints: Checkpoints) -> Iterator[None]:
    """Lets a write in progress end, whatever ended the run."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            checkpoints.wait()
        raise


def _next_batch(stream: Stream, step: int) -> Mapping[str, Any]:
    try:
        return next(stream)
    except StopIteration:
        raise UserError(f"the training data ended at step {step}; a training stream must repeat its rows") from None


def _prepare(
    algorithm: Algorithm, state: TrainState, batch: Mapping[str, Any], key: PRNGKey, step: int
) -> Mapping[str, Any]:
    if type(algorithm).prepare is Algorithm.prepare:
        return batch
    return algorithm.prepare(state.variables, batch, at_step(key, step), step)


def _place(batch: Mapping[str, Any], signals: StopSignals, program: Program) -> tuple[dict[str, Any], jax.Array]:
    """The global batch, and this process's wish to stop as one flag for each of its rows."""
    rows = len(next(iter(batch.values())))
    flag = np.full((rows,), signals.asked is not None, np.uint8)
    placed = to_global({**batch, "": flag}, program.mesh)
    stop = placed.pop("")
    return placed, stop


def _leaf_names(params: Params) -> list[str]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
