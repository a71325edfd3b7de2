"""Meshes that fit, meshes that do not, and what several processes need."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Chip:
    """A chip of a slice of v5e's, in hosts of 2 x 2; what JAX arranges meshes by."""

    id: int
    coords: tuple[int, int, int]
    process_index: int
    slice_index: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"
    core_on_chip: int = 0


def chips(rows, columns, slices=1):
    found, hosts = [], rows * columns // 4
    for part in range(slices):
        for x in range(rows):
            for y in range(columns):
                host = part * hosts + x // 2 * (columns // 2) + y // 2
                found.append(Chip(len(found), (x, y, 0), host, part))
    return found


@pytest.mark.parametrize(
    ("fields", "slices", "shape"),
    [
        ({"fsdp": -1, "data": 1, "rules": "fsdp"}, 1, (1, 64, 1)),
        ({"fsdp": -1, "data": 1, "tensor": 4, "rules": "fsdp_tp"}, 1, (1, 16, 4)),
        ({"fsdp": -1, "data": 1, "tensor": 2, "rules": "fsdp_tp"}, 1, (1, 32, 2)),
        ({"fsdp": -1, "data": 2, "tensor": 2, "rules": "fsdp_tp"}, 2, (2, 32, 2)),
        ({"data": -1, "tensor": 2, "rules": "fsdp_tp"}, 1, (32, 1, 2)),
    ],
)
def test_chips_that_share_rows_are_of_one_host(fields, slices, shape):
    mesh = make_mesh(MeshConfig(**fields), chips(8, 8, slices))
    assert mesh.devices.shape == shape
    assert {chip.id for chip in mesh.devices.flat} == set(range(64 * slices))
    for group in mesh.devices.reshape(-1, shape[-1]):
        assert len({chip.process_index for chip in group}) == 1
    for part in mesh.devices.reshape(slices, -1) if slices > 1 else []:
        assert len({chip.slice_index for chip in part}) == 1


def test_rows_cannot_be_shared_over_hosts():
    with pytest.raises(UserError, match=r"tensor=8 does not divide over processes of 4 devices: mesh\.tensor must"):
        make_mesh(MeshConfig(fsdp=-1, data=1, tensor=8, rules="fsdp_tp"), chips(8, 8))
    with pytest.raises(UserError, match=r"mesh\.data=1 must be divisible by the number of slices, or nodes of GPUs, 2"):
        make_mesh(MeshConfig(fsdp=-1, data=1, rules="fsdp"), chips(8, 8, 2))
