"""Rollouts: many short continuations of every prompt's beginnings, sampled together.

A prompt is read once, however many samples and blocks grow from it; then every block of every sample takes one more token at a
time against the prompt's keys and values and its own (EBFT). The logits are those of ordinary decoding behind each
prefix.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ebm_jax import rng
from ebm_jax.decoding.anchors import Prompt
from ebm_jax.decoding.sampling import SamplingConfig, choose, filtered
from ebm_jax.models.lm import TransformerLM, with_whole_tables
from ebm_jax.nn.branches import Branches
from ebm_jax.parallel.rules import constrain
from ebm_jax.types import Array, Params, PRNGKey, PyTree


class Rollout(NamedTuple):
    """Sampled continuations, ``[B, G, S, T]`` each."""

    tokens: Array
    log_probs: Array
    """Under the tempered policy ``softmax(logits / temperature)``, in float32 or wider, whatever filters cut; where the
    temperature is 0, under the model itself."""


def rollout(
    network: TransformerLM,
    params: Params,
    prompt: Prompt,
    branches: Branches,
    sampling: SamplingConfig,
    samples: int,
    key: PRNGKey,
    index_B: Array,
) -> Rollout:
    """``samples`` continuations of every block; a function of (key, row, sample, block, step) for the blocks that a row has."""
    (rows, blocks), steps = branches.anchor_BxS.shape, branches.position_BxSxT.shape[-1]
    variables = {"params": with_whole_tables(params, network.precision.compute_dtype)}
    draws = rng.uniform_rows(rng.stream(key, "rollout"), index_B, (steps, samples, blocks), jnp.float32)
    draws_TxBxGxS = jnp.moveaxis(draws, 1, 0)

    def draw(logits_BxGxSxV: Array, uniform_BxGxS: Array) -> tuple[Array, Array]:
        tempered = logits_BxGxSxV / (sampling.temperature or 1.0)
        if sampling.temperature:
            tokens = choose(filtered(logits_BxGxSxV, sampling), uniform_BxGxS)
        else:
            tokens = jnp.argmax(logits_BxGxSxV, -1).astype(jnp.int32)
        chosen = jnp.take_along_axis(tempered, tokens[..., None], -1)[..., 0]
        return tokens, chosen - jax.nn.logsumexp(tempered, -1)

    logits_BxSxV, prefix = network.apply(variables, *prompt, branches, method="read_anchors")
    # Samples share a block's first logits: of what depends on these alone, one copy is made.
    first = jax.vmap(draw, in_axes=(None, 1), out_axes=1)(logits_BxSxV, draws_TxBxGxS[0])
    own = network.apply(variables, rows, samples * blocks, steps, method="branch_room")

    def step(carry: tuple[Array, PyTree], at: tuple[Array, Array]):
        tokens, own = carry
        number, uniform = at
        logits, own = network.apply(variables, prefix, own, number, tokens, branches, method="grow")
        tokens, log_probs = draw(constrain(logits, "batch", None, None, "act_vocab"), uniform)
        return (tokens, own), (tokens, log_probs)

    numbers = jnp.arange(steps - 1, dtype=jnp.int32)
    _, rest = lax.scan(step, (first[0], own), (numbers, draws_TxBxGxS[1:]))
    joined = jax.tree.map(lambda one, more: jnp.moveaxis(jnp.concatenate([one[None], more]), 0, -1), first, rest)
    return Rollout(*joined)
