"""What a continuation's tokens are rewarded for, small: rewards, credit and samples of the EBFT of configs/ebft/books.py.

Command:  python -m experiments.gradient_noise configs/ebft/ablation/small_credit.py
          python -m experiments.finetune configs/ebft/ablation/small_credit.py seeds=0,1,2
          python -m experiments.paper.ebft_ablation runs/ebft_small_credit
Expected: docs/log.md has the noise of each; what they learn was not measured.
Hardware: 2 CPU cores; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace
from typing import Any

from configs.ebft import books
from ebm_jax.algorithms.ebft import EBFTConfig
from ebm_jax.comparison import Comparison
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.models.features import FeatureConfig

TOKEN, MEAN = FeatureConfig(pool="token"), FeatureConfig(pool="mean")
TO_GO: dict[str, Any] = {"features": TOKEN, "credit": "to_go"}
VARIANTS: dict[str, dict[str, Any]] = {
    "last": {},
    "mean": {"features": MEAN},
    "whitened": {"whiten": "feature_axis", "align": "cosine"},
    "token": {"features": TOKEN},
    "to_go": TO_GO,
    "to_go_n8": TO_GO | {"samples": 8},
    "to_go_n16": TO_GO | {"samples": 16},
    "to_go_n8_alpha0.5": TO_GO | {"samples": 8, "alpha": 0.5},
    "to_go_n8_steps4": TO_GO | {"samples": 8, "anchors": AnchorConfig(steps=4, stride=4)},
    "to_go_n8_steps16": TO_GO | {"samples": 8, "anchors": AnchorConfig(steps=16, stride=16, prefix=16)},
}


def get_config() -> Comparison:
    whole = books.get_config()
    variants = {name: replace(whole.first, algorithm=EBFTConfig(**changes)) for name, changes in VARIANTS.items()}
    return replace(whole, name="ebft_small_credit", methods={"sft": whole.methods["sft"], **variants}, matched={})
