"""Ways to fine-tune one model, side by side: the same data, seeds and evaluation, and one record of each.

``run_comparison`` trains every method with every seed in a folder of its own and measures it, and the model that all begin
with. Reports are made from the records alone (``reporting.finetuning``).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ebm_jax import rng
from ebm_jax.errors import UserError
from ebm_jax.evals.continuations import MatchingConfig, MatchingEvaluator, Measured, Scores, TaskConfig, TaskEvaluator
from ebm_jax.experiment import Experiment, ExperimentConfig, base_of, open_experiment, open_run, run_training
from ebm_jax.interop.starting_weights import starting_weights
from ebm_jax.models.features import cut
from ebm_jax.models.lm import TransformerLM, parameter_shapes
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.multihost import is_main, to_global
from ebm_jax.parallel.rules import placed, use
from ebm_jax.serialize import to_dict
from ebm_jax.training.checkpoints import Checkpoints
from ebm_jax.training.record import write_json
from ebm_jax.training.startup import checkpoint_folder
from ebm_jax.types import Params

BASE = "base"
RECORD, ANCHORS = "finetuned.json", "anchors.npz"
SHOWN = 12
"""Samples that a record keeps."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Methods by name, and what they are compared by."""

    name: str
    methods: dict[str, ExperimentConfig]
    seeds: tuple[int, ...] = (0,)
    matched: dict[str, str] = field(default_factory=dict)
    """Methods that train for as many FLOPs as another one, whatever ``train.steps`` they have: ``{"sft_flops": "ebft"}``."""
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    tasks: dict[str, TaskConfig] = field(default_factory=dict)
    headline: str = ""
    """The task that decides, named before anything is run."""
    features: str = BASE
    """The feature network of the evaluation, for all methods: ``base``, a run, or a published model."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise UserError(f"the comparison {self.name} has no methods")
        if self.headline and self.headline not in self.tasks:
            raise UserError(f"headline={self.headline!r} is not one of the tasks {', '.join(self.tasks)}")
        for name, other in self.matched.items():
            if name not in self.methods or other not in self.methods or other in self.matched:
                raise UserError(
                    f"matched={{{name!r}: {other!r}}} must name two methods, the second with steps of its own"
                )
        first = self.first
        for name, config in self.methods.items():
            for key in ("model", "weights", "vocab_size"):
                if getattr(config, key) != getattr(first, key):
                    raise UserError(f"{self.name}: {name} has another {key}: compared methods begin with one model")

    @property
    def first(self) -> ExperimentConfig:
        return next(iter(self.methods.values()))


def run_comparison(
    comparison: Comparison,
    workdir: Path,
    argv: Sequence[str] = (),
    only: Sequence[str] = (),
    report: Callable[[str], None] = print,
) -> None:
    """Trains and measures what is not trained and measured yet; ``only`` names some methods."""
    unknown = [name for name in only if name not in comparison.methods]
    if unknown:
        raise UserError(f"{', '.join(unknown)}: the methods are {', '.join(comparison.methods)}")
    if is_main():
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "comparison.json", described(comparison))
    steps = matched_steps(comparison)
    measure = Evaluation(comparison)
    if comparison.first.weights is not None and not (workdir / BASE / RECORD).is_file():
        report(f"{BASE}: measured")
        measure(workdir / BASE, measure.weights(comparison.first.weights, comparison.first.model), {"method": BASE})
    for method, config in comparison.methods.items():
        if only and method not in only:
            continue
        for seed in comparison.seeds:
            folder = workdir / method / f"seed={seed}"
            if (folder / RECORD).is_file():
                report(f"{folder}: measured before")
                continue
            config = with_steps(config, steps.get(method))
            run_training(dataclasses.replace(config, seed=seed, name=f"{comparison.name}_{method}"), folder, argv)
            experiment, params, step = open_run(folder)
            flops = experiment.training_flops()
            told = {"method": method, "seed": seed, "step": step, "flops": flops * step, "flops_per_step": flops}
            measure(folder, params, told)


def matched_steps(comparison: Comparison) -> dict[str, int]:
    """Steps of the methods that are given as much work as others, by counted FLOPs."""
    steps = {}
    for method, other in comparison.matched.items():
        flops = {name: open_experiment(comparison.methods[name]).training_flops() for name in (method, other)}
        total = flops[other] * comparison.methods[other].train.steps
        steps[method] = max(1, math.ceil(total / flops[method]))
    return steps


def with_steps(config: ExperimentConfig, steps: int | None) -> ExperimentConfig:
    """The config with other ``train.steps``, and a schedule and checkpoints that are stretched as much."""
    if steps is None:
        return config
    stretch = steps / config.train.steps
    longer = lambda value: value and max(1, round(value * stretch))
    optim = dataclasses.replace(config.optim, decay_steps=longer(config.optim.decay_steps))
    train = dataclasses.replace(
        config.train,
        steps=steps,
        eval_every=longer(config.train.eval_every),
        checkpoint_every=longer(config.train.checkpoint_every),
        checkpoint_at=tuple(sorted({longer(step) for step in config.train.checkpoint_at})),
    )
    return dataclasses.replace(config, optim=optim, train=train)


class Evaluation:
    """Measures models of one comparison: compiled once, the same rows, anchors and random numbers for all."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._experiment: Experiment = open_experiment(comparison.first)
        data, mesh = self._experiment.data, self._experiment.program.mesh
        self._place = partial(to_global, mesh=mesh)
        self._network = TransformerLM(comparison.first.model, self._vocab_size(), comparison.first.precision)
        self._matching = MatchingEvaluator(self._network, comparison.matching, data.tokenizer.eos_id, self._place)
        self._tasks = {
            name: TaskEvaluator(self._network, task, data, self._place) for name, task in comparison.tasks.items()
        }
        source = base_of(comparison.first.weights) if comparison.features == BASE else comparison.features
        if source is None:
            raise UserError(f"{comparison.name} begins with no weights: name the feature network, features=MODEL")
        of = comparison.matching.features
        self._features = cut(self.weights(source, of.model or comparison.first.model), self._matching.feature_network)

    def __call__(self, folder: Path, params: Params, told: Mapping[str, Any]) -> None:
        """Measures a model and writes ``finetuned.json`` and ``anchors.npz`` into a folder."""
        c, data = self._comparison, self._experiment.data
        key = rng.stream(rng.root_key(c.first.seed), "comparison")
        with use(self._experiment.program.mesh, self._experiment.program.rules):
            rows = data.eval(c.matching.split, batch_size=c.matching.batch_size)
            found = self._matching(params, self._features, rows, rng.stream(key, "matching"))
            scores: dict[str, Scores] = {}
            for name, task in c.tasks.items():
                asked = data.eval(task.split, batch_size=task.batch_size, limit=task.rows)
                scores[name] = self._tasks[name](params, asked, rng.stream(key, name))
        if not is_main():
            return
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {f"task/{name}": score.reward_AxG for name, score in scores.items()}
        arrays |= {f"task_row/{name}": score.row_A for name, score in scores.items()}
        arrays |= {name: value for name, value in found._asdict().items() if isinstance(value, np.ndarray)}
        np.savez_compressed(folder / ANCHORS, allow_pickle=False, **arrays)
        write_json(folder / RECORD, dict(told) | self._summary(found, scores))

    def weights(self, source: str, model: TransformerConfig) -> Params:
        """A language model's weights, in their place on the mesh."""
        program = self._experiment.program
        network = TransformerLM(model, self._vocab_size(), self._comparison.first.precision)
        with use(program.mesh, program.rules):
            like = placed(parameter_shapes(network), program.mesh, program.rules)
        found = starting_weights(source, model)
        if callable(found):
            put = lambda x, at: jax.device_put(x.astype(at.dtype), at.sharding)
            return jax.tree.map(put, found(like), like)
        with Checkpoints(checkpoint_folder(found), read_only=True) as checkpoints:
            return checkpoints.restore_params(like)[1]

    def _vocab_size(self) -> int:
        return self._experiment.program.spec.vocab_size

    def _summary(self, found: Measured, scores: Mapping[str, Scores]) -> dict[str, Any]:
        lengths = [str(n) for n in self._comparison.matching.lengths]
        by_length = lambda x: dict(zip(lengths, np.mean(x, 0).tolist(), strict=True))
        decode = self._experiment.data.tokenizer.decode
        tasks = {}
        for name, score in scores.items():
            samples = score.reward_AxG.shape[1]
            best = {str(k): float(score.best_of(k).mean()) for k in (1, 2, 4, 8, 16, 32, 64) if k <= samples}
            tasks[name] = {"best_of": best, "questions": len(score.row_A), "failures": score.failures}
        shown = next(iter(scores.values())).texts[:SHOWN] if scores else []
        return {
            "anchors": len(found.row_A),
            "temperature": self._comparison.matching.temperature,
            "matching_loss": by_length(found.matching_AxL),
            "whitened_matching_loss": by_length(found.whitened_AxL),
            "duplicates": by_length(found.duplicates_AxL),
            "ended": by_length(found.ended_AxL),
            "sampler_gap": float(np.mean(found.gap_A)),
            "nll": {name: total / max(weight, 1.0) for name, (total, weight) in found.nll.items()},
            "tasks": tasks,
            "samples": [dict(zip(("prompt", "truth", "written"), text, strict=True)) for text in shown],
            "continuations": [decode(tokens[0]) for tokens in found.tokens_AxGxT[:SHOWN]],
        }


def described(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON values."""
    return {
        "name": comparison.name,
        "methods": {name: to_dict(config) for name, config in comparison.methods.items()},
        "seeds": list(comparison.seeds),
        "matched": comparison.matched,
        "matching": to_dict(comparison.matching),
        "tasks": {name: to_dict(task) for name, task in comparison.tasks.items()},
        "headline": comparison.headline,
        "features": comparison.features,
    }
