"""EBFT on Python files from a model that has seen them once: the warm start of configs/ebft/raw_code.py.

Command:  python -m experiments.finetune configs/ebft/raw_code.py only=sft_once
          python -m experiments.finetune configs/ebft/raw_code_warm.py
          python -m experiments.paper.ebft_raw_code runs/ebft_raw_code runs/ebft_raw_code_warm
Expected: figures of the paper could not be obtained.
Hardware: as configs/ebft/raw_code.py, half the time; nothing was measured with this file here.
"""

from dataclasses import replace

from configs.ebft.raw_code import TASK
from configs.feature_matching import ebft
from ebm_jax.comparison import Comparison

WARM = replace(TASK, name="ebft_raw_code_warm", weights="runs/ebft_raw_code/sft_once/seed=0")


def get_config() -> Comparison:
    return Comparison(name=WARM.name, methods={"ebft": WARM.run(ebft(), epochs=1)}, matching=WARM.matching())
