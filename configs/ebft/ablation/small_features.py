"""What is matched, small: the EBFT of configs/ebft/stories.py, one thing changed in a run.

Command:  python -m experiments.finetune configs/ebft/ablation/small_features.py seeds=0,1,2
          python -m experiments.paper.ebft_ablation runs/ebft_small_features
Expected: nothing was measured with this file yet.
Hardware: 2 CPU cores; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.ablations import features
from configs.ebft import stories
from ebm_jax.comparison import Comparison


def get_config() -> Comparison:
    whole = stories.get_config()
    return replace(whole, name="ebft_small_features", methods=features(whole.first))
