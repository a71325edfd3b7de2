"""How a trained run's predictions change with thinking, as records that tables and plots are made from.

``thinking_record`` varies steps, candidates and ways of thinking over texts and checkpoints (EBT section 4.1.2);
``uncertainty_record`` follows the energy of every token of a few texts over inner steps (section 4.1.3).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ebm_jax import rng
from ebm_jax.algorithm import Variables
from ebm_jax.algorithms.ebt import EBT
from ebm_jax.data.loading import Data
from ebm_jax.energy.thinking import ThinkingConfig
from ebm_jax.errors import UserError
from ebm_jax.experiment import Experiment
from ebm_jax.overrides import override
from ebm_jax.parallel.multihost import to_global
from ebm_jax.parallel.rules import use
from ebm_jax.training.checkpoints import Checkpoints
from ebm_jax.training.startup import checkpoint_folder
from ebm_jax.types import Params

EASY = "It was the first day of the week and he said that it was time to go to the house."
HARD = "Fox problem: quick zinc jazz vexes Kyiv's aphid research, 7 lynx hum."


@dataclass(frozen=True, kw_only=True)
class ThinkingStudy:
    """What to vary."""

    splits: tuple[str, ...] = ("validation",)
    extra: tuple[str, ...] | None = None
    """Of the texts that the run's ``eval.extra`` names, those to read; none takes all of them."""
    rows: int = 128
    """Rows of each text, from its beginning; 0 takes all."""
    steps: int = 8
    """The curve goes from 1 inner step to this many."""
    candidates: tuple[int, ...] = (2, 5, 10)
    """Numbers of candidates, each at ``verify_steps``."""
    verify_steps: int | None = None
    """None takes as many inner steps as training at most."""
    variants: tuple[str, ...] = ()
    """Ways of thinking beside the plain one, each settings joined by ``+``, as ``steps=8+accept_lower=true+noise=0``."""
    checkpoints: tuple[int, ...] = ()
    """Earlier checkpoints at which ``history`` is also evaluated; empty takes all that the run kept."""
    history: int = 5
    """Candidates compared with none at earlier checkpoints; 0 leaves those out."""
    history_extra: tuple[str, ...] = ()
    """Of the texts read, those that ``history`` reads beside ``splits``."""

    def __post_init__(self) -> None:
        for name, least in (("rows", 0), ("steps", 1), ("history", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)} must be at least {least}")
        for count in self.candidates:
            ThinkingConfig(candidates=count)
        for variant in self.variants:
            parse_variant(variant)


def parse_variant(text: str) -> ThinkingConfig:
    """The thinking that ``a=1+b=2`` describes."""
    return override(ThinkingConfig(), [part.strip() for part in text.split("+")])


def thinking_record(experiment: Experiment, params: Params, step: int, workdir: Path, study: ThinkingStudy) -> dict:
    """The content of ``thinking.json``: one point for every checkpoint, text and way of thinking."""
    config, algorithm = experiment.config, experiment.algorithm
    texts = _texts(experiment, study)
    record: dict[str, Any] = {"name": config.name, "kind": config.algorithm.kind, "seed": config.seed, "points": []}
    with use(experiment.program.mesh, experiment.program.rules):
        ways: list[tuple[ThinkingConfig | None, dict[str, str]]] = [(None, {})]
        if isinstance(algorithm, EBT):
            verified = [ThinkingConfig(steps=study.verify_steps, candidates=g) for g in study.candidates]
            ways = [(way, {}) for way in (ThinkingConfig(steps=study.steps), *verified)]
            ways += [(parse_variant(variant), _settings(variant)) for variant in study.variants]
        for way, options in ways:
            record["points"] += _points(experiment, way, options, texts, [(step, params)], study)
        if isinstance(algorithm, EBT) and study.history:
            earlier = list(_earlier(experiment, step, workdir, study))
            followed = {name: text for name, text in texts.items() if name in (*study.splits, *study.history_extra)}
            for count in (1, study.history):
                way = ThinkingConfig(steps=study.verify_steps, candidates=count)
                record["points"] += _points(experiment, way, {}, followed, earlier, study)
    record["trained_steps"] = algorithm.config.descent.max_steps if isinstance(algorithm, EBT) else 1
    return record


def _texts(experiment: Experiment, study: ThinkingStudy) -> dict[str, tuple[Data, str]]:
    extra = experiment.config.eval.extra
    names = tuple(extra) if study.extra is None else study.extra
    if unknown := [name for name in (*names, *study.history_extra) if name not in extra]:
        raise UserError(f"{','.join(unknown)}: the run's eval.extra names {', '.join(extra) or 'no text'}")
    texts = {split: (experiment.data, split) for split in study.splits}
    return texts | {name: (experiment.open_text(extra[name]), "test") for name in names}


def _earlier(experiment: Experiment, newest: int, workdir: Path, study: ThinkingStudy) -> Iterator[tuple[int, Params]]:
    with Checkpoints(checkpoint_folder(workdir), read_only=True) as checkpoints:
        for step in study.checkpoints or [s for s in checkpoints.steps() if s < newest]:
            yield checkpoints.restore_params(experiment.program.abstract.params, step=step)


