"""What methods share that begin with a pretrained language model, and train all of it or adapters of it."""

from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp

from ebm_jax.algorithm import Algorithm, BatchSpec, Variables
from ebm_jax.models.lm import TransformerLM
from ebm_jax.models.lora import LoraConfig, init_lora, merge
from ebm_jax.rng import stream
from ebm_jax.types import Params, PRNGKey, PyTree

BASE = "base"
LORA = "lora"


class Adapted(Algorithm):
    """Variables of such a method.

    Without adapters, ``params`` are the network. With them, ``params`` are ``lora`` and what the network has beyond the
    language model, and ``frozen["base"]`` is the language model.
    """

    new: ClassVar[tuple[str, ...]] = ()
    """Parameters that the language model does not have, which are always trained."""
    module: TransformerLM
    """The network that is trained."""
    language_model: TransformerLM
    """The network that ``weights=`` names."""
    lora: LoraConfig | None

    def init(self, key: PRNGKey, spec: BatchSpec) -> Variables:
        network = initial(self.module, key, spec)
        if self.lora is None:
            return Variables(params=network)
        base = {name: part for name, part in network.items() if name not in self.new}
        new = {name: network[name] for name in self.new}
        return Variables(params={LORA: init_lora(stream(key, LORA), base, self.lora), **new}, frozen={BASE: base})

    def init_network(self, key: PRNGKey, spec: BatchSpec) -> Params:
        return initial(self.language_model, key, spec)

    def adopt(self, weights: Params, params: Params) -> Params:
        new = {name: weights.get(name, params[name]) for name in self.new}
        return params | new if self.lora is not None else self._trunk(weights) | new

    def freeze(self, weights: Params | None, others: Mapping[str, Params] | None = None) -> PyTree:
        return None if self.lora is None or weights is None else {BASE: self._trunk(weights)}

    @property
    def deploys_frozen(self) -> bool:
        return self.lora is not None

    def deployed(self, params: Params, frozen: PyTree) -> Params:
        """The network's weights: ``params`` themselves where nothing is frozen, adapters merged where the base is."""
        if frozen is None or self.lora is None:
            return params
        return merge(frozen[BASE], params[LORA], self.lora.alpha) | {name: params[name] for name in self.new}

    def _trunk(self, weights: Params) -> Params:
        """What the trained network has of a language model: all, or all but the vocabulary head."""
        left = {*self.new} | ({"head"} if self.module.config.tied else set())
        return {name: part for name, part in weights.items() if name not in left}


def initial(module: TransformerLM, key: PRNGKey, spec: BatchSpec) -> Params:
    """A network's own beginning."""
    zeros = jnp.zeros((1, spec.context), jnp.int32)
    return module.init(key, zeros, zeros, zeros)["params"]
