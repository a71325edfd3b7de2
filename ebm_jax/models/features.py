"""The feature network: the residual stream of a frozen language model at some depths, as unit vectors (EBFT)."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax.errors import UserError
from ebm_jax.models.lm import TransformerLM
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.nn.branches import Branches
from ebm_jax.precision import Precision
from ebm_jax.types import Array, Params

NORMS = ("joint", "per_layer", "none")
POOLS = ("last", "mean", "concat", "token")


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Which network, which of its layers, and what is made of their outputs."""

    weights: str = "base"
    """``base``: the model at the beginning of the chain of runs that ``weights=`` names; ``initial``: what this run begins
    with; ``random``; or a run's folder or a published model with the same tokenizer."""
    model: TransformerConfig | None = None
    """The network's options, where they are not the trained model's."""
    depths: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Blocks after which the stream is read: shares of all below 1, numbers from 1 on.
    Nothing behind the deepest is computed."""
    norm: Literal["joint", "per_layer", "none"] = "joint"
    """What has length 1 at every token: all depths together (in which the deepest weighs most), or each of them."""
    pool: Literal["last", "mean", "concat", "token"] = "last"
    """A continuation's features: those of its last token, the mean of its tokens', all of them end to end, or a reward for each
    token by its own."""
    dtype: str = "float32"
    """Of the network's weights and products; norms, sums and Gram matrices are float32."""

    def __post_init__(self) -> None:
        for name, known in (("norm", NORMS), ("pool", POOLS)):
            if getattr(self, name) not in known:
                raise UserError(f"features.{name}={getattr(self, name)!r} is not one of {', '.join(known)}")
        if not self.depths or any(not math.isfinite(d) or d <= 0 for d in self.depths):
            raise UserError(f"features.depths={self.depths} must name at least one depth, each above 0")
        if bad := [d for d in self.depths if d >= 1 and d != int(d)]:
            raise UserError(f"features.depths: {bad} are neither shares below 1 nor whole numbers of blocks")
        if len(set(self.depths)) < len(self.depths):
            raise UserError(f"features.depths={self.depths} names a depth twice: leave duplicates out")

    def layers(self, depth: int) -> tuple[int, ...]:
        """The depths of a network of ``depth`` blocks, rising: shares are rounded down, and at least 1.

        In a shallow network several shares are the same block, whose features then count as often (in the published code too).

        Raises:
          UserError: there is no such block.
        """
        found = [max(1, math.floor(d * depth + 1e-9)) if d < 1 else int(d) for d in self.depths]
        if beyond := [d for d in found if d > depth]:
            raise UserError(f"features.depths: the network has {depth} blocks, not {max(beyond)}")
        return tuple(sorted(found))


class FeatureNetwork(TransformerLM):
    """The lower blocks of a language model: no final norm, no head."""

    def setup(self) -> None:
        self._trunk()


class Features(NamedTuple):
    """Features in parts, one a depth."""

    samples: tuple[Array, ...]
    truth: tuple[Array, ...]


class Ends(NamedTuple):
    """The places of last tokens, where texts end before their T tokens do."""

    samples_BxGxS: Array
    truth_BxS: Array


def feature_network(config: FeatureConfig, model: TransformerConfig, vocab_size: int) -> FeatureNetwork:
    """The module, cut behind the deepest block that is read."""
    model = config.model or model
    deepest = config.layers(model.resolved_depth)[-1]
    full = tuple(n for n in model.full_layers if n < deepest)
    # No head of its own and nothing kept for a backward pass.
    model = dataclasses.replace(model, depth=deepest, full_layers=full, tied=True, remat="none")
    return FeatureNetwork(model, vocab_size, Precision(param=config.dtype, compute=config.dtype))


def cut(weights: Params, network: FeatureNetwork) -> Params:
    """What a feature network has of a language model's weights (or of their shapes)."""
    depth, dtype = network.config.resolved_depth, network.precision.param_dtype
    blocks = jax.tree.map(lambda w: w[:depth], weights["stack"]["blocks"])
    return jax.tree.map(lambda w: w.astype(dtype), {"embed": weights["embed"], "stack": {"blocks": blocks}})


def token_features(
    network: FeatureNetwork,
    params: Params,
    config: FeatureConfig,
    depths: tuple[int, ...],
    prompt: Sequence[Array],
    continuations_BxGxSxT: Array,
    branches: Branches,
) -> Features:
    """Normalised features of every token of sampled (``[B, G, S, T, E]``) and of true continuations (``[B, S, T, E]``).

    One pass gives both: the true ones are read off the prompt itself.
    """
    streams: Any = network.apply({"params": params}, *prompt, continuations_BxGxSxT, branches, depths, method="streams")
    place = branches.anchor_BxS[..., None] + jnp.arange(continuations_BxGxSxT.shape[-1])
    flat = place.reshape(place.shape[0], -1, 1)
    wide = lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32))
    own = [wide(x) for _, x in streams]
    truth = [wide(jnp.take_along_axis(x, flat, axis=1).reshape(*place.shape, -1)) for x, _ in streams]
    return Features(tuple(_normed(own, config.norm)), tuple(_normed(truth, config.norm)))


def features(
    network: FeatureNetwork,
    params: Params,
    config: FeatureConfig,
    depths: tuple[int, ...],
    prompt: Sequence[Array],
    continuations_BxGxSxT: Array,
    branches: Branches,
    ends: Ends | None = None,
) -> Features:
    """Features of sampled (``[B, S, (T,) G, E]``) and of true continuations (``[B, S, (T,) E]``), as the config pools them.

    With ``ends``, tokens behind them have no features.
    """
    found = token_features(network, params, config, depths, prompt, continuations_BxGxSxT, branches)

    def pooled(x: Array, last: Array | None) -> Array:
        if config.pool == "last":
            return x[..., -1, :] if last is None else jnp.take_along_axis(x, last[..., None, None], axis=-2)[..., 0, :]
        if last is not None:
            x = jnp.where((jnp.arange(x.shape[-2]) <= last[..., None])[..., None], x, 0)
        if config.pool == "mean":
            return jnp.sum(x, -2) / (x.shape[-2] if last is None else last[..., None] + 1)
        return x.reshape(*x.shape[:-2], -1) if config.pool == "concat" else x

    own, true = ends if ends is not None else (None, None)
    # [B, G, S, ...] to [B, S, (T,) G, E]: a block's samples side by side.
    samples = tuple(jnp.moveaxis(pooled(x, own), 1, -2) for x in found.samples)
    return Features(samples, tuple(pooled(x, true) for x in found.truth))


def _normed(parts: Sequence[Array], norm: str) -> list[Array]:
    """Unit vectors; zero vectors stay zero."""
    if norm == "none":
        return list(parts)
    squares = [jnp.sum(x * x, -1, keepdims=True) for x in parts]
    if norm == "joint":
        squares = [sum(squares[1:], squares[0])] * len(parts)
    return [x * jnp.where(s > 0, jax.lax.rsqrt(jnp.where(s > 0, s, 1)), 0) for x, s in zip(parts, squares, strict=True)]
