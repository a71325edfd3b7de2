"""Thinking at inference: more inner steps, and self-verification by energy (EBT sections 2 and 4.1.2).

*Thinking longer* runs more steps than training did. *Self-verification* draws G candidates from independent initial
states and, at every position on its own, keeps the one with the lowest final energy. The final energies take one extra
forward pass after the last update, on the last landscape that was visited.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ebm_jax import rng
from ebm_jax.energy.descent import EnergyModel, descend, fixed_step_size, inner_step, read
from ebm_jax.energy.schedule import DescentConfig, Randomness, evaluation_repeats, initial_state
from ebm_jax.errors import UserError
from ebm_jax.types import Array, Params, PyTree


@dataclass(frozen=True, kw_only=True)
class ThinkingConfig:
    """How long to think, and with how many candidates."""

    steps: int | None = None
    """Inner steps in all; None repeats the last landscape as often as training at most. Earlier ones get one each."""
    candidates: int = 1
    """G: independent initial states per position."""
    select: Literal["min", "max", "max_gap"] = "min"
    """Which candidate is kept: lowest or highest final energy, or the largest fall from first to final."""
    accept_lower: bool = False
    """Keep a step's result only where it lowers the energy; one more forward pass a step."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UserError(f"thinking steps={self.steps} must be at least 1")
        if self.candidates < 1:
            raise UserError(f"thinking candidates={self.candidates} must be at least 1")

    def repeats(self, descent: DescentConfig) -> tuple[int, ...]:
        """Steps on each landscape."""
        if self.steps is None:
            return evaluation_repeats(descent)
        earlier = descent.landscapes - 1
        if self.steps <= earlier:
            return (1,) * self.steps
        return (1,) * earlier + (self.steps - earlier,)

    def forward_passes(self, descent: DescentConfig) -> int:
        """Forward passes per position: one a step, and one a candidate to choose by.

        ``accept_lower`` takes one more a step, and one where each landscape begins.
        """
        repeats = self.repeats(descent)
        accepting = sum(repeats) + len(repeats) if self.accept_lower else 0
        chosen = 1 if self.candidates > 1 else 0
        return self.candidates * (sum(repeats) + accepting + chosen)


class Thought(NamedTuple):
    """The chosen candidates: last state, energies before each step, final energies, and what was kept of each step."""

    state: Array
    energies_IxBxT: Array
    final_energy_BxT: Array
    kept: PyTree


Keep = Callable[[Array], PyTree]
"""state -> per-position values ``[B, T, ...]`` to keep of each step."""


def think(
    model: EnergyModel,
    config: DescentConfig,
    thinking: ThinkingConfig,
    params: Params,
    data: PyTree,
    draws: Randomness,
    shape: tuple[int, ...],
    dtype,
    keep: Keep,
) -> Thought:
    """Descends from G initial states ``[B, *shape]`` one after another (memory does not grow with G) and keeps the best.

    Candidate g depends on (key, row, g) alone, so the candidates of a smaller G are among those of a larger one.
    """
    repeats = thinking.repeats(config)

    def candidate(g: int | Array) -> Thought:
        own = Randomness(rng.at_step(rng.stream(draws.key, "candidate"), g), draws.index_B)
        state = initial_state(config, own, shape, dtype)
        if thinking.accept_lower:
            state, (energies, kept) = _descend_accepting(model, config, params, data, state, repeats, own, keep)
        else:
            observe = lambda params, context, step, data, last: (jnp.zeros(()), (step.energies, keep(step.state)))
            state, (energies, kept) = descend(model, config, params, data, state, repeats, own, observe=observe)
        landscape = len(repeats) - 1
        context = model.context(params, data, landscape)
        return Thought(state, energies, state_energy(model, config, params, context, data, state, landscape), kept)

    best = candidate(0)
    if thinking.candidates == 1:
        return best

    def compare(best: Thought, g: Array) -> tuple[Thought, None]:
        other = candidate(g)
        wins_BxT = _score(thinking, other) < _score(thinking, best)
        return _choose(wins_BxT, other, best), None

    return lax.scan(compare, best, jnp.arange(1, thinking.candidates))[0]


def state_energy(
    model: EnergyModel,
    config: DescentConfig,
    params: Params,
    context: PyTree,
    data: PyTree,
    state: Array,
    landscape: int | Array,
) -> Array:
    """Energies at a state, without noise and without an update."""
    e = read(model, config, params, state, landscape)
    return model.energy(params, context, data, e, landscape)


def _score(thinking: ThinkingConfig, thought: Thought) -> Array:
    final = thought.final_energy_BxT
    if thinking.select == "min":
        return final
    return -final if thinking.select == "max" else final - thought.energies_IxBxT[0]


def _choose(wins_BxT: Array, other: Thought, best: Thought) -> Thought:
    def pick(a: Array, b: Array, lead: int) -> Array:
        wins = wins_BxT.reshape(*(1,) * lead, *wins_BxT.shape, *(1,) * (a.ndim - lead - wins_BxT.ndim))
        return jnp.where(wins, a, b)

    return Thought(
        pick(other.state, best.state, 0),
        pick(other.energies_IxBxT, best.energies_IxBxT, 1),
        pick(other.final_energy_BxT, best.final_energy_BxT, 0),
        jax.tree.map(lambda a, b: pick(a, b, 1), other.kept, best.kept),
    )


def _descend_accepting(model, config, params, data, state, repeats, draws, keep):
    """As ``descend``, but a position keeps its old state where the step would not lower its energy.

    The old *state* is kept, not its softmax: the reference re-normalises rejected positions, which flattens them.
    """
    alpha = fixed_step_size(params)
    energies, kept, index = [], [], 0
    for landscape, times in enumerate(repeats):
        context = model.context(params, data, landscape)

        def body(carry, k, context=context, landscape=landscape):
            state, before = carry
            proposed, _ = inner_step(model, config, params, context, data, state, landscape, k, draws, alpha)
            after = state_energy(model, config, params, context, data, proposed, landscape)
            accept = after < before
            state = jnp.where(accept.reshape(*accept.shape, *(1,) * (state.ndim - accept.ndim)), proposed, state)
            return (state, jnp.where(accept, after, before)), (before, keep(state))

        before = state_energy(model, config, params, context, data, state, landscape)
        (state, _), (e, k) = lax.scan(body, (state, before), jnp.arange(index, index + times))
        energies.append(e)
        kept.append(k)
        index += times
    join = lambda *parts: jnp.concatenate(parts)
    return state, (join(*energies), jax.tree.map(join, *kept))
