"""Energy-based fine-tuning: a language model whose own continuations are to have the features of true ones.

Jelassi et al. 2026, "Matching Features, Not Tokens". One step, all of it inside the jitted program:

1. **rollout**: every block of every row is continued ``samples`` times by the model itself (``decoding.rollout``);
2. **features**: one pass of the frozen network over rows and samples (``models.features``);
3. **rewards**: alignment with the true continuation minus similarity among the samples (``losses.feature_matching``),
   ``r_j = a_j - alpha d_j``, less a leave-one-out baseline: in expectation the gradient of
   ``|| E phi(sample) - E phi(true) ||^2`` for every block (over T, as the loss is a mean over tokens), if nothing is whitened,
   alpha = 1, alignment is a dot product, and "model" means the tempered policy that is sampled;
4. **update**: the policy gradient beside ``gamma`` times cross-entropy (``algorithms.policy_gradient``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax.algorithm import BatchSpec, OtherNetwork, Variables
from ebm_jax.algorithms.adapted import BASE, initial
from ebm_jax.algorithms.policy_gradient import TOLD, PolicyConfig, PolicyGradient, per_row
from ebm_jax.decoding.anchors import AnchorConfig, prompt_of, true_continuations
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError
from ebm_jax.losses import feature_matching as matching
from ebm_jax.models.features import Ends, FeatureConfig, cut, feature_network, features
from ebm_jax.models.lm import TransformerLM
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.nn.branches import Branches
from ebm_jax.precision import Precision
from ebm_jax.rng import stream
from ebm_jax.types import Array, Batch, Params, PRNGKey, PyTree

FEATURES = "features"


@dataclass(frozen=True, kw_only=True)
class EBFTConfig(PolicyConfig):
    """Feature matching by policy gradient; the defaults estimate its gradient without bias, ``PAPER`` and ``REFERENCE`` are
    what was published."""

    kind: ClassVar[str] = "ebft"
    features: FeatureConfig = field(default_factory=FeatureConfig)
    alignment: float = 1.0
    """Coefficient of alignment."""
    alpha: float = 1.0
    """Coefficient of diversity: 1 is feature matching, 0 rewards similarity to the true text alone."""
    align: Literal["cosine", "dot"] = "dot"
    whiten: Literal["none", "sample_axis", "feature_axis"] = "none"
    """``losses.feature_matching.rewards``: not at all, as the published code has it, or as the paper has it (eq. 8)."""
    whiten_scale: Literal["1", "1/n"] = "1"
    whiten_tolerance: float = 1e-6
    credit: Literal["own", "to_go"] = "own"
    """Where ``features.pool=token`` rewards every token: a token answers for its own reward, as published, or for all from
    there on. The latter is the gradient of the feature-matching losses of all lengths up to T, without bias."""
    as_published: bool = False
    """Repeats what the published code gets wrong: token rewards lie in the order of blocks, where tokens lie in that of steps,
    and ``group_norm`` is ``rloo`` over the rewards' deviation among a sample's blocks (among a block's tokens, if these have
    rewards)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = {
            "credit": ("own", "to_go"),
            "align": ("cosine", "dot"),
            "whiten": matching.WHITENINGS,
            "whiten_scale": ("1", "1/n"),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise UserError(f"algorithm.{name}={getattr(self, name)!r} is not one of {', '.join(values)}")
        if min(self.alpha, self.alignment) < 0:
            raise UserError(
                f"algorithm.alpha={self.alpha} and algorithm.alignment={self.alignment} must not be negative"
            )
        if self.features.model is not None and self.features.weights == "initial":
            raise UserError(
                "algorithm.features.model describes another network than the run's: name its weights in"
                " algorithm.features.weights, or set that to random"
            )
        if self.credit == "to_go" and self.features.pool != "token":
            raise UserError(
                f"algorithm.credit=to_go needs a reward for each token, and features.pool={self.features.pool}"
            )
        if self.credit == "to_go" and self.as_published:
            raise UserError("algorithm.credit=to_go was not published: leave out as_published")
        if not 0 < self.whiten_tolerance < 1:
            raise UserError(f"algorithm.whiten_tolerance={self.whiten_tolerance} must lie between 0 and 1")


REFERENCE: dict[str, Any] = {
    "sampling": SamplingConfig(temperature=0.6),
    "anchors": AnchorConfig(documents="joined"),
    "align": "cosine",
    "whiten": "sample_axis",
    "ce_mask": "all",
    "as_published": True,
}
"""What the published code does, with its settings for code: ``EBFTConfig(**REFERENCE)``."""

PAPER: dict[str, Any] = {
    "sampling": SamplingConfig(temperature=0.6),
    "anchors": AnchorConfig(documents="joined"),
    "align": "cosine",
    "whiten": "feature_axis",
    "whiten_scale": "1/n",
    "ce_mask": "all",
}
"""What the paper says, where the code differs: eq. 8 whitens features, and by a mean over samples."""


class Scored(NamedTuple):
    """Samples as the feature network sees them."""

    grams: matching.Grams
    rewards: matching.Rewards


class EBFT(PolicyGradient):
    """The four steps of this module's docstring."""

    config: EBFTConfig

    def __init__(self, config: EBFTConfig, model: TransformerConfig, vocab_size: int, precision: Precision) -> None:
        super().__init__(config, model, vocab_size, precision)
        of = config.features
        self.feature_network = feature_network(of, model, vocab_size)
        self.depths = of.layers((of.model or model).resolved_depth)
        self.feature_language_model = TransformerLM(of.model or model, vocab_size, precision)

    @property
    def shares_base(self) -> bool:
        """Whether features come from the frozen base of adapters: the same weights, kept once."""
        of = self.config.features
        return (
            self.lora is not None and of.weights in ("base", "initial") and of.model is None and of.dtype == "float32"
        )

    def other_networks(self) -> dict[str, OtherNetwork]:
        of, network = self.config.features, self.feature_language_model
        if of.weights in ("initial", "random") or self.shares_base:
            return {}
        spec = BatchSpec(batch_size=1, context=2, vocab_size=self.vocab_size)
        return {FEATURES: OtherNetwork(of.weights, lambda key: initial(network, key, spec), network.config)}

    def init(self, key: PRNGKey, spec: BatchSpec) -> Variables:
        variables = super().init(key, spec)
        if self.shares_base:
            return variables
        fresh = stream(key, FEATURES) if self.config.features.weights == "random" else key
        weights = initial(self.feature_language_model, fresh, spec)
        return variables.replace(frozen={**(variables.frozen or {}), FEATURES: cut(weights, self.feature_network)})

    def freeze(self, weights: Params | None, others: Mapping[str, Params] | None = None) -> PyTree:
        frozen = super().freeze(weights, others)
        if self.shares_base or self.config.features.weights == "random":
            return frozen
        source = (others or {}).get(FEATURES, weights)
        if source is not None:
            frozen = {**(frozen or {}), FEATURES: cut(source, self.feature_network)}
        return frozen

    def augment(self, variables: Variables, batch: Batch, key: PRNGKey, step) -> Batch:
        network = self.deployed(variables.params, variables.frozen)
        branches, made, sampler_log_probs = self.sample(network, batch, key)
        scored = self.rewards(variables.frozen, batch, made, branches)
        advantages_BxGxS_ = self._advantages(scored)
        told = self._told(scored, made, branches)
        return {
            **batch,
            "continuations": made,
            "sampler_log_probs": sampler_log_probs,
            "advantages": jax.lax.stop_gradient(jnp.broadcast_to(advantages_BxGxS_, made.shape)),
            **jax.lax.stop_gradient(told),
        }

    def grams(self, frozen: PyTree, batch: Batch, made_BxGxSxT: Array, branches: Branches) -> matching.Grams:
        """Inner products of the features of every block's samples and of the truth, ``[B, S, G, G]`` (``[B, S, T, G, G]``)."""
        c = self.config
        prompt = prompt_of(batch, c.anchors)
        weights = cut(frozen[BASE], self.feature_network) if self.shares_base else frozen[FEATURES]
        ends = None
        if c.end == "mask_after":
            texts = made_BxGxSxT, true_continuations(prompt.tokens, branches)
            ends = Ends(*(jnp.sum(self.reached(text), -1).astype(jnp.int32) - 1 for text in texts))
        found = features(self.feature_network, weights, c.features, self.depths, prompt, made_BxGxSxT, branches, ends)
        return matching.grams(*found)

    def rewards(self, frozen: PyTree, batch: Batch, made: Array, branches: Branches) -> Scored:
        """Rewards of every block's samples, and the feature-matching loss without whitening."""
        c = self.config
        grams = self.grams(frozen, batch, made, branches)
        found = matching.rewards(
            grams, whiten=c.whiten, align=c.align, whiten_scale=c.whiten_scale, tolerance=c.whiten_tolerance
        )
        return Scored(grams, found)

    def _advantages(self, scored: Scored) -> Array:
        """``[B, G, S, 1]``, or ``[B, G, S, T]`` for token rewards."""
        c = self.config
        as_published = c.baseline == "group_norm" and c.as_published
        baseline = "rloo" if as_published else c.baseline
        found = matching.advantages(scored.rewards, alpha=c.alpha, alignment=c.alignment, baseline=baseline)
        if as_published:
            reward = c.alignment * scored.rewards.alignment_XxG - c.alpha * scored.rewards.diversity_XxG
            spread = jnp.std(reward, axis=-2, ddof=1, keepdims=True)
            found = found / jnp.where(spread > 0, spread, 1)
        # [B, S, (T,) G] to [B, G, S, T or 1].
        found = jnp.moveaxis(found, -1, 1)
        if c.features.pool != "token":
            return found[..., None]
        if c.credit == "to_go":
            return jnp.cumsum(found[..., ::-1], axis=-1)[..., ::-1]
        if c.as_published:
            rows, samples, blocks, steps = found.shape
            return jnp.swapaxes(found.reshape(rows, samples, steps, blocks), 2, 3)
        return found

    def _told(self, scored: Scored, made: Array, branches: Branches) -> dict[str, Array]:
        """What a step reports, as sums and weights of every row."""
        c = self.config
        there = branches.there_BxS
        a, d = scored.rewards.alignment_XxG, scored.rewards.diversity_XxG
        each = there.reshape(*there.shape, *(1,) * (a.ndim - 2))
        reward = c.alignment * a - c.alpha * d
        same = jnp.all(made[:, :, None] == made[:, None], axis=-1)
        pairs = jnp.sum(same, (1, 2)) - made.shape[1]
        told = {
            "reward": (reward, each),
            "alignment": (a, each),
            "diversity": (d, each),
            "reward_std": (jnp.std(reward, -1), each[..., 0]),
            "duplicates": (pairs / max(made.shape[1] * (made.shape[1] - 1), 1), there),
        }
        if made.shape[1] > 1:
            told["matching_loss"] = (matching.matching_loss(scored.grams), each[..., 0])
        if self.end is not None:
            told["ended"] = (jnp.any(made == self.end, -1).astype(jnp.float32), there[:, None])
        wide = lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return {TOLD + name: per_row(wide(x), w) for name, (x, w) in told.items()}
