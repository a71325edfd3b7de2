"""What an EBFT run begins with: whose features it matches, what adapters share, and what a resumed run insists on."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.algorithms.ebft import EBFTConfig
from ebm_jax.algorithms.lm import LMConfig
from ebm_jax.algorithms.sft import SFTConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.errors import UserError
from ebm_jax.experiment import (
    ExperimentConfig,
    _origins,
    _others,
    base_of,
    compare,
    open_experiment,
    open_run,
    run_training,
)
from ebm_jax.models.features import FeatureConfig
from ebm_jax.models.lora import LoraConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.parallel.mesh import MeshConfig
from ebm_jax.rng import root_key
from ebm_jax.serialize import to_dict
from ebm_jax.training.checkpoints import Checkpoints
from ebm_jax.training.config import TrainConfig
from ebm_jax.training.record import write_run_record
from ebm_jax.training.startup import start_run
from tests.letters import GOLDEN, letters
from tests.tiny import assert_trees_close, generic, jit

pytest.importorskip("tensorflow_datasets")
LORA = LoraConfig(rank=2, targets=("*/query", "*/up"))
MODEL = TransformerConfig(depth=2, width=8, heads=2)


def features(**options):
    return FeatureConfig(**({"depths": (1,)} | options))


def ebft(**options):
    return EBFTConfig(
        **({"samples": 3, "anchors": AnchorConfig(steps=2, stride=4, prefix=2), "features": features()} | options)
    )


class Runs:
    """A folder of runs that were never trained: their weights are noise, each another."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.params = folder, {}
        (folder / "corpus.txt").write_text("\n".join(f"line {i} of a small text" for i in range(99)))
        self.make("base", LMConfig())
        self.make("tuned", SFTConfig(), "base")
        self.make("other", LMConfig(), model=TransformerConfig(depth=3, width=16, heads=2))

    def config(self, algorithm, weights=None, **options):
        texts = {"source": f"text:{self.folder}/corpus.txt", "documents": "blocks", "block_chars": 200}
        splits = {"validation_fraction": 0.2, "test_fraction": 0.0, "workers": 0}
        data = DataConfig(**texts, **splits, context=16, cache_dir=str(self.folder / "cache"))
        settings = {
            "model": MODEL,
            "data": data,
            "optim": OptimConfig(peak_lr=1e-2, warmup_steps=0, decay_steps=10),
            "train": TrainConfig(steps=2, batch_size=2, log_every=1, eval_batches=1),
            "weights": str(self.folder / weights) if weights else None,
            "mesh": MeshConfig(data=1),
        }
        return ExperimentConfig(algorithm=algorithm, **(settings | options))

    def begin(self, algorithm, weights=None, own=None, **options):
        """The experiment, and what it would begin with."""
        config = self.config(algorithm, weights, **options)
        experiment = open_experiment(config)
        origins = {"config": to_dict(config), "compare": compare, "others": _others(experiment), **_origins(config)}
        if own is None:
            return experiment, start_run(experiment.program, experiment.key, **origins)
        with Checkpoints(own / "checkpoints") as checkpoints:
            return experiment, start_run(experiment.program, experiment.key, checkpoints=checkpoints, **origins)

    def make(self, name, algorithm, weights=None, **options):
        """A run's folder with one checkpoint."""
        experiment, start = self.begin(algorithm, weights, **options)
        self.params[name] = generic(start.state.params, len(self.params))
        write_run_record(self.folder / name, to_dict(experiment.config), [])
        with Checkpoints(self.folder / name / "checkpoints") as checkpoints:
            state = start.state.replace(params=self.params[name], step=start.state.step + 1)
            checkpoints.save(1, state, data={"position": 1}, meta=start.meta)
        return start


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("runs"))


def assert_features(frozen, params, depth=1):
    """The lower blocks and the token table of a network, and nothing else."""
    below = {
        "embed": params["embed"],
        "stack": {"blocks": jax.tree.map(lambda w: w[:depth], params["stack"]["blocks"])},
    }
    assert jax.tree.structure(frozen) == jax.tree.structure(below)
    assert_trees_close(frozen, below, 0)


@pytest.mark.slow
def test_features_are_those_of_the_model_that_the_chain_of_runs_begins_with(runs):
    _, start = runs.begin(ebft(), "tuned")
    assert set(start.state.frozen) == {"features"}
    assert_features(start.state.frozen["features"], runs.params["base"])
    assert_trees_close(start.state.params, runs.params["tuned"], 0)


def test_features_of_what_the_run_begins_with(runs):
    for options, weights in (({"weights": "initial"}, "tuned"), ({}, "base")):
        _, start = runs.begin(ebft(features=features(**options)), weights)
        assert_features(start.state.frozen["features"], runs.params[weights])
    _, scratch = runs.begin(ebft())
    assert_features(scratch.state.frozen["features"], scratch.state.params)


def test_features_of_another_network(runs):
    model = TransformerConfig(depth=3, width=16, heads=2)
    options = features(weights=str(runs.folder / "other"), model=model, depths=(0.5, 0.99), dtype="bfloat16")
    _, start = runs.begin(ebft(features=options), "tuned")
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), runs.params["other"])
    assert_features(start.state.frozen["features"], half, depth=2)
    with pytest.raises(UserError, match="does not fit the model"):
        runs.begin(ebft(features=features(weights=str(runs.folder / "other"))), "tuned")
    with pytest.raises(UserError, match=r"algorithm\.features\.model describes another network"):
        ebft(features=features(weights="initial", model=model))


