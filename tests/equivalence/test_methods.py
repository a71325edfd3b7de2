"""The real methods: however a step is cut over microbatches, devices or launches, it is the same step.

Layouts are compared in float64, where the order of a sum costs 1e-16 and a row that lost its noise costs 1: what is left
between them is rounding, and a loss of digits cannot hide a mistake. Adam divides by the root of the second moment, so a
gradient of 0 that is 1e-17 elsewhere would move its parameter by a full step; ``eps`` is therefore large here, and the
optimizer's moments, which hold the gradients themselves, are compared as well.
"""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from ebm_jax.algorithm import BatchSpec
from ebm_jax.algorithms.ebft import EBFTConfig
from ebm_jax.algorithms.ebt import PAPER, EBTConfig
from ebm_jax.algorithms.lm import LMConfig
from ebm_jax.algorithms.reward_model import RewardModelConfig
from ebm_jax.algorithms.sft import SFTConfig
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.energy.replay import ReplayConfig
from ebm_jax.energy.schedule import PAPER_S1, S1, S2
from ebm_jax.experiment import ALGORITHMS
from ebm_jax.models.features import FeatureConfig
from ebm_jax.models.lora import LoraConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.parallel.mesh import MeshConfig, make_mesh
from ebm_jax.precision import Precision
from ebm_jax.rng import root_key
from ebm_jax.training.checkpoints import Checkpoints
from ebm_jax.training.config import TrainConfig
from ebm_jax.training.loop import train
from ebm_jax.training.program import build_program
from tests.tiny import DOUBLE, assert_trees_close
from tests.training.toy import Lines, ToyStream, toy_start

ROOT = Path(__file__).parents[2]
ROWS, CONTEXT, VOCAB = 8, 8, 24
MODEL = TransformerConfig(depth=2, width=16, heads=2)
# Three blocks a row.
SAMPLED = {
    "samples": 3,
    "anchors": AnchorConfig(steps=2, stride=2, prefix=2),
    "features": FeatureConfig(weights="initial", depths=(1, 2)),
    "sampling": SamplingConfig(temperature=0.8),
}
# 8 fresh and 4 replayed rows: 12, which no mesh of 8 divides.
REPLAY = ReplayConfig(capacity=8, fraction=0.5)
METHODS = {
    "lm": LMConfig(),
    "s1 as published": EBTConfig(**PAPER, descent=PAPER_S1),
    "s1": EBTConfig(descent=S1),
    "s2": EBTConfig(descent=S2, replay=REPLAY),
    "sft": SFTConfig(),
    "sft lora": SFTConfig(lora=LoraConfig(rank=2)),
    "ebft": EBFTConfig(**SAMPLED, gamma=0.1, kl=0.1, entropy=0.1),
    "ebft lora": EBFTConfig(**SAMPLED, lora=LoraConfig(rank=2), whiten="feature_axis", align="cosine"),
    "reward": RewardModelConfig(centering=0.1, language=0.3),
    "reward lora": RewardModelConfig(lora=LoraConfig(rank=2)),
}
LAYOUTS = {
    "accumulate 2": (MeshConfig(), 1, 2),
    "accumulate 4": (MeshConfig(), 1, 4),
    "ddp 8": (MeshConfig(), 8, 1),
    "fsdp 8": (MeshConfig(data=1, fsdp=8, rules="fsdp"), 8, 1),
    "fsdp_tp 2x2x2": (MeshConfig(fsdp=2, tensor=2, rules="fsdp_tp"), 8, 1),
    "fsdp_tp 2x2x2, accumulate 2": (MeshConfig(fsdp=2, tensor=2, rules="fsdp_tp"), 8, 2),
    "local 2x2": (MeshConfig(fsdp=2, rules="fsdp"), 4, 1),
    "local 1x2x2, accumulate 2": (MeshConfig(fsdp=2, tensor=2, rules="fsdp_tp"), 4, 2),
}
LOCAL = ("local 2x2", "local 1x2x2, accumulate 2")
"""Layouts where every device takes the gradients of its own rows by itself."""


class Packed(ToyStream):
    """Two documents a row (for a reward model, a pair) and some padding, as a function of the row's place."""

    def __next__(self):
        first, self.position = self.position * ROWS, self.position + 1
        rows = [packed_row(i) for i in range(first, first + ROWS)]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def packed_row(index):
    rng = np.random.default_rng(index)
    tokens, place = rng.integers(0, VOCAB, CONTEXT + 1).astype(np.int32), np.arange(CONTEXT, dtype=np.int32)
    cut, end = rng.integers(1, 5), rng.integers(5, CONTEXT + 1)
    real, second = place < end, place >= cut
    return {
        "inputs": tokens[:-1],
        "targets": tokens[1:],
        "weights": (real & (place != cut - 1)).astype(np.float32),
        "segments": (real * (1 + second)).astype(np.int32),
        "positions": np.where(second, place - cut, place),
        "index": np.uint32(index),
    }


