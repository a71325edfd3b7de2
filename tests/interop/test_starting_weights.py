"""What ``weights=`` names, and what is said where a model has other options than the run's."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from ebm_jax.errors import UserError
from ebm_jax.interop.hugging_face.folder import is_model, read_published
from ebm_jax.interop.hugging_face.weights import load_params
from ebm_jax.interop.starting_weights import starting_weights
from ebm_jax.models.lm import TransformerLM
from ebm_jax.models.reward import reward_transformer
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.rules import unbox
from ebm_jax.precision import Precision

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
FOLDERS = sorted(path for path in GOLDEN.iterdir() if is_model(path) and read_published(path).head == "lm")


def shapes(model, vocab, make=TransformerLM):
    zeros = jax.ShapeDtypeStruct((1, 2), np.int32)
    network = make(model, vocab, Precision())
    return unbox(jax.eval_shape(network.init, jax.random.key(0), zeros, zeros, zeros)["params"])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_published_model_is_read_into_a_network_of_its_options(folder):
    published = read_published(folder)
    # Options that say how a model is run or was initialised are the run's own.
    model = dataclasses.replace(published.model, size="xl", remat="full", init_gain=0.5)
    network = shapes(model, published.vocab_size)
    read = starting_weights(str(folder), model)
    jax.tree.map(np.testing.assert_array_equal, read(network), load_params(folder, published, network))
    with pytest.raises(UserError, match=rf"has {published.vocab_size} tokens and this run 8: .*vocab_size="):
        read(shapes(model, 8))


def test_other_options_are_listed():
    folder = GOLDEN / "llama3_tied"
    model = read_published(folder).model
    other = dataclasses.replace(model, tied=not model.tied, rope_theta=7.0)
    with pytest.raises(UserError, match=rf"set model\.rope_theta={model.rope_theta} model\.tied={model.tied}$"):
        starting_weights(str(folder), other)
    plain = TransformerConfig()
    with pytest.raises(UserError, match=r"model\.rope_scaling\.kind=llama3 model\.rope_scaling\.factor="):
        starting_weights(str(folder), plain)


def test_folders_of_runs_and_files(tmp_path, monkeypatch):
    monkeypatch.setenv("EBM_JAX_DATA", str(tmp_path))
    (tmp_path / "run").mkdir()
    assert starting_weights("$EBM_JAX_DATA/run", TransformerConfig()) == tmp_path / "run"
    with pytest.raises(UserError, match="no checkpoint at"):
        starting_weights(str(tmp_path / "no"), TransformerConfig())({})


def test_names_on_the_hub_have_dots(monkeypatch):
    folder, asked = GOLDEN / "qwen3", []
    monkeypatch.setattr("ebm_jax.interop.starting_weights.locate", lambda name: asked.append(name) or folder)
    names = ["Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.1-8B", "mistralai/Mistral-7B-v0.3", "owner/name"]
    for name in names:
        assert callable(starting_weights(name, read_published(folder).model))
    assert asked == names
    with pytest.raises(UserError, match=r"no checkpoint at runs/last\.safetensors"):
        starting_weights("runs/last.safetensors", TransformerConfig())({})


def test_a_reward_model_goes_on_from_a_classifier_and_nothing_else_does():
    folder, other = GOLDEN / "qwen3_reward", GOLDEN / "qwen3"
    published = read_published(folder)
    network = shapes(published.model, published.vocab_size, reward_transformer)
    read = starting_weights(str(folder), published.model)
    jax.tree.map(np.testing.assert_array_equal, read(network), load_params(folder, published, network))
    with pytest.raises(UserError, match=r"classifies sequences: .* algorithm.weights_of=reward_model"):
        read(shapes(published.model, published.vocab_size))
    with pytest.raises(UserError, match=r"is a language model: .* needs a \.\.\.ForSequenceClassification"):
        starting_weights(str(other), read_published(other).model)(network)
