"""Responses that stand for a law by their weights, which are known as logarithms and up to a factor."""

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import rng
from ebm_jax.decoders.job import Job
from ebm_jax.decoding.sampling import choose


def log_mean(log_w: np.ndarray) -> np.ndarray:
    """``log (1/N sum_i w_i)`` over the last axis: ``[..., N]`` to ``[...]``."""
    top = log_w.max(-1, keepdims=True)
    return top[..., 0] + np.log(np.exp(log_w - top).mean(-1))


def effective(log_w: np.ndarray) -> np.ndarray:
    """``(sum w)^2 / sum w^2`` over the last axis, the effective number of weights, 1 to N: ``[..., N]`` to ``[...]``."""
    w = np.exp(log_w - log_w.max(-1, keepdims=True))
    return w.sum(-1) ** 2 / (w**2).sum(-1)


def chosen(job: Job, log_w_PxN: np.ndarray, name: str, step: int = 0) -> np.ndarray:
    """One of N for every prompt, drawn with ``w_i / sum_j w_j``: its place, ``[P]``.

    It is a function of the weights and of the job's key, prompt number, name and step alone.
    """
    keys = rng.per_row(rng.at_step(rng.stream(job.key, name), step), jnp.asarray(job.numbers))
    # Single precision tells weights near the greatest apart, however great that is.
    log_w = jnp.asarray(log_w_PxN - log_w_PxN.max(-1, keepdims=True))
    return np.asarray(choose(log_w, jax.vmap(jax.random.uniform)(keys)))
