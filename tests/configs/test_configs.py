"""Every config builds, survives JSON, and traces its initialisation and one train step without data or arrays."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from ebm_jax.algorithm import BatchSpec
from ebm_jax.algorithms.ebft import EBFTConfig
from ebm_jax.cli import load_and_call, load_config
from ebm_jax.comparison import Comparison
from ebm_jax.data.paths import DATA_VARIABLE
from ebm_jax.data.sources import open_source
from ebm_jax.data.tasks import TASKS
from ebm_jax.decoding_study import DecodingStudy
from ebm_jax.experiment import ExperimentConfig, build_algorithm
from ebm_jax.models.sizes import SIZES
from ebm_jax.overrides import override
from ebm_jax.parallel.mesh import make_mesh
from ebm_jax.serialize import flatten, from_dict, to_dict
from ebm_jax.sweeps import load_sweep
from ebm_jax.training.program import build_program

ROOT = Path(__file__).parents[2]
SHARED = sorted((ROOT / "configs").glob("*.py"))
FILES = sorted(set((ROOT / "configs").rglob("*.py")) - set(SHARED))
SWEEPS = [f for f in FILES if f.parent.name == "sweeps"]
CONFIGS = [f for f in FILES if f not in SWEEPS]
NEOX = 50_277


@pytest.fixture(autouse=True)
def data(monkeypatch):
    """A place for data, where none is named: nothing is read from it."""
    if DATA_VARIABLE not in os.environ:
        monkeypatch.setenv(DATA_VARIABLE, str(ROOT / "no_data"))


def name(path):
    return str(path.relative_to(ROOT / "configs"))


def config_of(path):
    return load_config(path, ExperimentConfig)


def configs_of(path):
    """The configs of what a file trains, by method where it is a comparison; a study of decoding may train nothing."""
    found = load_and_call(path, "get_config")
    if isinstance(found, DecodingStudy):
        return {"model": found.model} if isinstance(found.model, ExperimentConfig) else {}
    return found.methods if isinstance(found, Comparison) else {"": found}


def vocabulary(config):
    return config.vocab_size or (256 if config.data.tokenizer == "bytes" else NEOX)


def trace(config):
    vocab = vocabulary(config)
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
    program.trace().lower()


TRACED = set()


def program_of(config):
    """What decides the program of a step; of plain numbers only whether they are zero."""
    parts = ("model", "algorithm", "mesh", "precision", "train.batch_size", "train.accumulate", "data.context")
    flat = flatten(to_dict(config)) | {"vocabulary": vocabulary(config)}
    kept = {k: v for k, v in flat.items() if k == "vocabulary" or any(k == p or k.startswith(f"{p}.") for p in parts)}
    return json.dumps({k: v > 0 if isinstance(v, float) else v for k, v in kept.items()}, sort_keys=True)


def costly(path):
    """Variants of configs that are traced themselves, or larger ones: many programs of some seconds each."""
    return path.parent.name == "ablation" or path.stem.startswith("scale_")


@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=pytest.mark.slow) if costly(p) else p for p in CONFIGS], ids=name
)
def test_config_traces_one_step(path):
    for config in configs_of(path).values():
        if (program := program_of(config)) not in TRACED:
            trace(config)
            TRACED.add(program)


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_config_is_plain_values(path):
    found = load_and_call(path, "get_config")
    assert from_dict(type(found), to_dict(found)) == found
    for config in configs_of(path).values():
        algorithm = config.algorithm
        if isinstance(algorithm, EBFTConfig):
            assert algorithm.anchors.blocks(config.data.context) and algorithm.features.layers(
                config.model.resolved_depth
            )


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_further_texts_exist(path):
    for config in configs_of(path).values():
        for source in config.eval.extra.values():
            kind, _, task = source.partition(":")
            assert (kind == "task" and task in TASKS) or source == "stdlib-topics", source


@pytest.mark.parametrize("path", FILES, ids=name)
def test_docstring_is_the_record(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    for word in ("Command:", "Expected:", "Hardware:"):
        assert word in text, f"{path} does not say its {word}"
    for mentioned in re.findall(r"configs/[\w/]+\.py", text):
        assert (ROOT / mentioned).is_file(), f"{path} names {mentioned}, which does not exist"


@pytest.mark.parametrize("path", SWEEPS, ids=name)
def test_sweep_points_apply(path):
    """To the sweep's own config, and to those that its record gives it by ``config=``."""
    base, sweep = load_sweep(path)
    others = re.findall(r"config=(configs/[\w/]+\.py)", ast.get_docstring(ast.parse(path.read_text())))
    for file in [base, *others]:
        config = config_of(ROOT / file)
        configs = [to_dict(override(config, point.overrides)) for point in sweep]
        assert all(a != b for i, a in enumerate(configs) for b in configs[:i]), "two points are the same run"
    assert len({p.name for p in sweep}) == len(sweep)


