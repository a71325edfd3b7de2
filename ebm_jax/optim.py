"""The optimizer: clip by the global norm, then AdamW for each group of parameters with its own learning rate.

The reference's recipe is the default: b = (0.9, 0.999), eps = 1e-8, weight decay 0.01 on everything but the step size,
clipping at 1, linear warm-up from 0 and a cosine down to a tenth of the peak.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from ebm_jax.algorithm import GroupOptions
from ebm_jax.errors import UserError
from ebm_jax.parallel.rules import is_box, unbox
from ebm_jax.types import Array, PyTree

DEFAULT_GROUPS: Mapping[str, GroupOptions] = {"default": GroupOptions()}


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, its schedule, and what is clipped and decayed."""

    peak_lr: float = 1e-3
    warmup_steps: int = 100
    decay_steps: int = 10_000
    """The schedule's horizon, warm-up included; a run may end before it, or after it at the floor."""
    final_lr_ratio: float = 0.1
    """Floor of the schedule, as a fraction of the group's peak."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    """Largest global gradient norm; ``None`` clips nothing."""
    decay_mask: Literal["all", "matrices"] = "all"
    """``matrices`` decays only arrays with two axes or more, stacked layers not counted."""
    shared_floor: bool = False
    """The reference's mistake: every group's rate falls to the floor of the model's, ``final_lr_ratio * peak_lr``."""

    def __post_init__(self) -> None:
        _choice("schedule", self.schedule, ("cosine", "linear", "constant"))
        _choice("decay_mask", self.decay_mask, ("all", "matrices"))
        if self.peak_lr <= 0:
            raise UserError(f"optim.peak_lr={self.peak_lr} must be positive")
        if self.warmup_steps < 0:
            raise UserError(f"optim.warmup_steps={self.warmup_steps} must not be negative")
        if self.schedule != "constant" and self.decay_steps <= self.warmup_steps:
            raise UserError(
                f"optim.decay_steps={self.decay_steps} is the whole horizon and must exceed"
                f" optim.warmup_steps={self.warmup_steps}"
            )
        if not 0 <= self.final_lr_ratio <= 1:
            raise UserError(f"optim.final_lr_ratio={self.final_lr_ratio} must lie between 0 and 1")
        if not (0 <= self.b1 < 1 and 0 <= self.b2 < 1):
            raise UserError(f"optim.b1={self.b1} and optim.b2={self.b2} must lie in [0, 1)")
        if self.eps <= 0 or self.weight_decay < 0:
            raise UserError(
                f"optim.eps={self.eps} must be positive, optim.weight_decay={self.weight_decay} not negative"
            )
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise UserError(f"optim.clip_norm={self.clip_norm} must be positive; use none to clip nothing")


def schedule(config: OptimConfig, multiplier: float = 1.0) -> Callable[[Array | int], Array]:
    """The learning rate of the update number ``t`` (from 0), for a group with ``multiplier``.

    With ``P = multiplier * peak_lr``, floor ``F = final_lr_ratio * P``, warm-up ``w`` and horizon ``h``::

        t <  w:  P * t / w
        t >= w:  F + (P - F) * (1 + cos(pi * u)) / 2        u = min(1, (t - w) / (h - w))     cosine
                 P + (F - P) * u                                                                linear
                 P                                                                              constant

    ``shared_floor`` puts ``F = final_lr_ratio * peak_lr`` in every group.
    """
    peak = config.peak_lr * multiplier
    floor = config.final_lr_ratio * (config.peak_lr if config.shared_floor else peak)
    warmup = config.warmup_steps

    def rate(step: Array | int) -> Array:
        # float64 where 64-bit types are on: programs for other devices may round a float32 cosine to its other neighbour.
        t = jnp.asarray(step, jnp.result_type(float))
        done = jnp.clip((t - warmup) / max(config.decay_steps - warmup, 1), 0.0, 1.0)
        if config.schedule == "cosine":
            after = floor + (peak - floor) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))
        elif config.schedule == "linear":
            after = peak + (floor - peak) * done
        else:
            after = jnp.full_like(t, peak)
        return jnp.where(t < warmup, peak * t / max(warmup, 1), after)

    return rate


def learning_rates(config: OptimConfig, options: Mapping[str, GroupOptions], step: Array | int) -> dict[str, Array]:
    """The learning rate of every trainable group at ``step``, by name."""
    return {name: schedule(config, group.lr_multiplier)(step) for name, group in options.items() if group.trainable}


def group_labels(params: PyTree, groups: PyTree, options: Mapping[str, GroupOptions]) -> PyTree:
    """A group name for every parameter, from the prefix tree ``groups``; ``params`` may be boxed or abstract.

    Raises:
      UserError: a group has no options.
    """
    labels = jax.tree.map(lambda name, below: jax.tree.map(lambda _: name, unbox(below)), groups, params)
    for path, name in jax.tree_util.tree_leaves_with_path(labels):
        if name not in options:
            where = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                f"parameter {where} is in the group {name!r}, which has no options; known: {', '.join(options)}"
            )
    return labels


def trainable_mask(labels: PyTree, options: Mapping[str, GroupOptions]) -> PyTree:
    """Whether each parameter is optimised, in a tree like ``labels``."""
    return jax.tree.map(lambda name: options[name].trainable, labels)


def decayed(params: PyTree, rule: Literal["all", "matrices"]) -> PyTree:
    """Whether weight decay touches each parameter; boxes tell stacked layers from an axis of the weight itself."""

    def one(leaf: PyTree) -> bool:
        axes = [name for name in leaf.names if name != "layers"] if is_box(leaf) else leaf.shape
        return rule == "all" or len(axes) >= 2

    return jax.tree.map(one, params, is_leaf=is_box)


def make_optimizer(
    config: OptimConfig,
    params: PyTree,
    groups: PyTree = "default",
    options: Mapping[str, GroupOptions] = DEFAULT_GROUPS,
) -> optax.GradientTransformation:
    """Clipping by the global norm over all trainable parameters, then AdamW for each group.

    Args:
      params: the parameters, or their shapes; boxed where ``decay_mask="matrices"`` shall see stacked layers.
      groups: ``Algorithm.groups(params)``.
      options: ``Algorithm.group_options()``.

    Example::

        optimizer = make_optimizer(OptimConfig(peak_lr=3e-4), params)
        updates, state = optimizer.update(grads, optimizer.init(params), params)
    """
    labels = group_labels(params, groups, options)
    mask = decayed(params, config.decay_mask)
    # Weights that are not trained must not count in the norm either.
    keep = {name: optax.identity() if group.trainable else optax.set_to_zero() for name, group in options.items()}
    chain = [optax.partition(keep, labels)] if not all(group.trainable for group in options.values()) else []
    if config.clip_norm is not None:
        chain.append(optax.clip_by_global_norm(config.clip_norm))
    rules = {name: _group(config, group, mask) for name, group in options.items()}
    return optax.chain(*chain, optax.partition(rules, labels))


def _group(config: OptimConfig, group: GroupOptions, mask: PyTree) -> optax.GradientTransformation:
    if not group.trainable:
        return optax.set_to_zero()
    weight_decay = config.weight_decay if group.weight_decay is None else group.weight_decay
    parts = [optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps)]
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, mask))
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule(config, group.lr_multiplier)))


def _choice(field: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"optim.{field}={value!r} is not one of {', '.join(known)}")
