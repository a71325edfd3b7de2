"""Every config builds, survives JSON, and traces its initialisation and one train step without data or arrays."""

from pathlib import Path

import jax
import pytest

from ebm_jax.algorithm import BatchSpec
from ebm_jax.cli import load_config
from ebm_jax.experiment import ExperimentConfig, build_algorithm
from ebm_jax.overrides import override
from ebm_jax.parallel.mesh import make_mesh
from ebm_jax.serialize import from_dict, to_dict
from ebm_jax.sweeps import load_sweep
from ebm_jax.training.program import build_program

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").rglob("*.py"))
SWEEPS = [f for f in FILES if f.parent.name == "sweeps"]
CONFIGS = [f for f in FILES if f not in SWEEPS]


def name(path):
    return str(path.relative_to(ROOT / "configs"))


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_config_traces_one_step(path):
    config = load_config(path, ExperimentConfig)
    assert from_dict(ExperimentConfig, to_dict(config)) == config
    vocab = 256 if config.data.tokenizer == "bytes" else 50_277
    spec = BatchSpec(batch_size=config.train.batch_size, context=config.data.context, vocab_size=vocab)
    program = build_program(
        algorithm=build_algorithm(config, vocab),
        spec=spec,
        optim=config.optim,
        config=config.train,
        mesh=make_mesh(config.mesh),
        rules=config.mesh.rules,
    )
    assert jax.tree.leaves(program.abstract.params)
    program.lower()


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_docstring_is_the_record(path):
    text = path.read_text()
    for word in ("Command:", "Expected:"):
        assert word in text, f"{path} does not say its {word}"


@pytest.mark.parametrize("path", SWEEPS, ids=name)
def test_sweep_points_apply(path):
    base, sweep = load_sweep(path)
    config = load_config(ROOT / base, ExperimentConfig)
    configs = [to_dict(override(config, point.overrides)) for point in sweep]
    assert all(a != b for i, a in enumerate(configs) for b in configs[:i]), "two points are the same run"
    assert len({p.name for p in sweep}) == len(sweep)
