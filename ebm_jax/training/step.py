"""One optimizer step: augment, gradients over microbatches, update, absorb, and a guard against NaN.

Sums and weights are kept apart until the end. With ``W_t`` the weight of the term ``t`` over the whole batch (all
microbatches, all devices), the gradient is ``sum_t coef_t * d total_t / W_t``: a plain sum, however the batch is cut.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ebm_jax.algorithm import Algorithm, LossOutput, Variables
from ebm_jax.errors import UserError
from ebm_jax.parallel.mesh import batch_shards
from ebm_jax.parallel.rules import BATCH_AXES, Rules, constrain, use
from ebm_jax.rng import at_step
from ebm_jax.training.state import TrainState
from ebm_jax.types import Array, Batch, Params, PRNGKey, PyTree
from ebm_jax.weighted import WeightedSum

RESERVED = ("loss", "grad_norm", "param_norm", "learning_rate", "tokens")
"""Metrics that the step itself reports."""


class StepOutput(NamedTuple):
    """What a step reports; all of it stays on the device until the loop reads it, one step later."""

    metrics: dict[str, Array]
    finite: Array
    """Whether the state is the new one; otherwise it is the old one."""
    finite_grads: Array
    """One flag for each parameter, in the order of ``jax.tree.leaves(params)``."""
    finite_records: Array
    stop: Array
    """Whether any process asked to stop."""


class TrainStep:
    """The compiled step: ``step(state, batch, stop, key) -> (state, output)``; ``state`` is donated but for ``frozen``.

    ``batch`` and ``stop`` (a flag for each row) are global arrays, split by rows; ``key`` is the run's. The key of step
    ``s`` is ``fold_in(key, s)``; ``augment``, ``loss`` and ``absorb`` all get that one and name streams of it.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        optimizer: optax.GradientTransformation,
        *,
        accumulate: int,
        local_gradients: bool,
        trainable: PyTree,
        learning_rates: Callable[[Array], Mapping[str, Array]],
        abstract: TrainState,
        mesh: Mesh,
        rules: Rules,
    ) -> None:
        self._algorithm, self._optimizer = algorithm, optimizer
        self._accumulate, self._trainable, self._learning_rates = accumulate, trainable, learning_rates
        self._mesh, self._rules = mesh, rules
        place = jax.tree.map(lambda leaf: leaf.sharding, abstract.replace(frozen=None))
        everywhere = NamedSharding(mesh, PartitionSpec())
        local = Local(mesh, abstract) if local_gradients else None
        self._gradients = local or gradients
        self._within = local.gathered if local else lambda variables: variables
        self._jitted = jax.jit(self._step, donate_argnums=0, out_shardings=(place, everywhere))

    def __call__(self, state: TrainState, batch: Batch, stop: Array, key: PRNGKey) -> tuple[TrainState, StepOutput]:
        with use(self._mesh, self._rules):
            new, output = self._jitted(state.replace(frozen=None), state.frozen, batch, stop, key)
        return new.replace(frozen=state.frozen), output

    def trace(self, state: TrainState, batch: Batch, stop: PyTree, key: PyTree) -> jax.stages.Traced:
        """The step for these shapes: what a dry run and the cost accounting look at."""
        with use(self._mesh, self._rules):
            return self._jitted.trace(state.replace(frozen=None), state.frozen, batch, stop, key)

    def _step(
        self, state: TrainState, frozen: PyTree, batch: Batch, stop: Array, root: PRNGKey
    ) -> tuple[TrainState, StepOutput]:
        key = at_step(root, state.step)
        variables = self._within(Variables(params=state.params, frozen=frozen, carry=state.carry))
        tokens = jnp.sum(batch["weights"]) if "weights" in batch else jnp.zeros(())
        batch = self._algorithm.augment(variables, batch, key, state.step)

        def loss(params: Params, part: Batch, variables: Variables, key: PRNGKey, step: Array) -> LossOutput:
            params = jax.tree.map(lambda p, t: p if t else jax.lax.stop_gradient(p), params, self._trainable)
            return self._algorithm.loss(params, variables, part, key, step)

        grads, sums = self._gradients(loss, variables.params, batch, self._accumulate, variables, key, state.step)
        updates, opt_state = self._optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        carry = self._algorithm.absorb(variables, batch, sums.records, key, state.step)
        new = TrainState(step=state.step + 1, params=params, frozen=None, carry=carry, opt_state=opt_state)

        metrics = self._metrics(sums, state.step)
        metrics |= {"grad_norm": optax.tree.norm(grads), "param_norm": optax.tree.norm(params), "tokens": tokens}
        finite_grads = jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads)])
        # A masked record may well be infinite; NaN is never meant.
        records = [r for r in jax.tree.leaves(sums.records) if jnp.issubdtype(r.dtype, jnp.floating)]
        finite_records = jnp.stack([~jnp.any(jnp.isnan(r)) for r in records]).all() if records else jnp.array(True)
        guarded = [metrics["grad_norm"], metrics["param_norm"], *[s.total for s in sums.terms.values()]]
        finite = jnp.isfinite(jnp.stack(guarded)).all() & finite_grads.all() & finite_records
        new = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, state)
        return new, StepOutput(metrics, finite, finite_grads, finite_records, jnp.max(stop) > 0)

    def _metrics(self, sums: "Sums", step: Array) -> dict[str, Array]:
        clash = [name for name in sums.metrics if name in RESERVED]
        if clash:
            raise ValueError(f"the algorithm's metrics {clash} have names that the step reports itself: {RESERVED}")
        metrics = {name: value.mean() for name, value in sums.metrics.items()}
        metrics["loss"] = _combine(sums.coefs, sums.terms)
        if len(sums.terms) > 1:
            metrics |= {f"loss/{name}": value.mean() for name, value in sums.terms.items()}
        for name, rate in self._learning_rates(step).items():
            metrics["learning_rate" if name == "default" else f"learning_rate/{name}"] = rate
        return metrics


