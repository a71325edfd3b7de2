"""However a step is cut, over microbatches or devices, it is the same step."""

import jax
import numpy as np
import pytest

from ebm_jax.errors import UserError
from ebm_jax.parallel.mesh import MeshConfig
from ebm_jax.rng import root_key
from ebm_jax.training.loop import train
from tests.training.toy import Lines, ToyLM, ToyStream, toy_config, toy_program, toy_start

MESHES = {
    "accumulate 4": (MeshConfig(), 1, 4),
    "ddp 8": (MeshConfig(), 8, 1),
    "fsdp 8": (MeshConfig(data=1, fsdp=8, rules="fsdp"), 8, 1),
    "fsdp_tp 2x2x2": (MeshConfig(fsdp=2, tensor=2, rules="fsdp_tp"), 8, 1),
    "fsdp_tp 2x2x2, accumulate 2": (MeshConfig(fsdp=2, tensor=2, rules="fsdp_tp"), 8, 2),
    "local 2x2": (MeshConfig(fsdp=2, rules="fsdp"), 4, 1),
    "local 1x2x2, accumulate 2": (MeshConfig(fsdp=2, tensor=2, rules="fsdp_tp"), 4, 2),
}


def run(mesh: MeshConfig, devices: int, accumulate: int, steps: int = 3, local: bool = False):
    config = toy_config(steps=steps, accumulate=accumulate, local_gradients=local)
    program = toy_program(config, mesh, devices)
    lines = Lines()
    result = train(program, toy_start(program), stream=ToyStream(), config=config, key=root_key(1), writer=lines)
    return jax.device_get((result.state.params, result.state.carry)), lines.steady()


@pytest.fixture(scope="module")
def reference():
    return run(MeshConfig(), 1, 1)


EVERY_DAY = ("accumulate 4", "fsdp_tp 2x2x2, accumulate 2", "local 1x2x2, accumulate 2")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in EVERY_DAY)) for name in MESHES]
)
def test_cut_differently_is_the_same(reference, name):
    state, lines = run(*MESHES[name], local=name.startswith("local"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state, reference[0])
    for (step, values), (other_step, others) in zip(lines, reference[1], strict=True):
        assert step == other_step
        assert values == pytest.approx(others, rel=1e-4)


def test_rows_that_do_not_divide_are_named():
    config = toy_config(steps=1, accumulate=16)
    program = toy_program(config)
    with pytest.raises(UserError, match=r"24 rows.*train\.accumulate=16"):
        train(program, toy_start(program), stream=ToyStream(), config=config, key=root_key(1))


def test_rows_that_every_device_cannot_share_are_named():
    config = toy_config(steps=1, local_gradients=True)
    with pytest.raises(UserError, match=r"train\.batch_size=16 is not divisible by the 8 batch shards .*accumulate=4"):
        toy_program(toy_config(steps=1, accumulate=4, local_gradients=True), MeshConfig(data=8), 8)
    # 16 rows and 8 replayed ones.
    replaying = toy_program(toy_config(steps=1, accumulate=2, local_gradients=True), MeshConfig(data=8), 8)
    with pytest.raises(UserError, match=r"24 rows .* 8 batch shards of the mesh times train\.accumulate=2"):
        train(replaying, toy_start(replaying), stream=ToyStream(), config=config, key=root_key(1))


def test_weights_count_over_the_whole_batch_not_the_mean_of_microbatch_means():
    config = toy_config(steps=1)
    program = toy_program(config, algorithm=ToyLM(replay=False))
    lines = Lines()
    train(program, toy_start(program), stream=ToyStream(), config=config, key=root_key(1), writer=lines)
    batch = next(ToyStream())
    assert lines.lines[0][1]["tokens"] == batch["weights"].sum()
