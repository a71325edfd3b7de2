"""What a config runs on its devices, traced from shapes alone: no data, no weights, no device.

A config that trains has its step (of EBFT and RLVR with the rollouts in it) and its evaluation; one that decodes has the
reading of its prompts, the drawing of responses, and its reward model.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ebm_jax.algorithm import BatchSpec
from ebm_jax.algorithms.lm import LM
from ebm_jax.comparison import Comparison
from ebm_jax.decoders.ebd import EBD
from ebm_jax.decoding.lm import LMDecoder
from ebm_jax.decoding.markov.suffixes import Suffixes
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.decoding_study import DecodingStudy
from ebm_jax.errors import UserError
from ebm_jax.evals.perplexity import SplitEvaluator
from ebm_jax.experiment import ExperimentConfig, open_program, step_flops
from ebm_jax.interop.hugging_face.folder import is_model, locate, read_published
from ebm_jax.models.lm import TransformerLM, parameter_shapes
from ebm_jax.models.reward import reward_transformer
from ebm_jax.parallel.mesh import make_mesh
from ebm_jax.parallel.report import sharding_report
from ebm_jax.parallel.rules import BATCH_AXES, Rules, get_rules, placed, use
from ebm_jax.precision import Precision
from ebm_jax.reward import score_rows
from ebm_jax.training.program import Program
from ebm_jax.types import Params

Config = ExperimentConfig | Comparison | DecodingStudy
Trace = Callable[[], jax.stages.Traced]


@dataclass(frozen=True)
class Planned:
    """One program of a config."""

    name: str
    trace: Trace
    mesh: Mesh
    model_flops: float | None = None
    """Over all chips, without what ``model.remat`` computes again; None where it is not counted."""
    turns: int = 1
    """How often loops run whose length the compiler does not know, at most."""
    sharding: str = ""
    """What lies where."""


def plan(config: Config, devices: Sequence[jax.Device], *, method: str = "", prompt_tokens: int = 512) -> list[Planned]:
    """The programs of a config on these devices; ``method`` is one of a comparison's, by default its first.

    Raises:
      UserError: there is no such method, or the mesh, the batch or the model do not fit together.
    """
    if isinstance(config, DecodingStudy):
        return list(_decoding(config, devices, prompt_tokens))
    if isinstance(config, Comparison):
        config = config.methods[chosen_method(config, method)]
    return list(_training(config, open_program(config, devices)))


def chosen_method(comparison: Comparison, method: str) -> str:
    """The method that is meant; by default the first.

    Raises:
      UserError: there is no such method.
    """
    if method and method not in comparison.methods:
        raise UserError(f"method={method!r} is not one of {', '.join(comparison.methods)}")
    return method or next(iter(comparison.methods))


def _training(config: ExperimentConfig, program: Program) -> Iterator[Planned]:
    yield Planned("train", program.trace, program.mesh, step_flops(config, program), sharding=program.report())
    yield Planned("evaluate", lambda: _trace_evaluation(config, program), program.mesh)


def _trace_evaluation(config: ExperimentConfig, program: Program) -> jax.stages.Traced:
    spec, place = replace(program.spec, batch_size=config.eval.batch_size), NamedSharding(program.mesh, _ROWS)
    rows = {name: _shape(leaf, place) for name, leaf in spec.batch().items()}
    evaluator = SplitEvaluator(program.algorithm.evaluate, np.ones(spec.vocab_size), lambda batch: dict(batch))
    key = jax.eval_shape(lambda: jax.random.key(0))
    with use(program.mesh, program.rules):
        return evaluator.trace(program.abstract.params, program.abstract.variables, rows, key)


def _decoding(study: DecodingStudy, devices: Sequence[jax.Device], prompt_tokens: int) -> Iterator[Planned]:
    network, params, mesh, rules = _writer(study, devices)
    ebd = next((method for method in study.methods.values() if isinstance(method, EBD)), EBD())
    prompts, each, horizon = study.at_once, ebd.inits * ebd.chains, study.max_new_tokens
    suffixes = Suffixes(network, SamplingConfig(), (0,), horizon)
    tokens = jax.ShapeDtypeStruct((prompts, prompt_tokens), jnp.int32)
    lengths = jax.ShapeDtypeStruct((prompts,), jnp.int32)
    read = jax.jit(suffixes.read, static_argnames="each")
    sharding = sharding_report(params, [])

    def trace_read() -> jax.stages.Traced:
        with use(mesh, rules):
            return read.trace(params, tokens, lengths, each=each)

    def trace_draw() -> jax.stages.Traced:
        # Drawing begins with what reading has left, where reading has left it.
        made = jax.eval_shape(lambda p, t, n: suffixes.read(p, t, n, each), params, tokens, lengths)
        responses, memory = jax.tree.map(_shape, made, trace_read().lower().compile().output_shardings)
        cut = jax.ShapeDtypeStruct((prompts * each,), jnp.int32)
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), prompts * each))
        until = jax.ShapeDtypeStruct((), jnp.int32)
        with use(mesh, rules):
            return jax.jit(suffixes.draw).trace(params, memory, responses, cut, keys, until)

    yield Planned("read", trace_read, mesh, turns=horizon, sharding=sharding)
    yield Planned("draw", trace_draw, mesh, turns=horizon, sharding=sharding)
    for choice in study.reward:
        if choice.kind == "model":
            yield _reward(choice.name, study, mesh, rules, prompts * each, prompt_tokens + horizon)


def _writer(study: DecodingStudy, devices: Sequence[jax.Device]) -> tuple[TransformerLM, Params, Mesh, Rules]:
    """The network that decodes, with separate layers, the shapes and places of its weights, and where it runs."""
    if isinstance(study.model, ExperimentConfig):
        # Of a run whose mesh and precision are its own.
        program = open_program(study.model, devices)
        if not isinstance(program.algorithm, LM):
            raise UserError(f"model.algorithm={study.model.algorithm.kind} is no language model that can be sampled")
        network, mesh, rules = LMDecoder(program.algorithm.model).network, program.mesh, program.rules
    else:
        published = read_published(locate(study.model))
        network = TransformerLM(published.model, published.vocab_size, study.precision, separate_layers=True)
        mesh, rules = make_mesh(study.mesh, devices), get_rules(study.mesh.rules)
    # Not under the mesh: no array may be made for devices that are not here.
    return network, placed(parameter_shapes(network), mesh, rules), mesh, rules


def _reward(name: str, study: DecodingStudy, mesh: Mesh, rules: Rules, rows: int, longest: int) -> Planned:
    folder = locate(name)
    if not is_model(folder):
        raise UserError(
            f"reward {name}: a published model's folder is needed for a dry run, or leave it out: reward=()"
        )
    published = read_published(folder)
    network = reward_transformer(published.model, published.vocab_size, Precision())
    params = placed(parameter_shapes(network), mesh, rules)
    spec = BatchSpec(batch_size=rows, context=longest, vocab_size=published.vocab_size)
    batch = {key: _shape(leaf, NamedSharding(mesh, _ROWS)) for key, leaf in spec.batch().items()}

    def trace() -> jax.stages.Traced:
        with use(mesh, rules):
            return jax.jit(lambda p, b: score_rows(network, p, b)).trace(params, batch)

    return Planned("reward", trace, mesh, sharding=sharding_report(params, []))


_ROWS = PartitionSpec(BATCH_AXES)


def _shape(leaf: Any, place: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