class Sums(NamedTuple):
    """The sums of a whole batch."""

    coefs: dict[str, Array]
    terms: dict[str, WeightedSum]
    metrics: dict[str, WeightedSum]
    records: PyTree


def gradients(
    loss: Callable[..., LossOutput],
    params: Params,
    batch: Batch,
    accumulate: int,
    *others: PyTree,
    total: Callable[[PyTree], PyTree] | None = None,
) -> tuple[Params, Sums]:
    """Gradients of ``sum_t coef_t * total_t / W_t`` over ``batch``, cut into ``accumulate`` microbatches, and its sums.

    The weights ``W_t`` do not depend on parameters, so with several microbatches they are summed by a first scan of
    ``loss(params, part, *others)`` whose only outputs they are: the compiler drops the rest of that pass. Where ``batch`` is
    a part of the step's, ``total`` adds weights up over all parts.
    """

    def objective(params: Params, part: Batch, weights: Mapping[str, Array] | None) -> tuple[Array, Sums]:
        sums = _sums(loss(params, part, *others))
        weights = weights or {name: jax.lax.stop_gradient(value.weight) for name, value in sums.terms.items()}
        totals = {name: WeightedSum(value.total, weights[name]) for name, value in sums.terms.items()}
        return _combine(sums.coefs, totals), sums

    def weigh(part: Batch) -> dict[str, Array]:
        return {name: term.value.weight for name, term in loss(params, part, *others).terms.items()}

    grad = jax.grad(objective, has_aux=True)
    if accumulate == 1:
        return grad(params, batch, None if total is None else total(weigh(batch)))

    parts = split_rows(batch, accumulate)
    first = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(weigh, first)
    weights, _ = jax.lax.scan(lambda sofar, part: (_add(sofar, weigh(part)), None), _zeros(shapes), parts)
    weights = weights if total is None else total(weights)

    def one(sofar: PyTree, part: Batch) -> tuple[PyTree, tuple[dict[str, Array], PyTree]]:
        grads, sums = grad(params, part, weights)
        return _add(sofar, (_wide(grads), sums.terms, sums.metrics)), (sums.coefs, sums.records)

    _, shapes = jax.eval_shape(lambda part: grad(params, part, weights), first)
    empty = (_zeros(_wide(params)), _zeros(shapes.terms), _zeros(shapes.metrics))
    (grads, terms, metrics), (coefs, records) = jax.lax.scan(one, empty, parts)
    grads = jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)
    coefs = {name: values[0] for name, values in coefs.items()}
    return grads, Sums(coefs, terms, metrics, join_rows(records))


