"""A second model of the same problems, of four blocks where the first has two. Its likelihood guides, and so does a reward
model that begins with it.

Command:  python -m experiments.pretrain configs/ebd/problems_second.py workdir=runs/ebd/problems_second
          after the first command of configs/ebd/problems_base.py
Expected: 0.088 nats a byte of held-out solutions; 0.92 of the sums and 0.54 of the puzzles by greedy decoding.
Hardware: one CPU core, 6 minutes beside another program; nothing but Python itself.
"""

from dataclasses import replace

from configs.ebd.problems_base import get_config as base
from configs.pretrained import code
from ebm_jax.experiment import ExperimentConfig


def get_config() -> ExperimentConfig:
    return replace(base(), name="problems_second", model=code())
