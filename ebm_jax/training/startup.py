"""Where a run begins, decided in one place: its own checkpoints, another run's, given weights, or nothing.

1. **resume**: the newest readable checkpoint of the workdir, whose stored config must agree with the given one;
2. **continue** another run: its state, step and data position, under a config that may differ;
3. **weights**: those of the method's network alone, from a run or from anywhere, at step 0;
4. **scratch**.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import jax

from ebm_jax.errors import UserError
from ebm_jax.records import RUN, read_run_record
from ebm_jax.training.checkpoints import Checkpoints, Restored, checkpoint_place
from ebm_jax.training.program import Program
from ebm_jax.training.state import TrainState, frozen_hash
from ebm_jax.types import Params, PRNGKey, PyTree

MAY_CHANGE = frozenset(
    {
        "name",
        "train.steps",
        "train.log_every",
        "train.eval_every",
        "train.eval_batches",
        "train.checkpoint_every",
        "train.checkpoint_at",
        "train.checkpoint_root",
        "train.keep",
        "train.keep_best",
        "train.keep_best_mode",
        "train.hang_seconds",
        "train.local_gradients",
        "train.profile_steps",
        "eval",
        "mesh",
    }
)
"""Keys of a config, or beginnings of keys, that a resumed run may give another value."""


Source = Path | Callable[[Params], Params]
"""A run's folder, or a function from the shapes of a network to its weights."""


class ConfigChange(Protocol):
    """One key whose stored and given values differ."""

    @property
    def key(self) -> str: ...
    @property
    def old(self) -> Any: ...
    @property
    def new(self) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Start:
    """A state to train from, and what belongs to it."""

    state: TrainState
    step: int
    source: Literal["resume", "continue", "weights", "scratch"]
    meta: dict[str, Any]
    """What this run's checkpoints say about themselves."""
    data: dict[str, Any] | None = None
    """The data stream's position, if the state has one."""
    evaluated: bool = False
    """Whether the evaluation due at ``step`` is already in the run's record."""
    origin: Path | None = None
    """Folder the state was read from."""

    def describe(self) -> str:
        """One line for the log."""
        words = {"resume": "resumed at", "continue": "continues"}
        if self.source == "scratch":
            return "starts from scratch"
        if self.source == "weights":
            return f"starts from the weights of {self.origin}" if self.origin else "starts from imported weights"
        return f"{words[self.source]} step {self.step}" + (f" of {self.origin}" if self.origin else "")


def start_run(
    program: Program,
    key: PRNGKey,
    *,
    config: dict[str, Any],
    compare: Callable[[Any, Any], Sequence[ConfigChange]],
    checkpoints: Checkpoints | None = None,
    continue_from: Path | None = None,
    weights: Source | None = None,
    others: Mapping[str, Source] | None = None,
    may_change: Iterable[str] = MAY_CHANGE,
) -> Start:
    """The state a run begins with, in the order of this module's docstring.

    Args:
      key: of the initial parameters.
      config: the run's config as JSON values; checkpoints store it.
      compare: lists the differences of a stored config and the given one.
      checkpoints: the run's own; ``None`` never resumes.
      continue_from: a run's folder, or its folder of checkpoints.
      weights: such a folder, or a function from the shapes of ``Algorithm.init_network`` to its weights (imported ones). Where
        frozen networks are made of them, they are read whatever the run begins with.
      others: the same for the method's ``other_networks``, by name; those left out are made of ``weights``.
      may_change: keys of the config that may differ from the stored one.

    Raises:
      UserError: the stored config differs, no checkpoint can be read, shapes differ, frozen networks differ.
    """
    network = None if weights is None or not has_frozen(program) else read_weights(program, weights)
    frozen = frozen_networks(program, key, network, others)
    hashed = frozen_hash(frozen)
    meta = {"config": config, "frozen": hashed}

    def same_run(stored: dict[str, Any]) -> None:
        _check_config(stored.get("config", {}), config, compare, tuple(may_change))
        check_frozen(stored, hashed)

    if checkpoints is not None:
        restored = checkpoints.restore(program.abstract, check=same_run)
        if restored is not None:
            checkpoints.set_aside(newer_than=restored.step)
            return _from(restored, "resume", meta, frozen, checkpoints.directory)
    if continue_from is not None:
        with Checkpoints(checkpoint_folder(continue_from), read_only=True) as other:
            restored = other.restore(program.abstract, check=lambda stored: check_frozen(stored, hashed))
        if restored is None:
            raise UserError(f"cannot continue {continue_from}: it has no checkpoints")
        return _from(restored, "continue", meta, frozen, Path(continue_from))
    state = program.init(key, frozen)
    if weights is None:
        return Start(state=state, step=0, source="scratch", meta=meta)
    network = read_weights(program, weights) if network is None else network
    state = state.replace(params=program.algorithm.adopt(network, state.params))
    origin = None if callable(weights) else Path(weights)
    return Start(state=state, step=0, source="weights", meta=meta, origin=origin)


