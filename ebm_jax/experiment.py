"""An experiment from its config: the one place where data, method, mesh and training meet.

``ExperimentConfig`` composes the configs that live beside the code they configure. ``open_experiment`` builds everything;
``run_training`` trains in a folder; ``open_run`` opens a trained one.
"""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from ebm_jax import rng
from ebm_jax.accounting.flops import training_flops
from ebm_jax.accounting.utilisation import peak_flops
from ebm_jax.algorithm import Algorithm, BatchSpec
from ebm_jax.algorithms.ebft import EBFT, EBFTConfig
from ebm_jax.algorithms.ebt import EBT, EBTConfig
from ebm_jax.algorithms.lm import LM, LMConfig
from ebm_jax.algorithms.reward_model import RewardModel, RewardModelConfig
from ebm_jax.algorithms.rlvr import RLVR, RLVRConfig
from ebm_jax.algorithms.sft import SFT, SFTConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.data.loading import Data, load_data
from ebm_jax.data.paths import expand
from ebm_jax.data.tokenizers import Tokenizer, open_tokenizer
from ebm_jax.energy.thinking import ThinkingConfig
from ebm_jax.errors import UserError
from ebm_jax.evals.perplexity import EvalConfig, Evaluate, SplitEvaluator
from ebm_jax.interop.starting_weights import starting_weights
from ebm_jax.models.transformer import TransformerConfig, count_parameters
from ebm_jax.optim import OptimConfig
from ebm_jax.parallel.mesh import MeshConfig, make_mesh
from ebm_jax.parallel.multihost import is_main, to_global
from ebm_jax.parallel.rules import use
from ebm_jax.precision import Precision
from ebm_jax.records import RUN, read_run_record
from ebm_jax.serialize import diff, from_dict, to_dict
from ebm_jax.training.checkpoints import Checkpoints, checkpoint_place
from ebm_jax.training.config import TrainConfig
from ebm_jax.training.loop import TrainResult, train
from ebm_jax.training.profiling import Profiler
from ebm_jax.training.program import Program, build_program
from ebm_jax.training.progress import Meter, Progress
from ebm_jax.training.record import MetricsWriter, write_result, write_run_record
from ebm_jax.training.startup import (
    Source,
    Start,
    check_frozen,
    checkpoint_folder,
    frozen_networks,
    read_weights,
    start_run,
)
from ebm_jax.training.state import TrainState, frozen_hash
from ebm_jax.types import Params


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """Everything that decides a run."""

    name: str = "run"
    seed: int = 0
    model: TransformerConfig = field(default_factory=TransformerConfig)
    algorithm: LMConfig | EBTConfig | SFTConfig | RewardModelConfig | EBFTConfig | RLVRConfig = field(
        default_factory=LMConfig
    )
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    precision: Precision = field(default_factory=Precision)
    continue_from: str | None = None
    """Folder of another run to go on from: its state, step and data position."""
    weights: str | None = None
    """Parameters to begin with at step 0: a run's folder, a published model (its folder, ``gs://`` address or OWNER/NAME on the
    Hugging Face hub), or a reference checkpoint (.npz, .safetensors, .ckpt)."""
    vocab_size: int | None = None
    """Rows of the vocabulary tables, where a published model has more than its tokenizer has tokens."""

    def __post_init__(self) -> None:
        judged, pairs = isinstance(self.algorithm, RewardModelConfig), self.data.source_kind == "pairs"
        if judged != pairs:
            needs = "pairs:PATH" if judged else "a source of texts or examples"
            raise UserError(f"data.source={self.data.source!r}: algorithm={self.algorithm.kind} needs {needs}")


ALGORITHMS: dict[type, type] = {
    LMConfig: LM,
    EBTConfig: EBT,
    SFTConfig: SFT,
    RewardModelConfig: RewardModel,
    EBFTConfig: EBFT,
    RLVRConfig: RLVR,
}
"""The method that each kind of ``algorithm`` config configures."""


