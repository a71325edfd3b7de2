"""What methods share that sample continuations of a row and learn from rewards: the policy's loss beside cross-entropy.

One forward pass over ``[prompt | all samples of all blocks]`` (``nn.branches``) gives the cross-entropy of the prompt's own
text and the log-probabilities of everything sampled, so the two are mixed at no further cost (EBFT, section 2.1):

    loss = policy * mean_t[ -A_t log p_T(y_t) ] + gamma * mean_t[ -log p_1(x_t) ] + kl * KL - entropy * H.

Subclasses sample, and say what advantages are, in ``prepare`` or ``augment``. They leave in the batch ``continuations``
(int32), ``sampler_log_probs`` and ``advantages`` (B x G x S x T each), and under ``TOLD`` what to report (B x 2 each).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp

from ebm_jax.algorithm import BatchSpec, LossOutput, Variables
from ebm_jax.algorithms.sft import SFT, SFTConfig
from ebm_jax.algorithms.token_log_probs import token_log_probs
from ebm_jax.algorithms.token_nll import token_nll
from ebm_jax.decoding.anchors import AnchorConfig, branches_of, prompt_of
from ebm_jax.decoding.rollout import rollout
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError
from ebm_jax.losses.feature_matching import BASELINES
from ebm_jax.losses.policy import KL_ESTIMATORS, kl_penalty, policy_gradient
from ebm_jax.models.lora import LoraConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.nn.branches import Branches
from ebm_jax.precision import Precision
from ebm_jax.types import Array, Batch, Params, PRNGKey, PyTree
from ebm_jax.weighted import Term, WeightedSum, weighted_sum

REFERENCE_NETWORK = "reference"
TOLD = "told/"
"""What names of fields of a batch begin with that are reported, sums and weights of every row."""


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Rollouts, and the loss that is made of their rewards."""

    samples: int = 4
    """n: continuations of every block."""
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=1.0))
    log_prob_temperature: Literal["sample", "one"] = "sample"
    """Temperature of the policy whose log-probabilities are raised: the sampling one, or 1."""
    baseline: Literal["none", "rloo", "naive_loo", "group_norm"] = "rloo"
    """What is taken off rewards (``losses.feature_matching.advantages``)."""
    end: Literal["ignore", "mask_after"] = "ignore"
    """Whether samples go on behind the tokenizer's end-of-text token as text does in a joined row, or are cut there."""
    aggregate: Literal["token_mean", "block_sum"] = "token_mean"
    """The policy's loss is a mean over sampled tokens, or over blocks of their tokens' sum: T times as much."""

    policy: float = 1.0
    """Coefficient of the policy's loss."""
    policy_from: int = 0
    """The first step at which it counts."""
    policy_ramp: int = 0
    """Steps over which it then rises from 0."""
    gamma: float = 0.0
    """Coefficient of the cross-entropy of the rows' own text."""
    gamma_decay: int = 0
    """Steps over which gamma falls to 0; 0 keeps it."""
    ce_mask: Literal["answer", "no_pad", "all"] = "answer"
    """Which tokens that is: those that the data marks (``data.examples.loss``; of plain text all), all that are real, or
    every token of the row, padding too."""
    kl: float = 0.0
    """Coefficient of the divergence from the model that the run began with, at the sampled tokens."""
    kl_estimator: Literal["k2", "k3"] = "k2"
    entropy: float = 0.0
    """Coefficient of the policy's entropy, which is raised."""
    lora: LoraConfig | None = None
    """Adapters to train in place of all weights; none trains all."""

    def __post_init__(self) -> None:
        known: dict[str, tuple[str, ...]] = {
            "baseline": BASELINES,
            "log_prob_temperature": ("sample", "one"),
            "end": ("ignore", "mask_after"),
            "aggregate": ("token_mean", "block_sum"),
            "ce_mask": ("answer", "no_pad", "all"),
            "kl_estimator": KL_ESTIMATORS,
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise UserError(f"algorithm.{name}={getattr(self, name)!r} is not one of {', '.join(values)}")
        for name in ("policy", "policy_from", "policy_ramp", "gamma", "gamma_decay", "kl", "entropy"):
            if getattr(self, name) < 0:
                raise UserError(f"algorithm.{name}={getattr(self, name)} must not be negative")
        if self.samples < 1:
            raise UserError(f"algorithm.samples={self.samples} must be at least 1")
        if self.sampling.temperature == 0 and self.samples > 1:
            raise UserError(
                f"algorithm.sampling.temperature=0 makes {self.samples} equal samples of every block, and all advantages 0:"
                " set a temperature above 0"
            )

    @property
    def policy_temperature(self) -> float:
        """Of the policy whose log-probabilities the loss has."""
        return 1.0 if self.log_prob_temperature == "one" else self.sampling.temperature or 1.0


class PolicyGradient(SFT):
    """The loss of this module's docstring; ``decoder``, ``token_nll`` take deployed parameters."""

    def __init__(self, config: PolicyConfig, model: TransformerConfig, vocab_size: int, precision: Precision) -> None:
        super().__init__(SFTConfig(lora=config.lora), model, vocab_size, precision)
        self.config, self.vocab_size = config, vocab_size
        self.end: int | None = None

    def end_at(self, eos_id: int | None) -> None:
        self.end = eos_id
        if self.config.end == "mask_after" and self.end is None:
            raise UserError(
                "algorithm.end=mask_after: this tokenizer has no end-of-text token; set algorithm.end=ignore"
            )

    def init(self, key: PRNGKey, spec: BatchSpec) -> Variables:
        self.config.anchors.blocks(spec.context, self.reads_truth)
        variables = super().init(key, spec)
        if not self.config.kl:
            return variables
        return variables.replace(frozen={**(variables.frozen or {}), REFERENCE_NETWORK: self.init_network(key, spec)})

    def freeze(self, weights: Params | None, others: Mapping[str, Params] | None = None) -> PyTree:
        frozen = super().freeze(weights, others)
        if self.config.kl and weights is not None:
            frozen = {**(frozen or {}), REFERENCE_NETWORK: self._trunk(weights)}
        return frozen

    def branches(self, batch: Batch, key: PRNGKey) -> Branches:
        """Where the rows are continued."""
        return branches_of(batch, self.config.anchors, key, self.reads_truth)

    @property
    def reads_truth(self) -> bool:
        """Whether rewards need a block's true continuation whole."""
        return True

    def sample(self, params: Params, batch: Batch, key: PRNGKey) -> tuple[Branches, Array, Array]:
        """The branches of the rows, and continuations with the sampler's log-probabilities, ``[B, G, S, T]``."""
        c = self.config
        branches = self.branches(batch, key)
        prompt = prompt_of(batch, c.anchors)
        made = rollout(self.model, params, prompt, branches, c.sampling, c.samples, key, batch["index"])
        return branches, *jax.lax.stop_gradient((made.tokens, made.log_probs))

    def counted(self, continuations_BxGxSxT: Array, branches: Branches) -> Array:
        """1 for sampled tokens that count, 0 for those of blocks that fill a row and those behind an end, ``[B, G, S, T]``."""
        return branches.there_BxS[:, None, :, None] * self.reached(continuations_BxGxSxT)

    def reached(self, tokens_XxT: Array) -> Array:
        """1 for tokens up to the first end of text, which counts, 0 behind it; all 1 where ends are ignored."""
        if self.config.end == "ignore" or self.end is None:
            return jnp.ones(tokens_XxT.shape, jnp.float32)
        ended = tokens_XxT == self.end
        return (jnp.cumsum(ended, -1) - ended == 0).astype(jnp.float32)

    def loss(self, params: Params, variables: Variables, batch: Batch, key: PRNGKey, step) -> LossOutput:
        c = self.config
        network = self.deployed(params, variables.frozen)
        branches = self.branches(batch, key)
        made = batch["continuations"]
        hidden, first, later = self._hidden(network, batch, made, branches)
        log_probs, entropy = self._log_probs(network, first, later, made)
        weights = self.counted(made, branches)

        policy = policy_gradient(log_probs, batch["advantages"], weights)
        if c.aggregate == "block_sum":
            policy = WeightedSum(policy.total, jnp.sum(weights[..., 0]))
        ce = self._cross_entropy(network, hidden, batch)
        terms = {"policy": Term(self._policy_coef(step), policy)}
        metrics = {"nll": ce, "sampler_gap": weighted_sum(batch["sampler_log_probs"] - log_probs, weights)}
        if c.gamma:
            fall = jnp.clip(1 - step / c.gamma_decay, 0, 1) if c.gamma_decay else 1.0
            terms["ce"] = Term(cast(Any, c.gamma * fall), ce)
        if c.entropy and entropy is not None:
            terms["entropy"] = Term(-c.entropy, weighted_sum(entropy, weights))
            metrics["entropy"] = terms["entropy"].value
        if c.kl:
            frozen = variables.frozen[REFERENCE_NETWORK]
            _, first, later = self._hidden(frozen, batch, made, branches)
            reference = jax.lax.stop_gradient(self._log_probs(frozen, first, later, made)[0])
            penalty = kl_penalty(log_probs, reference, c.kl_estimator)
            terms["kl"] = Term(c.kl, weighted_sum(penalty, weights))
            metrics["kl"] = weighted_sum(log_probs - reference, weights)
        told = {name.removeprefix(TOLD): x for name, x in batch.items() if name.startswith(TOLD)}
        sums = {name: WeightedSum(jnp.sum(x[:, 0]), jnp.sum(x[:, 1])) for name, x in told.items()}
        return LossOutput(terms, metrics | sums)

    def evaluate(self, params: Params, variables: Variables, batch: Batch, key: PRNGKey) -> dict[str, WeightedSum]:
        """``nll_step_1``: cross-entropy of the tokens that the data marks, at temperature 1."""
        nll_BxT = self.token_nll(self.deployed(params, variables.frozen), batch)
        return {"nll_step_1": weighted_sum(nll_BxT, batch["weights"])}

    def _hidden(
        self, network: Params, batch: Batch, made_BxGxSxT: Array, branches: Branches
    ) -> tuple[Array, Array, Array]:
        """Hidden states of the prompts, of those before each block, and of sampled tokens but each last one."""
        steps = made_BxGxSxT.shape[-1]
        rows = (*prompt_of(batch, self.config.anchors), made_BxGxSxT[..., : steps - 1], branches.until(steps - 1))
        hidden, later = cast(tuple[Array, Array], self.model.apply({"params": network}, *rows, method="branched"))
        first = jnp.take_along_axis(hidden, branches.anchor_BxS[..., None] - 1, axis=1)
        return hidden, first, later

    def _log_probs(
        self, network: Params, first: Array, later: Array, made_BxGxSxT: Array
    ) -> tuple[Array, Array | None]:
        """Log-probabilities of all sampled tokens, ``[B, G, S, T]``, and entropies in front of them."""
        how = (self.config.policy_temperature, self.config.entropy > 0)
        rows, samples, blocks, steps = made_BxGxSxT.shape
        shape = (rows, samples, blocks, steps - 1)
        one = token_log_probs(self.model, network, first, jnp.moveaxis(made_BxGxSxT[..., 0], 1, 2), *how)
        flat = later.reshape(rows, -1, later.shape[-1])
        more = token_log_probs(self.model, network, flat, made_BxGxSxT[..., 1:].reshape(rows, -1, 1), *how)
        log_probs = jnp.concatenate(
            [jnp.moveaxis(one.log_probs_BxTxK, 2, 1)[..., None], more.log_probs_BxTxK.reshape(shape)], axis=-1
        )
        if one.entropy_BxT is None or more.entropy_BxT is None:
            return log_probs, None
        begin = jnp.broadcast_to(one.entropy_BxT[:, None, :, None], (rows, samples, blocks, 1))
        return log_probs, jnp.concatenate([begin, more.entropy_BxT.reshape(shape)], axis=-1)

    def _cross_entropy(self, network: Params, hidden_BxPxD: Array, batch: Batch) -> WeightedSum:
        targets, weights = batch["targets"], batch["weights"]
        if self.config.ce_mask != "answer":
            after = lambda x: jnp.pad(x[:, 1:], ((0, 0), (0, 1)))
            targets, segments = after(batch["inputs"]), prompt_of(batch, self.config.anchors).segments
            same = (after(segments) == segments) & (after(batch["segments"]) > 0)
            inside = jnp.arange(targets.shape[1]) < targets.shape[1] - 1
            weights = jnp.broadcast_to(inside, targets.shape) & (same | (self.config.ce_mask == "all"))
        nll = token_nll(self.model, network, hidden_BxPxD, targets)
        return weighted_sum(nll, weights.astype(jnp.float32))

    def _policy_coef(self, step) -> Any:
        c = self.config
        if not c.policy_from and not c.policy_ramp:
            return c.policy
        risen = jnp.clip((step - c.policy_from + 1) / max(c.policy_ramp, 1), 0, 1)
        return c.policy * jnp.where(step >= c.policy_from, risen, 0.0)


def per_row(values: Array, weights: Array) -> Array:
    """A sum and its weight for every row, ``[B, 2]``: how a batch carries what is to be reported."""
    axes = tuple(range(1, values.ndim))
    weights = jnp.broadcast_to(weights, values.shape)
    return jnp.stack([jnp.sum(jnp.where(weights != 0, values, 0) * weights, axes), jnp.sum(weights, axes)], -1)
