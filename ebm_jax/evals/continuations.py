"""What a language model's own continuations are like: their features, their worth, how often they repeat or end.

The feature-matching loss by completion length (EBFT) is the U-statistic of ``losses.feature_matching``, not
whitened, at temperature 1, under a feature network that all compared models share. Rows, anchors and random numbers depend on
the config alone, so models are compared in pairs; everything is kept for each anchor.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import comb
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax.algorithms.answers import AnswerGrader
from ebm_jax.algorithms.policy_gradient import per_row
from ebm_jax.algorithms.token_log_probs import token_log_probs
from ebm_jax.algorithms.token_nll import token_nll
from ebm_jax.data.splits import SPLITS
from ebm_jax.decoding.anchors import AnchorConfig, branches_of, prompt_of
from ebm_jax.decoding.rollout import rollout
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError
from ebm_jax.grading.rewards import RewardConfig
from ebm_jax.losses import feature_matching as matching
from ebm_jax.models.features import FeatureConfig, Features, feature_network, token_features
from ebm_jax.models.lm import TransformerLM
from ebm_jax.parallel.multihost import is_main, to_host
from ebm_jax.types import Array, Batch, Params, PRNGKey

SHOWN_BEFORE = 48
"""Tokens of a prompt's end that are shown with a sample."""


@dataclass(frozen=True, kw_only=True)
class MatchingConfig:
    """On what continuations the feature-matching loss is measured."""

    lengths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Completion lengths in tokens, rising."""
    samples: int = 4
    anchors: int = 2048
    """How many prompts are continued, at least (fewer where the split has no more)."""
    per_row: int = 8
    """At most so many of one row, at random places."""
    places: Literal["random", "answers"] = "random"
    """``random`` or ``answers``, as ``AnchorConfig.places``."""
    split: str = "validation"
    batch_size: int = 8
    temperature: float = 1.0
    features: FeatureConfig = field(default_factory=FeatureConfig)
    """The network that all compared models are looked at by. Its ``weights`` are ``base``, ``initial`` (what the models begin
    with), or those of a run or a published model. Pooled ``last``: features of a completion's last token; ``mean``: their
    mean over its tokens."""

    def __post_init__(self) -> None:
        if not self.lengths or list(self.lengths) != sorted(set(self.lengths)) or self.lengths[0] < 1:
            raise UserError(f"matching.lengths={self.lengths} must be rising numbers of tokens, from 1 on")
        if self.lengths[-1] < 2:
            raise UserError("matching.lengths=(1,): the longest completion must have 2 tokens at least")
        for name, least in (("samples", 2), ("anchors", 1), ("per_row", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise UserError(f"matching.{name}={getattr(self, name)} must be at least {least}")
        if self.split not in SPLITS:
            raise UserError(f"matching.split={self.split!r} is not one of {', '.join(SPLITS)}")
        if self.temperature <= 0:
            raise UserError(f"matching.temperature={self.temperature} must be positive: features are of samples")
        if self.features.pool not in ("last", "mean"):
            raise UserError(f"matching.features.pool={self.features.pool!r} is not one of last, mean")
        if self.features.weights == "random":
            raise UserError(
                "matching.features.weights=random: models are compared by a network that knows the text, as base"
            )
        if self.places not in ("random", "answers"):
            raise UserError(f"matching.places={self.places!r} is not one of random, answers")

    @property
    def branching(self) -> AnchorConfig:
        return AnchorConfig(steps=self.lengths[-1], stride=1, prefix=1, places=self.places, most=self.per_row)


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A task's metric: what continuations of held-out rows, or answers to held-out questions, are worth."""

    reward: RewardConfig = field(default_factory=lambda: RewardConfig(kind="bleu"))
    anchors: AnchorConfig = field(default_factory=lambda: AnchorConfig(places="starts", steps=64, most=4))
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.0))
    samples: int = 1
    """With several, also the best of 1, 2, 4, ... of them."""
    rows: int = 256
    split: str = "validation"
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.samples > 1 and self.sampling.temperature == 0:
            raise UserError(f"task.samples={self.samples} of temperature 0 are all the same: set a temperature")


