"""Whitening, gamma and alpha, small: the EBFT of configs/ebft/stories.py in 18 settings (the EBFT paper's first set).

Command:  python -m experiments.finetune configs/ebft/ablation/small_grid.py seeds=0,1,2
          python -m experiments.paper.ebft_ablation runs/ebft_small_grid
Expected: nothing was measured with this file yet.
Hardware: 2 CPU cores; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.ablations import grid
from configs.ebft import stories
from ebm_jax.comparison import Comparison


def get_config() -> Comparison:
    whole = stories.get_config()
    method = replace(whole.first, algorithm=replace(whole.first.algorithm, align="cosine"))
    return replace(whole, name="ebft_small_grid", methods=grid(method, ("sample_axis", "none")))