@dataclass(frozen=True)
class Experiment:
    """A config with its data, method and compiled program."""

    config: ExperimentConfig
    data: Data
    algorithm: Algorithm
    program: Program

    @property
    def key(self) -> jax.Array:
        return rng.root_key(self.config.seed)

    def evaluator(self, thinking: ThinkingConfig | None = None) -> SplitEvaluator:
        """A compiled evaluation; ``thinking`` is for methods that think."""
        evaluate: Evaluate = self.algorithm.evaluate
        if thinking is not None:
            if not isinstance(self.algorithm, EBT):
                raise UserError(f"algorithm={self.config.algorithm.kind} does not think: only ebt does")
            evaluate = partial(self.algorithm.evaluate, thinking=thinking)
        return SplitEvaluator(evaluate, self.data.tokenizer.byte_lengths, partial(to_global, mesh=self.program.mesh))

    def open_text(self, source: str) -> Data:
        """Another corpus under this run's tokenizer and layout, read whole as its ``test`` split."""
        return _load(dataclasses.replace(self.config, data=self.config.data.evaluation_of(source)))

    def training_flops(self) -> float:
        """Model FLOPs of one optimizer step, the inner descent included."""
        return step_flops(self.config, self.program)

    def parameters(self) -> int:
        """Trained scalars, vocabulary matrices included."""
        return count_parameters(self.program.abstract.params)


def build_algorithm(config: ExperimentConfig, vocab_size: int) -> Algorithm:
    """The method of ``config.algorithm`` on ``config.model``."""
    algorithm = config.algorithm
    if isinstance(algorithm, EBFTConfig) and algorithm.features.weights == "base":
        base = base_of(config.weights)
        if base is not None and base != config.weights:
            # Not what the run begins with, which is what adapters have as their base.
            algorithm = dataclasses.replace(algorithm, features=dataclasses.replace(algorithm.features, weights=base))
    return ALGORITHMS[type(algorithm)](algorithm, config.model, vocab_size, config.precision)


def open_experiment(config: ExperimentConfig, devices: Sequence[jax.Device] | None = None) -> Experiment:
    """Prepares the data if need be and builds the program; no array of the model is made yet."""
    mesh = make_mesh(config.mesh, devices)
    data = _load(config)
    tokens = data.tokenizer.vocab_size
    vocab_size = config.vocab_size or tokens
    if vocab_size < tokens:
        raise UserError(f"vocab_size={vocab_size}: {config.data.tokenizer} has {tokens} tokens; leave it out")
    algorithm = build_algorithm(config, vocab_size)
    algorithm.meet(data)
    return Experiment(config, data, algorithm, _program(config, algorithm, vocab_size, mesh))


def open_program(config: ExperimentConfig, devices: Sequence[jax.Device] | None = None) -> Program:
    """The program of ``open_experiment`` without its data, for looking at what would run.

    Raises:
      UserError: ``vocab_size`` is not set, and there is no tokenizer to ask for it.
    """
    mesh = make_mesh(config.mesh, devices)
    try:
        vocab_size = config.vocab_size or open_tokenizer(config.data.tokenizer).vocab_size
    except UserError as error:
        raise UserError(f"{error} (or say how many tokens there are: vocab_size=NUMBER)") from error
    algorithm = build_algorithm(config, vocab_size)
    algorithm.end_at(0)
    return _program(config, algorithm, vocab_size, mesh)


def _program(config: ExperimentConfig, algorithm: Algorithm, vocab_size: int, mesh: Mesh) -> Program:
    spec = BatchSpec(batch_size=config.train.batch_size, context=config.data.context, vocab_size=vocab_size)
    return build_program(
        algorithm=algorithm, spec=spec, optim=config.optim, config=config.train, mesh=mesh, rules=config.mesh.rules
    )


def step_flops(config: ExperimentConfig, program: Program) -> float:
    """Model FLOPs of one optimizer step, the inner descent included; what ``model.remat`` computes again is not."""
    algorithm = program.algorithm
    if config.model.remat != "none":
        plain = dataclasses.replace(config, model=dataclasses.replace(config.model, remat="none"))
        algorithm = build_algorithm(plain, program.spec.vocab_size)
        algorithm.end_at(0)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), program.abstract.variables)
    return training_flops(algorithm, abstract, program.spec.batch())


