"""One optimizer step: augment, gradients over microbatches, update, absorb, and a guard against NaN.

Sums and weights are kept apart until the end. With ``W_t`` the weight of the term ``t`` over the whole batch (all
microbatches, all devices), the gradient is ``sum_t coef_t * d total_t / W_t``: a plain sum, however the batch is cut.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ebm_jax.algorithm import Algorithm, LossOutput, Variables
from ebm_jax.errors import UserError
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
        variables = Variables(params=state.params, frozen=frozen, carry=state.carry)
        tokens = jnp.sum(batch["weights"]) if "weights" in batch else jnp.zeros(())
        batch = self._algorithm.augment(variables, batch, key, state.step)

        def loss(params: Params, part: Batch) -> LossOutput:
            params = jax.tree.map(lambda p, t: p if t else jax.lax.stop_gradient(p), params, self._trainable)
            return self._algorithm.loss(params, variables, part, key, state.step)

        grads, sums = gradients(loss, state.params, batch, self._accumulate)
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
    loss: Callable[[Params, Batch], LossOutput], params: Params, batch: Batch, accumulate: int
) -> tuple[Params, Sums]:
    """Gradients of ``sum_t coef_t * total_t / W_t`` over ``batch``, cut into ``accumulate`` microbatches, and its sums.

    The weights ``W_t`` do not depend on parameters, so with several microbatches they are summed by a first scan of
    ``loss`` whose only outputs they are: the compiler drops the rest of that pass.
    """

    def objective(params: Params, part: Batch, weights: Mapping[str, Array] | None) -> tuple[Array, Sums]:
        sums = _sums(loss(params, part))
        weights = weights or {name: jax.lax.stop_gradient(value.weight) for name, value in sums.terms.items()}
        totals = {name: WeightedSum(value.total, weights[name]) for name, value in sums.terms.items()}
        return _combine(sums.coefs, totals), sums

    grad = jax.grad(objective, has_aux=True)
    if accumulate == 1:
        return grad(params, batch, None)

    parts = split_rows(batch, accumulate)

    def weigh(part: Batch) -> dict[str, Array]:
        return {name: term.value.weight for name, term in loss(params, part).terms.items()}

    first = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(weigh, first)
    weights, _ = jax.lax.scan(lambda total, part: (_add(total, weigh(part)), None), _zeros(shapes), parts)

    def one(total: PyTree, part: Batch) -> tuple[PyTree, tuple[dict[str, Array], PyTree]]:
        grads, sums = grad(params, part, weights)
        return _add(total, (_wide(grads), sums.terms, sums.metrics)), (sums.coefs, sums.records)

    _, shapes = jax.eval_shape(lambda part: grad(params, part, weights), first)
    empty = (_zeros(_wide(params)), _zeros(shapes.terms), _zeros(shapes.metrics))
    (grads, terms, metrics), (coefs, records) = jax.lax.scan(one, empty, parts)
    grads = jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)
    coefs = {name: values[0] for name, values in coefs.items()}
    return grads, Sums(coefs, terms, metrics, join_rows(records))


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
