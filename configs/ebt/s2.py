"""EBT S2 as published: thinking (EBT section 4.1.2).

Paper:    xxs, RedPajama-V2 sample, 256 tokens, batch 128, peak 1.2e-3, 1 M steps (figures 6 and 7, tables 2 and 3).
Command:  python -m experiments.pretrain configs/ebt/s2.py data.tokenizer=hf:20B_tokenizer.json workdir=runs/s2
Expected: 33.43 perplexity on the validation split (table 3); thinking longer and verifying gain 7.19 and 18.7 % (table 2).
Hardware: the paper used 4 A100s; nothing was measured with this file here.
"""

from ebm_jax.algorithms.ebt import EBTConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.energy.replay import ReplayConfig
from ebm_jax.energy.schedule import S2
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="ebt_s2",
        seed=33,
        model=TransformerConfig(size="xxs"),
        algorithm=EBTConfig(
            conditioning="time_embed", descent=S2, replay=ReplayConfig(capacity=768, fraction=0.5, dtype="bfloat16")
        ),
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
            batch_size=128,
            log_every=50,
            eval_every=10_000,
            eval_batches=64,
            checkpoint_every=10_000,
            keep_best="validation/nll",
        ),
        eval=EvalConfig(batch_size=64),
    )
