"""The single extension point: what a training method must say, and what it may.

The loop knows nothing but this class. One training step is

1. ``prepare(variables, batch, key, step)`` on the host (on-policy methods: rollouts and rewards; most methods: nothing);
2. inside one jitted function
   ``batch = augment(variables, batch, key, step)`` once;
   ``loss(params, variables, microbatch, key, step)`` for each microbatch, gradients of its terms summed;
   the optimizer's update;
   ``carry = absorb(variables, batch, records, key, step)`` once, with the microbatches' records joined again.

A batch is a dict of arrays: ``inputs``, ``targets`` (int32, B x T), ``weights`` (float32, B x T, 0 = not scored),
``segments`` (int32, B x T, 0 = padding, 1.. = documents), ``positions`` (int32, B x T, position in the document) and
``index`` (uint32, B, the row's global position in the endless stream; it keys the row's noise).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from ebm_jax.types import Batch, Params, PRNGKey, PyTree
from ebm_jax.weighted import Term, WeightedSum


class Variables(struct.PyTreeNode):
    """All arrays of a method.

    ``params`` are optimised. ``frozen`` networks (feature, reference, reward) are arguments of the step, never donated or
    optimised. ``carry`` is state without gradient (the replay ring). Leaves may be boxed with logical axis names
    (``flax.linen.LogicallyPartitioned``) when they come from ``init``.
    """

    params: Params
    frozen: PyTree = None
    carry: PyTree = None


class LossOutput(NamedTuple):
    """What ``loss`` returns; ``records`` keep a leading row axis so that microbatches can be joined for ``absorb``."""

    terms: dict[str, Term]
    metrics: dict[str, WeightedSum]
    records: PyTree = None


@dataclass(frozen=True, kw_only=True)
class GroupOptions:
    """How the optimizer treats one named group of parameters, relative to the run's ``OptimConfig``."""

    lr_multiplier: float = 1.0
    weight_decay: float | None = None
    """None keeps the run's value."""
    trainable: bool = True


class OtherNetwork(NamedTuple):
    """A network beside the trained one: where its weights come from, and their shapes."""

    weights: str
    """As ``ExperimentConfig.weights``; or ``base``, the model at the beginning of the chain of runs that led to this one."""
    init: Callable[[PRNGKey], Params]
    """Fresh, boxed parameters of the whole network."""
    model: Any
    """Its options (``TransformerConfig``)."""


@dataclass(frozen=True, kw_only=True)
class BatchSpec:
    """The shapes a method may rely on at ``init``: rows per global step, positions, vocabulary."""

    batch_size: int
    context: int
    vocab_size: int
    extra: dict[str, Any] = field(default_factory=dict)

    def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of one batch."""
        row = (self.batch_size, self.context)
        fields = {name: jax.ShapeDtypeStruct(row, jnp.int32) for name in ("inputs", "targets", "segments", "positions")}
        weights, index = jax.ShapeDtypeStruct(row, jnp.float32), jax.ShapeDtypeStruct(row[:1], jnp.uint32)
        return fields | {"weights": weights, "index": index}


class Algorithm:
    """Base class of every training method; only ``init`` and ``loss`` must be written."""

    def init(self, key: PRNGKey, spec: BatchSpec) -> Variables:
        """Fresh variables (boxed with logical axes); pure, so it may run under ``jit`` and ``eval_shape``."""
        raise NotImplementedError

    def init_network(self, key: PRNGKey, spec: BatchSpec) -> Params:
        """Fresh, boxed parameters of the network whose weights a run may begin with: all of ``params`` by default."""
        return self.init(key, spec).params

    def adopt(self, weights: Params, params: Params) -> Params:
        """The fresh ``params`` with the weights of that network where they belong."""
        return weights

    def other_networks(self) -> dict[str, "OtherNetwork"]:
        """Published or trained networks, by name, that ``frozen`` is made of besides the one that the run begins with."""
        return {}

    def freeze(self, weights: Params | None, others: Mapping[str, Params] | None = None) -> PyTree:
        """The parts of ``frozen`` that are made of the weights the run begins with (None: it begins with none) and of those of
        ``other_networks``; ``init`` makes the rest, and all where this is None."""
        return None

    def meet(self, data: Any) -> None:
        """Shown the run's data once, before anything runs: its tokenizer, and what completions are checked against."""
        self.end_at(data.tokenizer.eos_id)

    def end_at(self, eos_id: int | None) -> None:
        """Told the tokenizer's end-of-text token, before anything is traced; by itself where there is no data."""

    @property
    def deploys_frozen(self) -> bool:
        """Whether ``deployed`` reads ``frozen``."""
        return False

    def deployed(self, params: Params, frozen: PyTree) -> Params:
        """What a trained network runs on by itself, without ``frozen``: adapters merged into the weights they adapt."""
        return params

    def loss(self, params: Params, variables: Variables, batch: Batch, key: PRNGKey, step) -> LossOutput:
        """The loss of one microbatch as sums and weights; ``key`` already belongs to this step."""
        raise NotImplementedError

    def prepare(self, variables: Variables, batch: Batch, key: PRNGKey, step: int) -> Batch:
        """Host-side work before the step on this host's rows; the only place that may wait for the device."""
        return batch

    def augment(self, variables: Variables, batch: Batch, key: PRNGKey, step) -> Batch:
        """Adds rows or fields to the global batch inside the jitted step, once, before it is split."""
        return batch

    def absorb(self, variables: Variables, batch: Batch, records: PyTree, key: PRNGKey, step) -> PyTree:
        """The next ``carry``, from the augmented batch and its records, once a step."""
        return variables.carry

    def groups(self, params: Params) -> PyTree:
        """A group name for every parameter, in a tree like ``params`` (a prefix tree is enough)."""
        return "default"

    def group_options(self) -> dict[str, GroupOptions]:
        """Options of the groups that ``groups`` names."""
        return {"default": GroupOptions()}

    def fixed_lengths(self) -> "list[Algorithm]":
        """Equally likely variants whose loops have a known length, for counting FLOPs; itself where nothing is random."""
        return [self]

    def evaluate(self, params: Params, variables: Variables, batch: Batch, key: PRNGKey) -> dict[str, WeightedSum]:
        """Validation sums of one batch; by default the metrics of ``loss`` without its randomness being special."""
        return self.loss(params, variables, batch, key, 0).metrics
