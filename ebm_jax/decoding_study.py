"""Ways of decoding one frozen model, side by side: the same prompts, rewards, budget and seeds, and one record of each.

``run_study`` decodes with every method and seed into a folder of its own, asks the judge, a second reward that guided nothing,
what the responses are worth, and writes records that reports are made from. What is there is not made again.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ebm_jax.data.files import json_rows
from ebm_jax.data.paths import expand
from ebm_jax.decoders.as_model import DecodedModel, spent
from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.budget import Budget, fitted
from ebm_jax.decoders.registry import Decoder, size_of
from ebm_jax.decoders.reward_kinds import LikelihoodReward, ModelReward, energy_reward
from ebm_jax.decoders.rewards import CallableReward, Response, Reward, ScaleConfig, Scorer, StepReward, SumReward
from ebm_jax.decoders.run import Output, decode
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.options import TaskOptions
from ebm_jax.evals.tasks.protocol import Prompt, safe_name
from ebm_jax.evals.tasks.registry import make_task
from ebm_jax.evals.tasks.runner import answer_share, run_task
from ebm_jax.evals.tasks.samples import SampleStore
from ebm_jax.experiment import ExperimentConfig, run_training
from ebm_jax.language_model import LanguageModel, open_model
from ebm_jax.parallel.mesh import MeshConfig
from ebm_jax.precision import Precision
from ebm_jax.records import RESULT
from ebm_jax.reporting.decoding import DECODED, STUDY
from ebm_jax.reward import open_reward
from ebm_jax.serialize import to_dict
from ebm_jax.share import WHOLE, Share, files_of_shares
from ebm_jax.training.record import write_json

_NAME = re.compile(r"\w[\w.+-]*")
SPENT = "spent.jsonl"
"""What every call of a benchmark cost."""


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Where prompts come from: a file of JSON lines, plain or ``.gz``, or the config itself."""

    file: str = ""
    texts: tuple[str, ...] = ()
    """The prompts, in place of a file."""
    field: str = "text"
    """Which value of a line is read."""
    before: str = ""
    after: str = ""
    """Text in front of it, and behind."""
    words: int = 0
    """How many of its first words are the prompt; 0 takes all."""
    truth: str = ""
    """Which value of a line is the truth that verifiers and graders go by."""
    skip: int = 0
    count: int = 64

    def __post_init__(self) -> None:
        if self.count < 1 or self.skip < 0 or self.words < 0:
            raise UserError(
                f"prompts.count={self.count} must be at least 1, and prompts.skip={self.skip} and prompts.words={self.words}"
                " not negative"
            )
        if bool(self.file) == bool(self.texts):
            raise UserError(f"prompts.file={self.file!r} and prompts.texts: one of them must say what the prompts are")


