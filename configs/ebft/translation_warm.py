"""EBFT and RLVR on translations from a model that has seen them once: the warm start of configs/ebft/translation.py.

Command:  python -m experiments.finetune configs/ebft/translation.py only=sft_once
          python -m experiments.finetune configs/ebft/translation_warm.py
          python -m experiments.paper.ebft_translation runs/ebft_translation runs/ebft_translation_warm
Expected: figures of the paper could not be obtained.
Hardware: as configs/ebft/translation.py, half the time; nothing was measured with this file here.
"""

from dataclasses import replace

from configs.ebft.translation import BLEU, TASK, compared, method, translated
from ebm_jax.comparison import Comparison

WARM = replace(TASK, name="ebft_translation_warm", weights="runs/ebft_translation/sft_once/seed=0")


def get_config() -> Comparison:
    return Comparison(
        name=WARM.name,
        methods={"ebft": WARM.run(method(), epochs=1), "rlvr": WARM.rlvr(BLEU, "", epochs=1, steps=256)},
        rows_of="rlvr",
        matching=compared(),
        tasks={"bleu": translated()},
        headline="bleu",
    )
