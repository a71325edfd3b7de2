"""What is matched: configs/ebft/qa_code.py with one thing changed in each run.

Command:  python -m experiments.finetune configs/ebft/ablation/features_qa_code.py only=NAME   (a machine for each name)
          python -m experiments.paper.ebft_ablation runs/ebft_features_qa_code
Expected: by the paper's account: last-token features do better than means; a random network only a little worse than the base.
Hardware: as configs/ebft/qa_code.py for each run; nothing was measured with this file here.
"""

from configs.ablations import features
from configs.ebft.qa_code import TASK
from configs.feature_matching import ebft
from ebm_jax.comparison import Comparison


def get_config() -> Comparison:
    methods = features(TASK.run(ebft(), epochs=2))
    return Comparison(name="ebft_features_qa_code", methods=methods, matching=TASK.matching())
