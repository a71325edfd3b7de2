"""One training step of EBFT (rollouts, features, rewards, loss and gradient) over the published code's way: FLOPs.

Prompts of 1,024 tokens, 127 blocks of 8 tokens at a stride of 8, 4 samples of each, policy gradient and cross-entropy;
width 256, 4 layers, vocabulary 4,096. The reference way (``naive_ebft``) is 8 passes without a cache, three whole passes of the
feature network (features, and two for figures of a classifier that is not trained), and training on a row for every sample
with each layer made again in the backward pass, all of them with the logits of all positions. FLOPs are those of matrix
products, counted through loops. Ours keeps what the backward pass needs; ``remat`` makes layers again, as the reference does.
``qwen`` has the shapes of Qwen2.5-1.5B, which are counted and never run.

``whitening_share`` is the time of Gram matrices, ``eigh`` and rewards of the step's blocks, with features 4,608 wide as a model
of 1.5 B parameters has them, over the time of the small model's step; ``n64`` with 64 samples, layers made again.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax.accounting.flops import count_flops
from ebm_jax.algorithm import BatchSpec, Variables
from ebm_jax.algorithms.ebft import EBFT, REFERENCE, EBFTConfig
from ebm_jax.losses import feature_matching as matching
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.rules import unbox
from ebm_jax.precision import Precision
from experiments.bench import naive_ebft
from experiments.bench.ebft_rollout import ANCHORS, CONTEXT, SAMPLES, VOCAB
from experiments.bench.steps import Step, median_seconds, random_batch

QWEN = TransformerConfig(
    depth=28, width=1536, heads=12, kv_heads=2, head_width=128, hidden=8960, qkv_bias=True, tied=True, rope_theta=1e6
)
"""Qwen2.5-1.5B."""
QWEN_VOCAB = 151_936
FEATURES = (1536, 1536, 1536)
MANY = 64
GAMMA = 0.03


class Flops(NamedTuple):
    """Of one step, by its parts."""

    rollout: int
    features: int
    train: int

    @property
    def whole(self) -> int:
        return sum(self)


def run(
    repeats: int = 5,
    rows: int = 1,
    hidden: int = 256,
    context: int = CONTEXT,
    vocab: int = VOCAB,
    many: int = MANY,
    model: TransformerConfig | None = None,
    published: TransformerConfig = QWEN,
) -> dict[str, Any]:
    """``flops_ratio`` of the whole step and ``flops_ratio_train`` of features and training alone, ours over the reference's;
    and shares of whitening. ``hidden`` is the width of feed-forward layers, ``many`` the samples of ``n64``."""
    model = model or TransformerConfig(size="3xs", hidden=hidden)
    spec = BatchSpec(batch_size=rows, context=context, vocab_size=vocab)
    figures = flops_ratios(model, spec, "") | flops_ratios(published, replace(spec, vocab_size=QWEN_VOCAB), "_qwen")
    few = _shares(model, spec, SAMPLES, repeats)
    # A step of 64 samples takes most of a minute: two runs of it tell a share well enough.
    lot = _shares(replace(model, remat="full"), spec, many, min(repeats, 2))
    return figures | few | {f"{name}_n{many}": value for name, value in lot.items()} | {"rows": rows}


def flops_ratios(model: TransformerConfig, spec: BatchSpec, suffix: str) -> dict[str, Any]:
    """Ratios of FLOPs, and the FLOPs of every part."""
    parts = {
        "reference": reference_flops(algorithm(model, spec), spec),
        "ours": our_flops(algorithm(model, spec), spec),
        "ours_remat": our_flops(algorithm(replace(model, remat="full"), spec), spec),
    }
    theirs, figures = parts["reference"], {}
    for name, ours in (("", parts["ours"]), ("_remat", parts["ours_remat"])):
        figures[f"flops_ratio{name}{suffix}"] = ours.whole / theirs.whole
        figures[f"flops_ratio_train{name}{suffix}"] = (ours.features + ours.train) / (theirs.features + theirs.train)
    gflops = {name: {part: n / 1e9 for part, n in flops._asdict().items()} for name, flops in parts.items()}
    return figures | {f"gflops{suffix}": gflops}


def algorithm(model: TransformerConfig, spec: BatchSpec, samples: int = SAMPLES) -> EBFT:
    """What the published code trains, cross-entropy included."""
    config = EBFTConfig(**REFERENCE | {"anchors": ANCHORS}, samples=samples, gamma=GAMMA)
    return EBFT(config, model, spec.vocab_size, Precision())


def our_flops(algorithm: EBFT, spec: BatchSpec) -> Flops:
    """Of the step as it is trained; features are what the step needs besides rollouts and the loss's gradient."""
    step = whole_step(algorithm, spec)
    params, variables, batch, key = step.arguments
    batch_after = jax.eval_shape(lambda v, b, k: algorithm.augment(v, b, k, 0), variables, batch, key)
    rollout = count_flops(lambda p, b, k: algorithm.sample(p, b, k)[1:], params, batch, key)
    train = count_flops(_gradient(algorithm), params, variables, batch_after, key)
    return Flops(rollout, count_flops(step.fn, *step.arguments) - rollout - train, train)


