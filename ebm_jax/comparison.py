"""Ways to fine-tune one model, side by side: the same data, seeds and evaluation, and one record of each.

``run_comparison`` trains every method with every seed in a folder of its own and measures it, and the model that all begin
with. What is there already, trained and measured as the comparison says now, is not made again. Reports are made from the
records alone (``reporting.finetuning``).
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ebm_jax import rng
from ebm_jax.data.digests import fingerprint
from ebm_jax.errors import NonFiniteError, UserError
from ebm_jax.evals.continuations import MatchingConfig, MatchingEvaluator, Measured, Scores, TaskConfig, TaskEvaluator
from ebm_jax.experiment import (
    ExperimentConfig,
    base_of,
    check_tokenizer,
    open_experiment,
    open_run,
    run_training,
    weights_of,
)
from ebm_jax.models.features import cut
from ebm_jax.models.lm import TransformerLM, parameter_shapes
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.multihost import any_process, is_main, to_global
from ebm_jax.parallel.rules import placed, use
from ebm_jax.records import ANCHORS, BASE, COMPARISON, CONTINUATIONS, FINETUNED, read_finetuned
from ebm_jax.serialize import flatten, to_dict
from ebm_jax.training.record import write_json
from ebm_jax.training.startup import MAY_CHANGE, read_source
from ebm_jax.types import Params

SHOWN = 12
"""Samples that a record keeps."""
BEST_OF = (1, 2, 4, 8, 16, 32, 64)
_NAME = re.compile(r"\w[\w.+-]*")
_SHARED = ("model", "weights", "vocab_size", "data.tokenizer")
"""What compared methods have in common: they begin with one model, which reads its texts in one way."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Methods by name, and what they are compared by."""

    name: str
    methods: dict[str, ExperimentConfig]
    seeds: tuple[int, ...] = (0,)
    matched: dict[str, str] = field(default_factory=dict)
    """Methods that train for as many FLOPs as another one, whatever ``train.steps`` they have: ``{"sft_flops": "ebft"}``."""
    rows_of: str = ""
    """The method whose rows are evaluated, of those that read the same texts in other layouts (tasks that ask the questions of
    examples need whole ones); empty: the first."""
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    tasks: dict[str, TaskConfig] = field(default_factory=dict)
    headline: str = ""
    """The task that decides, named before anything is run."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise UserError(f"the comparison {self.name} has no methods")
        keys = {f.name for cls in (Comparison, ExperimentConfig) for f in dataclasses.fields(cls)}
        for name in self.methods:
            if not _NAME.fullmatch(name) or name == BASE or name.partition(".")[0] in keys:
                raise UserError(
                    f"{self.name}: {name!r} cannot name a method, which names a folder and stands before keys: use letters,"
                    f" digits and any of _.+-, and neither {BASE} nor a key of a config"
                )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise UserError(f"seeds={self.seeds} must be different numbers from 0 on, at least one")
        if self.headline and self.headline not in self.tasks:
            raise UserError(f"headline={self.headline!r} is not one of the tasks {', '.join(self.tasks) or '(none)'}")
        if self.rows_of and self.rows_of not in self.methods:
            raise UserError(f"rows_of={self.rows_of!r} is not one of the methods {', '.join(self.methods)}")
        for name, other in self.matched.items():
            if name not in self.methods or other not in self.methods or other in self.matched:
                raise UserError(
                    f"matched={{{name!r}: {other!r}}} must name two methods, the second with steps of its own"
                )
        for key in _SHARED:
            of = attrgetter(key)
            if differs := [name for name, config in self.methods.items() if of(config) != of(self.first)]:
                raise UserError(f"{self.name}: {differs[0]} has another {key}: compared methods begin with one model")

    @property
    def first(self) -> ExperimentConfig:
        return next(iter(self.methods.values()))


class Outcome(NamedTuple):
    """How a comparison's command ended."""

    stopped: bool
    """By a signal, in the middle of a run."""
    failed: list[str]
    """Runs that became NaN or infinite, with the reason."""


