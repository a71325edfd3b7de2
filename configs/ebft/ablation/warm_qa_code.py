"""Gamma and alpha on questions and Python answers after an epoch of SFT: 9 whitened runs (the EBFT paper's second set), and
features of the model that they begin with.

Command:  python -m experiments.finetune configs/ebft/qa_code.py only=sft_once
          python -m experiments.finetune configs/ebft/ablation/warm_qa_code.py only=NAME   (a machine for each name)
          python -m experiments.paper.ebft_ablation runs/ebft_warm_qa_code runs/ebft_grid_qa_code
Expected: by the paper's account, EBFT hardly needs the warm start. Figures could not be obtained.
Hardware: as configs/ebft/qa_code_warm.py for each run; nothing was measured with this file here.
"""

from configs.ablations import grid, with_features
from configs.ebft.qa_code_warm import WARM
from configs.feature_matching import ebft
from ebm_jax.comparison import Comparison


def get_config() -> Comparison:
    begun = WARM.run(ebft(), epochs=1)
    methods = grid(begun, ("sample_axis",)) | {"features_initial": with_features(begun, weights="initial")}
    return Comparison(name="ebft_warm_qa_code", methods=methods, matching=WARM.matching())
