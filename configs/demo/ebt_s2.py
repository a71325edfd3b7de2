"""The demo's EBT S2, trained to be thought with: two or three noisy steps of random size, replay, the loss on the last.

Beside the paper's S2: the vocabulary matrix is tied to the token table, the energy head starts at zero, alpha is 1, initial
states have scale 3, and the noise is 1 instead of 3. docs/log.md says what each of them gave.

Command:  make demo, or python -m experiments.pretrain configs/demo/ebt_s2.py workdir=runs/demo/ebt_s2
Expected: see docs/log.md; the byte-bigram model of the same split is at about 3.49 bits/byte.
Hardware: 2 CPU cores.
"""

from ebm_jax.algorithms.ebt import EBTConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.energy.replay import ReplayConfig
from ebm_jax.energy.schedule import DescentConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig

STEPS = 1000


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="ebt_s2",
        model=TransformerConfig(size="4xs"),
        algorithm=EBTConfig(
            tied=True,
            head_init="zero",
            descent=DescentConfig(
                landscapes=1,
                random_repeats=2,
                min_repeats=2,
                step_size=1.0,
                learnable_step_size=False,
                step_size_spread=2.0,
                noise=1.0,
                initial_scale=3.0,
                detach=False,
                loss_on="last_step",
            ),
            replay=ReplayConfig(capacity=64, fraction=0.5),
        ),
        data=DataConfig(source="stdlib", context=128),
        optim=OptimConfig(peak_lr=5e-3, warmup_steps=50, decay_steps=STEPS, b2=0.99),
        train=TrainConfig(
            steps=STEPS, batch_size=8, log_every=10, eval_every=250, eval_batches=4, checkpoint_every=500
        ),
        eval=EvalConfig(batch_size=32, extra={"topics": "stdlib-topics"}),
    )
