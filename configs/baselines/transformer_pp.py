"""Transformer++ as published beside EBT: the same blocks, data and schedule (EBT section 4.1).

Paper:    xxs, RedPajama-V2 sample, 256 tokens, batch 256, peak 1.2e-3, horizon 1 M steps.
Command:  python -m experiments.pretrain configs/baselines/transformer_pp.py data.tokenizer=hf:20B_tokenizer.json
Expected: 31.36 perplexity on the validation split after 1 M steps at batch 128 (table 3).
Hardware: the paper used 4 A100s; nothing was measured with this file here.
"""

from ebm_jax.algorithms.lm import LMConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="transformer_pp",
        seed=33,
        model=TransformerConfig(size="xxs"),
        algorithm=LMConfig(),
        data=DataConfig(
            source="hf:togethercomputer/RedPajama-Data-V2:sample-100B",
            text_field="raw_content",
            tokenizer="hf:20B_tokenizer.json",
            context=256,
            layout="truncate",
            validation_fraction=0.0005,
            test_fraction=0.0,
        ),
        optim=OptimConfig(peak_lr=1.2e-3, warmup_steps=10_000, decay_steps=1_000_000),
        train=TrainConfig(
            steps=1_000_000,
            batch_size=256,
            log_every=50,
            eval_every=10_000,
            eval_batches=64,
            checkpoint_every=10_000,
            keep_best="validation/nll",
        ),
        eval=EvalConfig(batch_size=64),
    )
