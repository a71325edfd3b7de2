"""Energy-based fine-tuning of a real pretrained model on stories, its own kind of text, beside SFT and RLVR.

Command:  python -m experiments.finetune configs/ebft/stories.py
          SFT of as many FLOPs, by the report's figures: only=sft sft.train.steps=N sft.optim.decay_steps=N
Expected: 13 minutes; EBFT lowers cross-entropy by 0.022 and the feature-matching loss by 0.005 [0.002, 0.008] in the mean of
          lengths; RLVR raises them by 0.074 and 0.012. docs/log.md tells what other settings gave.
Hardware: 2 CPU cores; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.pretrained import STORIES, stories, tokenizer
from configs.side_by_side import BLEU, CONTINUED, every_length, graded, side_by_side
from ebm_jax.comparison import Comparison
from ebm_jax.data.config import DataConfig
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.evals.continuations import MatchingConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> Comparison:
    ebft = ExperimentConfig(
        name="stories",
        model=stories(),
        algorithm=replace(every_length(gamma=3.0), anchors=AnchorConfig(places="random", most=4)),
        data=DataConfig(
            source="jsonl:$EBM_JAX_DATA/text_tinystories/stories.jsonl.gz",
            tokenizer=tokenizer(STORIES),
            context=256,
            prepend_bos=True,
            validation_fraction=0.1,
            test_fraction=0.0,
        ),
        optim=OptimConfig(peak_lr=1e-3, warmup_steps=10, decay_steps=150, b2=0.99, weight_decay=0.0),
        train=TrainConfig(steps=150, batch_size=32, log_every=10, eval_every=50, eval_batches=8, checkpoint_every=50),
        eval=EvalConfig(batch_size=16),
        weights=STORIES,
    )
    compared = side_by_side(ebft, rlvr_lr=1e-4)
    three = {name: compared.methods[name] for name in ("ebft", "sft", "rlvr")}
    # As many continuations of a step as EBFT's, of fewer rows: it learns nothing from what is not continued.
    three["rlvr"] = replace(three["rlvr"], train=replace(ebft.train, batch_size=8))
    return replace(
        compared,
        methods=three,
        matched={},
        matching=MatchingConfig(anchors=3072, per_row=12),
        tasks=graded(BLEU, CONTINUED, rows=128),
    )
