"""Whitening, gamma and alpha on questions and Python answers: 18 runs from the base model (the EBFT paper's first set).

Command:  python -m experiments.finetune configs/ebft/ablation/grid_qa_code.py only=NAME   (a machine for each name)
          python -m experiments.paper.ebft_ablation runs/ebft_grid_qa_code
Expected: by the paper's account, leaving out whitening hurts most; gamma = 0 lowers cross-entropy below SFT's already, and a
          larger gamma faster; alpha = 1 is the most stable, and below it with gamma = 0 cross-entropy diverges. Its figures
          could not be obtained.
Hardware: as configs/ebft/qa_code.py for each run; nothing was measured with this file here.
"""

from configs.ablations import grid
from configs.ebft.qa_code import TASK
from configs.feature_matching import ebft
from ebm_jax.comparison import Comparison


def get_config() -> Comparison:
    methods = grid(TASK.run(ebft(), epochs=2), ("sample_axis", "none"))
    return Comparison(name="ebft_grid_qa_code", methods=methods, matching=TASK.matching())
