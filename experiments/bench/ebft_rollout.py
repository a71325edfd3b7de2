"""Rollouts of EBFT: one prompt read once and continued against a cache, over whole passes without one for every sample.

Prompts of 1,024 tokens, 127 blocks of 8 tokens at a stride of 8, 4 samples of each, temperature 0.6; width 256, 4 layers,
vocabulary 4,096, float32, random weights. ``reference`` is ``naive_ebft.rollout``: for each of the 8 tokens one forward pass of
the growing row ``[prompt | token 0 of all blocks | ...]``, for all samples, under a dense mask, logits at all positions, a
categorical draw; all 8 passes in one compiled program. FLOPs are counted through loops, matrix products alone.
``sampling_share`` is the time of drawing as many tokens from logits at hand, over that of the whole rollout.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ebm_jax import rng
from ebm_jax.accounting.flops import count_flops
from ebm_jax.algorithm import BatchSpec
from ebm_jax.algorithms.ebft import EBFT, REFERENCE, EBFTConfig
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.decoding.sampling import choose, filtered
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.rules import unbox
from ebm_jax.precision import Precision
from experiments.bench import naive_ebft
from experiments.bench.steps import Step, median_seconds, random_batch

CONTEXT, VOCAB, SAMPLES = 1024, 4096, 4
ANCHORS = AnchorConfig(documents="joined")


def run(
    repeats: int = 7,
    rows: int = 1,
    hidden: int = 256,
    context: int = CONTEXT,
    vocab: int = VOCAB,
    model: TransformerConfig | None = None,
) -> dict[str, Any]:
    """``speedup`` and ``flops_ratio``, reference over ours; ``hidden`` is the width of feed-forward layers."""
    config = EBFTConfig(**REFERENCE | {"anchors": ANCHORS}, samples=SAMPLES)
    algorithm = EBFT(config, model or TransformerConfig(size="3xs", hidden=hidden), vocab, Precision())
    spec = BatchSpec(batch_size=rows, context=context, vocab_size=vocab)
    steps = {"reference": reference(algorithm, spec), "ours": ours(algorithm, spec)}
    flops = {name: count_flops(step.fn, *step.arguments) for name, step in steps.items()}
    seconds = median_seconds(steps | {"sampling": _sampling(algorithm, spec)}, repeats)
    return {
        "speedup": seconds["reference"] / seconds["ours"],
        "flops_ratio": flops["reference"] / flops["ours"],
        "sampling_share": seconds["sampling"] / seconds["ours"],
        "seconds": seconds,
        "gflops": {name: count / 1e9 for name, count in flops.items()},
        "rows": rows,
    }


def ours(algorithm: EBFT, spec: BatchSpec) -> Step:
    """The rollout as a training step has it: log-probabilities come with the tokens."""
    make = lambda params, batch, key: algorithm.sample(params, batch, key)[1:]
    return Step(make, (_params(algorithm, spec), random_batch(spec), jax.random.key(1)))


def reference(algorithm: EBFT, spec: BatchSpec) -> Step:
    """As many tokens of the same distribution by passes without a cache."""
    c = algorithm.config
    layout = naive_ebft.layout(spec.context, c.anchors.prefix, c.anchors.stride, c.anchors.steps)

    def make(params, tokens_BxP, visible_LxL, key):
        how = (layout._replace(visible_LxL=visible_LxL), c.samples, c.anchors.steps, c.sampling.temperature)
        return naive_ebft.rollout(algorithm.model, params, tokens_BxP, key, *how)

    visible = jnp.asarray(layout.visible_LxL)
    return Step(make, (_params(algorithm, spec), random_batch(spec)["inputs"], visible, jax.random.key(1)))


def _sampling(algorithm: EBFT, spec: BatchSpec) -> Step:
    """Draws of all tokens of a rollout, and their log-probabilities, from logits of one of its steps."""
    c = algorithm.config
    shape = (c.anchors.steps, c.samples, c.anchors.blocks(spec.context))
    logits = 3 * jax.random.normal(jax.random.key(2), (spec.batch_size, *shape[1:], spec.vocab_size))

    def draw(logits, index, key):
        draws_BxTxGxS = rng.uniform_rows(key, index, shape, jnp.float32)

        def step(logits, uniform):
            tempered = filtered(logits, c.sampling)
            tokens = choose(tempered, uniform)
            chosen = jnp.take_along_axis(tempered, tokens[..., None], -1)[..., 0]
            log_probs = chosen - jax.nn.logsumexp(tempered, -1)
            # Logits that depend on the last draw, as a model's do: nothing is drawn ahead.
            return logits.at[0, 0, 0, 0].add(log_probs[0, 0, 0]), (tokens, log_probs)

        return jax.lax.scan(step, logits, jnp.moveaxis(draws_BxTxGxS, 1, 0))[1]

    return Step(draw, (logits, jnp.arange(spec.batch_size, dtype=jnp.uint32), jax.random.key(3)))


def _params(algorithm: EBFT, spec: BatchSpec) -> Any:
    make = lambda key: unbox(algorithm.init_network(key, spec))
    return jax.jit(make)(jax.random.key(0))
