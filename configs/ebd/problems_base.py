"""A small model of sums and number puzzles, good enough to be right often and wrong often.

Command:  python -m experiments.made_problems out=runs/ebd/problems.jsonl count=40000
          python -m experiments.pretrain configs/ebd/problems_base.py workdir=runs/ebd/problems_base
          python -m experiments.evaluate runs/ebd/problems_base tasks=sums,countdown
Expected: 0.55 of the sums and 0.45 of the puzzles by greedy decoding.
Hardware: one CPU core, 3 minutes beside another program; nothing but Python itself.
"""

from dataclasses import replace

from configs.pretrained import code
from ebm_jax.algorithms.lm import LMConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="problems",
        model=replace(code(), depth=2),
        algorithm=LMConfig(),
        data=DataConfig(
            source="sft:runs/ebd/problems.jsonl",
            tokenizer="bytes",
            examples=ExamplesConfig(prompt="{prompt}", completion="{solution}", separator=None),
            context=128,
            append_eos=True,
            validation_fraction=0.01,
            test_fraction=0.0,
        ),
        optim=OptimConfig(peak_lr=3e-3, warmup_steps=100, decay_steps=2000, b2=0.99, weight_decay=0.1),
        train=TrainConfig(
            steps=2000, batch_size=16, log_every=50, eval_every=500, eval_batches=8, checkpoint_every=1000
        ),
        eval=EvalConfig(batch_size=16),
    )