class Measured(NamedTuple):
    """What ``MatchingEvaluator`` found at A anchors, in the order of rows, and in the R rows that it read."""

    row_A: np.ndarray
    """Number of the row, by which anchors that depend on each other are known."""
    matching_AxL: np.ndarray
    """Feature-matching loss at each length."""
    whitened_AxL: np.ndarray
    """``-mean(a - d / 2)`` with whitened features, the paper's own metric (eq. 53)."""
    duplicates_AxL: np.ndarray
    """Share of pairs of samples that are equal so far."""
    ended_AxL: np.ndarray
    """Share of samples with an end-of-text token so far."""
    gap_A: np.ndarray
    """Mean difference of the sampler's log-probability of a token and that of one full pass."""
    tokens_AxGxT: np.ndarray
    anchor_A: np.ndarray
    row_R: np.ndarray
    scored_Rx2: np.ndarray
    """Cross-entropy at temperature 1 of the tokens that the data scores, sum and weight of every row."""
    all_Rx2: np.ndarray
    """The same of all tokens."""
    unconditional_L: np.ndarray
    """``E |phi(y)|^2 - |E phi(y)|^2`` over the true continuations of all anchors: the feature-matching loss of true text from
    anywhere, at each length. A model that has it knows no more of how this prompt goes on."""


class MatchingEvaluator:
    """One compiled function for models of one shape."""

    def __init__(self, network: TransformerLM, config: MatchingConfig, end: int | None, place: Any) -> None:
        of = config.features
        self.config, self._place = config, place
        self._network, self._end = network, end
        self.feature_network = feature_network(of, network.config, network.vocab_size)
        self._depths = of.layers((of.model or network.config).resolved_depth)
        self._measure = jax.jit(self._of_batch)

    def __call__(
        self, params: Params, features: Params, batches: Iterable[Mapping[str, Any]], key: PRNGKey
    ) -> Measured:
        """Continues rows until there are enough anchors; ``features`` are the feature network's own parameters."""
        found: list[dict[str, np.ndarray]] = []
        number, truth_LxE, squares_L = 0, np.zeros(()), np.zeros(())
        for batch in batches:
            out = to_host(self._measure(params, features, self._place(batch), key))
            there, index_B, real = out.pop("there") > 0, out.pop("index"), out["all_Rx2"][:, 1] > 0
            truth_LxE = truth_LxE + np.asarray(out.pop("truth_LxE"), np.float64)
            squares_L = squares_L + np.asarray(out.pop("squares_L"), np.float64)
            rows = {name: out.pop(name)[real] for name in ("scored_Rx2", "all_Rx2")}
            row_A = np.broadcast_to(index_B[:, None], there.shape)[there]
            kept = {name: x[there] for name, x in out.items()}
            found.append({"row_A": row_A, "row_R": index_B[real], **rows, **kept})
            number += len(row_A)
            if number >= self.config.anchors:
                break
        if not number:
            raise UserError(
                f"no row of the {self.config.split} split has room for {self.config.lengths[-1]} tokens behind an anchor:"
                " use shorter matching.lengths or longer documents"
            )
        whole = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        pairs_L = (np.sum(truth_LxE**2, -1) - squares_L) / max(number * (number - 1), 1)
        return Measured(**whole, unconditional_L=squares_L / number - pairs_L)

    def _of_batch(self, params: Params, weights: Params, batch: Batch, key: PRNGKey) -> dict[str, Any]:
        c = self.config
        anchors = c.branching
        branches, prompt = branches_of(batch, anchors, key), prompt_of(batch, anchors)
        how = SamplingConfig(temperature=c.temperature)
        made, log_probs = rollout(self._network, params, prompt, branches, how, c.samples, key, batch["index"])
        variables = {"params": params}
        hidden, later = cast(Any, self._network).apply(variables, *prompt, made, branches, method="branched")
        flat = later[..., :-1, :].reshape(later.shape[0], -1, later.shape[-1])
        again = token_log_probs(
            self._network, params, flat, made[..., 1:].reshape(len(made), -1, 1), c.temperature
        ).log_probs_BxTxK.reshape(made[..., 1:].shape)
        nll_BxP = token_nll(self._network, params, hidden, batch["targets"])
        real = (batch["segments"] > 0).astype(jnp.float32)
        phi = token_features(
            self.feature_network, weights, c.features, self._depths, prompt, made, branches
        )  # [B, G, S, T, E] and [B, S, T, E] in parts
        at = jnp.asarray(c.lengths) - 1
        phi = Features(*(tuple(_pooled(x, c.features.pool)[..., at, :] for x in part) for part in phi))
        grams = matching.grams([jnp.moveaxis(x, 1, -2) for x in phi.samples], phi.truth)  # [B, S, L, ...]
        white = matching.rewards(grams, whiten="feature_axis", whiten_scale="1/n")
        whitened = -jnp.mean(white.alignment_XxG - white.diversity_XxG / 2, -1)
        same = jnp.cumprod(made[:, :, None] == made[:, None], axis=-1)
        pairs = (jnp.sum(same, (1, 2)) - c.samples) / (c.samples * (c.samples - 1))
        each = branches.there_BxS[..., None, None]
        true = jnp.concatenate(phi.truth, -1)  # [B, S, L, E]
        ended = jnp.cumsum(made == (-1 if self._end is None else self._end), -1) > 0
        return {
            "there": branches.there_BxS,
            "truth_LxE": jnp.sum(true * each, (0, 1)),
            "squares_L": jnp.sum(true**2 * each, (0, 1, 3)),
            "anchor_A": branches.anchor_BxS,
            "matching_AxL": matching.matching_loss(grams),
            "whitened_AxL": whitened,
            "duplicates_AxL": pairs[..., at],
            "ended_AxL": jnp.mean(ended, 1)[..., at],
            "gap_A": jnp.mean(log_probs[..., 1:] - again, (1, 3)),
            "tokens_AxGxT": jnp.moveaxis(made, 1, 2),
            "index": batch["index"],
            "scored_Rx2": per_row(nll_BxP, batch["weights"]),
            "all_Rx2": per_row(nll_BxP, real),
        }


