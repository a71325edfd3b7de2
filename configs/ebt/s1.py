"""EBT S1 as published: learning and scaling (EBT section 4.1).

Paper:    xxs, RedPajama-V2 sample, 256 tokens, batch 256, peak 1.2e-3, horizon 1 M steps (figures 4 and 5).
Command:  python -m experiments.pretrain configs/ebt/s1.py data.tokenizer=hf:20B_tokenizer.json workdir=runs/s1
Expected: the paper's S1 at batch 128 goes from about 74 to 38.8 perplexity between 0.5 and 7 B tokens (figure 4a).
Hardware: the paper used 4 A100s; nothing was measured with this file here.
"""

from ebm_jax.algorithms.ebt import EBTConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.energy.schedule import S1
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="ebt_s1",
        seed=33,
        model=TransformerConfig(size="xxs"),
        algorithm=EBTConfig(conditioning="time_embed", descent=S1),
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
