"""FLOPs of the matrix products in a program, loops counted as often as they run."""

from collections.abc import Callable
from math import prod
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import partial_eval

from ebm_jax.algorithm import Algorithm, Variables
from ebm_jax.errors import UserError


def count_flops(fn: Callable, *args: Any) -> int:
    """FLOPs (two per multiply-add) of every matrix product and convolution that ``fn(*args)`` needs.

    Arguments may be arrays or shapes. Work that no output depends on is not counted. A loop counts its length times; a
    branch counts its most expensive arm. A ``while`` whose number of turns is not known raises ``UserError``.
    """
    closed = jax.make_jaxpr(fn)(*args)
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return _count(jaxpr)


def xla_flops(fn: Callable, *args: Any) -> float:
    """XLA's cost analysis of the compiled program: every operation, but a loop's body only once."""
    cost = jax.jit(fn).lower(*args).compile().cost_analysis()
    if not cost:
        raise UserError("this backend gives no cost analysis: use count_flops")
    return float(cost["flops"])


def training_flops(algorithm: Algorithm, variables: Variables, batch: Any) -> float:
    """Expected FLOPs of one training step (loss and gradient) on a batch of the given shapes.

    Methods of random length are counted at each of their lengths and averaged.
    """
    variants = algorithm.fixed_lengths()
    return sum(_step_flops(variant, variables, batch) for variant in variants) / len(variants)


def _step_flops(algorithm: Algorithm, variables: Variables, batch: Any) -> int:
    def gradient(params, variables, batch, key):
        batch = algorithm.augment(variables, batch, key, 0)

        def loss(params):
            terms = algorithm.loss(params, variables, batch, key, 0).terms.values()
            return sum(term.coef * term.value.mean() for term in terms)

        return jax.grad(loss)(params)

    return count_flops(gradient, variables.params, variables, batch, jax.eval_shape(lambda: jax.random.key(0)))


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_equation(eqn) for eqn in jaxpr.eqns)


def _equation(eqn: core.JaxprEqn) -> int:
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        lhs = eqn.invars[0].aval.shape
        return 2 * prod(eqn.outvars[0].aval.shape) * prod(lhs[i] for i in contracted)
    if name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        out_channels = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2 * prod(eqn.outvars[0].aval.shape) * prod(kernel) // out_channels
    if name == "scan":
        return params["length"] * _count(params["jaxpr"].jaxpr)
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in params["branches"])
    if name == "while":
        inside = _count(params["body_jaxpr"].jaxpr)
        if inside:
            raise UserError("the program has a while loop with matrix products: give its length to count its FLOPs")
        return 0
    return sum(_count(inner) for inner in _inner_jaxprs(params))


def _inner_jaxprs(params: dict[str, Any]) -> list[core.Jaxpr]:
    """The program a call runs: the first jaxpr among its parameters (others are rules for differentiating it)."""
    for value in params.values():
        if isinstance(value, core.ClosedJaxpr):
            return [value.jaxpr]
        if isinstance(value, core.Jaxpr):
            return [value]
    return []
