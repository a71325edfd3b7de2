"""The EBFT paper's settings as its configs have them, and its models as they are published."""

import ast
import math
from dataclasses import replace
from pathlib import Path

import pytest

from configs import pretrained
from ebm_jax.algorithms.ebft import EBFTConfig
from ebm_jax.algorithms.rlvr import RLVRConfig
from ebm_jax.algorithms.sft import SFTConfig
from ebm_jax.cli import load_and_call
from ebm_jax.comparison import Comparison
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.evals.tasks.registry import make_task
from ebm_jax.experiment import ExperimentConfig, build_algorithm
from ebm_jax.interop.hugging_face.families import read_config
from ebm_jax.interop.starting_weights import _options
from ebm_jax.models.lm import TransformerLM, parameter_shapes
from ebm_jax.models.transformer import count_parameters
from ebm_jax.optim import schedule
from ebm_jax.precision import Precision

ROOT = Path(__file__).parents[2]
TASKS = ("qa_code", "raw_code", "translation")
QWEN = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_act": "silu",
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "use_sliding_window": False,
    "vocab_size": 151_936,
}
PUBLISHED = {
    "qwen": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "qwen_3b": {
        "hidden_size": 2048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "qwen_7b": {
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "vocab_size": 152_064,
    },
    "llama": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "tie_word_embeddings": True,
        "vocab_size": 128_256,
    },
}
PARAMETERS = {"qwen": 1_543_714_304, "qwen_3b": 3_085_938_688, "qwen_7b": 7_615_616_512, "llama": 1_235_814_400}


def comparison(name) -> Comparison:
    return load_and_call(ROOT / "configs" / "ebft" / f"{name}.py", "get_config")


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_are_those_that_were_published(name):
    model, published = getattr(pretrained, name)(), read_config(QWEN | PUBLISHED[name])
    assert _options(model) == _options(published.model)
    shapes = parameter_shapes(TransformerLM(model, published.vocab_size, Precision()))
    assert count_parameters(shapes) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "blocks", "layers"), [
    ("qa_code", 127, (7, 14, 21)),
    ("raw_code", 127, (7, 14, 21)),
    ("translation", 509, (4, 8, 12)),
])  # fmt: skip
def test_geometry_and_features(name, blocks, layers):
    for method in ("ebft", "ebft_eq8"):
        config = comparison(name).methods[method]
        ours = config.algorithm
        assert isinstance(ours, EBFTConfig) and ours.anchors.blocks(config.data.context) == blocks
        assert ours.features.layers(config.model.resolved_depth) == layers
        assert (ours.samples, ours.sampling) == (4, SamplingConfig(temperature=0.6))
        assert ours.anchors.documents == "joined" and config.data.layout == "stream"
        assert ours.whiten == ("sample_axis" if method == "ebft" else "feature_axis")


@pytest.mark.parametrize("name", [*TASKS, *(f"{task}_warm" for task in TASKS)])
def test_optimiser(name):
    for config in comparison(name).methods.values():
        steps, rate = config.train.steps, schedule(config.optim)
        assert (config.optim.b1, config.optim.b2, config.optim.clip_norm, config.optim.weight_decay) == (
            0.9,
            0.95,
            1.0,
            0,
        )
        assert config.optim.warmup_steps == math.ceil(0.03 * steps) and config.train.batch_size == 16
        assert len(config.train.checkpoint_at) == 10 and config.train.checkpoint_at[-1] == steps
        if isinstance(config.algorithm, SFTConfig):
            assert float(rate(steps)) == pytest.approx(0.1 * config.optim.peak_lr)
        else:
            assert float(rate(steps)) == float(rate(config.optim.warmup_steps)) == pytest.approx(1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_warm_starts_begin_with_an_epoch_of_the_same_data(task):
    cold, warm = comparison(task), comparison(f"{task}_warm")
    first = cold.methods["sft_once"]
    assert warm.first.weights == f"runs/{cold.name}/sft_once/seed=0"
    assert first.train.steps == warm.first.train.steps == cold.first.train.steps / 2
    assert warm.first.algorithm == cold.first.algorithm and warm.first.algorithm.features.weights == "base"
    assert warm.matching == cold.matching and warm.tasks == cold.tasks


@pytest.mark.parametrize("task", TASKS)
def test_methods_read_the_same_texts(task):
    found = comparison(task)
    for name, config in found.methods.items():
        data, examples = config.data, config.data.examples
        assert (data.source, data.tokenizer, data.split_seed) == (
            found.first.data.source,
            found.first.data.tokenizer,
            0,
        )
        assert (examples.prompt, examples.completion) == ("{question}", "{answer}")
        assert examples.loss == ("full" if name.startswith("sft") else "completion")
        assert (data.layout == "packed") == isinstance(config.algorithm, RLVRConfig)


def test_grids_have_the_published_number_of_runs():
    for task in TASKS:
        runs = comparison(f"ablation/grid_{task}").methods
        seen = {(c.algorithm.whiten, c.algorithm.gamma, c.algorithm.alpha) for c in runs.values()}
        assert len(seen) == len(runs) == 18 and len({c.algorithm.whiten for c in runs.values()}) == 2
        warm = comparison(f"ablation/warm_{task}").methods
        assert len([name for name in warm if name.startswith("sample_axis")]) == 9


@pytest.mark.parametrize("path", sorted((ROOT / "configs/ebft/ablation").glob("*.py")), ids=lambda path: path.stem)
def test_variants_differ_from_each_other(path):
    found = load_and_call(path, "get_config")
    assert found.name.endswith(path.stem), "the folder of its runs is what its docstring says"
    algorithms = [config.algorithm for config in found.methods.values()]
    assert all(a != b for i, a in enumerate(algorithms) for b in algorithms[:i])


@pytest.mark.parametrize("path", sorted((ROOT / "configs/ebft").rglob("*.py")), ids=lambda path: path.stem)
def test_commands_name_runs_and_tasks_that_exist(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    for line in text.splitlines():
        for names in [word.removeprefix("tasks=") for word in line.split() if word.startswith("tasks=")]:
            assert all(make_task(name) for name in names.split(","))
    found = load_and_call(path, "get_config")
    if isinstance(found, Comparison) and "experiments.paper" in text:
        assert f"runs/{found.name}" in text


def test_scale_study_differs_in_the_model_alone():
    sizes = [comparison(f"scale_{size}").first for size in ("1_5b", "3b", "7b")]
    for config in sizes:
        assert config.algorithm == sizes[0].algorithm and config.algorithm.gamma == 0
        same = {"data": sizes[0].data, "weights": "", "vocab_size": None, "model": sizes[0].model, "name": ""}
        assert replace(config, **same) == replace(sizes[0], **same)
    assert [c.model.width for c in sizes] == [1536, 2048, 3584]


def test_answers_of_questions_are_graded_as_they_are_rewarded():
    for task in ("qa_code", "translation"):
        found = comparison(task)
        rewards = {
            config.algorithm.reward for config in found.methods.values() if isinstance(config.algorithm, RLVRConfig)
        }
        assert rewards == {found.tasks[found.headline].reward} and found.rows_of == "rlvr"
        assert bool(found.methods["rlvr"].data.examples.check) == (task == "qa_code")


def test_the_features_are_cut_out_of_the_base_model():
    config: ExperimentConfig = comparison("qa_code").first
    algorithm = build_algorithm(config, config.vocab_size)
    assert algorithm.depths == (7, 14, 21) and algorithm.feature_network.config.resolved_depth == 21
    assert algorithm.other_networks()["features"].weights == "base"
