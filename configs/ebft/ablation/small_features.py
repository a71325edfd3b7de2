"""What is matched, small: configs/ebft/books.py with one reward a continuation, one thing changed in a run.

Command:  python -m experiments.finetune configs/ebft/ablation/small_features.py seeds=0,1,2
          python -m experiments.paper.ebft_ablation runs/ebft_small_features
Expected: nothing was measured with this file yet.
Hardware: 2 CPU cores; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.ablations import features
from configs.ebft import books
from configs.side_by_side import one_reward
from ebm_jax.comparison import Comparison


def get_config() -> Comparison:
    whole = books.get_config()
    methods = features(one_reward(whole.first))
    return replace(whole, name="ebft_small_features", methods=methods, matched={})
