"""A judge of stories: what configs/ebd/stories_reward.py is taught, of other stories, in another order.

Command:  python -m experiments.written_pairs $EBM_JAX_DATA/lm_stories260k out=runs/ebd/pairs_1.jsonl.gz \\
              file=$EBM_JAX_DATA/text_tinystories/stories.jsonl.gz words=10,25,45,70 count=1400 skip=1400 seed=1
          python -m experiments.pretrain configs/ebd/stories_judge.py workdir=runs/ebd/judge
Expected: 0.62 of held-out pairs right; with this seed it begins to learn late.
Hardware: 14 minutes on one CPU core beside another program; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.ebd.stories_reward import get_config as reward
from ebm_jax.experiment import ExperimentConfig


def get_config() -> ExperimentConfig:
    config = reward()
    data = replace(config.data, source="pairs:runs/ebd/pairs_1.jsonl.gz")
    return replace(config, name="stories_judge", seed=1, data=data)
