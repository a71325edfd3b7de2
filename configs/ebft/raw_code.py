"""Fine-tuning Qwen2.5-1.5B on Python files: EBFT and SFT, where nothing could verify an answer (the EBFT paper's second task).

Command:  hf download Qwen/Qwen2.5-1.5B --local-dir models/Qwen2.5-1.5B
          python -m experiments.finetune configs/ebft/raw_code.py
          for every run and for the base model (out=runs/ebft_raw_code/base/tasks):
          python -m experiments.evaluate RUN tasks=humaneval,mbpp samples=16 temperature=0.6
          python -m experiments.paper.ebft_raw_code runs/ebft_raw_code
Expected: as far as public accounts of the paper have it: pass@1 of 0.467 for SFT and 0.524 for EBFT, on which benchmark could
          not be told for certain (HumanEval, or a mean with it).
Hardware: the paper used 2 H100s of 80 GB; nothing was measured with this file here.
Epochs:   the set is called one of 20 million tokens, which are 19,530 rows; see configs/ebft/qa_code.py.
"""

from configs.feature_matching import Task, ebft, joined
from configs.pretrained import QWEN, QWEN_TOKENS, hub_tokenizer, qwen
from ebm_jax.algorithms.ebft import PAPER
from ebm_jax.comparison import Comparison
from ebm_jax.models.features import FeatureConfig

TASK = Task(
    name="ebft_raw_code",
    model=qwen(),
    weights=QWEN,
    vocab_size=QWEN_TOKENS,
    data=joined("sft:hf:sjelassi/swallow_code_20m", hub_tokenizer(QWEN)),
    rows=19_530,
)


def get_config() -> Comparison:
    return Comparison(
        name=TASK.name,
        methods={
            "ebft": TASK.run(ebft(), epochs=2),
            "ebft_eq8": TASK.run(ebft(PAPER, features=FeatureConfig()), epochs=2),
            "sft": TASK.sft(epochs=2, peak_lr=1e-5),
            "sft_once": TASK.sft(epochs=1, peak_lr=1e-5),
        },
        matching=TASK.matching(),
    )
