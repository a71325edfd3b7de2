"""Energy-based fine-tuning of a small language model of Python that was trained here, on raw code, beside SFT and RLVR.

Command:  python -m experiments.finetune configs/ebft/code.py seeds=0,1,2
          after the two commands of configs/ebft/code_base.py
Expected: nothing was measured with this file yet.
Hardware: 2 CPU cores; nothing but Python itself.
"""

from dataclasses import replace

from configs.ebft.code_base import get_config as base
from configs.pretrained import CODE
from configs.side_by_side import every_length, side_by_side
from ebm_jax.comparison import Comparison
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> Comparison:
    ebft = replace(
        base(),
        name="code",
        algorithm=every_length(gamma=0.5, alpha=0.5),
        optim=OptimConfig(peak_lr=3e-4, warmup_steps=10, decay_steps=150, b2=0.99, weight_decay=0.0),
        train=TrainConfig(steps=150, batch_size=8, log_every=10, eval_every=50, eval_batches=8, checkpoint_every=50),
        weights=CODE,
    )
    return side_by_side(ebft, rlvr_lr=3e-4)
