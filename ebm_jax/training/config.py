"""How long a run lasts, how large its batches are, and what happens every so many steps."""

from dataclasses import dataclass
from typing import Literal

from ebm_jax.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The loop's numbers; every ``*_every`` counts optimizer steps, and 0 turns it off."""

    steps: int = 1000
    batch_size: int = 32
    """Rows of one optimizer step, over all hosts."""
    accumulate: int = 1
    """Microbatches of one optimizer step; the result does not depend on it, the memory does."""
    local_gradients: bool = False
    """Gather weights and add up gradients once a step instead of wherever a weight is used: the same numbers, far less to send
    where weights are used in loops, at the memory of whole weights and gradients on every device (``training.step.Local``)."""
    log_every: int = 10
    eval_every: int = 0
    eval_batches: int = 0
    """Batches of one evaluation; 0 takes the whole split."""
    checkpoint_every: int = 0
    """Besides the checkpoint at the end of the run, which is always written."""
    checkpoint_root: str = ""
    """Where checkpoints lie, if not in the workdir: a folder that all hosts see or ``gs://BUCKET/PATH`` (extra ``gcs``). Those
    of a run are in a folder there of the workdir's name."""
    checkpoint_at: tuple[int, ...] = ()
    """Further steps to write one at; ``keep`` must have room for those that shall stay."""
    keep: int = 3
    """Latest checkpoints that are kept."""
    keep_best: str | None = None
    """Name of an evaluation metric; the checkpoint where it was best is kept as well."""
    keep_best_mode: Literal["min", "max"] = "min"
    hang_seconds: float = 1800.0
    """After so long without the end of a step, an evaluation or a checkpoint, the stacks of all threads are written to stderr
    (``parallel.watchdog``); 0 never. The first step compiles."""
    profile_steps: tuple[int, int] | None = None
    """First step of a profiler trace, and the step before which it ends."""

    def __post_init__(self) -> None:
        for field in ("steps", "batch_size", "accumulate", "keep"):
            if getattr(self, field) < 1:
                raise UserError(f"train.{field}={getattr(self, field)} must be at least 1")
        for field in ("log_every", "eval_every", "eval_batches", "checkpoint_every", "hang_seconds"):
            if getattr(self, field) < 0:
                raise UserError(f"train.{field}={getattr(self, field)} must not be negative; 0 turns it off")
        if any(step < 1 for step in self.checkpoint_at):
            raise UserError(f"train.checkpoint_at={self.checkpoint_at} must be steps, from 1 on")
        if self.batch_size % self.accumulate:
            raise UserError(
                f"train.batch_size={self.batch_size} is not divisible by train.accumulate={self.accumulate}"
            )
        if self.keep_best_mode not in ("min", "max"):
            raise UserError(f"train.keep_best_mode={self.keep_best_mode!r} is not one of min, max")
        checkpoints = (self.checkpoint_every, *self.checkpoint_at)
        if self.keep_best and (not self.eval_every or any(step % self.eval_every for step in checkpoints)):
            raise UserError(
                f"train.keep_best={self.keep_best!r} needs an evaluation at every checkpoint: train.checkpoint_every="
                f"{self.checkpoint_every} (and train.checkpoint_at) must be a multiple of train.eval_every={self.eval_every}"
            )
        if self.profile_steps is not None and not 0 <= self.profile_steps[0] < self.profile_steps[1]:
            raise UserError(f"train.profile_steps={self.profile_steps} must be a first step and a later one")
