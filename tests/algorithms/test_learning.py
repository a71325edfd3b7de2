"""Every method can learn: one batch by heart, and a Markov source down to its entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ebm_jax.precision import Precision
from tests import tiny

MODEL = {"width": 16, "depth": 1, "heads": 2}
S2 = {"landscapes": 1, "random_repeats": 2, "min_repeats": 2, "detach": False, "loss_on": "last_step", "noise": 0.3,
      "step_size_spread": 2.0, "learnable_step_size": False}  # fmt: skip


def train(algorithm, batch_of, steps, learning_rate):
    """Adam for ``steps`` steps in one compiled loop; ``batch_of(key, step)``. Returns parameters and every step's loss."""
    variables = tiny.fresh(algorithm)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))

    def step(carry, k):
        params, state = carry
        key = jax.random.fold_in(jax.random.key(1), k)
        loss = lambda p: algorithm.loss(p, variables, batch_of(key, k), key, k).terms["prediction"].value.mean()
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    run = tiny.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps)))
    (params, _), losses = run(variables.params)
    return params, np.asarray(losses)


def same(key, step):
    return tiny.batch()


def evaluate(algorithm, params):
    sums = tiny.jit(lambda: algorithm.evaluate(params, None, tiny.batch(), jax.random.key(9)))()
    return {name: float(value.mean()) for name, value in sums.items()}


@pytest.mark.slow
def test_transformer_learns_a_batch_by_heart():
    _, losses = train(tiny.lm(model=MODEL, precision=Precision()), same, 150, 1e-2)
    assert losses[0] > 1.5
    assert losses[-20:].mean() < 0.05


@pytest.mark.slow
def test_s1_learns_a_batch_by_heart():
    """And its energies fall along the steps, though nothing asks them to."""
    descent = {"step_size": 5.0, "learnable_step_size": False}
    algorithm = tiny.ebt(descent, model=MODEL, precision=Precision())
    params, losses = train(algorithm, same, 200, 1e-2)
    assert losses[0] > 2
    assert losses[-20:].mean() < 0.05
    found = evaluate(algorithm, params)
    assert found["energy_final"] < found["energy_step_1"]
    assert found["nll_step_2"] < 0.05


@pytest.mark.slow
def test_s2_learns_a_batch_by_heart():
    """Noise, random counts and step sizes included; later steps are better than the first, which is not scored."""
    algorithm = tiny.ebt(S2 | {"step_size": 5.0}, conditioning="default", model=MODEL, precision=Precision())
    params, losses = train(algorithm, same, 200, 1e-2)
    assert losses[-20:].mean() < 0.05
    found = evaluate(algorithm, params)
    assert found["energy_step_1"] > found["energy_step_3"]
    assert found["nll_step_3"] < 0.05 < found["nll_step_1"]


STATES, ROWS = 6, 32


def transitions():
    return np.random.default_rng(3).dirichlet(np.full(STATES, 0.5), size=STATES)


def entropy_rate():
    p = transitions()
    stationary = np.linalg.matrix_power(p, 200)[0]
    return float(-(stationary[:, None] * p * np.log(np.maximum(p, 1e-300))).sum())


def markov(key, step):
    """Fresh rows of a first-order source, started from its stationary distribution."""
    logits = jnp.log(jnp.asarray(np.maximum(transitions(), 1e-30), jnp.float32))
    stationary = jnp.asarray(np.linalg.matrix_power(transitions(), 200)[0], jnp.float32)
    first = jax.random.categorical(jax.random.fold_in(key, 10_000), jnp.log(stationary), shape=(ROWS,))

    def follow(state, k):
        after = jax.random.categorical(jax.random.fold_in(key, 20_000 + k), logits[state])
        return after, after

    _, rest = jax.lax.scan(follow, first, jnp.arange(tiny.LENGTH))
    ids = jnp.concatenate([first[None], rest]).T.astype(jnp.int32)
    shape = (ROWS, tiny.LENGTH)
    return {
        "inputs": ids[:, :-1],
        "targets": ids[:, 1:],
        "weights": jnp.ones(shape),
        "segments": jnp.ones(shape, jnp.int32),
        "positions": jnp.broadcast_to(jnp.arange(tiny.LENGTH, dtype=jnp.int32), shape),
        "index": jnp.arange(ROWS, dtype=jnp.uint32),
    }


def test_transformer_reaches_the_entropy_of_a_markov_source():
    _, losses = train(tiny.lm(model=MODEL, vocab=STATES, precision=Precision()), markov, 300, 1e-2)
    assert losses[0] > entropy_rate() + 0.5
    assert losses[-100:].mean() == pytest.approx(entropy_rate(), abs=0.03)


@pytest.mark.slow
def test_descent_reaches_the_entropy_of_a_markov_source():
    descent = {"landscapes": 1, "random_repeats": 1, "min_repeats": 2, "loss_on": "last_step", "step_size": 5.0}
    algorithm = tiny.ebt(descent, conditioning="default", model=MODEL, vocab=STATES, precision=Precision())
    _, losses = train(algorithm, markov, 1000, 5e-3)
    assert losses[-100:].mean() == pytest.approx(entropy_rate(), abs=0.05)
