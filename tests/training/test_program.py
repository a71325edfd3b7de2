"""What is known before any array exists, and a trace of chosen steps."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from ebm_jax.errors import UserError
from ebm_jax.parallel.mesh import MeshConfig
from ebm_jax.rng import root_key
from ebm_jax.training.loop import train
from ebm_jax.training.profiling import Profiler
from tests.training.toy import ToyLM, ToyStream, toy_config, toy_program, toy_start


def test_moments_lie_as_their_parameters():
    program = toy_program(toy_config(), MeshConfig(fsdp=4, tensor=2, rules="fsdp_tp"), devices=8)
    leaves = jax.tree_util.tree_leaves_with_path(program.abstract.opt_state)
    specs = [leaf.sharding.spec for path, leaf in leaves if "'up'" in jax.tree_util.keystr(path)]
    assert specs == [P("fsdp", "tensor")] * 2
    assert "optimizer state:" in program.report()


def test_step_is_lowered_from_shapes_alone():
    program = toy_program(toy_config(), MeshConfig(fsdp=8, rules="fsdp"), devices=8)
    assert program.trace().out_info[1].metrics["loss"].shape == ()


def test_rows_must_divide_over_the_mesh():
    with pytest.raises(UserError, match=r"train\.batch_size=12 is not divisible by the 8 batch shards"):
        toy_program(toy_config(batch_size=12), devices=8)


def test_names_of_metrics_may_not_clash():
    class Clash(ToyLM):
        def loss(self, *args):
            output = super().loss(*args)
            return output._replace(metrics={"loss": output.metrics["accuracy"]})

    with pytest.raises(ValueError, match=r"\['loss'\] have names"):
        toy_program(toy_config(), algorithm=Clash()).trace()


def test_frozen_networks_stay_out_of_the_state_that_is_donated_and_saved():
    class Taught(ToyLM):
        def init(self, key, spec):
            return super().init(key, spec).replace(frozen={"teacher": jnp.arange(4.0)})

        def loss(self, params, variables, batch, key, step):
            output = super().loss(params, variables, batch, key, step)
            assert variables.frozen["teacher"].shape == (4,)
            return output

    config = toy_config(steps=2)
    program = toy_program(config, algorithm=Taught())
    start = toy_start(program)
    assert start.meta["frozen"]
    teacher = start.state.frozen["teacher"]
    result = train(program, start, stream=ToyStream(), config=config, key=root_key(0))
    assert result.state.frozen["teacher"] is teacher and not teacher.is_deleted()
    assert start.state.params["up"].is_deleted()


def test_prepare_runs_on_the_host_before_each_step():
    steps = []

    class Prepares(ToyLM):
        def prepare(self, variables, batch, key, step):
            steps.append(step)
            assert batch["inputs"].shape[0] == 16 and variables.params["up"].shape == (8, 16)
            return {**batch, "weights": batch["weights"] * 0 + 1}

    config = toy_config(steps=2)
    program = toy_program(config, algorithm=Prepares())
    result = train(program, toy_start(program), stream=ToyStream(), config=config, key=root_key(0))
    assert steps == [0, 1]
    assert result.metrics["tokens"] == 16 * 6


@pytest.mark.slow
def test_trace_of_chosen_steps(tmp_path):
    config = toy_config(steps=4)
    program = toy_program(config)
    profiler = Profiler((1, 3), tmp_path)
    train(program, toy_start(program), stream=ToyStream(), config=config, key=root_key(0), profiler=profiler)
    assert list(tmp_path.rglob("*.xplane.pb"))
