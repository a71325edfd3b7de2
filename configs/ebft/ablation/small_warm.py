"""A warm start, small: EBFT after the SFT of configs/ebft/books.py, features of the base model or of the one it begins with.

Command:  python -m experiments.finetune configs/ebft/books.py only=sft
          python -m experiments.finetune configs/ebft/ablation/small_warm.py seeds=0,1,2
          python -m experiments.paper.ebft_ablation runs/ebft_small_warm
Expected: nothing was measured with this file yet.
Hardware: 2 CPU cores; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.ablations import with_features
from configs.ebft import books
from ebm_jax.comparison import Comparison


def get_config() -> Comparison:
    whole = books.get_config()
    warm = {
        name: replace(whole.methods[name], weights="runs/ebft_books/sft/seed=0") for name in ("ebft", "sft", "rlvr")
    }
    other = {"features_initial": with_features(warm["ebft"], weights="initial")}
    return replace(whole, name="ebft_small_warm", methods=warm | other, matched={})
