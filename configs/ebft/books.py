"""Energy-based fine-tuning of a model of stories on two English books, beside SFT and RLVR; thirty others are held out.

Command:  python -m experiments.finetune configs/ebft/books.py seeds=1,2,3
Expected: (docs/log.md) EBFT's feature-matching loss below the base model's at every length, cross-entropy lower by 0.64, and by
          the task that decides above both SFTs, a little (0.0006) and beyond doubt; RLVR raises both losses. Seed 0 has no part
          in it: on it the settings were found.
Hardware: 2 CPU cores, 49 minutes of training by the records and about 45 of measuring; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.corpora import books
from configs.pretrained import STORIES, stories, tokenizer
from configs.side_by_side import every_length, side_by_side
from ebm_jax.comparison import Comparison
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> Comparison:
    texts = replace(books(context=256), tokenizer=tokenizer(STORIES), prepend_bos=True, validation_fraction=0.94)
    ebft = ExperimentConfig(
        name="ebft_books",
        model=stories(),
        algorithm=every_length(gamma=0.5, alpha=0.5),
        data=texts,
        optim=OptimConfig(peak_lr=1e-3, warmup_steps=10, decay_steps=200, b2=0.99, weight_decay=0.0),
        train=TrainConfig(steps=200, batch_size=8, log_every=10, eval_every=50, eval_batches=16, checkpoint_every=100),
        eval=EvalConfig(batch_size=16),
        weights=STORIES,
    )
    return side_by_side(ebft, rlvr_lr=3e-4)