class TaskEvaluator:
    """Samples and grades; one compiled sampler for models of one shape."""

    def __init__(self, network: TransformerLM, config: TaskConfig, data: Any, place: Any) -> None:
        self.config, self._place, self._network = config, place, network
        self._grader = AnswerGrader(config.reward, config.anchors, data, config.split)
        self._sample = jax.jit(self._sampled)

    def __call__(self, params: Params, batches: Iterable[Mapping[str, Any]], key: PRNGKey) -> "Scores":
        """Rewards of every block of the rows, ``[A, samples]``, in process 0; the others sample for it and have none."""
        rows: list[np.ndarray] = []
        rewards: list[np.ndarray] = []
        failures: dict[str, int] = {}
        texts: list[tuple[str, ...]] = []
        for local in batches:
            placed = self._place(local)
            plain = {name: value for name, value in placed.items() if name != "examples"}
            made, anchor, there = to_host(self._sample(params, plain, key))
            batch = to_host(placed)
            rows.append(np.broadcast_to(batch["index"][:, None], there.shape)[there > 0])
            if not is_main():  # texts are graded, and written down, once
                continue
            reward, graded = self._grader(batch, made, anchor, there)
            rewards.append(np.moveaxis(reward, 1, -1)[there > 0])
            for reason, count in graded.failures.items():
                failures[reason] = failures.get(reason, 0) + count
            for b, s in np.argwhere(there > 0):
                place = self._grader.place(batch, int(b), int(s), int(anchor[b, s]))
                own = np.flatnonzero(batch["segments"][b, : anchor[b, s]] == batch["segments"][b, anchor[b, s] - 1])
                before = batch["inputs"][b, own[-SHOWN_BEFORE:]]
                texts.append((self._grader.text(before), place.reference, self._grader.text(made[b, 0, s])))
        if not rows or not sum(map(len, rows)):
            raise UserError(f"the {self.config.split} split has nothing to ask: no row has a place for an answer")
        return Scores(np.concatenate(rows), np.concatenate(rewards or [np.zeros((0, 1))]), failures, texts)

    def _sampled(self, params: Params, batch: Batch, key: PRNGKey) -> tuple[Array, Array, Array]:
        c = self.config
        truth = c.anchors.places != "starts"
        branches, prompt = branches_of(batch, c.anchors, key, truth), prompt_of(batch, c.anchors)
        made = rollout(self._network, params, prompt, branches, c.sampling, c.samples, key, batch["index"])
        return made.tokens, branches.anchor_BxS, branches.there_BxS


class Scores(NamedTuple):
    """Rewards of A blocks, in the order of rows."""

    row_A: np.ndarray
    reward_AxG: np.ndarray
    failures: dict[str, int]
    """Samples that could not be graded, by reason."""
    texts: list[tuple[str, ...]]
    """The end of the prompt, the true continuation, and the first sample."""

    def best_of(self, k: int) -> np.ndarray:
        """The expected best of k samples, ``[A]``, unbiased; of rewards 0 and 1: pass@k (Chen et al. 2021)."""
        return best_of(self.reward_AxG, k)


def best_of(reward_AxG: np.ndarray, k: int) -> np.ndarray:
    """``E[max of k of the n samples]``, ``sum_i r_(i) C(i - 1, k - 1) / C(n, k)`` over the rising rewards, ``[A]``.

    Raises:
      UserError: there are fewer than k samples.
    """
    samples = reward_AxG.shape[-1]
    if not 1 <= k <= samples:
        raise UserError(f"the best of {k} needs as many samples, and there are {samples}")
    weights = np.array([comb(i, k - 1) for i in range(samples)], np.float64) / comb(samples, k)
    return np.sort(reward_AxG.astype(np.float64), axis=-1) @ weights


def _pooled(x: Array, pool: str) -> Array:
    """Features of every length's completion, along the axis of time (the last but one)."""
    if pool == "last":
        return x
    return jnp.cumsum(x, -2) / jnp.arange(1, x.shape[-2] + 1)[:, None]