def reference_flops(algorithm: EBFT, spec: BatchSpec) -> Flops:
    """Of the reference way (this module's docstring)."""
    c, model = algorithm.config, algorithm.model
    layout = naive_ebft.layout(spec.context, c.anchors.prefix, c.anchors.stride, c.anchors.steps)
    params, _, batch, key = whole_step(algorithm, spec).arguments
    tokens, shape = batch["inputs"], (spec.batch_size, c.samples, len(layout.anchor_S), c.anchors.steps)
    made, advantages = (jax.ShapeDtypeStruct(shape, dtype) for dtype in (jnp.int32, jnp.float32))
    rows = jax.ShapeDtypeStruct((spec.batch_size * c.samples, len(layout.position_L)), jnp.int32)
    temperature = c.sampling.temperature
    rollout = lambda p, t, k: naive_ebft.rollout(model, p, t, k, layout, c.samples, c.anchors.steps, temperature)
    loss = lambda p, t, y, a: naive_ebft.loss(model, p, t, y, a, layout, temperature, c.gamma)
    return Flops(
        count_flops(rollout, params, tokens, key),
        3 * count_flops(lambda p, rows: naive_ebft.forward(model, p, rows, layout), params, rows),
        count_flops(jax.grad(loss), params, tokens, made, advantages),
    )


def whole_step(algorithm: EBFT, spec: BatchSpec, arrays: bool = False) -> Step:
    """Rollouts, features, rewards, loss and gradient, on shapes or on real arrays; no optimizer."""
    key = jax.random.key(0)
    make = lambda k: unbox(algorithm.init(k, spec))
    variables: Variables = jax.jit(make)(key) if arrays else jax.eval_shape(make, key)

    def step(params, variables, batch, key):
        batch = algorithm.augment(variables.replace(params=params), batch, key, 0)
        return _gradient(algorithm)(params, variables, batch, key)

    return Step(step, (variables.params, variables, random_batch(spec) if arrays else spec.batch(), key))


def _gradient(algorithm: EBFT):
    def loss(params, variables, batch, key):
        terms = algorithm.loss(params, variables, batch, key, 0).terms.values()
        return sum(term.coef * term.value.mean() for term in terms)

    return jax.value_and_grad(loss)


def _shares(model: TransformerConfig, spec: BatchSpec, samples: int, repeats: int) -> dict[str, float]:
    """The share of whitening in a measured step of ``samples`` samples, and both times."""
    of = algorithm(model, spec, samples)
    c, blocks = of.config, of.config.anchors.blocks(spec.context)
    keys = jax.random.split(jax.random.key(4), 2 * len(FEATURES))
    normal = lambda key, *shape: jax.random.normal(key, (spec.batch_size, blocks, *shape))
    parts = [normal(key, samples, width) for key, width in zip(keys, FEATURES, strict=False)]
    truth = [normal(key, width) for key, width in zip(keys[len(FEATURES) :], FEATURES, strict=True)]

    def whiten(parts, truth):
        grams = matching.grams(parts, truth)
        found = matching.rewards(grams, whiten=c.whiten, align=c.align, whiten_scale=c.whiten_scale)
        return matching.advantages(found, alpha=c.alpha, alignment=c.alignment, baseline=c.baseline)

    steps = {"step": whole_step(of, spec, arrays=True), "whitening": Step(whiten, (parts, truth))}
    seconds = median_seconds(steps, repeats)
    return {
        "whitening_share": seconds["whitening"] / seconds["step"],
        "whitening_ms": 1e3 * seconds["whitening"],
        "step_seconds": seconds["step"],
    }
