"""A small language model of answers to instructions, for a reward model to begin with: what 15 models wrote for AlpacaEval.

Command:  python -m experiments.tokenizer configs/reward/hh.py vocab=4096 out=runs/reward/tokenizer.json
          python -m experiments.pretrain configs/reward/answers.py workdir=runs/reward/answers
Expected: 3.7 nats a token, 1.6 bits a byte of held-out answers, after about two and a half passes.
Hardware: 2 CPU cores, 8 minutes; the files of $EBM_JAX_DATA.
"""

from configs.pretrained import ANSWERS_TOKENIZER, answers
from ebm_jax.algorithms.lm import LMConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="answers",
        model=answers(),
        algorithm=LMConfig(),
        data=DataConfig(
            source="jsonl:$EBM_JAX_DATA/pref_alpacaeval/outputs.jsonl.gz",
            text_field="output",
            tokenizer=ANSWERS_TOKENIZER,
            context=256,
            append_eos=True,
            validation_fraction=0.03,
            test_fraction=0.0,
        ),
        optim=OptimConfig(peak_lr=3e-3, warmup_steps=50, decay_steps=1500, b2=0.99, weight_decay=0.1),
        train=TrainConfig(
            steps=1500, batch_size=16, log_every=20, eval_every=250, eval_batches=8, checkpoint_every=500
        ),
        eval=EvalConfig(batch_size=16),
    )
