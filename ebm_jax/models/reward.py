"""A language model that tells how good a text is: its trunk, and a linear map to one number in place of the vocabulary."""

import dataclasses

import jax
import jax.numpy as jnp

from ebm_jax.models.lm import TransformerLM
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.nn.initializers import normal, partitioned
from ebm_jax.precision import Precision
from ebm_jax.types import Array


class RewardTransformer(TransformerLM):
    """``TransformerLM`` with ``score`` ``[D, 1]`` for a head, as published sequence classifiers of one label have it."""

    def setup(self) -> None:
        super().setup()
        width = self.config.block().width
        score = partitioned(normal((width + 1) ** -0.5), "embed", None)
        self.score = self.param("score", score, (width, 1), self.precision.param_dtype)

    def __call__(self, tokens_BxT: Array, positions_BxT: Array, segments_BxT: Array) -> Array:
        """The reward of the text up to every token, ``[B, T]`` in float32 or wider."""
        return self.rewards(self.hidden(tokens_BxT, positions_BxT, segments_BxT))

    def of_rows(self, tokens_BxT: Array, positions_BxT: Array, segments_BxT: Array) -> Array:
        """The reward of each row's text, ``[B]``; 0 for an empty row."""
        return rewards_of_rows(self(tokens_BxT, positions_BxT, segments_BxT), segments_BxT)

    def rewards(self, hidden_BxTxD: Array) -> Array:
        """Rewards from ``hidden``, ``[B, T]`` in float32 or wider."""
        reduce = self.precision.reduce_dtype
        score = self.score.astype(self.precision.compute_dtype)
        return jnp.matmul(hidden_BxTxD, score, preferred_element_type=reduce)[..., 0]


def reward_transformer(
    config: TransformerConfig, vocab_size: int, precision: Precision, *, writes: bool = False
) -> RewardTransformer:
    """The module for these options; without a vocabulary head of its own unless it also ``writes``."""
    return RewardTransformer(dataclasses.replace(config, tied=config.tied or not writes), vocab_size, precision)


def ends_of_texts(segments_BxT: Array) -> Array:
    """Whether a position is the last of its segment, padding aside, ``[B, T]``."""
    after_BxT = jnp.pad(segments_BxT[:, 1:], ((0, 0), (0, 1)))
    return (segments_BxT > 0) & (after_BxT != segments_BxT)


def rewards_of_rows(rewards_BxT: Array, segments_BxT: Array) -> Array:
    """The reward at each row's last real token, ``[B]``; 0 for an empty row."""
    length = segments_BxT.shape[1]
    last_B = length - 1 - jnp.argmax(segments_BxT[:, ::-1] > 0, axis=1)
    reward_B = jnp.take_along_axis(rewards_BxT, last_B[:, None], axis=1)[:, 0]
    return jnp.where(jnp.any(segments_BxT > 0, axis=1), reward_B, 0.0)


def rewards_of_pairs(rewards_BxT: Array, segments_BxT: Array) -> tuple[Array, Array, Array]:
    """Rewards of the better and the worse text of every pair, and 1 where there is one: ``[B, P]`` each.

    The texts of a row's pair p are its segments 2p + 1 and 2p + 2; P = T / 2 is what a row can hold at most.
    """
    batch, length = segments_BxT.shape
    pairs = max(length // 2, 1)
    end_BxT = ends_of_texts(segments_BxT)
    place_BxT = jnp.where(end_BxT, segments_BxT - 1, 2 * pairs)

    def read(values_BxT: Array) -> Array:
        row = lambda place, values: jnp.zeros(2 * pairs, values.dtype).at[place].add(values, mode="drop")
        return jax.vmap(row)(place_BxT, values_BxT).reshape(batch, pairs, 2)

    reward_BxPx2 = read(jnp.where(end_BxT, rewards_BxT, 0.0))
    there_BxPx2 = read(end_BxT.astype(rewards_BxT.dtype))
    return reward_BxPx2[..., 0], reward_BxPx2[..., 1], jnp.prod(there_BxPx2, axis=-1)


def next_of_better(tokens_BxT: Array, segments_BxT: Array) -> tuple[Array, Array]:
    """The token after every one, and 1 where both are of one better text (segments 1, 3, ...): ``[B, T]`` each."""
    behind = lambda x: jnp.pad(x[:, 1:], ((0, 0), (0, 1)))
    counts = (segments_BxT % 2 == 1) & (behind(segments_BxT) == segments_BxT)
    return behind(tokens_BxT), counts.astype(jnp.float32)
