"""The toy of ``tests.decoding.markov`` as a language model that decoders can use: its cache holds the tokens themselves."""

from types import SimpleNamespace

import jax.numpy as jnp

from ebm_jax.parallel.mesh import MeshConfig, make_mesh
from ebm_jax.parallel.rules import get_rules
from tests.decoding.markov import toy


class ToyNetwork:
    """What ``Suffixes`` asks of a network. A response's logits depend on the response alone, whatever the prompt is."""

    def room(self, rows, columns):
        return jnp.zeros((rows, 1, columns, 1))

    def apply(self, variables, *args, method):
        return getattr(self, method)(*args)

    def read(self, tokens_BxT, length_B):
        return jnp.zeros((len(length_B), toy.VOCAB)), jnp.zeros((len(length_B), 1, 1, 1))

    def __init__(self, sharpness: float = 1.0) -> None:
        self._sharpness = sharpness

    def regrow(self, prefix, length_B, own, cut_X, step, token_X):
        hidden, own = self.regrown(prefix, length_B, own, cut_X, step, token_X[:, None])
        return self.logits(hidden)[:, 0], own

    def regrown(self, prefix, length_B, own, cut_X, step, tokens_XxT):
        """The code of every token's prefix stands for its output."""
        half, rows = own.shape[2] // 2, jnp.arange(len(tokens_XxT))
        number_XxT = jnp.broadcast_to(jnp.reshape(step, (-1, 1)) + jnp.arange(tokens_XxT.shape[1]), tokens_XxT.shape)
        own = own.at[rows[:, None], 0, half + number_XxT, 0].set(tokens_XxT)
        column = jnp.arange(2 * half)
        new = column >= half
        seen = jnp.where(new, column - half <= number_XxT[..., None], column < cut_X[:, None, None])
        # Column 0 of a row is the prompt's last token; token t of the response stands at place t + 1.
        place = jnp.where(new, cut_X[:, None] + column - half, column)[:, None] - 1
        code = jnp.sum(jnp.where(seen & (place >= 0), (own[:, :1, :, 0] + 1) * 4.0**place, 0), -1)
        return code[..., None], own

    def logits(self, hidden_XxTx1):
        return self._sharpness * 1.3 * jnp.sin(1.7 * hidden_XxTx1 + 2.3 * jnp.arange(toy.VOCAB) + 0.4)


def model(sharpness: float = 1.0):
    mesh = MeshConfig(data=1)
    tokenizer = SimpleNamespace(fingerprint="toy", decode=lambda ids: "".join(map(str, ids)))
    return SimpleNamespace(
        name="toy", network=ToyNetwork(sharpness), params={}, ends=(toy.END,), tokenizer=tokenizer, context=64,
        mesh=make_mesh(mesh), rules=get_rules(mesh.rules),
    )  # fmt: skip
