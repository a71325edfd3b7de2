"""Meshes that fit, meshes that do not, and what several processes need."""

import jax
import numpy as np
import pytest

from ebm_jax.errors import UserError
from ebm_jax.parallel import multihost, processes
from ebm_jax.parallel.mesh import MeshConfig, batch_shards, config_of, make_mesh
from ebm_jax.parallel.rules import get_rules


def test_minus_one_takes_what_is_left():
    mesh = make_mesh(MeshConfig(fsdp=2, rules="fsdp"))
    assert dict(mesh.shape) == {"data": 4, "fsdp": 2, "tensor": 1}
    assert batch_shards(mesh) == 8


def test_smaller_mesh_takes_the_first_devices():
    assert list(make_mesh(MeshConfig(data=2)).devices.flat) == jax.devices()[:2]


def test_a_mesh_tells_its_config():
    mesh, rules = make_mesh(MeshConfig(fsdp=2, tensor=2, rules="fsdp_tp")), get_rules("fsdp_tp")
    found = config_of(mesh, rules)
    assert found == MeshConfig(data=2, fsdp=2, tensor=2, rules="fsdp_tp") and make_mesh(found) == mesh
    with pytest.raises(UserError, match="these rules are not one of ddp, fsdp, fsdp_tp"):
        config_of(mesh, {**rules, "embed": None})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": 16}, r"data=16 x fsdp=1 x tensor=1 needs 16 devices but there are 8"),
        ({"fsdp": 3}, "8 devices cannot be shared .* 8 is not divisible by 3"),
        ({"data": 0}, r"mesh\.data=0 must be a positive number"),
        ({"fsdp": -1}, "only one of"),
        ({"rules": "zero"}, r"mesh\.rules='zero' is not one of ddp, fsdp, fsdp_tp"),
        ({"tensor": 2}, r"mesh\.tensor=2 does nothing under mesh\.rules='ddp'"),
    ],
)
def test_impossible_meshes(fields, message):
    with pytest.raises(UserError, match=message):
        make_mesh(MeshConfig(**fields))


def test_rows_are_split_over_data_and_fsdp():
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2, rules="fsdp_tp"))
    rows = np.arange(8, dtype=np.int32)
    placed = multihost.to_global({"rows": rows}, mesh)["rows"]
    np.testing.assert_array_equal(placed, rows)
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2,)}
    with pytest.raises(UserError, match=r"batch\['rows'\] has 6 rows .* its 4 batch shards"):
        multihost.to_global({"rows": rows[:6]}, mesh)


def test_one_process_needs_nobody(monkeypatch):
    for name in processes.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    assert processes.initialize() is False
    assert multihost.is_main() and multihost.any_process(True) and not multihost.any_process(False)
    processes.barrier("alone")


def test_half_a_cluster_is_an_error(monkeypatch):
    monkeypatch.setenv("EBM_JAX_PROCESSES", "2")
    with pytest.raises(UserError, match="needs all of EBM_JAX_COORDINATOR"):
        processes.initialize()
    monkeypatch.setenv("EBM_JAX_PROCESS_ID", "x")
    with pytest.raises(UserError, match="EBM_JAX_PROCESS_ID='x' is not a whole number"):
        processes.initialize(coordinator="127.0.0.1:1")
    with pytest.raises(UserError, match=r"must lie in 0\.\.1"):
        processes.initialize(coordinator="127.0.0.1:1", process_id=2)
