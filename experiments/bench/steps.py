"""Training steps to measure: loss and gradient of a method on one random batch, without data or optimizer."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax.algorithm import Algorithm, BatchSpec, Variables
from ebm_jax.parallel.rules import unbox


class Step(NamedTuple):
    """A function ``(params, batch, key) -> (loss, gradient)`` and its arguments."""

    fn: Callable[..., Any]
    arguments: tuple[Any, ...]

    def compiled(self) -> Any:
        return jax.jit(self.fn).lower(*self.arguments).compile()


def training_step(algorithm: Algorithm, spec: BatchSpec, arrays: bool = False) -> Step:
    """The step on shapes, or on real arrays."""
    key = jax.random.key(0)
    make = lambda k: unbox(algorithm.init(k, spec))
    variables: Variables = jax.jit(make)(key) if arrays else jax.eval_shape(make, key)
    frozen = variables.replace(params=None)

    def step(params, batch, key):
        def loss(params):
            terms = algorithm.loss(params, frozen, batch, key, 0).terms.values()
            return sum(term.coef * term.value.mean() for term in terms)

        return jax.value_and_grad(loss)(params)

    return Step(step, (variables.params, random_batch(spec) if arrays else spec.batch(), key))


def random_batch(spec: BatchSpec) -> dict[str, jax.Array]:
    """Uniform tokens, one document a row."""
    rng = np.random.default_rng(0)
    shape = (spec.batch_size, spec.context)
    tokens = rng.integers(1, spec.vocab_size, (2, *shape)).astype(np.int32)
    positions = np.broadcast_to(np.arange(spec.context, dtype=np.int32), shape)
    fields = {"inputs": tokens[0], "targets": tokens[1], "segments": np.ones(shape, np.int32), "positions": positions}
    index = np.arange(spec.batch_size, dtype=np.uint32)
    return jax.tree.map(jnp.asarray, fields | {"weights": np.ones(shape, np.float32), "index": index})


def median_seconds(steps: Mapping[str, Step], repeats: int) -> dict[str, float]:
    """Seconds of each step: compiled and run once, then run in turns; medians."""
    compiled = {name: step.compiled() for name, step in steps.items()}
    for name, step in steps.items():
        jax.block_until_ready(compiled[name](*step.arguments))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            began = time.perf_counter()
            jax.block_until_ready(compiled[name](*step.arguments))
            seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(values)) for name, values in seconds.items()}
