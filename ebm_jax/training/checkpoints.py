"""Checkpoints: written in the background, complete or absent, kept by number and by the best metric.

A checkpoint has four items: ``params``; ``training`` (step, carry, optimizer state); ``data`` (the stream's position);
``meta`` (config, algorithm, hash of the frozen networks). Under the folder given, one sub-folder a step.
"""

import contextlib
import errno
import functools
import logging
import math
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from ebm_jax.errors import UserError
from ebm_jax.parallel.multihost import any_process, is_main
from ebm_jax.parallel.processes import barrier
from ebm_jax.training.state import TrainState
from ebm_jax.types import Params, PyTree

FORMAT = "ebm_jax/1"
"""What ``meta`` says about itself; anything else is not ours."""

log = logging.getLogger(__name__)


def checkpoint_place(workdir: Path, root: str = "") -> Path:
    """Where the checkpoints of the run in ``workdir`` lie: in it, or in a folder of its name under ``root``."""
    if not root:
        return workdir / "checkpoints"
    named = [part for part in workdir.parts if part not in ("..", workdir.anchor)]
    return cast(Path, epath.Path(root).joinpath(*named, "checkpoints"))


class Restored(NamedTuple):
    """A checkpoint that was read; ``state.frozen`` is that of the abstract state, for the caller to fill."""

    step: int
    state: TrainState
    data: dict[str, Any]
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run; use as a context manager, or ``close`` it."""

    def __init__(
        self,
        directory: Path | str,
        *,
        keep: int = 3,
        best_metric: str | None = None,
        best_mode: Literal["min", "max"] = "min",
        read_only: bool = False,
    ) -> None:
        """Opens ``directory``, creating it unless ``read_only``, and removes what an interrupted write left there.

        Raises:
          UserError: ``directory`` does not exist and may not be created.
        """
        self.directory = cast(Path, epath.Path(directory))  # a folder, or an address such as gs://BUCKET/PATH
        if "://" not in str(directory):
            self.directory = Path(directory).absolute()
        self._best_metric, self._best_mode, self._read_only = best_metric, best_mode, read_only
        if not self.directory.is_dir() and (read_only or self.directory.exists()):
            raise UserError(f"there are no checkpoints: {self.directory} is not a folder")
        _hush_storage()  # before the options, which already log
        keepers: list[policies.PreservationPolicy] = [policies.LatestN(keep)]
        if best_metric:
            keepers.append(
                policies.BestN(get_metric_fn=self._score, reverse=True, n=1, keep_checkpoints_without_metrics=False)
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(keepers),
            # Without it metrics are not written, and a resumed run would forget which checkpoint was best.
            best_fn=self._score if best_metric else None,
            best_mode="min",
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
        )
        with self._explained():
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=_handlers())

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first; a write in progress ends first, well or not."""
        with contextlib.suppress(Exception):
            self._manager.wait_until_finished()
        self._manager.reload()
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step whose metric was best, among the checkpoints that have it."""
        scores = {}
        for step in self.steps():
            # Items are listed by name: an absent one would be logged as an error.
            if (self.directory / str(step) / "metrics").is_dir():
                scores[step] = self._score(self._read(step, metrics=ocp.args.JsonRestore()).metrics)
        return min(scores, key=scores.__getitem__, default=None)

    def save(
        self,
        step: int,
        state: TrainState,
        *,
        data: dict[str, Any],
        meta: dict[str, Any],
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Starts to write ``state``; returns when its buffers may be reused, waiting for an earlier write.

        Raises:
          UserError: this or the previous write failed (a full disk); the checkpoint before it is intact.
        """
        kept = self._kept_metrics(metrics)
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),
            training=ocp.args.StandardSave(_training(state)),
            data=ocp.args.JsonSave(data),
            meta=ocp.args.JsonSave({"format": FORMAT, **meta}),
        )
        with self._explained():
            self._manager.save(step, args=items, metrics=kept)

    def wait(self) -> None:
        """Waits until what was saved is on disk.

        Raises:
          UserError: the write failed.
        """
        with self._explained():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends the threads."""
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):
                self._manager.close()

    def restore(
        self, abstract: TrainState, *, step: int | None = None, check: Callable[[dict[str, Any]], None] | None = None
    ) -> Restored | None:
        """The newest readable checkpoint, on the shardings of ``abstract``; ``None`` if there never was one.

        One that is truncated, or not ours, is passed over with a line in the log; ``set_aside`` then renames it.

        Args:
          abstract: shapes, types and shardings (``state.abstract_state``); they need not be those it was saved with.
          step: this one and no other.
          check: looks at the stored ``meta`` first, and raises ``UserError`` if the checkpoint does not fit the run.

        Raises:
          UserError: there are checkpoints but none can be read, shapes differ, or ``check`` said so.
        """
        failures = []
        for candidate in self._candidates(step):
            failure, restored = self._try(lambda s=candidate: self._restore(s, abstract, check))  # type: ignore[misc]
            if failure is None:
                return restored
            failures.append(f"step {candidate}: {failure}")
            log.warning("cannot read the checkpoint of step %s in %s: %s", candidate, self.directory, failure)
        if failures:
            raise UserError(
                f"no checkpoint in {self.directory} can be read ({'; '.join(failures)}); use another workdir"
            )
        return None

    def restore_params(self, abstract: Params, *, step: int | None = None) -> tuple[int, Params]:
        """Step and parameters of the newest readable checkpoint (or of ``step``), without the rest of its state.

        Raises:
          UserError: there is none, or shapes differ from ``abstract``.
        """
        failures = []
        for candidate in self._candidates(step):
            failure, params = self._try(lambda s=candidate: self._restore_own_params(s, abstract))  # type: ignore[misc]
            if failure is None:
                return candidate, params
            failures.append(f"step {candidate}: {failure}")
            log.warning("cannot read the checkpoint of step %s in %s: %s", candidate, self.directory, failure)
        raise UserError(
            f"no checkpoint in {self.directory} can be read ({'; '.join(failures) or 'there is none'}); train the run"
            " first, or name another one"
        )

    def read_meta(self, step: int) -> dict[str, Any]:
        """The ``meta`` of a checkpoint.

        Raises:
          UserError: it is not one of ours.
        """
        failure, meta = self._try(lambda: self._read_meta(step))
        if failure is not None:
            raise UserError(f"cannot read the checkpoint of step {step} in {self.directory}: {failure}")
        return meta

    def set_aside(self, newer_than: int) -> None:
        """Renames what is newer than the checkpoint a run goes on from, so that its steps may be written again."""
        newer = [step for step in self.steps() if step > newer_than and not self._read_only]
        # No process may still look at a folder that is about to be renamed.
        barrier("ebm_jax.checkpoints.listed")
        for step in newer if is_main() else ():
            (self.directory / str(step)).rename(_free(self.directory / f"{step}.unreadable"))
        barrier("ebm_jax.checkpoints.set_aside")
        self._manager.reload()

    def _candidates(self, step: int | None) -> list[int]:
        """The steps to try, newest first, or the one that was asked for."""
        steps = self.steps()
        if step is None:
            return steps[::-1]
        if step not in steps:
            have = f"it has those of steps {', '.join(map(str, steps))}" if steps else "it has none"
            raise UserError(f"there is no checkpoint of step {step} in {self.directory}: {have}")
        return [step]

    def _restore(self, step: int, abstract: TrainState, check: Callable[[dict[str, Any]], None] | None) -> Restored:
        meta = self._read_meta(step)
        if check is not None:
            check(meta)
        abstract = abstract.replace(frozen=None)
        data = self._read(step, data=ocp.args.JsonRestore()).data
        params = self._restore_params(step, abstract.params)
        training = self._restore_item(step, "training", _training(abstract))
        return Restored(step, abstract.replace(params=params, **training), data, meta)

    def _restore_own_params(self, step: int, abstract: Params) -> Params:
        self._read_meta(step)
        return self._restore_params(step, abstract)

    def _restore_params(self, step: int, abstract: Params) -> Params:
        return self._restore_item(step, "params", abstract)

    def _restore_item(self, step: int, name: str, abstract: PyTree) -> PyTree:
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), abstract)
        stored = self._manager.item_metadata(step)[name]
        if stored is None:
            raise ValueError(f"it has no {name}")
        check_shapes(stored, target, f"the checkpoint of step {step} in {self.directory}")
        return self._read(step, **{name: ocp.args.StandardRestore(target)})[name]

    def _read_meta(self, step: int) -> dict[str, Any]:
        if not (self.directory / str(step) / "meta").is_dir():
            raise ValueError("it was not written by this framework (it has no meta)")
        meta = self._read(step, meta=ocp.args.JsonRestore()).meta
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise ValueError(f"it was not written by this framework (its meta is not {FORMAT!r})")
        return meta

    def _read(self, step: int, **items: ocp.args.CheckpointArgs) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**items))

    def _try(self, read: Callable[[], Any]) -> tuple[str | None, Any]:
        """The failure that any process had, or what ``read`` returned; ``UserError`` passes through."""
        failure, value = None, None
        try:
            value = read()
        except UserError:
            raise
        # Storage layers raise whatever they like about damaged files.
        except Exception as error:
            first_line = str(error).strip().partition("\n")[0][:200]
            failure = f"{type(error).__name__}: {first_line or 'no message'}"
        if any_process(failure is not None):
            return failure or "another process could not read it", None
        return None, value

    def _kept_metrics(self, metrics: dict[str, float] | None) -> dict[str, float] | None:
        if not metrics or not self._best_metric:
            return None
        if self._best_metric not in metrics:
            raise UserError(
                f"train.keep_best={self._best_metric!r} is not a metric of the evaluation; it has {', '.join(metrics)}"
            )
        return {self._best_metric: float(metrics[self._best_metric])}

    def _score(self, metrics: dict[str, float]) -> float:
        """Lower is better; NaN is worst."""
        value = metrics.get(self._best_metric or "", math.nan)
        return math.inf if math.isnan(value) else value if self._best_mode == "min" else -value

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            cause = _storage_cause(error)
            if cause is None:
                raise
            complete = self.steps() if hasattr(self, "_manager") else []
            last = f"the checkpoint of step {complete[-1]} is intact" if complete else "there is no earlier checkpoint"
            raise UserError(f"cannot write a checkpoint in {self.directory}: {cause}; {last}") from error


def check_shapes(stored: PyTree, wanted: PyTree, where: str) -> None:
    """Compares names and shapes of two trees of arrays or their descriptions.

    Raises:
      UserError: they differ; the message names up to three arrays.
    """
    have, want = _shapes(stored), _shapes(wanted)
    lines = [
        f"{name} is {have.get(name, 'absent')}, not {shape}" for name, shape in want.items() if have.get(name) != shape
    ]
    lines += [f"{name} is not in the model" for name in have if name not in want]
    if lines:
        more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
        raise UserError(f"{where} does not fit the model: {'; '.join(lines[:3])}{more}; check model and vocabulary")


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): tuple(leaf.shape) for path, leaf in leaves if hasattr(leaf, "shape")}


def _name(path: jax.tree_util.KeyPath) -> str:
    # A tuple comes back from storage as a list and a named tuple as a dict: only the words of the path are compared.
    return jax.tree_util.keystr(path, simple=True, separator="/")


class _NotStorage(logging.Filter):
    """Drops what the storage layer logs: its failures come as exceptions, which this module explains."""

    def filter(self, record: logging.LogRecord) -> bool:
        trace = record.exc_info[2] if record.exc_info else None
        raised_in = [frame.filename for frame in traceback.extract_tb(trace)]
        return not any("orbax" in path for path in (record.pathname, *raised_in))


@functools.cache
def _hush_storage() -> None:
    """Leaves the failures of the storage layer to this module's messages, once and for all."""
    for name in ("absl", "asyncio"):  # asyncio logs failures of writes that were abandoned
        logging.getLogger(name).addFilter(_NotStorage())
    report = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        # A read that fails abandons others, which end after their event loop and complain to nobody.
        source = getattr(getattr(unraisable.object, "cr_code", None), "co_filename", "")
        if "orbax" not in source and "Event loop is closed" not in str(unraisable.exc_value):
            report(unraisable)

    sys.unraisablehook = hook


def _handlers() -> dict[str, ocp.CheckpointHandler]:
    arrays, values = ocp.StandardCheckpointHandler, ocp.JsonCheckpointHandler
    return {"params": arrays(), "training": arrays(), "data": values(), "meta": values(), "metrics": values()}


def _training(state: TrainState) -> dict[str, PyTree]:
    return {"step": state.step, "carry": state.carry, "opt_state": state.opt_state}


def _storage_cause(error: BaseException | None) -> str | None:
    """A full disk or a forbidden folder, anywhere in the chain of causes."""
    while error is not None:
        text = str(error)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
            return "the disk is full; free some space and start the same command again"
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            return text
        error = error.__cause__ or error.__context__
    return None


def _free(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free
