"""Whitening, gamma and alpha on Python files: 18 runs from the base model (the EBFT paper's first set).

Command:  python -m experiments.finetune configs/ebft/ablation/grid_raw_code.py only=NAME   (a machine for each name)
          python -m experiments.paper.ebft_ablation runs/ebft_grid_raw_code
Expected: by the paper's account, leaving out whitening hurts most; gamma = 0 lowers cross-entropy below SFT's already, and a
          larger gamma faster; alpha = 1 is the most stable, and below it with gamma = 0 cross-entropy diverges. Its figures
          could not be obtained.
Hardware: as configs/ebft/raw_code.py for each run; nothing was measured with this file here.
"""

from configs.ablations import grid
from configs.ebft.raw_code import TASK
from configs.feature_matching import ebft
from ebm_jax.comparison import Comparison


def get_config() -> Comparison:
    methods = grid(TASK.run(ebft(), epochs=2), ("sample_axis", "none"))
    return Comparison(name="ebft_grid_raw_code", methods=methods, matching=TASK.matching())
