"""Energy-Based Transformer pretraining (EBT): a next-token distribution found by descending a learned energy.

Each position starts from noise and takes a few gradient steps on its energy; the loss is the cross-entropy of the states
along the way, differentiated through the steps (EBT sections 2 and 3). The recipes S1 and S2 are settings of
``DescentConfig``; S2 adds the replay ring.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from ebm_jax import rng
from ebm_jax.algorithm import Algorithm, BatchSpec, GroupOptions, LossOutput, Variables
from ebm_jax.decoding.ebt import EBTDecoder
from ebm_jax.energy.descent import EnergyModel, Step
from ebm_jax.energy.objective import Descent, descent_objective
from ebm_jax.energy.replay import ReplayConfig, empty_ring, push, sample
from ebm_jax.energy.schedule import DescentConfig, Randomness, initial_state, training_repeats, training_step_sizes
from ebm_jax.energy.spaces import vocabulary_space
from ebm_jax.energy.thinking import ThinkingConfig, Thought, think
from ebm_jax.losses.cross_entropy import cross_entropy, energy_contrast
from ebm_jax.models.ebt import EBT as EBTModel
from ebm_jax.models.ebt import Conditioning, HeadInit
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.rules import constrain
from ebm_jax.precision import Precision
from ebm_jax.types import Array, Batch, Params, PRNGKey, PyTree
from ebm_jax.weighted import Term, WeightedSum, weighted_sum

ROW_FIELDS = ("inputs", "targets", "weights", "segments", "positions")
REPLAYED_ROW = 1 << 31
"""Added to a fresh row's index to key the noise of the replayed row in its place."""


