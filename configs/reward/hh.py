"""A small reward model from human preferences (hh-rlhf): which of two answers is the more helpful, or the more harmless, one.

People judged one or the other, and what they preferred differs: the longer answer for help, the shorter one for harmlessness.
So what was asked stands behind both answers, and the model learns both.

Command:  python -m experiments.tokenizer configs/reward/hh.py vocab=4096 out=runs/reward/tokenizer.json
          python -m experiments.pretrain configs/reward/answers.py workdir=runs/reward/answers
          python -m experiments.pretrain configs/reward/hh.py workdir=runs/reward/hh
          python -m experiments.preferences runs/reward/hh
Expected: an accuracy of about 0.6 on pairs whose prompts are held out, in helpful-base and harmless-base above the rule that
          length decides (docs/log.md, with what did worse). More than two passes learn pairs by heart.
Hardware: 2 CPU cores, 8 minutes for the language model and 6 for this one; the files of $EBM_JAX_DATA.
"""

from configs.pretrained import ANSWERS, ANSWERS_TOKENIZER, answers
from ebm_jax.algorithms.reward_model import RewardModelConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="reward_hh",
        model=answers(),
        algorithm=RewardModelConfig(centering=0.01),
        data=DataConfig(
            source="pairs:$EBM_JAX_DATA/pref_hh_rlhf",
            tokenizer=ANSWERS_TOKENIZER,
            # "More harmless", "More helpful-": a file's name begins with what its judges were asked.
            # Answers stay whole; of long dialogues the beginning goes.
            examples=ExamplesConfig(ending="\n\nMore {file:.8}", overlong="cut_start"),
            context=512,
            append_eos=True,
            validation_fraction=0.2,
            test_fraction=0.0,
        ),
        # Low, so that what the language model knows is kept: a linear map of it agrees with people at once.
        optim=OptimConfig(peak_lr=2e-4, warmup_steps=30, decay_steps=450, b2=0.99, weight_decay=0.1),
        train=TrainConfig(steps=450, batch_size=16, log_every=10, eval_every=150, checkpoint_every=150),
        eval=EvalConfig(batch_size=16),
        weights=ANSWERS,
    )
