"""The dry run of a config, against the real run on eight CPU devices."""

import importlib.util
import json
from dataclasses import replace

import jax
import pytest

from ebm_jax import cli
from ebm_jax.accounting.gpus import GPUS
from ebm_jax.dryrun.inspection import Inspection, Memory, Traffic, inspect
from ebm_jax.dryrun.programs import plan
from ebm_jax.dryrun.report import table
from ebm_jax.dryrun.search import candidates, own_candidate, ranked, search
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
    loaded = dryrun.load(path, ["vocab_size=512"] if method else [], method)
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
        (["topology=v9:2x2"], "is not one of v4, v5e, .*h100"),
        (["topology=h100:8x"], "h100:NODESxGPUS"),
        (["topology=h100:8", "num_slices=2"], "h100:NODESxGPUS"),
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


@pytest.mark.parametrize("path", ["configs/smoke/lm.py", pytest.param("configs/smoke/ebt.py", marks=pytest.mark.slow)])
def test_recomputed_blocks_need_less_memory_and_are_no_work_of_the_model(path):
    """Also where the loss is of a gradient: of an EBT's attention no block may keep its weights, ``[B, H, T, T + 1]``."""
    size = ("vocab_size=256", "model.depth=8", "data.context=64", "mesh.data=1")
    found = {}
    for remat in ("none", "full"):
        (train, _) = plan(config(path, *size, f"model.remat={remat}"), jax.devices()[:1])
        found[remat] = inspect(train, find_target("cpu:1"))
    none, full = found["none"], found["full"]
    assert full.model_flops == none.model_flops and full.flops > 1.1 * none.flops
    assert full.memory.temporaries < 0.5 * none.memory.temporaries


CUDA = importlib.util.find_spec("jax_plugins") and importlib.util.find_spec("jax_plugins.xla_cuda12")


@pytest.mark.skipif(bool(CUDA), reason="there is a compiler for GPUs")
def test_without_a_compiler_for_gpus_it_is_named():
    with pytest.raises(UserError, match=r"pip install 'ebm_jax\[gpu\]'"):
        find_target("h100:8")


@pytest.mark.skipif(not CUDA, reason="needs the extra gpu")
def test_nodes_of_gpus():
    target = find_target("h100:2x4")
    chosen = config("configs/smoke/lm.py", "vocab_size=256", "mesh.rules=fsdp", "mesh.data=2", "mesh.fsdp=4")
    (train, _) = plan(chosen, target.devices)
    found = inspect(train, target)
    with pytest.raises(UserError, match=r"mesh\.data=1 must be divisible by the number of slices, or nodes of GPUs, 2"):
        inspect(plan(override(chosen, ["mesh.data=1", "mesh.fsdp=8"]), target.devices)[0], target)
    assert {device.process_index for device in target.devices} == {0, 1}
    assert found.memory_bytes == 0.75 * GPUS["h100"].hbm_bytes
    assert found.fits and found.flops == pytest.approx(found.model_flops / 8, rel=0.3)
    assert {each.crosses for each in found.traffic} == {True, False} and found.seconds["network"] > 0


def compiled(fits, seconds=1.0, memory=1.0):
    """What a compilation told, in short."""
    return Inspection(
        "train", "cpu:8", 1, 8, {}, 0.0, fits=fits, memory=Memory(arguments=memory), seconds={"compute": seconds}
    )


def test_search_leaves_out_what_is_decided_and_puts_the_most_rows_a_second_first():
    """16 rows at once fit, 32 do not; a step costs 1 s and 1 s a row, and a third more where blocks are recomputed."""
    chosen = config("configs/smoke/lm.py", "vocab_size=256", "train.batch_size=8")
    tried = []

    def compile_one(one):
        tried.append(one)
        seconds = (1.0 + one.batch) * (4 / 3 if one.remat == "full" else 1.0)
        return compiled(one.batch // one.accumulate <= 16, seconds) if one.rules == "fsdp" else None

    possible = candidates(chosen, find_target("cpu:8"))
    found = search(possible, compile_one, len(possible))
    best = ranked(found)
    # 32 rows in two microbatches; 32 rows at once need too much.
    assert (best[0][0].batch, best[0][0].accumulate, best[0][0].remat) == (32, 2, "none")
    assert len({tuple(one.assignments()) for one in tried}) == len(tried) < len(possible)
    for place, one in enumerate(tried):
        before = [other for other in found if other[0] in tried[:place]]
        assert not any(one.needs_no_less_than(other) for other, result in before if result.fits is False)
        assert not any(one.is_no_faster_than(other) for other, result in before if result.fits)
    assert len(search(possible, lambda one: compiled(True), 3)) == 3


@pytest.mark.slow
def test_search_compiles_the_config_in_other_ways(capfd, monkeypatch):
    words = ["configs/smoke/lm.py", "topology=cpu:8", "memory_gib=1", "vocab_size=256", "search=true", "tries=2"]
    assert dryrun.main([*words, "--json"]) == 0
    best = json.loads(capfd.readouterr().out)
    assert len(best) == 2
    as_it_is = own_candidate(config("configs/smoke/lm.py"), find_target("cpu:8"))
    assert as_it_is.assignments() in [one["assignments"] for one in best]
    (same,) = dryrun.inspections([*words[:4], "programs=train", *best[0]["assignments"]])
    assert Memory(**best[0]["memory"]) == same.memory
    assert Inspection.from_json(json.loads(json.dumps(same.to_json()))) == same
    with pytest.raises(UserError, match=r"leave mesh\.data out"):
        dryrun.main([*words, "mesh.data=2"])
    assert dryrun.main([*words[:2], "memory_gib=0.0001", *words[3:]]) == 1
    assert "nothing fits of" in capfd.readouterr().out
    monkeypatch.setattr("ebm_jax.dryrun.search.TENSOR", ())
    with pytest.raises(UserError, match=r"train\.batch_size=3 does not divide over 8 chips, nor does 12"):
        dryrun.main([*words, "train.batch_size=3"])
    with pytest.raises(UserError, match="method='none' is not one of ebft"):
        dryrun.main(["configs/ebft/scale_1_5b.py", "topology=cpu:8", "search=true", "method=none"])
