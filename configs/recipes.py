"""How the configs train: the papers' recipes, and those for models of a few hundred thousand parameters on bytes.

A recipe is changed here and nowhere else. ``docs/log.md`` says what each difference of the small ones gave.
"""

import math
from typing import Any

from ebm_jax.algorithms.ebt import PAPER, EBTConfig
from ebm_jax.energy.replay import ReplayConfig
from ebm_jax.energy.schedule import PAPER_S1, PAPER_S2, S1, S2
from ebm_jax.models.sizes import SIZES
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig


def paper_s1() -> EBTConfig:
    """S1: two landscapes told apart by a time embedding, a learned step size, the loss on both (EBT, appendix D.1)."""
    return EBTConfig(**PAPER, descent=PAPER_S1)


def paper_s2() -> EBTConfig:
    """S2: two or three noisy steps of random size and replay, the loss on the last (EBT, appendix D.1)."""
    replay = ReplayConfig(capacity=768, fraction=0.5, dtype="bfloat16")  # 192 on each of four devices
    return EBTConfig(**PAPER, descent=PAPER_S2, replay=replay)


def paper_optim(size: str) -> OptimConfig:
    """The learning rate of table D.1, which EBT shares with Transformer++; a horizon of 1 M steps however short the run."""
    return OptimConfig(peak_lr=SIZES[size].peak_lr, warmup_steps=10_000, decay_steps=1_000_000)


def paper_train(*, steps: int, batch_size: int) -> TrainConfig:
    """An evaluation and a checkpoint every 10,000 steps; the best one stays."""
    return TrainConfig(
        steps=steps,
        batch_size=batch_size,
        log_every=50,
        eval_every=10_000,
        eval_batches=64,
        checkpoint_every=10_000,
        keep_best="validation/nll",
    )


def ebft_steps(rows: int, *, batch_size: int = 16, episodes: int = 1) -> int:
    """Steps that read ``rows`` so many times; what does not fill a batch is left out each time."""
    return rows // batch_size * episodes


def ebft_optim(steps: int) -> OptimConfig:
    """Adam at 1e-6 without decay of any kind, after a warm-up over 3 percent of the steps (EBFT)."""
    return OptimConfig(
        peak_lr=1e-6, warmup_steps=math.ceil(0.03 * steps), schedule="constant", b2=0.95, weight_decay=0.0
    )


def ebft_train(steps: int, *, batch_size: int = 16, checkpoints: int = 10) -> TrainConfig:
    """An evaluation every 100 steps, and checkpoints that lie evenly on a logarithmic scale from 0.8 percent to the end."""
    shares = [10 ** (-2.1 * (1 - n / (checkpoints - 1))) for n in range(checkpoints)]
    at = sorted({int(share * steps) for share in shares} - {0})
    return TrainConfig(
        steps=steps,
        batch_size=batch_size,
        log_every=10,
        eval_every=100,
        eval_batches=8,
        checkpoint_at=tuple(at),
        keep=checkpoints,
    )


def small_s1() -> EBTConfig:
    """S1 by the default recipe: a step embedding in every candidate, a tied vocabulary matrix, a zero head, alpha from 1."""
    return EBTConfig(descent=S1)


def small_s2() -> EBTConfig:
    """S2 by the default recipe: as ``small_s1``, with alpha fixed at 1 and noise of 1."""
    return EBTConfig(descent=S2, replay=ReplayConfig(capacity=64, fraction=0.5))


def small_optim(**changes: Any) -> OptimConfig:
    """One learning rate for Transformer++ and both EBTs: twice that of the paper's 4xs."""
    return OptimConfig(peak_lr=5e-3, warmup_steps=50, b2=0.99, **changes)


def small_train() -> TrainConfig:
    """One pass over the sample; five checkpoints that all stay, to see how thinking changes in training."""
    return TrainConfig(
        steps=2000, batch_size=8, log_every=10, eval_every=100, eval_batches=8, checkpoint_every=400, keep=5
    )
