"""A reward model from preferences: of two answers to a prompt, the better one is to get the higher reward.

A row of a batch holds pairs whole (``data.source=pairs:...``), the better text before the worse, so no microbatch splits one.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from ebm_jax.algorithm import BatchSpec, LossOutput, Variables
from ebm_jax.algorithms.adapted import Adapted, initial
from ebm_jax.algorithms.token_nll import token_nll
from ebm_jax.errors import UserError
from ebm_jax.losses.preference import bradley_terry, choice_accuracy, off_center
from ebm_jax.models.lm import TransformerLM
from ebm_jax.models.lora import LoraConfig
from ebm_jax.models.reward import next_of_better, reward_transformer, rewards_of_pairs
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.precision import Precision
from ebm_jax.types import Array, Batch, Params, PRNGKey
from ebm_jax.weighted import Term, WeightedSum, weighted_sum


@dataclass(frozen=True, kw_only=True)
class RewardModelConfig:
    """A reward model on the trunk of the model that ``weights=`` names."""

    kind: ClassVar[str] = "reward_model"
    weights_of: Literal["language_model", "reward_model"] = "language_model"
    """What ``weights=`` names: a language model, on whose trunk a new head begins, or a reward model, which goes on."""
    margin: float = 0.0
    """Difference that the two rewards are to have at least."""
    centering: float = 0.0
    """Coefficient of (r_chosen + r_rejected)^2, which keeps rewards around zero."""
    language: float = 0.0
    """Coefficient of the cross-entropy of the better texts, which keeps the trunk a language model: it guards few pairs against
    being learned by heart (Yang et al. 2024, "Regularizing hidden states enables learning generalizable reward model")."""
    lora: LoraConfig | None = None
    """Adapters to train, beside the head, in place of all weights; none trains all."""

    def __post_init__(self) -> None:
        if self.weights_of not in ("language_model", "reward_model"):
            raise UserError(f"algorithm.weights_of={self.weights_of!r} is not one of language_model, reward_model")
        if self.weights_of == "reward_model" and self.language:
            raise UserError("algorithm.language needs the vocabulary head of a language model: reward models have none")
        for name in ("margin", "centering", "language"):
            if getattr(self, name) < 0:
                raise UserError(f"algorithm.{name}={getattr(self, name)} must not be negative")


class RewardModel(Adapted):
    """loss = mean of -log sigmoid(r_chosen - r_rejected - margin) + centering * (r_chosen + r_rejected)^2 over pairs
    + language * mean of CE(logits_t, x_{t+1}) over the better texts' tokens.

    A reward is read at a text's last token, so padding behind it does not matter.
    """

    new = ("score",)

    def __init__(
        self, config: RewardModelConfig, model: TransformerConfig, vocab_size: int, precision: Precision
    ) -> None:
        self.config, self.lora, self.vocab_size = config, config.lora, vocab_size
        self.module = reward_transformer(model, vocab_size, precision, writes=config.language > 0)
        self.language_model = TransformerLM(model, vocab_size, precision)

    def init_network(self, key: PRNGKey, spec: BatchSpec) -> Params:
        if self.config.weights_of == "reward_model":
            return initial(self.module, key, spec)
        return super().init_network(key, spec)

    def loss(self, params: Params, variables: Variables, batch: Batch, key: PRNGKey, step) -> LossOutput:
        network = self.deployed(params, variables.frozen)
        hidden_BxTxD = self._hidden(network, batch)
        rewards_BxT = self._rewards(network, hidden_BxTxD)
        chosen, rejected, there = rewards_of_pairs(rewards_BxT, batch["segments"])
        nll = weighted_sum(bradley_terry(chosen, rejected, self.config.margin), there)
        terms = {"preference": Term(1.0, nll)}
        if self.config.centering:
            terms["centering"] = Term(self.config.centering, weighted_sum(off_center(chosen, rejected), there))
        metrics = {
            "nll": nll,
            "accuracy": weighted_sum(choice_accuracy(chosen, rejected), there),
            "difference": weighted_sum(chosen - rejected, there),
            "reward": weighted_sum((chosen + rejected) / 2, there),
        }
        if self.config.language:
            targets, counts = next_of_better(batch["inputs"], batch["segments"])
            written = weighted_sum(token_nll(self.module, network, hidden_BxTxD, targets), counts)
            terms["language"] = Term(self.config.language, written)
            metrics["language_nll"] = written
        return LossOutput(terms, metrics)

    def evaluate(self, params: Params, variables: Variables, batch: Batch, key: PRNGKey) -> dict[str, WeightedSum]:
        """Accuracy and negative log-likelihood of the choices, the rewards and their difference; means over pairs."""
        return self.loss(params, variables, batch, key, 0).metrics

    def _hidden(self, network: Params, batch: Batch) -> Array:
        rows = (batch["inputs"], batch["positions"], batch["segments"])
        return cast(Array, self.module.apply({"params": network}, *rows, method="hidden"))

    def _rewards(self, network: Params, hidden_BxTxD: Array) -> Array:
        return cast(Array, self.module.apply({"params": network}, hidden_BxTxD, method="rewards"))
