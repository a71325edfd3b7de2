"""Small fine-tunings compared: EBFT beside SFT, of as many tokens and of as much work, and beside RLVR."""

from dataclasses import replace

from ebm_jax.algorithms.ebft import EBFTConfig
from ebm_jax.algorithms.rlvr import RLVRConfig
from ebm_jax.algorithms.sft import SFTConfig
from ebm_jax.comparison import Comparison
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.evals.continuations import MatchingConfig, TaskConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.grading.rewards import RewardConfig
from ebm_jax.models.features import FeatureConfig

BLEU = RewardConfig(kind="bleu")
"""Sentence BLEU of a continuation with the true one."""
CONTINUED = AnchorConfig(places="random", steps=32, most=4)
TEMPERATURES = {"bleu": 0.6, "bleu_t1": 1.0, "bleu_greedy": 0.0}
"""Tasks by the temperature of their samples. The first decides: it is the published runs' own. It was chosen after one seed of
configs/ebft/books.py, in which the three do not agree (docs/log.md), so that seed has no part in what it decides."""


def every_length(gamma: float, alpha: float = 1.0, samples: int = 8) -> EBFTConfig:
    """Every token's own reward, and credit for all that follow: of what we tried, the least noise (docs/log.md)."""
    features = FeatureConfig(pool="token")
    return EBFTConfig(gamma=gamma, alpha=alpha, samples=samples, features=features, credit="to_go")


def one_reward(config: ExperimentConfig) -> ExperimentConfig:
    """The run with one reward for a continuation, its last token's, four samples, and gamma as in the published example."""
    return replace(config, algorithm=EBFTConfig(gamma=0.03))


def side_by_side(ebft: ExperimentConfig, rlvr_lr: float) -> Comparison:
    """The run beside SFT on the same rows, in as many steps (``sft``) and with as many FLOPs (``sft_flops``), and beside RLVR.

    BLEU decides, at the published temperature; it is RLVR's reward as well.
    """
    sft = replace(ebft, algorithm=SFTConfig())
    rlvr = RLVRConfig(reward=BLEU, anchors=CONTINUED, end="ignore")
    return Comparison(
        name=ebft.name,
        methods={
            "ebft": ebft,
            "sft": sft,
            "sft_flops": sft,
            "rlvr": replace(ebft, algorithm=rlvr, optim=replace(ebft.optim, peak_lr=rlvr_lr)),
        },
        matched={"sft_flops": "ebft"},
        matching=MatchingConfig(samples=8, anchors=4096),
        tasks=graded(BLEU, CONTINUED, rows=512),
        headline="bleu",
    )


def graded(reward: RewardConfig, anchors: AnchorConfig, rows: int, split: str = "validation") -> dict[str, TaskConfig]:
    """Four samples of every continuation at each temperature, one where they would all be the same."""
    return {
        name: TaskConfig(
            reward=reward,
            anchors=anchors,
            sampling=SamplingConfig(temperature=temperature),
            samples=4 if temperature else 1,
            rows=rows,
            split=split,
        )
        for name, temperature in TEMPERATURES.items()
    }
