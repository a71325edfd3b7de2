"""Every benchmark runs at a tiny size and prints what it promises as JSON on the last line."""

import json

import pytest

from ebm_jax.algorithm import BatchSpec
from ebm_jax.cli import main as run_cli
from ebm_jax.models.transformer import TransformerConfig
from experiments.bench import ebft_rollout, ebft_step, ebt_step, generate
from experiments.bench.__main__ import main


@pytest.mark.slow
def test_ebt_step_gives_every_key():
    spec = BatchSpec(batch_size=2, context=16, vocab_size=16)
    figures = ebt_step.run(1, spec, TransformerConfig(depth=2, width=32, heads=2))
    assert set(figures["flops_ratio"]) == set(figures["flops_ratio_time_embed"]) == {"1", "2", "4"}
    assert figures["flops_ratio"]["1"] < figures["flops_ratio"]["2"] < figures["flops_ratio"]["4"]
    counted, naive = figures["flops_ratio_counted"], figures["flops_ratio_naive_counted"]
    assert all(counted[k] < naive[k] for k in counted)
    assert figures["temp_memory_ratio_k4_k1"] > 0 and figures["tokens_per_s"] > 0


@pytest.mark.slow
def test_throughput_prints_json_last(capsys):
    assert run_cli(main, ["throughput", "size=4xs", "batch=1", "repeats=1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["ebt_tokens_per_s"] > 0 and figures["ebt_mfu"] is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nothing"], "'nothing' is not a benchmark: they are ebt_step, generate, lm_generate, hf_import, data"),
        (["data", "ebt_step"], "is not a benchmark"),
        (["data", "what=1"], "what=1: bench data takes repeats"),
        (["vocabulary", "size=4xs"], "bench vocabulary takes no keys"),
        (["throughput", "batch=many"], "batch=many cannot be read as int"),
        (["throughput"], "throughput is for accelerators"),
    ],
)
def test_mistakes_are_named(argv, message, capsys):
    assert run_cli(main, argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_generate_gives_every_key():
    figures = generate.run(1, 2, TransformerConfig(depth=1, width=16, heads=2), (20, 24, 32))
    assert figures["speedup_vs_recompute_32"] > 0 and figures["speedup_vs_recompute_24"] > 0
    assert figures["growth_20_32"] > 0 and figures["candidates_8_over_1"] > 0


EBFT_MODEL = TransformerConfig(depth=4, width=16, heads=2)


@pytest.mark.slow
def test_ebft_rollout_gives_every_key():
    figures = ebft_rollout.run(1, context=32, vocab=32, model=EBFT_MODEL)
    assert figures["speedup"] > 0 and figures["flops_ratio"] > 4 and figures["sampling_share"] > 0
    assert set(figures["seconds"]) == {"reference", "ours", "sampling"}
    assert set(figures["gflops"]) == {"reference", "ours"}


@pytest.mark.slow
def test_ebft_step_gives_every_key():
    figures = ebft_step.run(1, context=32, vocab=32, many=5, model=EBFT_MODEL, published=EBFT_MODEL)
    for suffix in ("", "_qwen"):
        assert 0 < figures[f"flops_ratio{suffix}"] < figures[f"flops_ratio_remat{suffix}"] < 1
        assert 0 < figures[f"flops_ratio_train{suffix}"] < figures[f"flops_ratio_train_remat{suffix}"] < 1
        assert all(flops > 0 for parts in figures[f"gflops{suffix}"].values() for flops in parts.values())
    for suffix in ("", "_n5"):
        assert figures[f"whitening_share{suffix}"] > 0 and figures[f"step_seconds{suffix}"] > 0


@pytest.mark.slow
def test_ebft_needs_no_more_flops_than_promised():
    """Counted at full size, from shapes."""
    spec = BatchSpec(batch_size=1, context=ebft_rollout.CONTEXT, vocab_size=ebft_rollout.VOCAB)
    figures = ebft_step.flops_ratios(TransformerConfig(size="3xs"), spec, "")
    assert figures["flops_ratio"] <= 0.20 and figures["flops_ratio_train"] <= 0.29
    assert figures["gflops"]["reference"]["rollout"] / figures["gflops"]["ours"]["rollout"] >= 11