def run_training(config: ExperimentConfig, workdir: Path | None, argv: Sequence[str] = ()) -> TrainResult:
    """Trains in ``workdir`` (resuming what is there), or without leaving a trace when it is None.

    Writes ``run.json`` at the start, ``metrics.jsonl`` while running, checkpoints, and ``result.json`` at the end.
    """
    experiment = open_experiment(config)
    experiment.data.split(config.eval.split)  # evaluated at the end of every run: missed now, not then
    program, stored = experiment.program, to_dict(config)
    peak, flops = peak_flops(program.mesh.devices.flat[0]), experiment.training_flops()
    meter = Meter(flops_per_step=flops, peak_flops=peak, devices=program.mesh.size)
    progress = Progress(config.train.steps, shown={"nll": "nll", "accuracy": "accuracy"})
    if workdir is None:
        return _train(experiment, begin(experiment), None, None, progress, meter, Profiler(None, None))
    keep, place = config.train, checkpoint_place(workdir, config.train.checkpoint_root)
    best, mode = keep.keep_best, keep.keep_best_mode
    with Checkpoints(place, keep=keep.keep, best_metric=best, best_mode=mode) as checkpoints:
        start = begin(experiment, checkpoints)
        progress.say(f"{config.name}: {start.describe()}; {experiment.parameters():,} parameters")
        if told := experiment.data.describe():
            progress.say(told)
        if program.mesh.size > 1:
            progress.say(program.report())
        resume_step = start.step if start.source == "resume" else None
        if is_main():
            write_run_record(workdir, stored, argv, resumed_at=resume_step)
        began = time.monotonic()
        with MetricsWriter(workdir, resume_step=resume_step) as writer:
            profiler = Profiler(config.train.profile_steps, workdir / "profile")
            result = _train(experiment, start, checkpoints, writer, progress, meter, profiler)
        trained = result.step > start.step
        if is_main() and trained and result.stopped_by == "steps":
            seconds = {"training, of the last launch": round(time.monotonic() - began, 1)}
            write_result(workdir, summary(experiment, result, flops) | {"seconds": seconds})
    return result


def begin(experiment: Experiment, checkpoints: Checkpoints | None = None) -> Start:
    """The state that a run begins with, or goes on from where there are checkpoints of its own (``training.startup``)."""
    config = experiment.config
    origins = _origins(config) | {"others": _others(experiment)}
    return start_run(
        experiment.program, experiment.key, config=to_dict(config), compare=compare, checkpoints=checkpoints, **origins
    )


def open_run(workdir: Path, step: int | None = None) -> tuple[Experiment, Params, int]:
    """A trained run's experiment, parameters (``Algorithm.deployed``) and step; the newest readable checkpoint unless ``step``
    is given."""
    config = stored_config(workdir)
    place = checkpoint_folder(workdir)
    if not place.is_dir():
        raise UserError(f"{workdir} has no checkpoints: train it first, with workdir={workdir}")
    experiment = open_experiment(config)
    program = experiment.program
    with Checkpoints(place, read_only=True) as checkpoints:
        found, params = checkpoints.restore_params(program.abstract.params, step=step)
        meta = checkpoints.read_meta(found) if program.algorithm.deploys_frozen else {}
    if meta:
        # A checkpoint names its frozen networks by their hash; they are read from where the run began.
        weights = _origins(config).get("weights")
        network = None if weights is None else read_weights(program, weights)
        frozen = frozen_networks(program, experiment.key, network, _others(experiment))
        check_frozen(meta, frozen_hash(frozen))
        params = program.algorithm.deployed(params, frozen)
    return experiment, params, found


def stored_config(workdir: Path) -> ExperimentConfig:
    """The resolved config that a run's folder records; the Python file it came from is not needed."""
    return from_dict(ExperimentConfig, read_run_record(workdir)["config"])


def compare(stored: Any, given: Any):
    """Differences of two configs in their JSON form."""
    return diff(stored, given)


def summary(experiment: Experiment, result: TrainResult, flops_per_step: float) -> dict[str, Any]:
    """What ``result.json`` says."""
    tokens = experiment.config.train.batch_size * experiment.config.data.context * result.step
    return {
        "name": experiment.config.name,
        "kind": experiment.config.algorithm.kind,
        "step": result.step,
        "parameters": experiment.parameters(),
        "tokens": tokens,
        "flops": flops_per_step * result.step,
        "train": result.metrics,
        "evaluation": result.evaluation,
    }