@dataclass(frozen=True, kw_only=True)
class EBTConfig:
    """An autoregressive EBT: how the network is conditioned, how it descends, and what the loss adds up.

    The defaults are the recipe that trains reliably from small sizes on; ``docs/log.md`` says what each part gave. ``PAPER``
    has the published choices, to be used with ``energy.schedule.PAPER_S1`` or ``PAPER_S2``.
    """

    kind: ClassVar[str] = "ebt"
    conditioning: Conditioning = "candidate"
    """How the network knows the inner step; the paper's is ``time_embed``."""
    tied: bool = True
    """Embed candidates by the token table instead of a matrix of their own (the paper's)."""
    head_init: HeadInit = "zero"
    """Initialisation of the energy head; ``zero`` starts at a cross-entropy of ln V, the paper's is ``xavier``."""
    descent: DescentConfig = field(default_factory=DescentConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    thinking: ThinkingConfig = field(default_factory=ThinkingConfig)
    """How validation thinks."""
    prediction_coef: float = 1.0
    label_smoothing: float = 0.0
    """lambda: step i of K is smoothed by lambda (K-1-i)/(K-1), the last not at all."""
    contrastive_coef: float = 0.0
    """Weight of the contrast between the true token's energy and the found one's (5e-4 in the reference; off)."""
    contrastive_logit: float = 0.0
    """c > 0: the true candidate is softmax(+-c) instead of one-hot."""
    unroll_steps: bool = False
    """Write the inner steps out instead of looping: the same numbers, for counting FLOPs."""


PAPER: dict[str, Any] = {"conditioning": "time_embed", "tied": False, "head_init": "xavier"}
"""How the paper's network is conditioned and initialised, as arguments of ``EBTConfig`` (EBT, appendix D.1)."""


class EBT(Algorithm):
    """Binds the network, the descent and the loss."""

    def __init__(self, config: EBTConfig, model: TransformerConfig, vocab_size: int, precision: Precision) -> None:
        self.config, self.model, self.precision, self.vocab_size = config, model, precision, vocab_size
        self.network = EBTModel(
            model, vocab_size, config.descent.landscapes, config.conditioning, config.tied, config.head_init, precision
        )
        self.energy = EnergyModel(self._context, self._energy, self._space, self.network.shared_context)
        contrasts, unroll = config.contrastive_coef != 0, config.unroll_steps
        self.descent = Descent(
            self.energy, config.descent, self._observe, self._step_sizes, contrasts, unroll, additive=not contrasts
        )

    def init(self, key: PRNGKey, spec: BatchSpec) -> Variables:
        zeros = jnp.zeros((1, spec.context), jnp.int32)
        # The step size multiplies everything and moves by fractions of itself: it is never narrower than the sums.
        dtype, descent = self.precision.reduce_dtype, self.config.descent
        params = {
            "network": self.network.init(key, zeros, zeros, zeros)["params"],
            "step_size": jnp.asarray(descent.step_size, dtype),
            "noise": jnp.asarray(descent.noise, dtype),
        }
        return Variables(params=params, carry=self._empty_replay(spec))

    def loss(self, params: Params, variables: Variables, batch: Batch, key: PRNGKey, step) -> LossOutput:
        descent = self.config.descent
        draws = Randomness(key, batch["index"])
        repeats = training_repeats(descent, rng.stream(key, "repeats"))
        data = dict(batch)
        initial = data.pop("initial", None)
        state = self._initial(draws, batch) if initial is None else initial
        params = self._fixed(params)
        total, (state, kept) = descent_objective(self.descent, params, data, state, repeats, draws)
        weight = jnp.sum(batch["weights"].astype(self.precision.reduce_dtype))
        last = jnp.asarray(sum(repeats)) - 1
        as_sum = lambda x: WeightedSum(lax.stop_gradient(x), weight)
        metrics = {
            "nll": as_sum(kept["nll"][last]),
            "nll_first": as_sum(kept["nll"][0]),
            "energy_first": as_sum(kept["energy"][0]),
            "energy_gap": as_sum(kept["energy"][0] - kept["energy"][last]),
            "step_size": as_sum(params["step_size"] * weight),
            "inner_steps": as_sum((last + 1) * weight),
        }
        if self.config.contrastive_coef:
            metrics["contrast"] = as_sum(kept["contrast"][last])
        records = {"state": state} if self.config.replay.enabled else None
        return LossOutput({"prediction": Term(1.0, WeightedSum(total, weight))}, metrics, records)

    def augment(self, variables: Variables, batch: Batch, key: PRNGKey, step) -> Batch:
        """Appends replayed rows, which start from their stored logits; rows not yet filled weigh nothing."""
        if not self.config.replay.enabled:
            return batch
        fresh = self._initial(Randomness(key, batch["index"]), batch)
        count = self._replayed(batch["index"].shape[0])
        rows, real = sample(variables.carry, rng.stream(key, "replay"), count)
        rows["weights"] = rows["weights"] * real[:, None]
        joined = {name: jnp.concatenate([batch[name], rows[name]]) for name in ROW_FIELDS}
        joined["index"] = jnp.concatenate([batch["index"], batch["index"][:count] + jnp.uint32(REPLAYED_ROW)])
        joined["initial"] = jnp.concatenate([fresh, rows["state"].astype(fresh.dtype)])
        return joined

    def absorb(self, variables: Variables, batch: Batch, records: PyTree, key: PRNGKey, step) -> PyTree:
        """Pushes the fresh rows and their final states; replayed rows are not stored again."""
        if not self.config.replay.enabled:
            return variables.carry
        total = batch["index"].shape[0]
        fresh = next(b for b in range(total, 0, -1) if b + self._replayed(b) == total)
        rows = {name: batch[name][:fresh] for name in ROW_FIELDS}
        return push(variables.carry, rows | {"state": records["state"][:fresh]})

    def groups(self, params: Params) -> PyTree:
        return {"network": "default", "step_size": "step_size", "noise": "noise"}

    def group_options(self) -> dict[str, GroupOptions]:
        descent = self.config.descent
        return {
            "default": GroupOptions(),
            "step_size": GroupOptions(
                lr_multiplier=descent.step_size_lr_multiplier, weight_decay=0.0, trainable=descent.learnable_step_size
            ),
            "noise": GroupOptions(weight_decay=0.0, trainable=descent.learnable_noise),
        }

    def fixed_lengths(self) -> list[Algorithm]:
        descent = self.config.descent
        lengths = range(descent.min_repeats, descent.random_repeats + 2)
        fixed = (replace(descent, random_repeats=r - 1, min_repeats=r) for r in lengths)
        return [EBT(replace(self.config, descent=d), self.model, self.vocab_size, self.precision) for d in fixed]

    def think(self, params: Params, batch: Batch, key: PRNGKey, thinking: ThinkingConfig | None = None) -> Thought:
        """Descends without training's randomness; keeps each step's cross-entropy per token, ``[I, B, T]``."""
        keep = lambda state: cross_entropy(state, batch["targets"])
        shape = (batch["inputs"].shape[1], self.vocab_size)
        return think(
            self.energy,
            self.config.descent,
            thinking or self.config.thinking,
            params,
            dict(batch),
            Randomness(key, batch["index"]),
            shape,
            self.precision.reduce_dtype,
            keep,
        )

    def evaluate(
        self, params: Params, variables: Variables, batch: Batch, key: PRNGKey, thinking: ThinkingConfig | None = None
    ) -> dict[str, WeightedSum]:
        """Cross-entropy ``nll_step_k`` after, and energy ``energy_step_k`` before, each inner step.

        ``energy_final`` is that of the last state, ``forward_passes`` what a token took over all its candidates.
        """
        thought = self.think(params, batch, key, thinking)
        weights = batch["weights"]
        sums = {}
        for k in range(thought.energies_IxBxT.shape[0]):
            sums[f"nll_step_{k + 1}"] = weighted_sum(thought.kept[k], weights)
            sums[f"energy_step_{k + 1}"] = weighted_sum(thought.energies_IxBxT[k], weights)
        sums["energy_final"] = weighted_sum(thought.final_energy_BxT, weights)
        sums["forward_passes"] = weighted_sum(thought.passes_BxT.astype(weights.dtype), weights)
        return sums

    def decoder(self, thinking: ThinkingConfig | None = None) -> EBTDecoder:
        """Generation that thinks at every token, as validation does where ``thinking`` is not given."""
        return EBTDecoder(self.network, self._space, self.config.descent, thinking or self.config.thinking)

    def _context(self, params: Params, data: Batch, landscape) -> PyTree:
        rows = (data["inputs"], data["positions"], data["segments"])
        return self.network.apply({"params": params["network"]}, *rows, landscape, method="context")

    def _energy(self, params: Params, context: PyTree, data: Batch, e: Array, landscape) -> Array:
        rows = (data["positions"], data["segments"])
        energies = self.network.apply({"params": params["network"]}, context, *rows, e, landscape, method="energy")
        return cast(Array, energies)

    def _space(self, params: Params):
        table = params["network"]["embed" if self.config.tied else "candidate_embed"]
        return vocabulary_space(self.config.descent.space, table.astype(self.precision.compute_dtype))

    def _observe(self, params: Params, context: PyTree, step: Step, data: Batch, last: bool) -> tuple[Array, PyTree]:
        """The loss of one inner step and its sums over tokens."""
        config, weights = self.config, data["weights"]
        nll = weighted_sum(cross_entropy(step.state, data["targets"]), weights).total
        scored = nll
        if config.label_smoothing:
            left = (step.total - 1 - step.number) / jnp.maximum(step.total - 1, 1)
            smoothed = cross_entropy(step.state, data["targets"], config.label_smoothing * left)
            scored = weighted_sum(smoothed, weights).total
        every_step = config.descent.loss_on == "every_step"
        is_last = jnp.asarray(step.number == step.total - 1)
        loss = config.prediction_coef * (scored / step.total if every_step else jnp.where(is_last, scored, 0.0))
        kept = {"nll": nll, "energy": weighted_sum(step.energies, weights).total}
        if config.contrastive_coef:
            kept["contrast"] = jnp.zeros_like(nll)
            if last:
                contrast = energy_contrast(self._true_energy(params, context, data), step.energies)
                kept["contrast"] = weighted_sum(contrast, weights).total
                loss = loss + config.contrastive_coef * jnp.where(is_last, kept["contrast"], 0.0)
        return loss, kept

    def true_energies(self, params: Params, batch: Batch) -> Array:
        """Energies ``[B, T]`` of the true next tokens, behind those before them, on the last landscape."""
        data = dict(batch)
        return self._true_energy(params, self._context(params, data, self.config.descent.landscapes - 1), data)

    def _true_energy(self, params: Params, context: PyTree, data: Batch) -> Array:
        """Energies of the true next tokens on the last landscape."""
        space, logit = self._space(params), self.config.contrastive_logit
        one_hot = jax.nn.one_hot(data["targets"], self.vocab_size, dtype=self.precision.reduce_dtype)
        point = (
            one_hot if logit == 0 else space.point(logit * (2 * one_hot - 1), self.config.descent.normalise != "never")
        )
        return self._energy(params, context, data, space.embed(point), self.config.descent.landscapes - 1)

    def _step_sizes(self, params: Params, draws: Randomness, shape: tuple[int, ...]) -> Array:
        return training_step_sizes(self.config.descent, params["step_size"], draws, (shape[1], 1))

    def _fixed(self, params: Params) -> Params:
        """No gradient reaches a step size or noise that is not learned, so neither counts in the clipped norm."""
        descent = self.config.descent
        learned = {"step_size": descent.learnable_step_size, "noise": descent.learnable_noise}
        return params | {name: params[name] if on else lax.stop_gradient(params[name]) for name, on in learned.items()}

    def _initial(self, draws: Randomness, batch: Batch) -> Array:
        shape = (batch["inputs"].shape[1], self.vocab_size)
        state = initial_state(self.config.descent, draws, shape, self.precision.reduce_dtype)
        return constrain(state, "batch", "time", "act_vocab")

    def _replayed(self, fresh: int) -> int:
        return min(self.config.replay.rows(fresh), self.config.replay.capacity)

    def _empty_replay(self, spec: BatchSpec) -> PyTree:
        replay = self.config.replay
        if not replay.enabled:
            return None
        row = jax.ShapeDtypeStruct((spec.context,), jnp.int32)
        record = dict.fromkeys(ROW_FIELDS, row) | {
            "weights": jax.ShapeDtypeStruct((spec.context,), jnp.float32),
            "state": jax.ShapeDtypeStruct((spec.context, self.vocab_size), jnp.dtype(replay.dtype)),
        }
        ring = empty_ring(replay.capacity, record)
        names = {1: ("batch",), 2: ("batch", "time"), 3: ("batch", "time", "act_vocab")}
        box = lambda x: nn.LogicallyPartitioned(x, names=names[x.ndim])
        return ring.replace(records=jax.tree.map(box, ring.records))