def run_comparison(
    comparison: Comparison,
    workdir: Path,
    argv: Sequence[str] = (),
    only: Sequence[str] = (),
    report: Callable[[str], None] = print,
) -> Outcome:
    """Trains and measures what is not trained and measured yet; ``only`` names some methods.

    A run that becomes NaN or infinite is told of, and the others go on.
    """
    if unknown := [name for name in only if name not in comparison.methods]:
        raise UserError(f"{', '.join(unknown)}: the methods are {', '.join(comparison.methods)}")
    chosen = {name: config for name, config in comparison.methods.items() if not only or name in only}
    say = report if is_main() else lambda line: None
    evaluation = Evaluation(comparison)
    if is_main():
        write_json(workdir / COMPARISON, to_dict(comparison) | {"evaluation": evaluation.identity})
    if (start := comparison.first.weights) is not None:
        made_by = {"evaluation": evaluation.identity, "run": fingerprint([start])}
        if _agree(_measured(workdir / BASE, made_by)):
            say(f"{workdir / BASE}: measured before")
        else:
            evaluation(workdir / BASE, evaluation.weights(start, comparison.first.model), {"method": BASE, **made_by})
            say(f"{workdir / BASE}: measured")
    steps, failed = matched_steps(comparison, tuple(chosen)), list[str]()
    for method, config in chosen.items():
        for seed in comparison.seeds:
            folder = workdir / method / f"seed={seed}"
            named = dataclasses.replace(config, seed=seed, name=f"{comparison.name}_{method}")
            own = with_steps(named, steps.get(method))
            made_by = {"evaluation": evaluation.identity, "run": fingerprint(_decisive(own))}
            if _agree(_measured(folder, made_by)):
                say(f"{folder}: measured before")
                continue
            try:
                step = run_training(own, folder, argv).step
            except NonFiniteError as error:
                failed.append(f"{folder}: {error}")
                say(failed[-1])
                continue
            if step > own.train.steps:
                raise UserError(
                    f"{folder} is at step {step}, behind train.steps={own.train.steps}: use another workdir"
                )
            if step < own.train.steps:
                say(f"{folder}: stopped at step {step} of {own.train.steps}; the same command goes on")
                return Outcome(stopped=True, failed=failed)
            experiment, params, step = open_run(folder)
            flops = experiment.training_flops()
            told = {"method": method, "seed": seed, "step": step, "parameters": experiment.parameters()}
            told |= {"flops": flops * step, "flops_per_step": flops, **made_by}
            evaluation(folder, params, told)
            say(f"{folder}: measured")
    return Outcome(stopped=False, failed=failed)


def matched_steps(comparison: Comparison, among: Sequence[str] | None = None) -> dict[str, int]:
    """Steps of the methods that are given as much work as others, by counted FLOPs."""
    steps = {}
    for method, other in comparison.matched.items():
        if among is not None and method not in among:
            continue
        flops = {name: open_experiment(comparison.methods[name]).training_flops() for name in (method, other)}
        total = flops[other] * comparison.methods[other].train.steps
        steps[method] = max(1, math.ceil(total / flops[method]))
    return steps


def with_steps(config: ExperimentConfig, steps: int | None) -> ExperimentConfig:
    """The config with other ``train.steps``, and warm-up, schedule, evaluations and checkpoints stretched as much."""
    if steps is None or steps == config.train.steps:
        return config
    old, stretch = config.train, steps / config.train.steps
    longer = lambda value: value and max(1, round(value * stretch))
    warmup = longer(config.optim.warmup_steps)
    decay = max(longer(config.optim.decay_steps), warmup + 1)
    evaluations, checkpoints = longer(old.eval_every), longer(old.checkpoint_every)
    if old.eval_every and old.checkpoint_every % old.eval_every == 0:
        checkpoints = old.checkpoint_every // old.eval_every * evaluations
    at = tuple(sorted({longer(step) for step in old.checkpoint_at}))
    train = dataclasses.replace(
        old, steps=steps, eval_every=evaluations, checkpoint_every=checkpoints, checkpoint_at=at
    )
    optim = dataclasses.replace(config.optim, warmup_steps=warmup, decay_steps=decay)
    return dataclasses.replace(config, optim=optim, train=train)