def test_random_features_are_nobodys_and_always_the_same(runs):
    algorithm = ebft(features=features(weights="random"))
    (_, one), (_, scratch) = runs.begin(algorithm, "tuned"), runs.begin(algorithm)
    assert_trees_close(scratch.state.frozen, one.state.frozen, 0)
    tables = [params["embed"] for params in (*runs.params.values(), scratch.state.params)]
    assert all(
        np.abs(one.state.frozen["features"]["embed"] - table).max() > 0.1 for table in tables if table.shape[1] == 8
    )


def test_adapters_share_their_base_with_the_features(runs):
    shared, start = runs.begin(ebft(lora=LORA), "base")
    assert set(start.state.frozen) == {"base"} and set(start.state.params) == {"lora"}
    assert_trees_close(start.state.frozen["base"], runs.params["base"], 0)
    plain, alone = runs.begin(ebft(), "base")
    batch, key = {name: jnp.asarray(x) for name, x in next(shared.data.train).items()}, root_key(0)
    made = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 3, 4, 2)), jnp.int32)

    def grams(experiment, frozen):
        algorithm = experiment.algorithm
        return jit(lambda f: algorithm.grams(f, batch, made, algorithm.branches(batch, key)))(frozen)

    assert_trees_close(grams(shared, start.state.frozen), grams(plain, alone.state.frozen), 1e-6)


def test_adapters_of_a_tuned_model_do_not_pass_for_the_base(runs):
    _, start = runs.begin(ebft(lora=LORA, kl=0.1), "tuned")
    assert set(start.state.frozen) == {"base", "features", "reference"}
    assert_trees_close(start.state.frozen["base"], runs.params["tuned"], 0)
    assert_trees_close(start.state.frozen["reference"], runs.params["tuned"], 0)
    assert_features(start.state.frozen["features"], runs.params["base"])


def test_the_base_of_a_chain(runs, tmp_path):
    named = lambda name: str(runs.folder / name)
    assert base_of(None) is None and base_of("owner/model") == "owner/model"
    assert base_of(named("tuned")) == base_of(named("base")) == named("base")
    origins = {
        "again": {"weights": named("tuned")},
        "further": {"continue_from": named("tuned")},
        "longer": {"continue_from": named("base")},
    }
    for name, origin in origins.items():
        write_run_record(tmp_path / name, to_dict(dataclasses.replace(runs.config(SFTConfig()), **origin)), [])
    assert base_of(str(tmp_path / "again")) == base_of(str(tmp_path / "further")) == named("base")
    # Pretraining that goes on makes another base.
    assert base_of(str(tmp_path / "longer")) == str(tmp_path / "longer")


def test_another_tokenizer_is_refused(runs, tmp_path):
    published = letters(GOLDEN / "llama3_tied", tmp_path / "published")
    with pytest.raises(
        UserError, match=r"published reads its texts with another tokenizer, hf:.*algorithm\.features\.weights"
    ):
        runs.begin(ebft(features=features(weights=str(published))), "base")


def test_a_resumed_run_insists_on_its_features(runs, tmp_path):
    first = Runs(tmp_path)
    for name, algorithm in (("whole", ebft()), ("adapted", ebft(lora=LORA, kl=0.1))):
        first.make(name, algorithm, "tuned")
        _, start = first.begin(algorithm, "tuned", own=tmp_path / name)
        assert (start.source, start.step) == ("resume", 1)
        assert_trees_close(start.state.params, first.params[name], 0)
        _, deployed, _ = open_run(tmp_path / name)
        assert set(deployed) == {"embed", "final_norm", "head", "stack"}
    # The base is trained on, and its features are others.
    with Checkpoints(tmp_path / "base" / "checkpoints") as checkpoints:
        _, start = first.begin(LMConfig())
        state = start.state.replace(params=generic(start.state.params, 9))
        checkpoints.save(2, state, data={"position": 2}, meta=start.meta)
    for name, algorithm in (("whole", ebft()), ("adapted", ebft(lora=LORA, kl=0.1))):
        with pytest.raises(UserError, match="frozen networks differ from the checkpoint's"):
            first.begin(algorithm, "tuned", own=tmp_path / name)


@pytest.mark.slow
def test_a_run_is_trained_and_goes_on_where_it_stopped(runs, tmp_path):
    algorithm = ebft(lora=LORA, gamma=0.1, features=features(pool="mean"), whiten="feature_axis", align="cosine")
    train = TrainConfig(steps=2, batch_size=2, log_every=1, eval_every=2, eval_batches=1)
    config = runs.config(algorithm, "tuned", train=train)
    run_training(config, tmp_path / "cut")
    longer = dataclasses.replace(config, train=dataclasses.replace(train, steps=4))
    resumed, whole = run_training(longer, tmp_path / "cut"), run_training(longer, tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, resumed.state.params, whole.state.params)
    reported = {"reward", "alignment", "diversity", "reward_std", "duplicates", "matching_loss", "sampler_gap", "nll"}
    assert reported <= set(whole.metrics) and abs(whole.metrics["sampler_gap"]) < 1e-5
    assert whole.evaluation["validation/nll"] > 0
