"""Training of value heads on a model's own responses (controlled decoding, arXiv 2310.17022).

With h_t the frozen model's output before token y_t, and R the reward of the whole response:

    rollouts (CD-FUDGE)   (Q(h_t, y_t) - R)^2
    bellman  (CD-Q)       (Q(h_t, y_t) - sum_z p(z | y_<=t) Q(h_{t+1}, z))^2, and R behind the last token
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ebm_jax.decoders.guided import ValueHead
from ebm_jax.decoders.rewards import Response
from ebm_jax.decoding.writer import bucket
from ebm_jax.errors import UserError
from ebm_jax.language_model import LanguageModel
from ebm_jax.parallel.rules import use
from ebm_jax.types import Array, Params


@dataclass(frozen=True, kw_only=True)
class ValueConfig:
    """How a head is fitted."""

    target: Literal["rollouts", "bellman"] = "rollouts"
    steps: int = 500
    rows: int = 32
    """Responses of a step."""
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.target not in ("rollouts", "bellman"):
            raise UserError(f"values.target={self.target!r} is not one of rollouts, bellman")
        if self.steps < 1 or self.rows < 1:
            raise UserError(f"values.steps={self.steps} and values.rows={self.rows} must be at least 1")
        if not self.learning_rate > 0:
            raise UserError(f"values.learning_rate={self.learning_rate} must be positive")


def fit_head(
    config: ValueConfig,
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Response],
    rewards: np.ndarray,
) -> tuple[ValueHead, np.ndarray]:
    """A head for responses to prompts, one of each, and the loss of every step ``[steps]``.

    Raises:
      UserError: there are none, their numbers differ, or the loss is not finite.
    """
    tokens_NxT, own_NxT = _packed(model, prompts, responses, rewards)
    size = _width(model)
    head = ValueHead(jnp.zeros(size), jnp.zeros((size, size)))
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))
    state, losses, rng = optimizer.init(head), [], np.random.default_rng(config.seed)

    @jax.jit
    def step(head: ValueHead, state: Any, params: Params, rows: tuple[Array, ...]) -> tuple[ValueHead, Any, Array]:
        loss, gradient = jax.value_and_grad(_loss)(head, config, model.network, params, *rows)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(head, updates), state, loss

    with use(model.mesh, model.rules):
        for _ in range(config.steps):
            rows = rng.integers(0, len(prompts), config.rows)
            picked = (tokens_NxT[rows], own_NxT[rows], np.asarray(rewards, np.float32)[rows])
            head, state, loss = step(head, state, model.params, picked)
            losses.append(loss)
    if not np.isfinite(losses[-1]):
        raise UserError(
            f"the loss is {losses[-1]} after {config.steps} steps: give less than values.learning_rate={config.learning_rate}"
        )
    return head, np.asarray(losses)


def mean_error(
    head: ValueHead,
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Response],
    rewards: np.ndarray,
    rows: int = 32,
) -> float:
    """The mean of ``(Q - R)^2`` over all tokens of responses, which any head is judged by, whatever it was fitted to.

    Raises:
      UserError: there are none, or their numbers differ.
    """
    tokens_NxT, own_NxT = _packed(model, prompts, responses, rewards)
    config, count, total = ValueConfig(), len(prompts), 0.0
    loss = jax.jit(lambda head, params, *batch: _loss(head, config, model.network, params, *batch))
    with use(model.mesh, model.rules):
        for begin in range(0, count, rows):
            # The last batch is filled with rows of which no token counts.
            at = np.arange(begin, begin + rows)
            own = own_NxT[at % count] & (at < count)[:, None]
            batch = tokens_NxT[at % count], own, np.asarray(rewards, np.float32)[at % count]
            total += float(loss(head, model.params, *batch)) * own.sum()
    return total / own_NxT.sum()


def _packed(
    model: LanguageModel, prompts: Sequence[Sequence[int]], responses: Sequence[Response], rewards: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts with their responses, ``[N, T]``, and which tokens are a response's."""
    if not len(prompts) == len(responses) == len(rewards) or not len(prompts):
        raise UserError(
            f"{len(prompts)} prompts, {len(responses)} responses and {len(rewards)} rewards: one of each is needed"
        )
    width = bucket(max(len(p) + len(r.tokens) for p, r in zip(prompts, responses, strict=True)), model.context)
    tokens_NxT, own_NxT = np.zeros((len(prompts), width), np.int32), np.zeros((len(prompts), width), bool)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        text = [*prompt, *response.tokens][:width]
        tokens_NxT[row, : len(text)] = text
        own_NxT[row, len(prompt) : len(text)] = True
    return tokens_NxT, own_NxT


def _loss(
    head: ValueHead,
    config: ValueConfig,
    network: Any,
    params: Params,
    tokens_BxT: Array,
    own_BxT: Array,
    reward_B: Array,
) -> Array:
    """Mean squared error over the tokens of responses."""
    place = jnp.broadcast_to(jnp.arange(tokens_BxT.shape[1]), tokens_BxT.shape)
    hidden = network.apply({"params": params}, tokens_BxT, place, jnp.ones_like(tokens_BxT), method="hidden")
    q_BxTxV = head(network, params, hidden)
    # The output at t - 1 is what token t is drawn from.
    at = jnp.take_along_axis(q_BxTxV[:, :-1], tokens_BxT[:, 1:, None], axis=-1)[..., 0]
    own = own_BxT[:, 1:]
    last = own & ~jnp.pad(own[:, 1:], ((0, 0), (0, 1)))
    if config.target == "bellman":
        law = jax.nn.softmax(network.apply({"params": params}, hidden, method="logits"))
        ahead = jax.lax.stop_gradient(jnp.sum(law * q_BxTxV, -1))[:, 1:]
        wanted = jnp.where(last, reward_B[:, None], ahead)
    else:
        wanted = jnp.broadcast_to(reward_B[:, None], at.shape)
    return jnp.sum(jnp.where(own, (at - wanted) ** 2, 0)) / jnp.maximum(jnp.sum(own), 1)


def _width(model: LanguageModel) -> int:
    return model.network.config.block().width


def save_head(path: Path | str, head: ValueHead) -> None:
    """Writes a head as an ``.npz`` file, whatever it is called."""
    with Path(path).open("wb") as file:
        np.savez(file, constant=np.asarray(head.constant_D), mixing=np.asarray(head.mixing_DxD))


def load_head(path: Path | str, model: LanguageModel) -> ValueHead:
    """A head that was saved for a model of that width.

    Raises:
      UserError: there is no such file, or it is for another model.
    """
    if not Path(path).is_file():
        raise UserError(f"decoder.head={path}: there is no such file")
    with np.load(path) as stored:
        head = ValueHead(jnp.asarray(stored["constant"]), jnp.asarray(stored["mixing"]))
    if head.constant_D.shape != (_width(model),):
        raise UserError(
            f"{path} is a value head for outputs of {len(head.constant_D)} numbers and {model.name} has {_width(model)}"
        )
    return head
