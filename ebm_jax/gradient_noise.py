"""How much of a method's gradient is the same from batch to batch, and which way it points: known before a run is paid for.

With g the gradient of one batch at fixed parameters, G = E g, and D = diag(E g^2)^(-1/2), by which Adam divides, the
efficiency of method v for what method u descends is

    e(v, u) = <G_u, D_v G_v> / sqrt( <G_u, D_v G_u> * E <g_v, D_v g_v> ),

the share of v's noisy step that goes where u's expected gradient does. For u = v it is the root of signal over second moment.
In T small steps signals add up as T does and noise as sqrt(T), so what can be gained by v grows as ``T e^2``: of two methods,
the one with the larger e^2 for each FLOP learns u's loss faster.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ebm_jax import rng
from ebm_jax.algorithm import Variables
from ebm_jax.errors import UserError
from ebm_jax.experiment import Experiment, begin
from ebm_jax.parallel.multihost import to_global, to_host
from ebm_jax.parallel.rules import use
from ebm_jax.training.step import gradients
from ebm_jax.types import Array, Batch, PRNGKey

TINY = 1e-30


class Efficiency(NamedTuple):
    """An efficiency and its standard error; NaN where no signal of the target was found."""

    value: float
    error: float


def batch_gradients(experiment: Experiment, batches: int) -> np.ndarray:
    """Gradients of that many batches at the parameters that a run begins with, as its first steps would make them but for
    clipping, ``[batches, parameters]``.

    All are kept on the host: 4 bytes for each parameter and batch.

    Raises:
      UserError: there are fewer than 3 batches.
    """
    if batches < 3:
        raise UserError(
            f"batches={batches} must be at least 3: noise is told from signal by what batches have in common"
        )
    program, algorithm = experiment.program, experiment.algorithm
    accumulate = experiment.config.train.accumulate
    step = jnp.zeros((), jnp.int32)

    def gradient(variables: Variables, batch: Batch, key: PRNGKey) -> Array:
        batch = algorithm.augment(variables, batch, key, step)
        loss = lambda params, part: algorithm.loss(params, variables, part, key, step)
        return ravel_pytree(gradients(loss, variables.params, batch, accumulate)[0])[0]

    found = []
    stream = experiment.data.train
    try:
        with use(program.mesh, program.rules):
            compiled = jax.jit(gradient)
            variables = begin(experiment).state.variables
            for number in range(batches):
                key = rng.at_step(rng.stream(experiment.key, "training"), number)
                batch = algorithm.prepare(variables, next(stream), key, 0)
                found.append(to_host(compiled(variables, to_global(batch, program.mesh), key)))
    finally:
        stream.close()
    return np.stack(found)


def efficiencies(gradients_KxP: Mapping[str, np.ndarray]) -> dict[str, dict[str, Efficiency]]:
    """``e(v, u)`` of every method v for what every method u descends, ``[v][u]``, from the same K batches of each.

    Products of expected gradients are means over pairs of different batches, in which noise cancels; errors are a
    jackknife's, which leaves out one batch number at a time.
    """
    found: dict[str, dict[str, Efficiency]] = {}
    for method, own in gradients_KxP.items():
        moment_P = np.mean(np.square(own, dtype=np.float64), axis=0)
        root_P = np.where(moment_P > 0, np.maximum(moment_P, TINY) ** -0.25, 0).astype(np.float32)  # of D
        scaled = own * root_P
        squares_K = np.sum(np.square(scaled, dtype=np.float64), axis=-1)
        found[method] = {}
        for target, other in gradients_KxP.items():
            aim = other * root_P
            found[method][target] = _efficiency(scaled @ aim.T, aim @ aim.T, squares_K)
    return found


def _efficiency(products_KxK: np.ndarray, target_KxK: np.ndarray, squares_K: np.ndarray) -> Efficiency:
    batches = len(squares_K)
    whole = _ratio(_between(products_KxK), _between(target_KxK), np.mean(squares_K))
    without = (np.sum(squares_K) - squares_K) / (batches - 1)
    parts_K = _ratio(_between_without(products_KxK), _between_without(target_KxK), without)
    spread = np.sqrt((batches - 1) / batches * np.sum((parts_K - np.mean(parts_K)) ** 2))
    return Efficiency(float(whole), float(spread))


def _ratio(product, signal, moment):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(signal > 0, product / np.sqrt(signal * moment), np.nan)


def _between(products_KxK: np.ndarray) -> float:
    """The mean over pairs of different batches."""
    batches = len(products_KxK)
    return float((products_KxK.sum() - np.trace(products_KxK)) / (batches * (batches - 1)))


def _between_without(products_KxK: np.ndarray) -> np.ndarray:
    """The same with each batch left out, ``[K]``."""
    batches, own = len(products_KxK), np.diag(products_KxK)
    off = products_KxK.sum() - own.sum()
    lost = products_KxK.sum(0) + products_KxK.sum(1) - 2 * own
    return (off - lost) / ((batches - 1) * (batches - 2))