class Local:
    """``gradients`` where every device takes those of its own rows by itself, over whole weights.

    Weights are gathered once a step, and gradients are added up and scattered once. The partitioner, left to itself, does both
    wherever a weight is used: inside the loops over layers, vocabulary pieces, inner steps and sampled tokens. The price is the
    memory of whole weights, whole frozen networks and whole gradients (as ZeRO's stages 1 and 2 have it; Rajbhandari et al.
    2020); the optimizer's state stays divided. A division over ``tensor`` stays with the partitioner.
    """

    def __init__(self, mesh: Mesh, abstract: TrainState) -> None:
        specs = lambda tree: jax.tree.map(lambda leaf: leaf.sharding.spec, tree)
        self._mesh, self._params, self._frozen = mesh, specs(abstract.params), specs(abstract.frozen)
        self._parts = jax.tree.map(lambda spec: _only(spec, BATCH_AXES), self._params)

    def gathered(self, variables: Variables) -> Variables:
        """The same with whole networks: what the whole step, and not its loss alone, is given."""

        def whole(x: Array, spec: PartitionSpec) -> Array:
            return jax.lax.with_sharding_constraint(x, NamedSharding(self._mesh, _only(spec, ("tensor",))))

        params = jax.tree.map(whole, variables.params, self._params)
        return variables.replace(params=params, frozen=jax.tree.map(whole, variables.frozen, self._frozen))

    def __call__(
        self,
        loss: Callable[..., LossOutput],
        params: Params,
        batch: Batch,
        accumulate: int,
        variables: Variables,
        key: PRNGKey,
        step: Array,
    ) -> tuple[Params, Sums]:
        shards = batch_shards(self._mesh)
        for rows in {x.shape[0] for x in jax.tree.leaves(batch)}:
            if rows % (shards * accumulate):
                raise UserError(
                    f"train.local_gradients: the {rows} rows of a step are not divisible by the {shards} batch shards of the"
                    f" mesh times train.accumulate={accumulate}; change train.batch_size, or turn train.local_gradients off"
                )

        def of_own_rows(
            batch: Batch, params: Params, variables: Variables, key: PRNGKey, step: Array
        ) -> tuple[Params, Sums]:
            others = variables.replace(params=params), key, step
            grads, sums = gradients(loss, params, batch, accumulate, *others, total=_total)
            terms, metrics = _total((sums.terms, sums.metrics))
            # Added up in float32 at least, as microbatches are.
            summed = jax.tree.map(_scatter, _wide(grads), self._parts)
            grads = jax.tree.map(lambda g, p: g.astype(p.dtype), summed, params)
            return grads, sums._replace(terms=terms, metrics=metrics)

        rows, whole = PartitionSpec(BATCH_AXES), PartitionSpec()
        mapped = jax.shard_map(
            of_own_rows,
            mesh=self._mesh,
            in_specs=(rows, whole, whole, whole, whole),
            out_specs=(self._parts, Sums(coefs=whole, terms=whole, metrics=whole, records=rows)),  # type: ignore[arg-type]
            axis_names=set(BATCH_AXES),
            check_vma=False,
        )
        return mapped(batch, params, variables.replace(params=None), key, step)


def _only(spec: PartitionSpec, axes: Sequence[str]) -> PartitionSpec:
    return PartitionSpec(*(entry if entry in axes else None for entry in spec))


def _scatter(x: Array, spec: PartitionSpec) -> Array:
    # Scattered first: what then crosses the network between slices (the axis ``data``) is the smaller.
    for axis, entry in enumerate(spec):
        x = x if entry is None else jax.lax.psum_scatter(x, entry, scatter_dimension=axis, tiled=True)
    return jax.lax.psum(x, tuple(axis for axis in BATCH_AXES if axis not in spec))


def _total(tree: PyTree) -> PyTree:
    return jax.lax.psum(tree, BATCH_AXES)


def split_rows(batch: PyTree, parts: int) -> PyTree:
    """``[rows, ...]`` to ``[parts, rows / parts, ...]``; part ``j`` has the rows ``j, j + parts, ...``.

    Every device cuts its own rows, so nothing moves between devices.

    Raises:
      UserError: the rows are not divisible.
    """

    def one(x: Array) -> Array:
        rows = x.shape[0]
        if rows % parts:
            raise UserError(
                f"the {rows} rows of a step are not divisible by train.accumulate={parts}; change train.batch_size,"
                " train.accumulate or the rows that the method adds"
            )
        x = jnp.moveaxis(x.reshape(rows // parts, parts, *x.shape[1:]), 1, 0)
        return constrain(x, None, "batch", *[None] * (x.ndim - 2))

    return jax.tree.map(one, batch)


def join_rows(parts: PyTree) -> PyTree:
    """Undoes ``split_rows``."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]), parts)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """How the rows of a batch lie on ``mesh``."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def _sums(output: LossOutput) -> Sums:
    coefs = {name: jnp.asarray(term.coef, jnp.float32) for name, term in output.terms.items()}
    return Sums(coefs, {name: term.value for name, term in output.terms.items()}, output.metrics, output.records)


def _combine(coefs: Mapping[str, Array], terms: Mapping[str, WeightedSum]) -> Array:
    return sum((coefs[name] * value.mean() for name, value in terms.items()), start=jnp.zeros(()))


def _wide(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)


def _zeros(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)


def _add(left: PyTree, right: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, left, right)
