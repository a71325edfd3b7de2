"""What the runs of the EBFT paper share (Jelassi et al. 2026, "Matching Features, Not Tokens"), and our choices where nothing
was published. A config in configs/ebft/ adds its model, data and task.

Of the paper's 27 settings of whitening, gamma and alpha it is not known which its tables show: gamma 0.03 and alpha 0.5 are
those of the example that was published with its code. Of RLVR only the rewards are known: n, temperature, lengths, RLOO and
its rate are ours. SFT's rates are those in the names of the published checkpoints; on questions and code that of raw code.
"""

from dataclasses import dataclass, replace
from typing import Any

from configs.recipes import ebft_optim, ebft_steps, ebft_train
from ebm_jax.algorithms.ebft import REFERENCE, EBFTConfig
from ebm_jax.algorithms.rlvr import RLVRConfig
from ebm_jax.algorithms.sft import SFTConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.evals.continuations import MatchingConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.grading.rewards import RewardConfig
from ebm_jax.models.features import FeatureConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.mesh import MeshConfig
from ebm_jax.precision import Precision

CONTEXT, ROWS = 1024, 16
"""Tokens of a row, and rows of a step."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained, and on what."""

    name: str
    model: TransformerConfig
    weights: str
    vocab_size: int
    data: DataConfig
    """Examples end to end, cut into rows wherever they end."""
    rows: int
    """How many there are, as far as it can be told beforehand."""
    split: str = "test"
    """What is held out."""

    def run(self, algorithm: Any, epochs: int, **optim: Any) -> ExperimentConfig:
        """The published runs' optimizer (a constant rate, unless ``optim`` says otherwise), evaluations and checkpoints."""
        steps = ebft_steps(self.rows, episodes=epochs)
        return ExperimentConfig(
            name=self.name,
            model=self.model,
            algorithm=algorithm,
            data=self.data,
            optim=replace(ebft_optim(steps), decay_steps=steps, **optim),
            train=ebft_train(steps),
            eval=EvalConfig(split=self.split, batch_size=ROWS),
            mesh=MeshConfig(data=1, fsdp=-1, rules="fsdp"),
            precision=Precision(compute="bfloat16"),
            weights=self.weights,
            vocab_size=self.vocab_size,
        )

    def sft(self, epochs: int, peak_lr: float) -> ExperimentConfig:
        """Cross-entropy of all tokens of the same rows, the rate falling to a tenth."""
        config = self.run(SFTConfig(), epochs, peak_lr=peak_lr, schedule="cosine")
        if not self.data.holds_examples:
            return config
        return replace(config, data=replace(self.data, examples=replace(self.data.examples, loss="full")))

    def rlvr(self, reward: RewardConfig, check: str, epochs: int, steps: int) -> ExperimentConfig:
        """Whole answers of up to ``steps`` tokens to the same questions, four of a row, four samples each."""
        examples = replace(self.data.examples, check=check)
        algorithm = RLVRConfig(
            reward=reward,
            samples=4,
            sampling=SamplingConfig(temperature=1.0),
            anchors=AnchorConfig(places="starts", steps=steps, most=4),
        )
        return replace(self.run(algorithm, epochs), data=replace(self.data, layout="packed", examples=examples))

    def matching(self, **changes: Any) -> MatchingConfig:
        """Features of the base model at 2,048 anchors, eight of a row."""
        settings = {"split": self.split, "batch_size": ROWS, "features": FeatureConfig(dtype="bfloat16")}
        return MatchingConfig(**(settings | changes))


def joined(source: str, tokenizer: str, **changes: Any) -> DataConfig:
    """Questions and answers as published runs read them: as they are, an end-of-text token between two examples, no other."""
    settings: dict[str, Any] = {
        "source": source,
        "tokenizer": tokenizer,
        "examples": ExamplesConfig(prompt="{question}", completion="{answer}"),
        "context": CONTEXT,
        "layout": "stream",
        "append_eos": True,
        "validation_fraction": 0.0,
        "test_fraction": 0.0,
    }
    return DataConfig(**(settings | changes))


def ebft(preset: dict[str, Any] = REFERENCE, **changes: Any) -> EBFTConfig:
    """A preset with the settings for code: n=4, eight tokens from every eighth on, features of the last one in bfloat16."""
    settings = {"gamma": 0.03, "alpha": 0.5, "features": FeatureConfig(dtype="bfloat16")}
    return EBFTConfig(**(preset | settings | changes))
