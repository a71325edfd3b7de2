"""A comparison of two methods on a few bytes, for the tests of what trains and measures it."""

from dataclasses import replace
from pathlib import Path

from ebm_jax.algorithms.ebft import EBFTConfig
from ebm_jax.algorithms.lm import LMConfig
from ebm_jax.algorithms.sft import SFTConfig
from ebm_jax.comparison import Comparison
from ebm_jax.data.config import DataConfig
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.evals.continuations import MatchingConfig, TaskConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig, run_training
from ebm_jax.grading.rewards import RewardConfig
from ebm_jax.models.features import FeatureConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig

ANCHORS = AnchorConfig(steps=4, stride=4, prefix=4)
FEATURES = FeatureConfig(depths=(1, 2))


def run_config(folder: Path, **changes) -> ExperimentConfig:
    """A language model of two blocks on a few lines of text, two steps."""
    text = folder / "corpus.txt"
    if not text.exists():
        text.write_text("\n".join(f"line {i} of a small text that says {i * i}" for i in range(200)))
    data = DataConfig(
        source=f"text:{text}",
        documents="blocks",
        block_chars=200,
        context=32,
        workers=0,
        validation_fraction=0.3,
        test_fraction=0.0,
        cache_dir=str(folder / "cache"),
    )
    config = ExperimentConfig(
        name="tiny",
        model=TransformerConfig(depth=2, width=16, heads=2),
        algorithm=LMConfig(),
        data=data,
        optim=OptimConfig(peak_lr=1e-2, warmup_steps=1, schedule="constant"),
        train=TrainConfig(steps=2, batch_size=8, log_every=1, checkpoint_every=0, eval_batches=1),
        eval=EvalConfig(batch_size=8),
    )
    return replace(config, **changes)


def begun(folder: Path) -> str:
    """The folder of a run to begin with."""
    run_training(run_config(folder), folder / "begun")
    return str(folder / "begun")


def comparison(folder: Path, weights: str | None, **changes) -> Comparison:
    """EBFT and SFT, three steps each."""
    method = run_config(folder, weights=weights, train=TrainConfig(steps=3, batch_size=8, log_every=1, eval_batches=1))
    bleu = RewardConfig(kind="bleu", workers=1)
    task = TaskConfig(
        reward=bleu,
        anchors=AnchorConfig(places="random", steps=6, most=2),
        sampling=SamplingConfig(temperature=1.0),
        samples=3,
        rows=8,
    )
    settings = {
        "name": "tiny",
        "methods": {
            "ebft": replace(method, algorithm=EBFTConfig(samples=3, anchors=ANCHORS, features=FEATURES)),
            "sft": replace(method, algorithm=SFTConfig()),
        },
        "matching": MatchingConfig(lengths=(1, 2, 4), samples=3, anchors=24, per_row=4, features=FEATURES),
        "tasks": {"bleu": task},
        "headline": "bleu",
    }
    return Comparison(**(settings | changes))
