"""Gamma and alpha on translations after an epoch of SFT: 9 whitened runs (the EBFT paper's second set), and features of
the model that they begin with.

Command:  python -m experiments.finetune configs/ebft/translation.py only=sft_once
          python -m experiments.finetune configs/ebft/ablation/warm_translation.py only=NAME   (a machine for each name)
          python -m experiments.paper.ebft_ablation runs/ebft_warm_translation runs/ebft_grid_translation
Expected: by the paper's account, EBFT hardly needs the warm start. Figures could not be obtained.
Hardware: as configs/ebft/translation_warm.py for each run; nothing was measured with this file here.
"""

from configs.ablations import grid, with_features
from configs.ebft.translation import compared, method
from configs.ebft.translation_warm import WARM
from ebm_jax.comparison import Comparison


def get_config() -> Comparison:
    begun = WARM.run(method(), epochs=1)
    methods = grid(begun, ("sample_axis",)) | {"features_initial": with_features(begun, weights="initial")}
    return Comparison(name="ebft_warm_translation", methods=methods, matching=compared())
