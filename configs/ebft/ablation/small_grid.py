"""Whitening, gamma and alpha, small: configs/ebft/books.py with one reward a continuation, in 18 settings (the paper's first
set).

Command:  python -m experiments.finetune configs/ebft/ablation/small_grid.py seeds=0,1,2
          python -m experiments.paper.ebft_ablation runs/ebft_small_grid
Expected: nothing was measured with this file yet.
Hardware: 2 CPU cores; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.ablations import grid
from configs.ebft import books
from configs.side_by_side import one_reward
from ebm_jax.comparison import Comparison


def get_config() -> Comparison:
    whole = books.get_config()
    method = one_reward(whole.first)
    method = replace(method, algorithm=replace(method.algorithm, align="cosine"))
    methods = grid(method, ("sample_axis", "none"))
    return replace(whole, name="ebft_small_grid", methods=methods, matched={})