@dataclass(frozen=True, kw_only=True)
class RewardChoice:
    """One reward, or several that are added."""

    kind: Literal["model", "likelihood", "energy", "bleu", "exact", "maths", "tests", "length"] = "model"
    """A sequence classifier, another language model's log-likelihood, an EBT's energy, what a verifier says of a prompt's
    truth, or minus the number of words."""
    name: str = ""
    """Folder, address or hub name of a model."""
    ending: str | None = None
    """What is asked of a reward model that was trained to be asked (``data.examples.ending``)."""
    steps: str = ""
    """What stands between the steps of a response, for a reward that reads beginnings; empty: it reads whole responses."""
    over: Literal["sum", "least"] = "sum"
    """What becomes of the rewards of steps."""
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DecodingStudy:
    """Methods by name, and what they are compared by."""

    name: str
    model: str | ExperimentConfig
    """A trained run or a published model; or a config, which is trained first, in the study's own folder."""
    methods: dict[str, Decoder]
    prompts: PromptsConfig | None = None
    tasks: tuple[str, ...] = ()
    """Benchmarks by name (docs/tasks.md), which ask and grade for themselves."""
    task_limit: int = 0
    """Questions of each, from its beginning; 0 takes all."""
    reward: tuple[RewardChoice, ...] = ()
    """What guides: the sum of these."""
    cheap: tuple[RewardChoice, ...] = ()
    """What is asked first where acceptance is delayed."""
    judge: tuple[RewardChoice, ...] = ()
    """What decides, and guides nothing."""
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    budget: Budget = field(default_factory=Budget)
    """What a prompt may cost: sizes are set by it where it is not 0."""
    max_new_tokens: int = 64
    seeds: tuple[int, ...] = (0,)
    draft: str = ""
    """A model of the same tokens that writes ahead."""
    at_once: int = 16
    mesh: MeshConfig = field(default_factory=MeshConfig)
    precision: Precision = field(default_factory=Precision)
    """Of published models; a run has its own."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise UserError(f"the study {self.name} has no methods")
        if self.prompts is None and not self.tasks:
            raise UserError(f"the study {self.name} has neither prompts nor tasks: name some")
        if (self.budget.tokens or self.budget.reward_calls) and self.prompts is None:
            raise UserError("a budget is met by the lengths of plain samples: give prompts to draw them for")
        if wrong := [name for name in self.methods if not _NAME.fullmatch(name)]:
            raise UserError(
                f"{wrong[0]!r} cannot name a method, which names a folder: use letters, digits and any of _.+-"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise UserError(f"seeds={self.seeds} must be different numbers from 0 on, at least one")
        if both := [one for one in self.judge if one in self.reward]:
            raise UserError(f"judge={both[0]} guides as well: a judge must be another reward than the one that guides")


def read_prompts(config: PromptsConfig) -> tuple[list[Prompt], list[str]]:
    """Prompts and their truths, empty where none is named.

    Raises:
      UserError: there is no such file, a line has no such value, or there are too few lines.
    """
    if config.texts:
        return [Prompt(text=config.before + text + config.after) for text in config.texts], [""] * len(config.texts)
    path = expand(config.file)
    if not path.is_file():
        raise UserError(f"prompts.file={config.file}: there is no such file")
    prompts, truths = [], []
    for number, row in islice(json_rows(path), config.skip, config.skip + config.count):
        for name in filter(None, (config.field, config.truth)):
            if not isinstance(row.get(name), str):
                raise UserError(f"{path}:{number} has no text {name!r}: its values are {', '.join(row)}")
        text = row[config.field]
        if config.words:
            words = re.findall(r"\s*\S+", text)
            text = "".join(words[: config.words])
        prompts.append(Prompt(text=config.before + text + config.after))
        truths.append(row[config.truth] if config.truth else "")
    if not prompts:
        raise UserError(f"{path} has no lines behind prompts.skip={config.skip}")
    return prompts, truths


def build_reward(
    choices: Sequence[RewardChoice], prompts: Sequence[Prompt], truths: Sequence[str], rows: int
) -> Reward | None:
    """The sum of some rewards; None for none of them."""
    parts = [(choice.weight, _of_steps(choice, _one(choice, prompts, truths, rows))) for choice in choices]
    if not parts:
        return None
    return parts[0][1] if len(parts) == 1 and parts[0][0] == 1 else SumReward(tuple(parts))


def _of_steps(choice: RewardChoice, reward: Reward) -> Reward:
    return StepReward(reward, choice.steps, choice.over) if choice.steps else reward


def _one(choice: RewardChoice, prompts: Sequence[Prompt], truths: Sequence[str], rows: int) -> Reward:
    if choice.kind == "model":
        return ModelReward(open_reward(str(expand(choice.name)), ending=choice.ending, rows=rows))
    if choice.kind == "energy":
        return energy_reward(str(expand(choice.name)))
    if choice.kind == "likelihood":
        return LikelihoodReward(open_model(str(expand(choice.name)), rows=rows))
    if choice.kind == "length":
        return CallableReward(lambda prompt, text, complete: -float(len(text.split())), "length")
    from ebm_jax.decoders.reward_kinds import VerifierReward
    from ebm_jax.grading.rewards import RewardConfig

    if not any(truths):
        raise UserError(f"reward.kind={choice.kind} goes by truths: name their value in prompts.truth")
    return VerifierReward(RewardConfig(kind=choice.kind), dict(zip(prompts, truths, strict=True)))


class PlainSamples(NamedTuple):
    """What a study's model writes by itself, and what that is worth."""

    model: LanguageModel
    prompts: list[Prompt]
    responses: list[list[Response]]
    """N of every prompt."""
    rewards_PxN: np.ndarray
    """Scaled as the study says."""


