"""FLOPs are counted as if by hand, through every kind of loop and call."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from ebm_jax.accounting.flops import count_flops, training_flops, xla_flops
from ebm_jax.accounting.paper import ebt_training_corrected, ebt_training_paper, transformer_training
from ebm_jax.algorithm import BatchSpec
from ebm_jax.algorithms.ebt import EBT, EBTConfig
from ebm_jax.algorithms.lm import LM, LMConfig
from ebm_jax.energy.schedule import DescentConfig
from ebm_jax.errors import UserError
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.rules import unbox
from ebm_jax.precision import Precision

A, W = jnp.zeros((3, 5)), jnp.zeros((5, 5))
ONE = 2 * 3 * 5 * 5


def test_product_and_batched_product():
    assert count_flops(jnp.matmul, A, W) == ONE
    assert count_flops(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), jnp.zeros((4, 3, 5)), jnp.zeros((4, 5, 2))) == 240


def test_gradient_costs_two_more():
    assert count_flops(jax.grad(lambda w, a: jnp.sum((a @ w) ** 2)), W, A) == 2 * ONE
    assert count_flops(jax.grad(lambda w, a: jnp.sum((a @ w) ** 2), argnums=(0, 1)), W, A) == 3 * ONE


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: f])
def test_loops_count_their_length(wrap):
    body = wrap(lambda a: a @ W)
    assert count_flops(lambda a: lax.scan(lambda c, _: (body(c), None), a, None, length=7)[0], A) == 7 * ONE
    assert count_flops(lambda a: lax.fori_loop(0, 4, lambda i, c: body(c), a), A) == 4 * ONE


def test_unused_work_is_not_counted_and_a_branch_counts_its_dearest_arm():
    def unused(a):
        a @ W
        return a

    assert count_flops(unused, A) == 0
    branch = lambda a: lax.cond(a[0, 0] > 0, lambda x: x @ W @ W, lambda x: x @ W, a)
    assert count_flops(branch, A) == 2 * ONE


def test_a_loop_of_unknown_length_is_refused():
    with pytest.raises(UserError, match="while"):
        count_flops(lambda a: lax.while_loop(lambda c: c[0, 0] > 0, lambda c: c @ W, a), A)


def shapes(algorithm, batch=2, context=16):
    spec = BatchSpec(batch_size=batch, context=context, vocab_size=32)
    variables = unbox(jax.eval_shape(lambda k: algorithm.init(k, spec), jax.random.key(0)))
    ints = jax.ShapeDtypeStruct((batch, context), jnp.int32)
    weights, index = jax.ShapeDtypeStruct(ints.shape, jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.uint32)
    names = ("inputs", "targets", "segments", "positions")
    return variables, dict.fromkeys(names, ints) | {"weights": weights, "index": index}


@pytest.mark.slow
@pytest.mark.parametrize("conditioning", ["default", pytest.param("time_embed", marks=pytest.mark.slow)])
def test_agrees_with_xla_where_nothing_loops(conditioning):
    model = TransformerConfig(depth=2, width=64, heads=2, unroll_layers=True)
    config = EBTConfig(conditioning=conditioning, unroll_steps=True)
    algorithm = EBT(config, model, 32, Precision())
    variables, batch = shapes(algorithm)
    counted = training_flops(algorithm, variables, batch)
    key = jax.random.key(0)

    def gradient(params, batch):
        return jax.grad(lambda p: algorithm.loss(p, variables, batch, key, 0).terms["prediction"].value.mean())(params)

    # XLA also counts elementwise work, which is a tenth of so narrow a model.
    assert 1.0 <= xla_flops(gradient, variables.params, batch) / counted < 1.25
    looped = EBT(EBTConfig(conditioning=conditioning), TransformerConfig(depth=2, width=64, heads=2), 32, Precision())
    assert training_flops(looped, variables, batch) == counted


def test_transformer_is_counted_by_hand():
    width, depth, vocab, batch, time = 64, 2, 32, 2, 16
    algorithm = LM(LMConfig(), TransformerConfig(depth=depth, width=width, heads=2), vocab, Precision())
    weights = depth * 7 * width**2 + vocab * width
    attention = depth * 2 * time * width
    assert training_flops(algorithm, *shapes(algorithm)) == 6 * batch * time * (weights + attention)


def test_random_lengths_are_averaged():
    def flops(**kwargs):
        descent = DescentConfig(landscapes=1, loss_on="last_step", **kwargs)
        algorithm = EBT(EBTConfig(descent=descent), TransformerConfig(depth=1, width=32, heads=2), 32, Precision())
        return training_flops(algorithm, *shapes(algorithm))

    two, three = flops(random_repeats=1, min_repeats=2), flops(random_repeats=2, min_repeats=3)
    assert flops(random_repeats=2, min_repeats=2) == (two + three) / 2


def test_paper_rules():
    assert ebt_training_paper(3, 2) / transformer_training(3) == pytest.approx(6.67, abs=0.01)
    assert ebt_training_corrected(3, 2, contexts=1) / transformer_training(3) == 5
    assert ebt_training_corrected(3, 2, contexts=2) / transformer_training(3) == 6
