"""What a run compiles: the optimizer, the state's layout and the step, from configs alone; no array is made yet."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ebm_jax.algorithm import Algorithm, BatchSpec, GroupOptions, Variables
from ebm_jax.errors import UserError
from ebm_jax.optim import OptimConfig, group_labels, learning_rates, make_optimizer, trainable_mask
from ebm_jax.parallel.mesh import batch_shards
from ebm_jax.parallel.report import sharding_report
from ebm_jax.parallel.rules import Rules, get_rules, placed, unbox, undivided, use
from ebm_jax.training.config import TrainConfig
from ebm_jax.training.state import TrainState, abstract_state, init_state, place_network, replicate
from ebm_jax.training.step import TrainStep, batch_sharding
from ebm_jax.types import Params, PRNGKey, PyTree


@dataclass(frozen=True)
class Program:
    """A run's compiled parts; ``abstract`` has the shapes, types and shardings of its state."""

    algorithm: Algorithm
    spec: BatchSpec
    optimizer: optax.GradientTransformation
    options: Mapping[str, GroupOptions]
    boxed: Variables
    abstract: TrainState
    step: TrainStep
    mesh: Mesh
    rules: Rules

    def init(self, key: PRNGKey, frozen: PyTree = None) -> TrainState:
        """A fresh state on the mesh; ``frozen`` networks that are at hand already are not made again."""
        frozen = self.init_frozen(key) if frozen is None else frozen
        with use(self.mesh, self.rules):
            return init_state(self.algorithm, self.optimizer, self.spec, key, self.abstract, self.mesh, frozen)

    def network(self) -> Params:
        """Shapes, types and shardings of the network that a run may begin with the weights of."""
        with use(self.mesh, self.rules):
            return place_network(self.algorithm, self.spec, self.mesh, self.rules)

    def other_network(self, name: str) -> Params:
        """The same of one of ``Algorithm.other_networks``."""
        init = self.algorithm.other_networks()[name].init
        with use(self.mesh, self.rules):
            boxed = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)))
        return placed(boxed, self.mesh, self.rules)

    def init_frozen(self, key: PRNGKey) -> PyTree:
        """The frozen networks alone, without creating the rest."""
        if not jax.tree.leaves(self.abstract.frozen):
            return self.abstract.frozen
        place = jax.tree.map(lambda leaf: leaf.sharding, self.abstract.frozen)
        with use(self.mesh, self.rules):
            create = jax.jit(lambda k: unbox(self.algorithm.init(k, self.spec).frozen), out_shardings=place)
            return create(replicate(key, self.mesh))

    def trace(self, extra: Mapping[str, jax.ShapeDtypeStruct] | None = None) -> jax.stages.Traced:
        """The train step for an ordinary batch (and the global fields ``extra``), traced without any array."""
        rows, context = self.spec.batch_size, self.spec.context
        shapes = dict.fromkeys(("inputs", "targets", "segments", "positions"), ((rows, context), jnp.int32))
        place = batch_sharding(self.mesh)
        batch = {name: jax.ShapeDtypeStruct(*shape, sharding=place) for name, shape in shapes.items()}
        batch["weights"] = jax.ShapeDtypeStruct((rows, context), jnp.float32, sharding=place)
        batch["index"] = jax.ShapeDtypeStruct((rows,), jnp.uint32, sharding=place)
        stop = jax.ShapeDtypeStruct((rows,), jnp.uint8, sharding=place)
        key = jax.eval_shape(lambda: jax.random.key(0))
        return self.step.trace(self.abstract, batch | dict(extra or {}), stop, key)

    def report(self) -> str:
        """The sharding report that a run prints at its start."""
        notes = undivided((self.boxed.params, self.boxed.carry), self.mesh, self.rules)
        state = self.abstract
        return sharding_report(
            state.params, notes, optimizer_state=state.opt_state, carry=state.carry, frozen=state.frozen
        )


def build_program(
    *,
    algorithm: Algorithm,
    spec: BatchSpec,
    optim: OptimConfig,
    config: TrainConfig,
    mesh: Mesh,
    rules: str | Rules = "ddp",
) -> Program:
    """Derives shapes by ``eval_shape(algorithm.init)`` and everything else from them.

    Raises:
      UserError: rows do not divide over the mesh, a group of parameters has no options, axis names conflict.
    """
    table = get_rules(rules) if isinstance(rules, str) else rules
    shards = batch_shards(mesh)
    if config.batch_size % shards:
        raise UserError(
            f"train.batch_size={config.batch_size} is not divisible by the {shards} batch shards of the mesh"
            f" (mesh.data={mesh.shape['data']} x mesh.fsdp={mesh.shape['fsdp']})"
        )
    if config.local_gradients and config.batch_size % (shards * config.accumulate):
        raise UserError(
            f"train.local_gradients: train.batch_size={config.batch_size} is not divisible by the {shards} batch shards of the"
            f" mesh times train.accumulate={config.accumulate}"
        )
    with use(mesh, table):
        boxed = jax.eval_shape(lambda key: algorithm.init(key, spec), jax.eval_shape(lambda: jax.random.key(0)))
        groups, options = algorithm.groups(unbox(boxed.params)), algorithm.group_options()
        optimizer = make_optimizer(optim, boxed.params, groups, options)
        abstract = abstract_state(boxed, optimizer, mesh, table)
    step = TrainStep(
        algorithm,
        optimizer,
        accumulate=config.accumulate,
        local_gradients=config.local_gradients,
        trainable=trainable_mask(group_labels(boxed.params, groups, options), options),
        learning_rates=lambda at: learning_rates(optim, options, at),
        abstract=abstract,
        mesh=mesh,
        rules=table,
    )
    return Program(algorithm, spec, optimizer, options, boxed, abstract, step, mesh, table)
