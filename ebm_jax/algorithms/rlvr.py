"""Reinforcement learning with verifiable rewards: sampled answers are graded on the host, by their text.

The baseline of energy-based fine-tuning: the same rollouts and the same loss (``algorithms.policy_gradient``), with sentence
BLEU, an exact or a mathematically equal answer, or unit tests for a reward. Advantages leave one out (RLOO, Ahmadian et al.
2024), or are normalised in their group (``baseline=group_norm``: GRPO, Shao et al. 2024).

``anchors.places=starts`` asks for whole answers to the questions of examples; on plain text any other places ask for
continuations, whose reference is how the text goes on.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax.algorithm import Variables
from ebm_jax.algorithms.answers import AnswerGrader
from ebm_jax.algorithms.policy_gradient import TOLD, PolicyConfig, PolicyGradient, per_row
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.errors import UserError
from ebm_jax.grading.rewards import Graded, RewardConfig
from ebm_jax.losses.feature_matching import baselined
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.multihost import local_rows_of, to_global
from ebm_jax.precision import Precision
from ebm_jax.types import Array, Batch, PRNGKey


@dataclass(frozen=True, kw_only=True)
class RLVRConfig(PolicyConfig):
    """Policy gradients of rewards that a text alone decides."""

    kind: ClassVar[str] = "rlvr"
    reward: RewardConfig = field(default_factory=lambda: RewardConfig(kind="bleu"))
    anchors: AnchorConfig = field(
        default_factory=lambda: AnchorConfig(places="starts", steps=256, most=4, documents="separate")
    )
    """Where answers begin, and how long they may get."""
    end: Literal["ignore", "mask_after"] = "mask_after"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.anchors.documents == "reference":
            raise UserError("algorithm.anchors.documents=reference is for feature matching: use separate or joined")


class RLVR(PolicyGradient):
    """Samples and grades in ``prepare``, on the host; advantages, loss and update run on the device."""

    config: RLVRConfig

    def __init__(self, config: RLVRConfig, model: TransformerConfig, vocab_size: int, precision: Precision) -> None:
        super().__init__(config, model, vocab_size, precision)
        self.grader: AnswerGrader | None = None
        self._sample = jax.jit(self._sampled)

    @property
    def reads_truth(self) -> bool:
        """Answers are compared with examples' own; other continuations with how the row goes on."""
        return self.config.anchors.places != "starts"

    def meet(self, data: Any) -> None:
        super().meet(data)
        # Made here, so that what it lacks is said before anything is trained.
        self.grader = AnswerGrader(self.config.reward, self.config.anchors, data, "train")

    def prepare(self, variables: Variables, batch: Batch, key: PRNGKey, step: int) -> Batch:
        """Continues this host's rows with the policy as it is, and grades what came out."""
        if self.grader is None:
            raise ValueError("RLVR.meet must be shown the data before anything is sampled")
        rows = {name: value for name, value in batch.items() if name != "examples"}
        placed = to_global(rows, jax.sharding.get_mesh())
        made, log_probs, anchor, there = (local_rows_of(x) for x in self._sample(variables, placed, key))
        reward, graded = self.grader(batch, made, anchor, there)
        return {
            **rows,
            "continuations": made,
            "sampler_log_probs": log_probs,
            "reward": reward,
            **told(reward, there, graded),
        }

    def augment(self, variables: Variables, batch: Batch, key: PRNGKey, step) -> Batch:
        batch = {name: value for name, value in batch.items() if name != "examples"}
        if "continuations" not in batch:
            # Only lowering a step (to count its work, or to see that it fits) leaves ``prepare`` out: no reward, the same work.
            made, log_probs, *_ = self._sampled(variables, batch, key)
            reward = jnp.zeros(made.shape[:-1], jnp.float32)
            batch |= {"continuations": made, "sampler_log_probs": log_probs, "reward": reward}
        advantages_BxSxG = baselined(jnp.moveaxis(batch["reward"], 1, -1), self.config.baseline)
        advantages = jnp.moveaxis(advantages_BxSxG, -1, 1)[..., None]
        return {
            **{name: value for name, value in batch.items() if name != "reward"},
            "advantages": jnp.broadcast_to(advantages, batch["continuations"].shape),
        }

    def _sampled(self, variables: Variables, batch: Batch, key: PRNGKey) -> tuple[Array, Array, Array, Array]:
        """Continuations and their log-probabilities ``[B, G, S, T]``; their anchors, and whether they count, ``[B, S]``."""
        params = self.deployed(variables.params, variables.frozen)
        branches, made, log_probs = self.sample(params, batch, key)
        return made, log_probs, branches.anchor_BxS, branches.there_BxS


def told(reward_BxGxS: np.ndarray, there_BxS: np.ndarray, graded: Graded) -> dict[str, np.ndarray]:
    """What a step reports, as sums and weights of every row; shares of failures stand in this host's first row."""
    each: np.ndarray = np.broadcast_to(there_BxS[:, None], reward_BxGxS.shape)
    values: dict[str, tuple[Any, Any]] = {
        "reward": (reward_BxGxS, each),
        "reward_full": ((reward_BxGxS >= 1).astype(np.float32), each),
        "reward_std": (reward_BxGxS.std(1), there_BxS),
        "reward_best": (reward_BxGxS.max(1), there_BxS),
    }
    rows = {TOLD + name: np.asarray(per_row(jnp.asarray(x), jnp.asarray(w))) for name, (x, w) in values.items()}
    for reason, count in graded.failures.items():
        counts = np.zeros((len(there_BxS), 2), np.float32)
        counts[0] = count, len(graded.scores)
        rows[f"{TOLD}reward_failures/{reason}"] = counts
    return rows
