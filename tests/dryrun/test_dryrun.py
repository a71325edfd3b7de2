"""The dry run of a config, against the real run on eight CPU devices."""

import json
from dataclasses import replace

import jax
import pytest

from ebm_jax import cli
from ebm_jax.dryrun.inspection import Inspection, Traffic, inspect
from ebm_jax.dryrun.programs import plan
from ebm_jax.dryrun.report import table
from ebm_jax.dryrun.search import candidates, ranked
from ebm_jax.dryrun.topology import find_target
from ebm_jax.errors import UserError
from ebm_jax.experiment import ExperimentConfig, begin, open_experiment
from ebm_jax.overrides import override
from ebm_jax.parallel.multihost import to_global
from experiments import dryrun

FSDP = ["mesh.rules=fsdp_tp", "mesh.data=2", "mesh.fsdp=2", "mesh.tensor=2", "model.width=64"]


def config(path, *assignments):
    return override(cli.load_config(path, ExperimentConfig), assignments)


@pytest.mark.parametrize(
    "path",
    [
        "configs/smoke/lm.py",
        pytest.param("configs/smoke/ebt.py", marks=pytest.mark.slow),
        pytest.param("configs/ebft/smoke.py", marks=pytest.mark.slow),
    ],
)
def test_memory_is_that_of_the_real_run(path):
    """Bytes per device: what XLA says of the program that runs, and of its arguments as they really lie there."""
    pytest.importorskip("tensorflow_datasets")
    chosen = config(path, *FSDP)
    found = {one.name: inspect(one, find_target("cpu:8")) for one in plan(chosen, jax.devices()[:8])}["train"]
    experiment = open_experiment(chosen)
    program, state = experiment.program, begin(experiment).state
    batch = to_global(next(experiment.data.train), program.mesh)
    stop = to_global({"stop": batch["index"].astype("uint8")}, program.mesh)["stop"]
    real = program.step.trace(state, batch, stop, jax.random.key(0)).lower().compile().memory_analysis()
    memory = found.memory
    assert memory.arguments == pytest.approx(real.argument_size_in_bytes, rel=0.05)
    assert memory.temporaries == pytest.approx(real.temp_size_in_bytes, rel=0.05)
    assert memory.total == pytest.approx(
        real.argument_size_in_bytes + real.output_size_in_bytes - real.alias_size_in_bytes
        + real.temp_size_in_bytes + real.generated_code_size_in_bytes, rel=0.05,
    )  # fmt: skip
    device = jax.devices()[0]
    here = sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves((state, batch, stop))
        for shard in leaf.addressable_shards
        if shard.device == device
    )
    assert memory.arguments == pytest.approx(here, rel=0.05)


def test_figures_of_a_step():
    (train, evaluation) = plan(config("configs/smoke/lm.py", "vocab_size=256", *FSDP), jax.devices()[:8])
    found = inspect(train, find_target("cpu:8"))
    assert found.chips == 8 and found.mesh == {"data": 2, "fsdp": 2, "tensor": 2}
    assert 1.0 <= found.flops * 8 / found.model_flops < 1.6, "the head is not divided by what does not divide it"
    assert {axes for each in found.traffic for axes in each.axes.split("+")} >= {"data", "fsdp", "tensor"}
    assert found.fits is None and found.step_seconds is None, "a CPU's rates are not known"
    assert inspect(evaluation, find_target("cpu:8")).flops < found.flops / 2


def test_a_network_of_unknown_rate_is_not_called_free():
    traffic = (Traffic("all-reduce", "data", 2, True, 1.0, 1e9, 1e9),)
    known = Inspection(
        program="train", topology="v6e:16x16", slices=2, chips=512, mesh={"data": 2}, compile_seconds=1.0,
        traffic=traffic, seconds={"compute": 1.0},
    )  # fmt: skip
    assert "not known: nothing is published" in table(known)
    assert "not known" not in table(replace(known, seconds={"compute": 1.0, "network": 0.2}))
    assert "not known" not in table(replace(known, traffic=()))


@pytest.mark.parametrize("path", ["configs/ebft/stories.py", "configs/ebd/problems.py"])
def test_every_kind_of_config_has_programs(path, monkeypatch):
    """Of comparisons and decoding studies, without their data, weights and models."""
    method = "rlvr" if "stories" in path else ""
    loaded = dryrun.load(path, [], method)
    if method:
        names = [one.name for one in plan(loaded, jax.devices()[:1], method=method)]
        assert names == ["train", "evaluate"]
        with pytest.raises(UserError, match=r"method='x' is not one of ebft, sft, rlvr"):
            plan(loaded, jax.devices()[:1], method="x")
    else:
        model = config("configs/smoke/lm.py", "vocab_size=256")
        study = override(loaded, ["max_new_tokens=4", "at_once=2"])
        object.__setattr__(study, "model", model)
        object.__setattr__(study, "reward", ())
        read, draw = (inspect(one, find_target("cpu:1")) for one in plan(study, jax.devices()[:1], prompt_tokens=8))
        assert draw.guessed == 1 and draw.flops > 0 and read.flops > 0


def test_the_command_prints_a_table_and_fails_where_memory_is_short(capsys, tmp_path):
    words = ["configs/smoke/lm.py", "topology=cpu:8", "vocab_size=256", "programs=train", *FSDP]
    assert dryrun.main([*words, f"out={tmp_path}"]) == 0
    told = capsys.readouterr().out
    assert "mesh data=2 x fsdp=2 x tensor=2" in told and "partition" in told and "all-gather" in told
    assert json.loads((tmp_path / "train.json").read_text())["program"] == "train"
    assert dryrun.main([*words, "memory_gib=0.0001"]) == 1
    told = capsys.readouterr().out
    assert "does not fit: it needs" in told and "model.remat=full" in told
    assert "the largest arrays that it makes" in told and "float32[8,64,256]" in told, "logits"
    assert dryrun.main([*words, "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["total_bytes"] > 0 and record["traffic"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["topology=v9:2x2"], "only programs for v4, v5e"),
        (["topology=h100:8"], "asks the GPU itself"),
        (["topology=cpu:4096"], "xla_force_host_platform_device_count=4096"),
        (["topology=v5e:3x3"], "v5e has 1x1, 2x2"),
        (["topology=cpu:8", "num_slices=2"], "in one slice"),
        (["topology=cpu:8", "programs=nothing"], "there are train, evaluate"),
        (["topology=cpu:8", "method=x"], "compares none"),
        (["topology=cpu:8", "data.tokenizer=hf:nowhere.json"], "vocab_size=NUMBER"),
        ([], "topology=... are needed"),
    ],
)
def test_bad_input(words, message):
    with pytest.raises(UserError, match=message):
        dryrun.main(["configs/smoke/lm.py", *words])


def test_search_prefers_what_is_faster_and_fits():
    chosen = config("configs/smoke/lm.py", "vocab_size=256")
    target = find_target("cpu:8", memory_bytes=float(2**40))
    tried = candidates(chosen, target)
    assert all("mesh.rules=" in keys[0] for keys in tried) and len(tried) > 8
    found = []
    for keys in tried[:3]:
        (train, _) = plan(override(chosen, keys), target.devices)
        found.append((keys, inspect(train, target)))
    best = ranked(found)
    assert [one.memory.total for _, one in best] == sorted(one.memory.total for _, one in found)
