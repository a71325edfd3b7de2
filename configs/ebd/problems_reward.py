"""A reward model of solutions, step by step: whether one of the small model's own is right so far, learned from what a program
has graded.

Command:  python -m experiments.made_problems out=runs/ebd/asked_sums.jsonl kinds=sums count=8000 seed=2
          python -m experiments.made_problems out=runs/ebd/asked_countdown.jsonl kinds=countdown count=4000 seed=2
          python -m experiments.graded_pairs runs/ebd/problems_base out=runs/ebd/graded.jsonl.gz count=4000 samples=16 most=4 \\
              'steps=" "' task=sums=runs/ebd/asked_sums.jsonl,countdown=runs/ebd/asked_countdown.jsonl
          python -m experiments.pretrain configs/ebd/problems_reward.py workdir=runs/ebd/problems_reward
          after the commands of configs/ebd/problems_base.py and configs/ebd/problems_second.py
Expected: 0.72 of held-out pairs right; of those it learned from, 0.97 of the puzzles' and 0.66 of the sums'.
          docs/log.md says what that is good for.
Hardware: one CPU core, 11 minutes beside another program; nothing but Python itself.
"""

from configs.pretrained import SECOND, code
from ebm_jax.algorithms.reward_model import RewardModelConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="problems_reward",
        model=code(),
        algorithm=RewardModelConfig(centering=0.01),
        data=DataConfig(
            source="pairs:runs/ebd/graded.jsonl.gz",
            tokenizer="bytes",
            examples=ExamplesConfig(prompt="{prompt}", separator=None),
            context=176,
            append_eos=True,
            validation_fraction=0.05,
            test_fraction=0.0,
        ),
        optim=OptimConfig(peak_lr=1e-3, warmup_steps=50, decay_steps=1000, b2=0.99, weight_decay=0.1),
        train=TrainConfig(steps=1000, batch_size=32, log_every=15, eval_every=200, checkpoint_every=200),
        eval=EvalConfig(batch_size=32),
        weights=SECOND,
    )
