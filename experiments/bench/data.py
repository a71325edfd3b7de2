"""The loader alone against the demo's fastest consumer: it must never be what a training step waits for."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ebm_jax import cli
from ebm_jax.algorithm import BatchSpec
from ebm_jax.data import load_data
from ebm_jax.experiment import ExperimentConfig, build_algorithm
from experiments.bench.steps import median_seconds, training_step

DEMO = Path(__file__).parents[2] / "configs" / "demo"
BATCHES = 2000


def run(repeats: int = 20) -> dict[str, Any]:
    """``loader_over_step``: the loader's tokens per second over those of Transformer++'s training step in the demo."""
    config = cli.load_config(DEMO / "transformer_pp.py", ExperimentConfig)
    rows, context = config.train.batch_size, config.data.context
    data = load_data(replace(config.data), batch_size=rows)
    stream = data.train
    for _ in range(20):
        next(stream)
    began = time.perf_counter()
    for _ in range(BATCHES):
        next(stream)
    loader = BATCHES * rows * context / (time.perf_counter() - began)
    stream.close()
    spec = BatchSpec(batch_size=rows, context=context, vocab_size=data.tokenizer.vocab_size)
    step = training_step(build_algorithm(config, spec.vocab_size), spec, arrays=True)
    consumed = rows * context / median_seconds({"step": step}, repeats)["step"]
    return {"loader_over_step": loader / consumed, "loader_tokens_per_s": loader, "step_tokens_per_s": consumed}
