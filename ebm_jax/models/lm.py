"""Transformer++: the feed-forward baseline with the blocks, initialisation and tables of the EBT."""

import jax.numpy as jnp
from flax import linen as nn

from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.nn.attention import visibility
from ebm_jax.nn.initializers import linear, normal, partitioned
from ebm_jax.nn.norms import init_norm, norm
from ebm_jax.nn.rope import rotation
from ebm_jax.nn.stack import Stack
from ebm_jax.parallel.rules import constrain
from ebm_jax.precision import Precision
from ebm_jax.types import Array


class TransformerLM(nn.Module):
    """Tokens to next-token logits: embedding, blocks, final norm, untied linear head."""

    config: TransformerConfig
    vocab_size: int
    precision: Precision = Precision()

    def setup(self) -> None:
        c, dtype = self.config, self.precision.param_dtype
        shape = c.block()
        table = (self.vocab_size, shape.width)
        self.embed = self.param("embed", partitioned(normal(c.embed_std), "vocab", "embed"), table, dtype)
        self.stack = Stack(c.resolved_depth, shape, self.precision, c.remat, c.unroll_layers)
        self.final_norm = self.param("final_norm", init_norm(c.norm, shape.width), dtype)
        head = partitioned(linear(c.init, shape.width, self.vocab_size, c.init_gain), "embed", "vocab")
        self.head = self.param("head", head, (shape.width, self.vocab_size), dtype)

    def __call__(self, tokens_BxT: Array, positions_BxT: Array, segments_BxT: Array) -> Array:
        """Logits ``[B, T, V]`` in float32 or wider."""
        c, compute = self.config, self.precision.compute_dtype
        # Whole in width before rows are read: to split rows that come in slices of it, XLA would copy all of them everywhere.
        table_VxD = constrain(self.embed, "vocab", None)
        x = constrain(jnp.take(table_VxD, tokens_BxT, axis=0).astype(compute), "batch", "time", "act_embed")
        turn = rotation(positions_BxT, c.block().head_width, c.rope_theta)
        x = self.stack.hidden(x, turn, visibility(segments_BxT))
        x = norm(c.norm, self.final_norm, x, c.norm_eps)
        logits = jnp.matmul(x, self.head.astype(compute), preferred_element_type=self.precision.reduce_dtype)
        return constrain(logits, "batch", "time", "act_vocab")
