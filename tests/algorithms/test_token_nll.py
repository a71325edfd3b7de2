"""Cross-entropy in pieces of a wide vocabulary over several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.algorithms.token_log_probs import token_log_probs
from ebm_jax.algorithms.token_nll import token_nll
from ebm_jax.dryrun.cost import cost_of
from ebm_jax.dryrun.hlo import read_module
from ebm_jax.models.lm import TransformerLM, parameter_shapes
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.mesh import MeshConfig, make_mesh
from ebm_jax.parallel.rules import get_rules, placed, use
from ebm_jax.precision import Precision
from tests.tiny import DOUBLE, assert_trees_close

VOCAB, WIDTH = 4096, 16


def by_nll(network, params, hidden, targets):
    return token_nll(network, params, hidden, targets)


def by_log_probs(network, params, hidden, targets):
    found = token_log_probs(network, params, hidden, targets[..., None], entropy=True)
    return found.log_probs_BxTxK[..., 0] + found.entropy_BxT


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("score", "tied", "layout"),
    [
        (by_nll, True, MeshConfig(data=2, fsdp=2, rules="fsdp")),
        (by_nll, False, MeshConfig(data=1, fsdp=2, tensor=2, rules="fsdp_tp")),
        (by_log_probs, False, MeshConfig(data=2, fsdp=2, rules="fsdp")),
        (by_log_probs, True, MeshConfig(data=1, fsdp=2, tensor=2, rules="fsdp_tp")),
    ],
)
def test_the_table_travels_once_and_so_do_its_gradients(monkeypatch, score, tied, layout):
    monkeypatch.setattr("ebm_jax.algorithms.token_log_probs.ROWS", 4)
    network = TransformerLM(TransformerConfig(depth=1, width=WIDTH, heads=2, tied=tied), VOCAB, DOUBLE)
    zeros = jnp.zeros((1, 2), jnp.int32)
    params = jax.tree.map(lambda x: x.value, network.init(jax.random.key(0), zeros, zeros, zeros)["params"],
                          is_leaf=lambda x: hasattr(x, "value"))  # fmt: skip
    hidden = jax.random.normal(jax.random.key(1), (8, 16, WIDTH))
    targets = jax.random.randint(jax.random.key(2), (8, 16), 0, VOCAB)
    weights = jnp.linspace(0.0, 1.0, 128).reshape(8, 16)
    loss = lambda params, hidden: jnp.sum(weights * score(network, params, hidden, targets))
    expected = jax.value_and_grad(loss, argnums=(0, 1))(params, hidden)

    mesh, rules = make_mesh(layout, jax.devices()[:4]), get_rules(layout.rules)
    places = jax.tree.map(lambda x: x.sharding, placed(parameter_shapes(network), mesh, rules))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "fsdp")))
    step = jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1)), in_shardings=(places, rows), out_shardings=(None, (places, rows))
    )
    with use(mesh, rules):
        assert_trees_close(step(params, hidden), expected, 1e-11)
        compiled = step.lower(params, hidden).compile().as_text()
    large = {c: n for c, n in cost_of(read_module(compiled)).collectives.items() if c.bytes >= VOCAB * WIDTH * 8 / 2}
    # Gathered for both passes at most, added up once over each axis.
    assert 0 < sum(large.values()) <= 4, large


def test_rows_that_do_not_divide_are_done_as_well():
    network = TransformerLM(TransformerConfig(depth=1, width=WIDTH, heads=2), VOCAB, Precision())
    mesh = make_mesh(MeshConfig(data=4), jax.devices()[:4])
    params = placed(parameter_shapes(network), mesh, get_rules("ddp"))
    hidden, targets = jax.ShapeDtypeStruct((3, 16, WIDTH), np.float32), jax.ShapeDtypeStruct((3, 16), np.int32)
    with use(mesh, "ddp"):
        found = jax.eval_shape(lambda *args: token_nll(network, *args), params, hidden, targets)
    assert found.shape == (3, 16)