def program_of(method, mesh, devices, precision, config):
    settings = METHODS[method]
    if isinstance(settings, EBFTConfig):
        features = dataclasses.replace(settings.features, dtype=precision.compute)
        settings = dataclasses.replace(settings, features=features)
    algorithm = ALGORITHMS[type(settings)](settings, MODEL, VOCAB, precision)
    return build_program(
        algorithm=algorithm,
        spec=BatchSpec(batch_size=ROWS, context=CONTEXT, vocab_size=VOCAB),
        optim=OptimConfig(peak_lr=1e-2, warmup_steps=1, decay_steps=50, eps=1e-2),
        config=config,
        mesh=make_mesh(mesh, jax.devices()[:devices]),
        rules=mesh.rules,
    )


def run(method, mesh, devices, accumulate, steps=3, local=False):
    config = TrainConfig(steps=steps, batch_size=ROWS, accumulate=accumulate, local_gradients=local, log_every=1)
    program = program_of(method, mesh, devices, DOUBLE, config)
    lines = Lines()
    result = train(program, toy_start(program), stream=Packed(), config=config, key=root_key(1), writer=lines)
    state = result.state
    return jax.device_get({"params": state.params, "opt": state.opt_state, "carry": state.carry}), lines.steady()


@functools.cache
def whole(method):
    """The step on one device in one piece."""
    return run(method, MeshConfig(), 1, 1)


# The layout with everything in it is quick enough for every day, for the plainest method.
EVERY_DAY = [("lm", "fsdp_tp 2x2x2, accumulate 2")]
TELLING = ("accumulate 4", "fsdp_tp 2x2x2, accumulate 2", LOCAL[0])
"""These tell whether the parts of a method are cut right; the methods with the most of their own are cut in more ways."""
CLOSELY = {
    "lm": LAYOUTS,
    "s2": (*TELLING, "ddp 8", "fsdp 8", LOCAL[1]),
    "ebft": (*TELLING, "fsdp 8", LOCAL[1]),
    "ebft lora": TELLING[1:],
}


def how_often(method, layout):
    if (method, layout) in EVERY_DAY:
        return ()
    return pytest.mark.slow if layout in CLOSELY.get(method, TELLING) else pytest.mark.heavy


CASES = [pytest.param(m, layout, marks=how_often(m, layout)) for m in METHODS for layout in LAYOUTS]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("method", "layout"), CASES)
def test_cut_differently_is_the_same(method, layout):
    state, lines = run(method, *LAYOUTS[layout], local=layout in LOCAL)
    expected, expected_lines = whole(method)
    assert_trees_close(state, expected, 1e-9)
    for (step, values), (other_step, others) in zip(lines, expected_lines, strict=True):
        assert step == other_step
        assert values == pytest.approx(others, rel=1e-9)


@pytest.fixture
def compiled_anew():
    """Programs come from the compiler, which then says what it thinks of them, and not from the cache."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_anew")
@pytest.mark.parametrize(
    "method", ["lm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("s1", "sft lora", "ebft", "reward"))]
)
def test_no_array_is_copied_everywhere_to_change_its_layout(method, capfd):
    mesh, devices, _ = LAYOUTS["fsdp_tp 2x2x2"]
    config = TrainConfig(steps=1, batch_size=ROWS)
    program_of(method, mesh, devices, Precision(), config).trace().lower().compile()
    assert "rematerialization" not in capfd.readouterr().err


@pytest.mark.slow
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(tmp_path):
    """S2 with replay: the ring, its place, and all that keys noise come back from the checkpoint."""

    def launch(folder, steps):
        config = TrainConfig(steps=steps, batch_size=ROWS, log_every=1)
        program, lines = program_of("s2", MeshConfig(), 1, Precision(), config), Lines()
        with Checkpoints(folder) as checkpoints:
            start = toy_start(program, checkpoints)
            state = train(
                program,
                start,
                stream=Packed(),
                config=config,
                key=root_key(1),
                checkpoints=checkpoints,
                writer=lines,
            ).state
        return jax.device_get(state), start.source, lines.steady()

    whole, _, expected = launch(tmp_path / "whole", 10)
    _, first, before = launch(tmp_path / "broken", 5)
    resumed, second, after = launch(tmp_path / "broken", 10)
    assert (first, second) == ("scratch", "resume")
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert before + after == expected
    assert int(whole.carry.filled) == REPLAY.capacity
