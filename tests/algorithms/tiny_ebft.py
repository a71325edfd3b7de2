"""Tiny EBFT in float64 that tests share, and the probabilities of its samples by ordinary language modelling."""

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax.algorithm import Variables
from ebm_jax.algorithms.ebft import EBFT, EBFTConfig
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.models.features import FeatureConfig
from tests.tiny import DOUBLE, generic, shapes, transformer

ANCHORS = AnchorConfig(steps=2, stride=2, prefix=2)
FEATURES = FeatureConfig(depths=(1,), dtype="float64")
LENGTH, BLOCKS = 6, 2
"""Tokens of a row, in which ``ANCHORS`` has two blocks."""


def ebft(vocab=11, model=None, precision=DOUBLE, **config) -> EBFT:
    settings = {
        "samples": 3,
        "anchors": ANCHORS,
        "features": FEATURES,
        "sampling": SamplingConfig(temperature=0.7),
    }
    return EBFT(EBFTConfig(**(settings | config)), transformer(**({"depth": 1} | (model or {}))), vocab, precision)


def variables_of(algorithm: EBFT, length=LENGTH) -> Variables:
    """Generic numbers; the frozen networks are not those that are trained."""
    like = shapes(algorithm, length=length)
    return Variables(params=generic(like.params), frozen=generic(like.frozen, 1))


def rows(prompts) -> dict:
    """A batch of whole rows, one document each; the token behind a row is 0."""
    prompts = jnp.asarray(prompts, jnp.int32)
    place = jnp.broadcast_to(jnp.arange(prompts.shape[1], dtype=jnp.int32), prompts.shape)
    return {
        "inputs": prompts,
        "targets": jnp.pad(prompts[:, 1:], ((0, 0), (0, 1))),
        "weights": (place < prompts.shape[1] - 1).astype(jnp.float32),
        "segments": jnp.ones_like(prompts),
        "positions": place,
        "index": jnp.arange(len(prompts), dtype=jnp.uint32),
    }


def next_log_probs(algorithm: EBFT, network, batch, made_BxGxSxT, temperature):
    """Of every token of the vocabulary in front of every sampled one, ``[B, G, S, T, V]``; each block is read by itself.

    For rows of one document, whose positions count from its start.
    """
    anchors = algorithm.config.anchors
    each = []
    for block, anchor in enumerate(range(anchors.prefix, batch["inputs"].shape[1] - anchors.steps + 1, anchors.stride)):
        made = made_BxGxSxT[:, :, block]
        shape = (*made.shape[:2], anchor)
        prefix = jnp.broadcast_to(batch["inputs"][:, None, :anchor], shape)
        text = jnp.concatenate([prefix, made], -1).reshape(-1, anchor + anchors.steps)
        place = jnp.broadcast_to(jnp.arange(text.shape[1]), text.shape)
        logits = algorithm.model.apply({"params": network}, text, place, jnp.ones_like(text))
        log_probs = jax.nn.log_softmax(logits[:, anchor - 1 : -1] / temperature)
        each.append(log_probs.reshape(*made.shape, -1))
    return jnp.stack(each, 2)


def chosen(log_probs_BxGxSxTxV, made_BxGxSxT):
    return jnp.take_along_axis(log_probs_BxGxSxTxV, jnp.asarray(made_BxGxSxT)[..., None], -1)[..., 0]


def some_rows(count=2, vocab=11, seed=0, length=LENGTH):
    return rows(np.random.default_rng(seed).integers(1, vocab, (count, length)))
