"""Energy-based fine-tuning of a small language model of Python that was trained here, on raw code, beside SFT and RLVR.

Command:  python -m experiments.finetune configs/ebft/code.py seeds=0,1,2
          after the two commands of configs/ebft/code_base.py
Expected: nothing was measured with this file yet.
Hardware: 2 CPU cores; nothing but Python itself.
"""

from dataclasses import replace

from configs.ebft.code_base import get_config as base
from configs.pretrained import CODE
from ebm_jax.algorithms.ebft import EBFTConfig
from ebm_jax.algorithms.rlvr import RLVRConfig
from ebm_jax.algorithms.sft import SFTConfig
from ebm_jax.comparison import Comparison
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.evals.continuations import MatchingConfig, TaskConfig
from ebm_jax.grading.rewards import RewardConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig

LINE = RewardConfig(kind="exact", stop=("\n",))
"""The rest of the line, whole."""
CONTINUED = AnchorConfig(places="random", steps=24, most=8)


def get_config() -> Comparison:
    ebft = replace(
        base(),
        name="code",
        algorithm=EBFTConfig(),
        optim=OptimConfig(peak_lr=1e-4, warmup_steps=10, schedule="constant", b2=0.95, weight_decay=0.0),
        train=TrainConfig(steps=300, batch_size=8, log_every=10, eval_every=100, eval_batches=8, checkpoint_every=100),
        weights=CODE,
    )
    bleu = RewardConfig(kind="bleu")
    return Comparison(
        name="code",
        methods={
            "ebft": ebft,
            "sft": replace(ebft, algorithm=SFTConfig()),
            "sft_flops": replace(ebft, algorithm=SFTConfig()),
            "rlvr": replace(ebft, algorithm=RLVRConfig(reward=bleu, anchors=CONTINUED, end="ignore")),
        },
        matched={"sft_flops": "ebft"},
        matching=MatchingConfig(),
        tasks={
            "line": TaskConfig(reward=LINE, anchors=CONTINUED, sampling=SamplingConfig(temperature=1.0), samples=4),
            "bleu": TaskConfig(reward=bleu, anchors=CONTINUED, sampling=SamplingConfig(temperature=1.0), samples=4),
        },
        headline="line",
    )
