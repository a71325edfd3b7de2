"""Logical axes become mesh axes as the tables say, and conflicts are said."""

import jax
import jax.numpy as jnp
import pytest
from flax.linen import LogicallyPartitioned
from jax.sharding import PartitionSpec as P

from ebm_jax.errors import UserError
from ebm_jax.parallel.mesh import MeshConfig, make_mesh
from ebm_jax.parallel.report import bytes_per_device, sharding_report
from ebm_jax.parallel.rules import (
    ACTIVATION_AXES,
    RULES,
    WEIGHT_AXES,
    constrain,
    partition_spec,
    shardings,
    unbox,
    undivided,
    use,
)


def boxed(shape, *names):
    return LogicallyPartitioned(jax.ShapeDtypeStruct(shape, jnp.float32), names=names)


TREE = {
    "embed": boxed((32, 8), "vocab", "embed"),
    "query": boxed((3, 8, 4, 2), "layers", "embed", "heads", "head_dim"),
    "odd": boxed((7, 8), "vocab", "embed"),
    "scalar": jax.ShapeDtypeStruct((), jnp.float32),
}


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(fsdp=2, tensor=2, rules="fsdp_tp"))


def test_tables_cover_every_name():
    for table in RULES.values():
        assert set(table) == {*WEIGHT_AXES, *ACTIVATION_AXES}


@pytest.mark.parametrize(
    ("rules", "embed", "query"),
    [
        ("ddp", P(None, None), P(None, None, None, None)),
        ("fsdp", P(None, "fsdp"), P(None, "fsdp", None, None)),
        ("fsdp_tp", P("tensor", "fsdp"), P(None, "fsdp", "tensor", None)),
    ],
)
def test_shardings(mesh, rules, embed, query):
    tree = shardings(TREE, mesh, RULES[rules])
    assert (tree["embed"].spec, tree["query"].spec, tree["scalar"].spec) == (embed, query, P())


def test_what_does_not_divide_stays_whole_and_is_said(mesh):
    assert shardings(TREE, mesh, RULES["fsdp_tp"])["odd"].spec == P(None, "fsdp")
    assert undivided(TREE, mesh, RULES["fsdp_tp"]) == [
        "odd: axis 'vocab' of size 7 is not divisible by 2 (tensor) and stays whole"
    ]


def test_two_axes_that_claim_one_mesh_axis():
    with pytest.raises(UserError, match="'heads' and 'mlp' both claim the mesh axis 'tensor'"):
        partition_spec(("heads", "embed", "mlp"), RULES["fsdp_tp"], name="blocks/w")
    with pytest.raises(UserError, match="'embed' and 'embed'"):
        partition_spec(("embed", "embed"), RULES["fsdp"])


def test_unknown_axis():
    with pytest.raises(UserError, match="unknown logical axis 'width'"):
        partition_spec(("width",), RULES["ddp"])


def test_constrain(mesh):
    x = jnp.zeros((8, 3, 4))
    assert constrain(x, "batch", "time", "act_mlp") is x
    with use(mesh, "fsdp_tp"):
        spec = jax.jit(lambda x: constrain(x, "batch", "time", "act_mlp"))(x).sharding.spec
        assert spec == P(("data", "fsdp"), None, "tensor")
        undivided_rows = jax.jit(lambda x: constrain(x, "batch", "time", "act_mlp"))(x[:3])
        assert undivided_rows.shape == (3, 3, 4)
        with pytest.raises(ValueError, match="does not name the 3 axes"):
            constrain(x, "batch")
    assert constrain(x, "batch", "time", "act_mlp") is x


def test_report(mesh):
    abstract = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        unbox(TREE),
        shardings(TREE, mesh, RULES["fsdp_tp"]),
    )
    assert bytes_per_device(abstract["embed"]) == 32 * 8 * 4 // 4
    report = sharding_report(abstract, undivided(TREE, mesh, RULES["fsdp_tp"]), optimizer_state=abstract)
    lines = report.splitlines()
    assert lines[2].split() == ["embed", "32x8", "float32", "tensor,", "fsdp", "256"]
    assert "scalar" in report and "replicated" in report and lines[-1].startswith("note: odd: axis 'vocab'")
    total = 256 + 192 + 7 * 4 * 4 + 4
    assert f"parameters: {32 * 8 + 192 + 56 + 1} values, {total} bytes/device" in report
    assert f"total: {2 * total:,} bytes/device" in report
