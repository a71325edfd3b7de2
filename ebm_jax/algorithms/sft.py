"""Supervised fine-tuning: next-token cross-entropy on the tokens that the data marks, all weights or adapters of them."""

from dataclasses import dataclass
from typing import ClassVar, cast

from ebm_jax.algorithm import LossOutput, Variables
from ebm_jax.algorithms.adapted import Adapted
from ebm_jax.algorithms.lm import LM, LMConfig
from ebm_jax.algorithms.token_nll import token_nll
from ebm_jax.models.lora import LoraConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.precision import Precision
from ebm_jax.types import Array, Batch, Params, PRNGKey
from ebm_jax.weighted import Term, weighted_sum


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """Supervised fine-tuning of the language model that ``weights=`` names."""

    kind: ClassVar[str] = "sft"
    lora: LoraConfig | None = None
    """Adapters to train in place of all weights; none trains all."""


class SFT(Adapted, LM):
    """loss = sum_t w_t CE(logits_t, target_t) / sum_t w_t, with w_t = 1 on completions (``data.examples.loss``).

    ``logits``, ``token_nll`` and ``decoder`` take deployed parameters.
    """

    def __init__(self, config: SFTConfig, model: TransformerConfig, vocab_size: int, precision: Precision) -> None:
        LM.__init__(self, LMConfig(), model, vocab_size, precision)
        self.lora = config.lora
        self.module = self.language_model = self.model

    def loss(self, params: Params, variables: Variables, batch: Batch, key: PRNGKey, step) -> LossOutput:
        nll_BxT = self.token_nll(self.deployed(params, variables.frozen), batch)
        nll = weighted_sum(nll_BxT, batch["weights"])
        return LossOutput({"prediction": Term(1.0, nll)}, {"nll": nll})

    def token_nll(self, params: Params, batch: Batch) -> Array:
        """Cross-entropy of every target, ``[B, T]`` in nats; wide vocabularies in pieces, made again in the backward pass."""
        rows = (batch["inputs"], batch["positions"], batch["segments"])
        hidden_BxTxD = cast(Array, self.model.apply({"params": params}, *rows, method="hidden"))
        return token_nll(self.model, params, hidden_BxTxD, batch["targets"])