def plain_samples(study: DecodingStudy, samples: int) -> PlainSamples:
    """Plain samples of all prompts, each with a seed of its own; the study's own seeds do not matter.

    Raises:
      UserError: the study has no prompts, no reward, or a model that is not trained yet.
    """
    if samples < 1:
        raise UserError(f"samples={samples} must be at least 1")
    if study.prompts is None or not study.reward or not isinstance(study.model, str):
        raise UserError(f"the study {study.name} must have prompts, a reward and a trained model to draw samples of")
    model = open_model(str(expand(study.model)), mesh=study.mesh, precision=study.precision)
    prompts, truths = read_prompts(study.prompts)
    reward = build_reward(study.reward, prompts, truths, model.rows)
    assert reward is not None
    scorer, numbers = Scorer(reward, study.scale), range(len(prompts))
    found = [[one.responses[0] for one in _plain(study, model, prompts, seed).samples] for seed in range(samples)]
    rewards = [scorer(numbers, prompts, responses) for responses in found]
    return PlainSamples(model, prompts, [list(of) for of in zip(*found, strict=True)], np.stack(rewards, axis=1))


def _plain(
    study: DecodingStudy, model: LanguageModel, prompts: Sequence[Prompt], seed: int, folder: Path | None = None
) -> Output:
    """One plain sample of every prompt."""
    return decode(
        model, prompts, BestOfN(samples=1), max_new_tokens=study.max_new_tokens, at_once=study.at_once, seed=seed,
        folder=folder,
    )  # fmt: skip


def run_study(
    study: DecodingStudy,
    workdir: Path,
    only: Sequence[str] = (),
    report: Callable[[str], None] = print,
    share: Share = WHOLE,
) -> None:
    """Decodes and judges what is not there yet; ``only`` names some methods.

    A ``share`` of the prompts and questions is decoded and not judged: machines that see one ``workdir`` may each do one at the
    same time, and a call for the whole then judges what all have written.

    Raises:
      UserError: a method is unknown, a share is asked for while the study's model is not trained, or what ``decode`` refuses.
    """
    if unknown := [name for name in only if name not in study.methods]:
        raise UserError(f"only={unknown[0]!r} is not one of the methods {', '.join(study.methods)}")
    workdir.mkdir(parents=True, exist_ok=True)
    opened = partial(open_model, mesh=study.mesh, precision=study.precision)
    model = opened(_trained(study.model, workdir, share))
    prompts, truths = read_prompts(study.prompts) if study.prompts else ([], [])
    of = lambda choices: build_reward(choices, prompts, truths, model.rows)
    reward, judge = of(study.reward), of(study.judge)
    draft = opened(str(expand(study.draft))) if study.draft else None
    how: dict[str, Any] = {
        "reward": reward,
        "cheap": of(study.cheap),
        "scale": study.scale,
        "draft": draft,
        "at_once": study.at_once,
    }
    length = (
        _usual_length(study, model, prompts, workdir / "lengths" if share.whole else None)
        if study.budget.tokens or study.budget.reward_calls
        else 0.0
    )
    write_json(workdir / STUDY, to_dict(study))
    for name, method in study.methods.items():
        if only and name not in only:
            continue
        size = size_of(method)
        if length and size:
            method = fitted(method, size, study.budget, length, study.max_new_tokens)
        for seed in study.seeds:
            folder = workdir / name / f"seed={seed}"
            told = lambda line, of=f"{name}, seed {seed}": report(f"{of}: {line}")
            if prompts:
                limit = study.max_new_tokens
                found = decode(
                    model,
                    prompts,
                    method,
                    max_new_tokens=limit,
                    seed=seed,
                    folder=folder,
                    share=share,
                    report=told,
                    **how,
                )
                if share.whole and not (folder / DECODED).is_file():
                    write_json(folder / DECODED, _record(name, method, seed, found, prompts, reward, judge))
            for task in study.tasks:
                _run_task(study, model, method, task, seed, folder / safe_name(task), how, told, share)


