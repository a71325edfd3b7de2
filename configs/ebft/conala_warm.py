"""configs/ebft/conala.py from where SFT ended: a model that has the form of answers, as the published runs begin with.

Command:  python -m experiments.finetune configs/ebft/conala_warm.py seeds=1,2,3 ebft.algorithm.gamma=0.5
          after those of configs/ebft/conala.py, whose SFT of as many FLOPs as EBFT (seed 0) every method begins with
Expected: (docs/log.md) no method's BLEU above that of the start, which knows its training answers by heart; EBFT's
          feature-matching loss below that of both SFTs at 2 tokens and more.
Hardware: 52 minutes without RLVR on one CPU core beside another program; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.ebft.conala import get_config as cold
from ebm_jax.comparison import Comparison

START = "runs/conala/sft_flops/seed=0"
SAMPLES = 16
"""Of every question: the test split has few of them, so that each is asked often."""


def get_config() -> Comparison:
    compared = cold()
    methods = {
        name: replace(method, name=method.name.replace("conala", "conala_warm"), weights=START)
        for name, method in compared.methods.items()
    }
    tasks = {
        name: replace(task, samples=SAMPLES if task.sampling.temperature else 1)
        for name, task in compared.tasks.items()
    }
    return replace(compared, name="conala_warm", methods=methods, tasks=tasks)