def test_each_size_of_the_scaling_figure_has_its_row_of_the_table():
    _, sweep = load_sweep(ROOT / "configs/sweeps/paper_size.py")
    base = config_of(ROOT / "configs/ebt/s1.py")
    configs = [override(base, point.overrides) for point in sweep]
    assert [(c.model.size, c.train.batch_size) for c in configs] == [
        ("xxs", 32),
        ("xs", 46),
        ("small", 90),
        ("medium", 170),
        ("large", 256),
    ]
    assert all(c.optim.peak_lr == SIZES[c.model.size].peak_lr and c.train.steps == 105_000 for c in configs)


@pytest.mark.slow
@pytest.mark.parametrize("sweep", ["paper_size", "paper_width", "paper_depth", "paper_s2_ablation", "small_width"])
def test_points_of_a_sweep_trace_one_step(sweep):
    base, points = load_sweep(ROOT / "configs" / "sweeps" / f"{sweep}.py")
    for point in points:
        trace(override(config_of(ROOT / base), [*point.overrides, "mesh.data=2"]))  # 46 rows do not divide by 8 devices


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("ebt/s1.py", "baselines/transformer_pp.py"),
        ("ebt/fineweb_small.py", "baselines/fineweb_small.py"),
        ("ebt/xl.py", "baselines/xl.py"),
        ("small/ebt_s1.py", "small/transformer_pp.py"),
        ("small/ebt_s2.py", "small/transformer_pp.py"),
    ],
)
def test_twins_differ_in_the_method_alone(ours, theirs):
    ours, theirs = (to_dict(config_of(ROOT / "configs" / path)) for path in (ours, theirs))
    assert {key for key in ours if ours[key] != theirs[key]} == {"name", "algorithm"}


@pytest.mark.parametrize("model", ["transformer_pp", "ebt_s1", "ebt_s2"])
def test_small_configs_read_what_every_machine_has_too(model):
    path = ROOT / "configs" / "small" / f"{model}.py"
    line = re.search(r"data\.source=stdlib '(eval\.extra=.*)'", path.read_text())
    config = override(config_of(path), ["data.source=stdlib", line.group(1)])
    assert config.eval.extra == {"topics": "stdlib-topics"}
    assert open_source(config.data).name == "stdlib" and config.data.validation_fraction > 0


def test_configs_load_from_any_working_directory(tmp_path):
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p not in ('', sys.argv[1])]; sys.path.append(sys.argv[2])\n"
        "from ebm_jax.cli import load_config\nfrom ebm_jax.experiment import ExperimentConfig\n"
        "print(load_config(sys.argv[1] + '/configs/smoke/lm.py', ExperimentConfig).name)\n"
        "print(load_config(sys.argv[1] + '/configs/ebt/xl.py', ExperimentConfig).name)\n"
    )
    alone = tmp_path / "package"  # the package without the folders beside it, as an installation has it
    alone.mkdir()
    (alone / "ebm_jax").symlink_to(ROOT / "ebm_jax")
    command = [sys.executable, "-c", code, str(ROOT), str(alone)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["smoke_lm", "ebt_xl"], done.stderr