def _points(
    experiment: Experiment,
    way: ThinkingConfig | None,
    options: dict[str, Any],
    texts: dict[str, tuple[Data, str]],
    trained: list[tuple[int, Params]],
    study: ThinkingStudy,
) -> list[dict[str, Any]]:
    """One compiled program over all texts and checkpoints; a single candidate gives a point for every step on the way."""
    evaluator = experiment.evaluator(way)
    key = rng.stream(experiment.key, "evaluation")
    per_step = experiment.config.train.batch_size * experiment.config.data.context
    points = []
    for checkpoint, params in trained:
        for name, (data, split) in texts.items():
            figures = evaluator(params, Variables(params), data.eval(split, limit=study.rows or None), key)
            base = {"checkpoint": checkpoint, "tokens_trained": checkpoint * per_step, "split": name}
            points += [base | point for point in _readings(experiment, way, options, figures)]
    return points


def _readings(
    experiment: Experiment, way: ThinkingConfig | None, options: dict[str, Any], figures: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """The points that one evaluation tells: all numbers of steps up to its own, where steps alone were varied."""
    if way is None:
        yield {"steps": 1, "candidates": 1, "options": {}, "forward_passes": 1.0} | _figures(figures, "")
        return
    descent = experiment.algorithm.config.descent
    last = sum(way.repeats(descent))
    shorter = range(1, last) if way.candidates == 1 and not options else ()
    for k in (*shorter, last):
        energy = figures["energy_final"] if k == last else figures[f"energy_step_{k + 1}"]
        yield {
            "steps": k,
            "candidates": way.candidates,
            "options": options,
            "forward_passes": figures["forward_passes"] if k == last else float(k),
            **_figures(figures, f"_step_{k}"),
            "energy_first": figures["energy_step_1"],
            "energy_final": energy,
        }


def _figures(figures: dict[str, float], suffix: str) -> dict[str, float]:
    found = {
        name: figures[name + suffix] for name in ("nll", "perplexity", "bits_per_byte") if name + suffix in figures
    }
    return {name: value for name, value in found.items() if math.isfinite(value)} | {"tokens": figures["tokens"]}


def _settings(variant: str) -> dict[str, str]:
    return dict(part.strip().split("=", 1) for part in variant.split("+"))


def uncertainty_record(experiment: Experiment, params: Params, step: int, iterations: int) -> dict[str, Any]:
    """The content of ``uncertainty.json``: energies of an easy and a hard sentence, natural and random text.

    Noise stays off, so that energies differ between tokens and steps alone.
    """
    if not isinstance(experiment.algorithm, EBT):
        raise UserError(f"algorithm={experiment.config.algorithm.kind} has no energies: only ebt has")
    thinking = ThinkingConfig(steps=iterations, noise=0.0)
    think = jax.jit(lambda params, batch, key: experiment.algorithm.think(params, batch, key, thinking))
    key = rng.stream(experiment.key, "evaluation")
    texts = []
    for label, text in _read_texts(experiment):
        ids = experiment.data.tokenizer.encode(text)[: experiment.config.data.context + 1]
        thought = think(params, to_global(_row(experiment, ids), experiment.program.mesh), key)
        scored = slice(0, len(ids) - 1)
        listed = lambda values, scored=scored: [round(float(x), 4) for x in np.asarray(values[0])[scored]]
        texts.append(
            {
                "label": label,
                "text": text,
                "tokens": [experiment.data.tokenizer.decode([token]) for token in ids[1:]],
                "energy": [listed(e) for e in (*thought.energies_IxBxT, thought.final_energy_BxT)],
                "nll": [listed(n) for n in thought.kept],
            }
        )
    config = experiment.config
    iterations = len(texts[0]["nll"])
    return {
        "name": config.name,
        "kind": config.algorithm.kind,
        "checkpoint": step,
        "iterations": iterations,
        "texts": texts,
    }


def _read_texts(experiment: Experiment) -> Iterator[tuple[str, str]]:
    yield "easy", EASY
    yield "hard", HARD
    rows, tokenizer = experiment.data.split(experiment.config.eval.split), experiment.data.tokenizer
    batch = rows.gather(np.arange(1))
    natural = tokenizer.decode(batch["targets"][0][batch["weights"][0] > 0])
    yield "natural", natural
    letters = np.array(sorted({letter for letter in natural if letter.isprintable()}))
    draws = np.random.default_rng(0).integers(0, len(letters), len(natural))
    yield "random", "".join(letters[draws])


def _row(experiment: Experiment, ids: np.ndarray) -> dict[str, np.ndarray]:
    """One document in a padded row, as often as the mesh has devices."""
    context, count = experiment.config.data.context, len(ids) - 1
    known = np.arange(context) < count
    padded = np.zeros(context + 1, np.int32)
    padded[: len(ids)] = ids
    row = {
        "inputs": padded[:-1] * known,
        "targets": padded[1:] * known,
        "weights": known.astype(np.float32),
        "segments": known.astype(np.int32),
        "positions": (np.arange(context) * known).astype(np.int32),
    }
    copies = experiment.program.mesh.size
    rows = {name: np.repeat(value[None], copies, axis=0) for name, value in row.items()}
    return rows | {"index": np.zeros(copies, np.uint32)}
