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
SAMPLED = SamplingConfig(temperature=1.0)


def every_length(gamma: float, alpha: float = 1.0, samples: int = 8) -> EBFTConfig:
    """Every token's own reward, and credit for all that follow: of what we tried, the least noise (docs/log.md)."""
    features = FeatureConfig(pool="token")
    return EBFTConfig(gamma=gamma, alpha=alpha, samples=samples, features=features, credit="to_go")


def one_reward(config: ExperimentConfig) -> ExperimentConfig:
    """The run with one reward for a continuation, its last token's, four samples, and gamma as in the published example."""
    return replace(config, algorithm=EBFTConfig(gamma=0.03))


def side_by_side(ebft: ExperimentConfig, rlvr_lr: float) -> Comparison:
    """The run beside SFT on the same rows, in as many steps (``sft``) and with as many FLOPs (``sft_flops``), and beside RLVR.

    BLEU decides, which is RLVR's reward as well.
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
        tasks={"bleu": bleu()},
        headline="bleu",
    )


def bleu(rows: int = 512) -> TaskConfig:
    """BLEU of 32 sampled tokens with the true ones, at four places of a row."""
    return TaskConfig(reward=BLEU, anchors=CONTINUED, sampling=SAMPLED, samples=4, rows=rows)
