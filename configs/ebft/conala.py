"""Energy-based fine-tuning on questions and Python answers, of a model of Python's standard library that was trained here,
beside SFT and RLVR.

Command:  python -m experiments.finetune configs/ebft/conala.py seeds=0,1,2
          after the two commands of configs/ebft/code_base.py
Expected: (docs/log.md) EBFT's feature-matching loss below the base model's, and below that of SFT of as many FLOPs, at every
          length; below that of SFT of as many tokens at 8 and 16. BLEU above SFT's of as many tokens, below that of as many
          FLOPs, which learns answers by heart. RLVR raises both losses. With gamma 0.5 BLEU was no better than SFT's.
Hardware: 2 CPU cores, 35 minutes; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.ebft.code_base import get_config as base
from configs.pretrained import CODE
from configs.side_by_side import BLEU, every_length, graded, side_by_side
from ebm_jax.comparison import Comparison
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.evals.continuations import MatchingConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig

ANSWERS = AnchorConfig(places="starts", steps=48, most=8)


def get_config() -> Comparison:
    examples = ExamplesConfig(prompt="# {intent}\n", completion="{snippet}")
    inside = AnchorConfig(places="answers", steps=8, stride=8)
    ebft = replace(
        base(),
        name="conala",
        algorithm=replace(every_length(gamma=1.0, alpha=0.5), anchors=inside),
        data=replace(base().data, source="sft:$EBM_JAX_DATA/code_conala", examples=examples),
        optim=OptimConfig(peak_lr=1e-3, warmup_steps=10, decay_steps=60, b2=0.99, weight_decay=0.0),
        train=TrainConfig(steps=60, batch_size=8, log_every=10, eval_every=30, eval_batches=16, checkpoint_every=30),
        eval=EvalConfig(split="test", batch_size=16),
        weights=CODE,
    )
    compared = side_by_side(ebft, rlvr_lr=3e-4)
    rlvr = compared.methods["rlvr"]
    rlvr = replace(rlvr, algorithm=replace(rlvr.algorithm, anchors=ANSWERS, end="mask_after"))
    matching = MatchingConfig(
        lengths=(1, 2, 4, 8, 16), samples=4, anchors=2500, per_row=48, places="answers", split="test"
    )
    tasks = graded(BLEU, ANSWERS, rows=512, split="test")
    return replace(compared, methods=compared.methods | {"rlvr": rlvr}, matching=matching, tasks=tasks)
