"""A reward of stories: whether a text goes on as a true one or as the small model of stories writes.

Command:  python -m experiments.written_pairs $EBM_JAX_DATA/lm_stories260k out=runs/ebd/pairs_0.jsonl.gz \\
              file=$EBM_JAX_DATA/text_tinystories/stories.jsonl.gz words=10,25,45,70 count=1400
          python -m experiments.pretrain configs/ebd/stories_reward.py workdir=runs/ebd/reward
Expected: 0.72 of held-out pairs right, 0.54 nats a pair.
Hardware: 19 minutes on one CPU core beside another program; the files of $EBM_JAX_DATA.
"""

from configs.pretrained import STORIES, stories, tokenizer
from ebm_jax.algorithms.reward_model import RewardModelConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="stories_reward",
        model=stories(),
        algorithm=RewardModelConfig(centering=0.01),
        data=DataConfig(
            source="pairs:runs/ebd/pairs_0.jsonl.gz",
            tokenizer=tokenizer(STORIES),
            examples=ExamplesConfig(prompt="{prompt}", separator=None, overlong="cut_start"),
            context=192,
            prepend_bos=True,
            validation_fraction=0.1,
            test_fraction=0.0,
        ),
        optim=OptimConfig(peak_lr=1e-3, warmup_steps=30, decay_steps=1200, b2=0.99, weight_decay=0.1),
        train=TrainConfig(steps=1200, batch_size=16, log_every=20, eval_every=300, checkpoint_every=300),
        eval=EvalConfig(batch_size=16),
        weights=STORIES,
    )