class Evaluation:
    """Measures models of one comparison: compiled once, the same rows, anchors and random numbers for all."""

    def __init__(self, comparison: Comparison) -> None:
        first = comparison.first
        of = comparison.matching.features.weights
        sources: dict[str, str | None] = {"base": base_of(first.weights), "initial": first.weights}
        source = sources.get(of, of)
        if source is None:
            raise UserError(
                f"{comparison.name} begins with no weights: name the feature network, matching.features.weights=MODEL"
            )
        self._comparison = comparison
        self._experiment = open_experiment(comparison.methods[comparison.rows_of] if comparison.rows_of else first)
        data, mesh = self._experiment.data, self._experiment.program.mesh
        check_tokenizer(source, data.tokenizer)
        place = partial(to_global, mesh=mesh)
        self._network = TransformerLM(first.model, self._experiment.program.spec.vocab_size, first.precision)
        self._matching = MatchingEvaluator(self._network, comparison.matching, data.tokenizer.eos_id, place)
        self._tasks = {name: TaskEvaluator(self._network, task, data, place) for name, task in comparison.tasks.items()}
        self._source, self._key = source, rng.stream(rng.root_key(first.seed), "comparison")
        tasks = {name: to_dict(task) for name, task in comparison.tasks.items()}
        self.identity = fingerprint([to_dict(comparison.matching), tasks, data.fingerprint, source, first.seed])
        """Changes with everything that figures depend on but the model that is measured."""

    def __call__(self, folder: Path, params: Params, told: Mapping[str, Any]) -> None:
        """Measures a model and writes ``finetuned.json``, ``anchors.npz`` and ``continuations.npz`` into a folder."""
        c, data = self._comparison, self._experiment.data
        with use(self._experiment.program.mesh, self._experiment.program.rules):
            rows = data.eval(c.matching.split, batch_size=c.matching.batch_size)
            found = self._matching(params, self._features, rows, rng.stream(self._key, "matching"))
            scores: dict[str, Scores] = {}
            for name, task in c.tasks.items():
                asked = data.eval(task.split, batch_size=task.batch_size, limit=task.rows)
                scores[name] = self._tasks[name](params, asked, rng.stream(self._key, name))
        if not is_main():
            return
        arrays = found._asdict() | {f"task/{name}": score.reward_AxG for name, score in scores.items()}
        arrays |= {f"task_row/{name}": score.row_A for name, score in scores.items()}
        folder.mkdir(parents=True, exist_ok=True)
        # Apart, for they are most of it, and no report reads them.
        tokens = arrays.pop("tokens_AxGxT")
        np.savez_compressed(folder / CONTINUATIONS, allow_pickle=False, tokens_AxGxT=tokens)
        np.savez_compressed(folder / ANCHORS, allow_pickle=False, **arrays)
        # Last, for it says that both are there, and what they are of.
        write_json(folder / FINETUNED, dict(told) | self._summary(found, scores))

    def weights(self, source: str, model: TransformerConfig) -> Params:
        """A language model's weights, in their place on the mesh."""
        program = self._experiment.program
        network = TransformerLM(model, program.spec.vocab_size, self._comparison.first.precision)
        with use(program.mesh, program.rules):
            like = placed(parameter_shapes(network), program.mesh, program.rules)
        return read_source(weights_of(source, model), like)

    @cached_property
    def _features(self) -> Params:
        c = self._comparison
        return cut(
            self.weights(self._source, c.matching.features.model or c.first.model), self._matching.feature_network
        )

    def _summary(self, found: Measured, scores: Mapping[str, Scores]) -> dict[str, Any]:
        lengths = [str(n) for n in self._comparison.matching.lengths]
        by_length = lambda x: dict(zip(lengths, np.mean(x, 0).tolist(), strict=True))
        nll = {name: rows.sum(0, np.float64) for name, rows in (("scored", found.scored_Rx2), ("all", found.all_Rx2))}
        decode = self._experiment.data.tokenizer.decode
        tasks = {}
        for name, score in scores.items():
            samples = score.reward_AxG.shape[1]
            best = {str(k): float(score.best_of(k).mean()) for k in BEST_OF if k <= samples}
            tasks[name] = {"best_of": best, "questions": len(score.row_A), "failures": score.failures}
        shown = next(iter(scores.values())).texts[:SHOWN] if scores else []
        return {
            "anchors": len(found.row_A),
            "temperature": self._comparison.matching.temperature,
            "matching_loss": by_length(found.matching_AxL),
            "unconditional_loss": by_length(found.unconditional_L[None]),
            "whitened_matching_loss": by_length(found.whitened_AxL),
            "duplicates": by_length(found.duplicates_AxL),
            "ended": by_length(found.ended_AxL),
            "sampler_gap": float(np.mean(found.gap_A)),
            "nll": {name: float(total / max(weight, 1.0)) for name, (total, weight) in nll.items()},
            "tasks": tasks,
            "samples": [dict(zip(("prompt", "truth", "written"), text, strict=True)) for text in shown],
            "continuations": [decode(tokens[0]) for tokens in found.tokens_AxGxT[:SHOWN]],
        }


def _measured(folder: Path, made_by: Mapping[str, str]) -> bool:
    """Whether a folder has the record of the same run under the same evaluation."""
    if not (folder / FINETUNED).is_file():
        return False
    record = read_finetuned(folder)
    return all(record.get(name) == value for name, value in made_by.items())


def _agree(here: bool) -> bool:
    """What every process says; a folder that only some of them see is not there."""
    return not any_process(not here)


def _decisive(config: ExperimentConfig) -> dict[str, Any]:
    """The keys that make another run of it: a finished run need not be made again for the others."""
    incidental = tuple(key for key in MAY_CHANGE if key != "train.steps")
    within = lambda key: any(key == name or key.startswith(f"{name}.") for name in incidental)
    return {key: value for key, value in flatten(to_dict(config)).items() if not within(key)}
