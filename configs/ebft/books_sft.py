"""A small pretrained model of stories learns English books until more of the same teaches little.

Command:  python -m experiments.pretrain configs/ebft/books_sft.py workdir=runs/ebft/books_sft
Expected: 2.255 nats a token, 1.83 bits a byte of whole books that are held out. What feature matching finds there: docs/log.md.
Hardware: 2 CPU cores, about half an hour beside other programs; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.corpora import books
from configs.pretrained import STORIES, stories, tokenizer
from ebm_jax.algorithms.sft import SFTConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="books_sft",
        model=stories(),
        algorithm=SFTConfig(),
        data=replace(books(context=256), tokenizer=tokenizer(STORIES), prepend_bos=True),
        optim=OptimConfig(peak_lr=2e-3, warmup_steps=50, decay_steps=4000, b2=0.99, weight_decay=0.0),
        train=TrainConfig(
            steps=4000, batch_size=16, log_every=50, eval_every=500, eval_batches=16, checkpoint_every=1000
        ),
        eval=EvalConfig(batch_size=16),
        weights=STORIES,
    )
