"""ARGS (arXiv 2402.01694): every token chosen among the likeliest by its logit and the reward of the text with it.

``score(v) = logit(v) + weight * R(x, y_<t, v)`` for the ``top_k`` likeliest v; the best is taken, or one is drawn by softmax of
the scores. It asks for ``top_k`` rewards of unfinished text for every token, and its law is no tilt of the model's.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import rng
from ebm_jax.decoders.job import PLAIN, Cost, Decoded, Job
from ebm_jax.decoding.sampling import SamplingConfig, choose
from ebm_jax.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ARGS:
    """Defaults are the paper's."""

    kind: ClassVar[str] = "args"
    top_k: int = 10
    weight: float = 1.5
    temperature: float = 0.0
    """Of the draw by scores; 0 takes the best."""

    def __post_init__(self) -> None:
        if self.top_k < 1 or self.temperature < 0:
            raise UserError(
                f"decoder.top_k={self.top_k} must be at least 1 and decoder.temperature={self.temperature} not negative"
            )

    @property
    def sampling(self) -> SamplingConfig:
        return PLAIN

    def log_probs(self) -> bool:
        return False

    def cost(self, length: float, horizon: int) -> Cost:
        return Cost(length, length * self.top_k)

    def decode(self, job: Job) -> Decoded:
        """One response of every prompt."""
        engine, batch = job.engine, job.begun(1)
        keys = rng.per_row(rng.stream(job.key, "args"), jnp.asarray(job.numbers))
        for place in range(engine.horizon):
            ended_X, rows = np.asarray(batch.responses.ended_X), np.arange(batch.rows)
            if ended_X.all():
                break
            logits_XxV, batch = engine.front(batch)
            logit_XxK, token_XxK = map(np.asarray, jax.lax.top_k(logits_XxV, min(self.top_k, logits_XxV.shape[-1])))
            going, before = np.flatnonzero(~ended_X), job.told(batch)
            reward_XxK = np.zeros(logit_XxK.shape)
            for rank in range(logit_XxK.shape[1]):
                tried = list(before)
                for row in map(int, going):
                    tried[row] = engine.response(batch, row, (*before[row].tokens, int(token_XxK[row, rank])))
                reward_XxK[going, rank] = job.rewards(batch, tried, going)
            score = logit_XxK + self.weight * reward_XxK
            if self.temperature:
                uniform = jax.vmap(lambda key, place=place: jax.random.uniform(jax.random.fold_in(key, place)))(keys)
                taken = np.asarray(choose(jnp.asarray(score / self.temperature), uniform))
            else:
                taken = np.argmax(score, -1)
            batch = engine.with_token(batch, token_XxK[rows, taken], logits_XxV)
            job.account.add("tokens", batch.prompt_X[going], 1)
            job.account.add("passes", np.unique(batch.prompt_X[going]), 1)
        told = job.told(batch)
        return Decoded(told, job.rewards(batch, told), {})