def _train(experiment: Experiment, start: Start, checkpoints, writer, progress, meter, profiler) -> TrainResult:
    config, evaluator = experiment.config, experiment.evaluator()
    key = rng.stream(experiment.key, "evaluation")

    def evaluate(state: TrainState, step: int) -> Mapping[str, float]:
        limit = config.train.eval_batches * config.eval.batch_size or None
        with use(experiment.program.mesh, experiment.program.rules):
            batches = experiment.data.eval(config.eval.split, limit=limit)
            figures = evaluator(state.params, state.variables, batches, key)
        return {f"{config.eval.split}/{name}": value for name, value in figures.items() if math.isfinite(value)}

    stream = experiment.data.train
    try:
        return train(
            experiment.program,
            start,
            stream=stream,
            config=config.train,
            key=rng.stream(experiment.key, "training"),
            evaluate=evaluate,
            checkpoints=checkpoints,
            writer=writer,
            progress=progress,
            meter=meter,
            profiler=profiler,
        )
    finally:
        stream.close()


def _origins(config: ExperimentConfig) -> dict[str, Any]:
    """Where a run that has no checkpoints of its own begins."""
    origins: dict[str, Any] = {}
    if config.continue_from:
        origins["continue_from"] = Path(config.continue_from)
    if config.weights:
        origins["weights"] = weights_of(config.weights, config.model)
    return origins


def _others(experiment: Experiment) -> dict[str, Any]:
    """Where the method's other networks come from; ``base`` of a run that begins with no weights is its own beginning."""
    config = experiment.config
    sources: dict[str, Any] = {}
    for name, network in experiment.algorithm.other_networks().items():
        source = base_of(config.weights) if network.weights == "base" else network.weights
        if source is not None:
            check_tokenizer(source, experiment.data.tokenizer)
            sources[name] = weights_of(source, network.model)
    return sources


def weights_of(name: str, model: TransformerConfig) -> Source:
    """Where the weights are that ``weights=`` names; those of a run that trained adapters are merged with what they adapt."""
    source = starting_weights(name, model)
    if callable(source) or not (source / RUN).is_file():
        return source
    if getattr(stored_config(source).algorithm, "lora", None) is None:
        return source

    def merged(shapes: Params) -> Params:
        params = open_run(source)[1]
        theirs, ours = (
            {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
            for tree in (params, shapes)
        )
        if wrong := [place for place, shape in ours.items() if theirs.get(place) != shape]:
            raise UserError(f"{source} does not fit the model: {wrong[0]} is {theirs.get(wrong[0], 'absent')} there")
        return {part: params[part] for part in shapes}

    return merged


def base_of(weights: str | None) -> str | None:
    """The model at the beginning of the chain of runs that ``weights`` names the last of."""
    base = run = weights
    while run is not None and (expand(run) / RUN).is_file():
        config = stored_config(expand(run))
        # A run that continues another begins with what that one did.
        run = config.weights or config.continue_from
        base = config.weights or base
    return base


def check_tokenizer(source: str, tokenizer: Tokenizer) -> None:
    """Refuses a run or a published model whose tokenizer is another one; one that has none is taken on trust."""
    folder = expand(source)
    if (folder / RUN).is_file():
        theirs = stored_config(folder).data.tokenizer
    else:
        files = {"hf": folder / "tokenizer.json", "sentencepiece": folder / "tokenizer.model"}
        theirs = next((f"{kind}:{file}" for kind, file in files.items() if file.is_file()), "")
    if theirs and open_tokenizer(theirs).fingerprint != tokenizer.fingerprint:
        raise UserError(
            f"{source} reads its texts with another tokenizer, {theirs}: features need a network that reads the run's tokens;"
            " set data.tokenizer to that one, or algorithm.features.weights to another model"
        )


def _load(config: ExperimentConfig) -> Data:
    return load_data(
        config.data,
        batch_size=config.train.batch_size,
        eval_batch_size=config.eval.batch_size,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
