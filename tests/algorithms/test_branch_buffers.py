"""No array has a score for each pair of a row's tokens, prompt and all branches, in any program that reads them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.algorithm import BatchSpec
from ebm_jax.algorithms.ebft import EBFT, FEATURES, EBFTConfig
from ebm_jax.decoding.anchors import AnchorConfig, branches_of, prompt_of
from ebm_jax.decoding.rollout import rollout
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.models.features import FeatureConfig, token_features
from ebm_jax.optim import OptimConfig
from ebm_jax.parallel.mesh import MeshConfig, make_mesh
from ebm_jax.precision import Precision
from ebm_jax.training.config import TrainConfig
from ebm_jax.training.program import build_program
from tests import tiny

PLACES, STEPS = 64, 4
ANCHORS = AnchorConfig(prefix=STEPS, stride=STEPS, steps=STEPS)
BLOCKS = ANCHORS.blocks(PLACES)
KEY = jax.random.key(0)
SAMPLES = pytest.mark.parametrize("samples", [1, 4])


def square(samples):
    """Pairs of tokens of a row."""
    return (PLACES + samples * BLOCKS * STEPS) ** 2


def method(samples, **changes) -> EBFT:
    """One head and one row: nothing else multiplies scores."""
    model = tiny.transformer(width=4, heads=1, hidden=4, **changes.pop("model", {}))
    config = EBFTConfig(
        samples=samples, anchors=ANCHORS, features=FeatureConfig(depths=(1.0, 2.0)), gamma=0.1, **changes
    )
    return EBFT(config, model, tiny.VOCAB, Precision())


def batch():
    places = (1, PLACES)
    row = {name: jnp.ones(places, jnp.int32) for name in ("inputs", "targets", "segments", "positions")}
    return row | {"weights": jnp.ones(places), "index": jnp.zeros(1, jnp.uint32)}


def jaxprs(value):
    """Every program inside a parameter of an equation."""
    if isinstance(value, tuple | list):
        return [inner for item in value for inner in jaxprs(item)]
    value = getattr(value, "jaxpr", value)
    return [value] if hasattr(value, "eqns") else []


def avals(jaxpr):
    """Every array of a program and of those inside: bodies of loops, checkpoints, calls with rules of their own."""
    for equation in jaxpr.eqns:
        yield from (v.aval for v in (*equation.invars, *equation.outvars))
        for value in equation.params.values():
            for inner in jaxprs(value):
                yield from avals(inner)


def largest(function, *args):
    return max(int(np.prod(a.shape)) for a in avals(jax.make_jaxpr(function)(*args).jaxpr) if hasattr(a, "shape"))


def test_what_is_inside_loops_checkpoints_and_calls_is_found():
    outer = lambda x: jnp.sum(x[:, None] * x)

    @jax.custom_vjp
    def called(x):
        return outer(x)

    called.defvjp(lambda x: (outer(x), x), lambda x, g: (g * x,))
    x = jnp.ones(7)
    for function in (
        outer,
        jax.jit(outer),
        jax.checkpoint(outer),
        called,
        lambda x: jax.lax.map(lambda _: outer(x), jnp.arange(3)),
        lambda x: jax.lax.while_loop(lambda c: c < 1, lambda c: c + outer(x), 0.0),
        lambda x: jax.lax.cond(True, outer, jnp.sum, x),
    ):
        assert largest(function, x) == 49 and largest(jax.jit(jax.checkpoint(function)), x) == 49


@SAMPLES
@pytest.mark.parametrize("places", ["strided", "random"])
def test_rollouts(samples, places):
    algorithm = method(samples)
    config = ANCHORS if places == "strided" else AnchorConfig(places=places, steps=STEPS, most=BLOCKS)

    def run(params):
        rows, sampling = batch(), SamplingConfig(temperature=1.0, top_p=0.9)
        prompt, branches = prompt_of(rows, config), branches_of(rows, config, KEY)
        return rollout(algorithm.model, params, prompt, branches, sampling, samples, KEY, rows["index"])

    assert PLACES**2 <= largest(run, tiny.shapes(algorithm, 1, PLACES).params) < square(samples)


@SAMPLES
def test_features(samples):
    algorithm = method(samples)
    made = jnp.zeros((1, samples, BLOCKS, STEPS), jnp.int32)

    def run(weights):
        prompt, branches = prompt_of(batch(), ANCHORS), branches_of(batch(), ANCHORS, KEY)
        how = (algorithm.config.features, algorithm.depths, prompt, made, branches)
        return token_features(algorithm.feature_network, weights, *how)

    assert PLACES**2 <= largest(run, tiny.shapes(algorithm, 1, PLACES).frozen[FEATURES]) < square(samples)


@SAMPLES
@pytest.mark.parametrize("kind", ["plain", "whitened, with divergence and entropy, layers made again"])
def test_the_training_step(samples, kind):
    """Rollout, features, rewards, loss and gradients."""
    changes = {} if kind == "plain" else {"kl": 0.1, "entropy": 0.1, "whiten": "feature_axis"}
    algorithm = method(samples, **changes, model={} if kind == "plain" else {"remat": "full"})

    def run(variables):
        rows = algorithm.augment(variables, batch(), KEY, 0)

        def loss(params):
            terms = algorithm.loss(params, variables, rows, KEY, 0).terms
            return sum(term.coef * term.value.mean() for term in terms.values())

        return jax.value_and_grad(loss)(variables.params)

    assert PLACES**2 <= largest(run, tiny.shapes(algorithm, 1, PLACES)) < square(samples)


@SAMPLES
def test_the_program_of_a_run(samples):
    """The same of what is handed to the compiler, the optimizer included."""
    algorithm = method(samples)
    program = build_program(
        algorithm=algorithm,
        spec=BatchSpec(batch_size=1, context=PLACES, vocab_size=tiny.VOCAB),
        optim=OptimConfig(peak_lr=1e-3, warmup_steps=1, decay_steps=2),
        config=TrainConfig(batch_size=1, steps=2),
        mesh=make_mesh(MeshConfig(), jax.devices()[:1]),
    )
    shapes = re.findall(r"tensor<((?:\d+x)+)\w", program.trace().lower().as_text())
    sizes = [int(np.prod([int(n) for n in shape[:-1].split("x")])) for shape in shapes]
    assert PLACES**2 <= max(sizes) < square(samples)