def has_frozen(program: Program) -> bool:
    """Whether the method has frozen networks."""
    return bool(jax.tree.leaves(program.abstract.frozen))


def read_weights(program: Program, weights: Source, name: str | None = None) -> Params:
    """The weights of ``Algorithm.init_network`` (of the other network ``name``) in their place on the mesh."""
    return read_source(weights, program.network() if name is None else program.other_network(name))


def read_source(weights: Source, like: Params) -> Params:
    """The weights of a network of the shapes, types and shardings ``like``."""
    if callable(weights):
        return _place(weights(like), like)
    with Checkpoints(checkpoint_folder(weights), read_only=True) as other:
        return other.restore_params(like)[1]


def frozen_networks(
    program: Program, key: PRNGKey, network: Params | None, others: Mapping[str, Source] | None = None
) -> PyTree:
    """The frozen networks of a run that begins with the weights ``network`` (or with none), and of ``others``."""
    read = {name: read_weights(program, weights, name) for name, weights in (others or {}).items()}
    made = program.algorithm.freeze(network, read)
    if made is None:
        return program.init_frozen(key)
    abstract = program.abstract.frozen
    if missing := set(abstract) - set(made):
        fresh = program.init_frozen(key)
        made = {**made, **{name: fresh[name] for name in missing}}
    return _place(made, abstract)


def check_frozen(stored: dict[str, Any], found: str | None) -> None:
    """Refuses frozen networks of the hash ``found`` for a checkpoint whose meta ``stored`` says another."""
    if stored.get("frozen") != found:
        raise UserError(
            f"the frozen networks differ from the checkpoint's (hash {found}, not {stored.get('frozen')});"
            " load the ones the run was trained with"
        )


def checkpoint_folder(run: Path | str) -> Path:
    """Where the checkpoints of the run in a folder lie; the folder itself where it is none of a run."""
    run = Path(run)
    if (run / RUN).is_file():
        return checkpoint_place(run, read_run_record(run)["config"].get("train", {}).get("checkpoint_root", ""))
    inside = run / "checkpoints"
    return inside if inside.is_dir() else run


def _from(
    restored: Restored, source: Literal["resume", "continue"], meta: dict[str, Any], frozen: PyTree, origin: Path
) -> Start:
    return Start(
        state=restored.state.replace(frozen=frozen),
        step=restored.step,
        source=source,
        meta=meta,
        data=restored.data,
        evaluated=source == "resume" and bool(restored.meta.get("evaluated")),
        origin=origin,
    )


def _check_config(
    stored: Any, given: Any, compare: Callable[[Any, Any], Sequence[ConfigChange]], may_change: tuple[str, ...]
) -> None:
    def allowed(key: str) -> bool:
        return any(key == prefix or key.startswith(f"{prefix}.") for prefix in may_change)

    changes = [change for change in compare(stored, given) if not allowed(change.key)]
    if changes:
        lines = "; ".join(f"{change.key} was {change.old!r} and is now {change.new!r}" for change in changes)
        raise UserError(
            f"this workdir holds a run of another config: {lines}; keep those values or use another workdir"
        )


def _place(params: Params, abstract: Params) -> Params:
    return jax.tree.map(lambda x, like: jax.device_put(x.astype(like.dtype), like.sharding), params, abstract)