def _run_task(
    study: DecodingStudy,
    model: LanguageModel,
    method: Decoder,
    task: str,
    seed: int,
    place: Path,
    how: Mapping[str, Any],
    report: Callable[[str], None],
    share: Share,
) -> None:
    asked = DecodedModel(model, method, log=place / share.file(SPENT), **how)
    options = TaskOptions(limit=study.task_limit, seed=seed, max_new_tokens=study.max_new_tokens)
    if not share.whole:
        answer_share(asked, make_task(task), place, options, share=share, model_name=model.name, report=report)
        return
    result = run_task(asked, make_task(task), place, options, model_name=model.name, report=report)
    store = SampleStore(place)
    scores: dict[str, list[float]] = {}
    for (example, _), grade in sorted(store.grades("").items()):
        scores.setdefault(example, []).append(float(grade.score or 0))
    record = {
        "task": task,
        "seed": seed,
        "metrics": {name: metric.value for name, metric in result.metrics.items()},
        "counts": dict(result.counts),
        "spent": spent(files_of_shares(place, SPENT)),
        "length": float(np.mean([sum(turn.tokens for turn in one.turns) for one in store.samples().values()])),
        "scores": {example: float(np.mean(of)) for example, of in scores.items()},
    }
    write_json(place / DECODED, record)


def _trained(model: str | ExperimentConfig, workdir: Path, share: Share) -> str:
    """Where the model is."""
    if isinstance(model, str):
        return str(expand(model))
    if share.whole:
        run_training(model, workdir / "model")
    elif not (workdir / "model" / RESULT).is_file():
        raise UserError(
            f"share={share}: {workdir / 'model'} is not trained yet; start the command once without share="
            " (only=METHOD decodes with one method)"
        )
    return str(workdir / "model")


def _usual_length(study: DecodingStudy, model: LanguageModel, prompts: Sequence[Prompt], folder: Path | None) -> float:
    """The mean length of plain samples, by which sizes are set before anything else is drawn."""
    found = _plain(study, model, prompts, min(study.seeds), folder)
    return float(np.mean([len(sample.responses[0].tokens) for sample in found.samples]))


def _record(
    name: str,
    method: Decoder,
    seed: int,
    found: Output,
    prompts: Sequence[Prompt],
    reward: Reward | None,
    judge: Reward | None,
) -> dict[str, Any]:
    """What a report reads of a method and a seed: values by prompt, and means."""
    each = len(found.samples[0].responses)
    asked = [prompt for prompt in prompts for _ in range(each)]
    responses = [response for sample in found.samples for response in sample.responses]
    worth = lambda of: None if of is None else np.asarray(of(asked, responses), np.float64).reshape(-1, each).mean(1)
    by_prompt = {
        "reward": worth(reward),
        "judge": worth(judge),
        "tokens": np.array([sample.account["tokens"] for sample in found.samples], float),
        "reward_calls": np.array([sample.account["reward_calls"] for sample in found.samples], float),
        "passes": np.array([sample.account["passes"] for sample in found.samples], float),
        "length": _by_prompt(responses, each, lambda response: len(response.tokens)),
        "complete": _by_prompt(responses, each, lambda response: float(response.complete)),
    }
    spent = found.account()
    return {
        "method": name,
        "kind": type(method).__name__,
        "settings": dataclasses.asdict(method),
        "seed": seed,
        "seconds": found.seconds,
        "accepted": spent["accepted"] / spent["steps"] if spent["steps"] else None,
        "by_prompt": {key: value.tolist() for key, value in by_prompt.items() if value is not None},
        "samples": [
            {"prompt": prompts[n].text, "text": found.samples[n].responses[0].text} for n in range(min(6, len(prompts)))
        ],
    }


def _by_prompt(responses: Sequence[Response], each: int, of: Callable[[Response], float]) -> np.ndarray:
    return np.array([of(response) for response in responses], float).reshape(-1, each).mean(1)
