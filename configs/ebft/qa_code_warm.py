"""EBFT and RLVR on questions and Python answers from a model that has seen them once: configs/ebft/qa_code.py, warm.

Features are the base model's still. What the report calls base is the model that has seen them.

Command:  python -m experiments.finetune configs/ebft/qa_code.py only=sft_once
          python -m experiments.finetune configs/ebft/qa_code_warm.py
          python -m experiments.paper.ebft_qa_code runs/ebft_qa_code runs/ebft_qa_code_warm
Expected: the paper's account: EBFT hardly needs the warm start, RLVR relies on it. Its figures could not be obtained.
Hardware: as configs/ebft/qa_code.py, half the time; nothing was measured with this file here.
"""

from dataclasses import replace

from configs.ebft.qa_code import TASK, TESTS, passed
from configs.feature_matching import ebft
from ebm_jax.comparison import Comparison

WARM = replace(TASK, name="ebft_qa_code_warm", weights="runs/ebft_qa_code/sft_once/seed=0")


def get_config() -> Comparison:
    return Comparison(
        name=WARM.name,
        methods={
            "ebft": WARM.run(ebft(), epochs=1),
            "rlvr": WARM.rlvr(TESTS, "{unit_tests}", epochs=1, steps=256),
        },
        rows_of="rlvr",
        matching=WARM.matching(),
        tasks={"tests": passed()},
        headline="tests",
    )
