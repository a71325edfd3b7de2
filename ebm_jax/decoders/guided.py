"""Language models whose next-token law is another one's, moved: by a value head, or by two smaller models.

    controlled decoding (arXiv 2310.17022)   log p(z | y) + lambda Q(y, z)
    proxy tuning (arXiv 2401.08565)          logits + a (expert - anti-expert)

Either is a network as decoders ask it (``read``, ``room``, ``regrow``), so every method can draw from it.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import jax
from flax import struct

from ebm_jax.errors import UserError
from ebm_jax.language_model import LanguageModel
from ebm_jax.models.lm import TransformerLM
from ebm_jax.types import Array, Params


class ValueHead(struct.PyTreeNode):
    """``Q(y, z) = h(y) . v + logits_z(h(y) U)``: the worth of going on from y with token z, on the frozen model's own output.

    The second part reads the model's token table: a head has ``D^2 + D`` parameters, whatever the vocabulary is.
    """

    constant_D: Array
    mixing_DxD: Array

    def __call__(self, network: TransformerLM, params: Params, hidden_XxTxD: Array) -> Array:
        """``Q`` of every next token, ``[X, T, V]``."""
        hidden = hidden_XxTxD.astype(self.mixing_DxD.dtype)
        each = network.apply({"params": params}, (hidden @ self.mixing_DxD).astype(hidden_XxTxD.dtype), method="logits")
        return cast(Array, each) + (hidden @ self.constant_D)[..., None]


@dataclass(frozen=True)
class GuidedNetwork:
    """A network whose logits have a share of a value head's added; parameters are ``{"model", "head"}``."""

    network: TransformerLM
    inv_temp: float

    def room(self, rows: int, columns: int) -> Any:
        return self.network.room(rows, columns)

    def apply(self, variables: Any, *args: Any, method: str) -> Any:
        params = variables["params"]
        of = partial(self.network.apply, {"params": params["model"]})
        if method == "read":
            return of(*args, method="read")
        *where, token_X = args
        hidden, own = of(*where, token_X[:, None], method="regrown")
        logits = jax.nn.log_softmax(cast(Array, of(hidden, method="logits")))
        value = params["head"](self.network, params["model"], hidden)
        return (logits + self.inv_temp * value)[:, 0], own


def guided(model: LanguageModel, head: ValueHead, inv_temp: float) -> LanguageModel:
    """The model with its next tokens tilted by ``exp(inv_temp Q)``."""
    network: Any = GuidedNetwork(model.network, inv_temp)
    return replace(model, network=network, params={"model": model.params, "head": head})


@dataclass(frozen=True)
class ProxyNetwork:
    """Three networks that read the same tokens; parameters and memories are in their order."""

    networks: tuple[TransformerLM, TransformerLM, TransformerLM]
    """The base, the expert, and what the expert was tuned from."""
    weight: float

    def room(self, rows: int, columns: int) -> Any:
        return [network.room(rows, columns) for network in self.networks]

    def apply(self, variables: Any, *args: Any, method: str) -> Any:
        of = [
            partial(network.apply, {"params": params}, method=method)
            for network, params in zip(self.networks, variables["params"], strict=True)
        ]
        if method == "read":
            found = [call(*args) for call in of]
        else:
            prefix, length_B, own, *rest = args
            found = [call(p, length_B, o, *rest) for call, p, o in zip(of, prefix, own, strict=True)]
        base, expert, other = (logits for logits, _ in found)
        return base + self.weight * (expert - other), [layers for _, layers in found]


def proxied(model: LanguageModel, expert: LanguageModel, other: LanguageModel, weight: float = 1.0) -> LanguageModel:
    """The model moved as a small expert differs from the model that it was tuned from.

    Raises:
      UserError: they do not read and write the same tokens, or lie on other devices.
    """
    for one in (expert, other):
        if one.tokenizer.fingerprint != model.tokenizer.fingerprint:
            raise UserError(f"{one.name} has another tokenizer than {model.name}: their next tokens cannot be compared")
        if one.mesh != model.mesh:
            raise UserError(
                f"{one.name} is open on another mesh ({_shape(one)}) than {model.name} ({_shape(model)}): open them on one."
                " A run is opened on the mesh that it was trained on: export it (experiments.export) for another"
            )
    network: Any = ProxyNetwork((model.network, expert.network, other.network), weight)
    params: Any = [model.params, expert.params, other.params]
    return replace(model, network=network, params=params, name=f"{model.name} + {expert.name} - {other.name}")


def _shape(model: LanguageModel) -> str:
    return ", ".join(f"{axis}={size}" for axis, size in model.mesh.shape.items())
