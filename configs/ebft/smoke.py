"""Energy-based fine-tuning end to end in under a minute: a tiny untrained model and a few steps on the standard library.

Command:  python -m experiments.finetune configs/ebft/smoke.py
Expected: it ends, and resumes when started again.
Hardware: anything; nothing but Python itself.
"""

from ebm_jax.algorithms.ebft import EBFTConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="ebft_smoke",
        model=TransformerConfig(depth=4, width=32, heads=4),
        algorithm=EBFTConfig(gamma=0.1),
        data=DataConfig(source="stdlib", context=256, max_documents=40),
        optim=OptimConfig(peak_lr=1e-3, warmup_steps=2, decay_steps=8, b2=0.95),
        train=TrainConfig(steps=8, batch_size=8, log_every=1, eval_every=4, eval_batches=1, checkpoint_every=4),
        eval=EvalConfig(batch_size=8),
    )
