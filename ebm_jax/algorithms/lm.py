"""Language-model pretraining: Transformer++ with cross-entropy, the baseline of every comparison."""

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import jax.numpy as jnp

from ebm_jax.algorithm import Algorithm, BatchSpec, LossOutput, Variables
from ebm_jax.decoding.lm import LMDecoder
from ebm_jax.losses.cross_entropy import cross_entropy
from ebm_jax.models.lm import TransformerLM
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.precision import Precision
from ebm_jax.types import Array, Batch, Params, PRNGKey
from ebm_jax.weighted import Term, WeightedSum, weighted_sum


@dataclass(frozen=True, kw_only=True)
class LMConfig:
    """Next-token prediction by a feed-forward transformer."""

    kind: ClassVar[str] = "lm"
    label_smoothing: float = 0.0


class LM(Algorithm):
    """loss = sum_t w_t CE(logits_t, target_t) / sum_t w_t."""

    def __init__(self, config: LMConfig, model: TransformerConfig, vocab_size: int, precision: Precision) -> None:
        self.config: Any = config
        self.model = TransformerLM(model, vocab_size, precision)

    def init(self, key: PRNGKey, spec: BatchSpec) -> Variables:
        zeros = jnp.zeros((1, spec.context), jnp.int32)
        return Variables(params=self.model.init(key, zeros, zeros, zeros)["params"])

    def loss(self, params: Params, variables: Variables, batch: Batch, key: PRNGKey, step) -> LossOutput:
        logits = self.logits(params, batch)
        nll = weighted_sum(cross_entropy(logits, batch["targets"]), batch["weights"])
        term = nll
        if self.config.label_smoothing:
            smoothed = cross_entropy(logits, batch["targets"], self.config.label_smoothing)
            term = weighted_sum(smoothed, batch["weights"])
        return LossOutput({"prediction": Term(1.0, term)}, {"nll": nll})

    def logits(self, params: Params, batch: Batch) -> Array:
        """``[B, T, V]``."""
        rows = (batch["inputs"], batch["positions"], batch["segments"])
        return cast(Array, self.model.apply({"params": params}, *rows))

    def token_nll(self, params: Params, batch: Batch) -> Array:
        """Cross-entropy of every target, ``[B, T]`` in nats."""
        return cross_entropy(self.logits(params, batch), batch["targets"])

    def decoder(self) -> LMDecoder:
        """Generation against a cache."""
        return LMDecoder(self.model)

    def evaluate(self, params: Params, variables: Variables, batch: Batch, key: PRNGKey) -> dict[str, WeightedSum]:
        """``nll_step_1``: the one forward pass of a feed-forward model, named as the EBT names its inner steps."""
        return {"nll_step_1": self.loss(params, variables, batch, key, 0).metrics["nll"]}
