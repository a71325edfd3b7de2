"""One task from questions to figures: generate, grade, summarise; everything on disk, so that a rerun goes on.

Generation comes first and grading after it, each adding to its file as it goes. Samples and grades that are there are
not made again. What fails for good half-way (a judge that does not answer) leaves a result of what there is, with the
problem in words. A question that the model cannot be asked, for it is longer than its context, is counted and has an
empty answer; where likelihoods are asked for it has none.
"""

import dataclasses
import hashlib
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ebm_jax
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.judged import Silent
from ebm_jax.evals.tasks.options import TaskOptions
from ebm_jax.evals.tasks.protocol import (
    Completion,
    Example,
    Grade,
    Graded,
    Grading,
    Judge,
    Metric,
    Model,
    Prompt,
    Sample,
    Sampling,
    cut,
)
from ebm_jax.evals.tasks.samples import Key, SampleStore, write_whole
from ebm_jax.evals.tasks.task import Task, Work
from ebm_jax.share import WHOLE, Share

GRADED_AT_ONCE = 64
NO_JUDGE = "no judge was named: the answers are written in the benchmark's own format, and there is no figure"
_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scipy", "sacrebleu", "math-verify", "sympy")
Report = Callable[[str], None]


@dataclass(frozen=True)
class TaskResult:
    """What a task came to."""

    task: str
    metrics: Mapping[str, Metric]
    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    problem: str | None = None
    """Why there is less than was asked for."""
    note: str | None = None
    """What a reader of the figures must know: that there are none without a judge, that questions could not be asked."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """All of ``result.json``."""


def run_task(
    model: Model,
    task: Task,
    folder: Path | str,
    options: TaskOptions | None = None,
    *,
    judge: Judge | None = None,
    model_name: str = "",
    report: Report = lambda line: None,
    examples: Sequence[Example] | None = None,
) -> TaskResult:
    """Evaluates a model on a task in ``folder``, which may hold part of it already.

    ``examples`` are the task's, where the caller has read them; ``report`` gets a line of progress now and then. Raises
    UserError for what cannot be begun: missing or malformed questions, other settings than those of the samples there.
    """
    options = options or TaskOptions()
    chosen = _chosen(task, options, examples)
    sampling, grading = options.sampling(task.sampling), options.grading(judge)
    if not task.judged or judge is not None:
        task.ready(grading)
    store = SampleStore(Path(folder))
    store.agree(_settings(task, model_name, sampling, options))
    clock = time.monotonic()
    made = _generate(model, task, chosen, sampling, options, store, report)
    seconds = {"generation": time.monotonic() - clock}
    work = [(one, made[one.id, n]) for one in chosen for n in range(_samples(task, sampling))]
    clock = time.monotonic()
    grades, problem = _grade(task, work, grading, options, store, report)
    seconds["grading"] = time.monotonic() - clock
    graded = _assemble(chosen, made, grades, _samples(task, sampling))
    metrics = {}
    if whole := [one for one in graded if one.grades and len(one.grades) == len(one.samples)]:
        metrics = {name: m for name, m in task.summarise(whole, grading).items() if m.value == m.value}
    for name, text in task.official(graded, model_name or "model").items():
        write_whole(store.folder / name, text)
    counts, notes = _counts(work, grades), [NO_JUDGE] if task.judged and judge is None else []
    if missed := _missed(task, work):
        notes.append(missed)
    note = "; ".join(notes) or None
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    record = {
        "task": task.name,
        "model": model_name,
        "metrics": {name: dataclasses.asdict(metric) for name, metric in metrics.items()},
        "interval": f"95 percent, percentile bootstrap over examples, {options.resamples} resamples",
        "counts": counts,
        "seconds": rounded,
        "sampling": dataclasses.asdict(sampling) if task.kind == "generate" else None,
        "seed": options.seed,
        "judge": judge.name if judge and task.judged else None,
        "data": dict(task.provenance),
        "details": dict(task.details),
        "problem": problem,
        "note": note,
        "versions": versions(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    store.write_result(record)
    return TaskResult(task.name, metrics, counts, rounded, problem, note, record)


def answer_share(
    model: Model,
    task: Task,
    folder: Path | str,
    options: TaskOptions | None = None,
    *,
    share: Share,
    model_name: str = "",
    report: Report = lambda line: None,
) -> None:
    """A share of the answers that ``run_task`` makes in ``folder``: it finds them there, makes what is missing and grades.

    Several machines may do theirs at the same time. Raises UserError as ``run_task`` does.
    """
    options = options or TaskOptions()
    sampling, store = options.sampling(task.sampling), SampleStore(Path(folder), share)
    store.agree(_settings(task, model_name, sampling, options))
    _generate(model, task, _chosen(task, options), sampling, options, store, report, share)


def _chosen(task: Task, options: TaskOptions, examples: Sequence[Example] | None = None) -> Sequence[Example]:
    listed = list(task.examples() if examples is None else examples)
    _distinct(task.name, listed)
    return listed[: options.limit] if options.limit else listed


def _generate(
    model: Model,
    task: Task,
    examples: Sequence[Example],
    sampling: Sampling,
    options: TaskOptions,
    store: SampleStore,
    report: Report,
    share: Share = WHOLE,
) -> dict[Key, Sample]:
    made, wanted = store.samples(), _samples(task, sampling)
    # A batch is one draw, so a share is of whole batches.
    for start in share.of(range(0, len(examples), options.batch_size)):
        batch = examples[start : start + options.batch_size]
        fresh: list[Work] = []
        # What a killed run left of a batch differs from example to example; what is there is not made again.
        for (have, temperature), group in _groups(batch, made, wanted, sampling, options):
            if task.kind == "likelihood":
                fresh += _likelihoods(model, task, group)
                continue
            drawn = dataclasses.replace(sampling, temperature=temperature, samples=wanted - have)
            seed = _seed(options.seed, start, have)
            for one, talks in zip(group, _turns(model, task, group, drawn, seed), strict=True):
                fresh += [(one, Sample(one.id, have + n, *talk)) for n, talk in enumerate(talks)]
        if fresh:
            store.add_samples(fresh)
            made |= {(sample.example, sample.index): sample for _, sample in fresh}
            report(f"{task.name}: {min(start + options.batch_size, len(examples))} of {len(examples)} answered")
    return made


def _groups(
    batch: Sequence[Example], made: Mapping[Key, Sample], wanted: int, sampling: Sampling, options: TaskOptions
) -> Iterator[tuple[tuple[int, float], list[Example]]]:
    groups: dict[tuple[int, float], list[Example]] = {}
    for one in batch:
        have = next((n for n in range(wanted) if (one.id, n) not in made), wanted)
        own = one.temperature if options.temperature is None else None
        if have < wanted:
            groups.setdefault((have, sampling.temperature if own is None else own), []).append(one)
    yield from groups.items()


def _likelihoods(model: Model, task: Task, group: Sequence[Example]) -> list[Work]:
    pairs = [(one.prompt, task.continuation(one)) for one in group]
    reasons = [model.misfit(*pair) for pair in pairs]
    asked = [pair for pair, reason in zip(pairs, reasons, strict=True) if not reason]
    found = model.log_likelihood(asked) if asked else []
    _as_many(found, asked, "log_likelihood")
    given = iter(found)
    return [
        (one, Sample(one.id, 0, (), None if reason else next(given), reason))
        for one, reason in zip(group, reasons, strict=True)
    ]


Talk = tuple[tuple[Completion, ...], None, str]
"""The completions of a sample's turns, no likelihood, and why the last one is empty, as ``Sample`` takes them."""


def _turns(model: Model, task: Task, group: Sequence[Example], sampling: Sampling, seed: int) -> list[list[Talk]]:
    """The completions of all turns, for every example and sample."""
    first, reasons = _complete(model, [one.prompt for one in group], sampling, sampling.samples, seed)
    talks: list[list[tuple[Completion, ...]]] = [[(answer,) for answer in answers] for answers in first]
    why = [[reason] * sampling.samples for reason in reasons]
    while True:
        asked: list[tuple[int, int, Prompt]] = []
        for number, one in enumerate(group):
            for place, said in enumerate(talks[number]):
                if (prompt := task.follow_up(one, [turn.text for turn in said])) is not None:
                    asked.append((number, place, prompt))
        if not asked:
            return [
                [(turns, None, reason) for turns, reason in zip(*both, strict=True)]
                for both in zip(talks, why, strict=True)
            ]
        turn = len(talks[asked[0][0]][asked[0][1]])
        found, reasons = _complete(model, [prompt for *_, prompt in asked], sampling, 1, _seed(seed, turn, 0))
        for (number, place, _), (answer,), reason in zip(asked, found, reasons, strict=True):
            talks[number][place] = (*talks[number][place], answer)
            why[number][place] = why[number][place] or reason


def _complete(
    model: Model, prompts: Sequence[Prompt], sampling: Sampling, samples: int, seed: int
) -> tuple[list[list[Completion]], list[str]]:
    """The completions of every prompt, and why a prompt was not asked and has empty ones."""
    reasons = [model.misfit(prompt) for prompt in prompts]
    asked = [prompt for prompt, reason in zip(prompts, reasons, strict=True) if not reason]
    given = iter(_generated(model, asked, sampling, samples, seed) if asked else [])
    return [[Completion("", finished=False)] * samples if reason else next(given) for reason in reasons], reasons


def _generated(
    model: Model, prompts: Sequence[Prompt], sampling: Sampling, samples: int, seed: int
) -> list[list[Completion]]:
    found = model.generate(
        prompts,
        samples=samples,
        max_new_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        stop=list(sampling.stop),
        seed=seed,
    )
    _as_many(found, prompts, "generate")
    for answers in found:
        _as_many(answers, range(samples), "generate")
    return [[dataclasses.replace(one, text=cut(one.text, sampling.stop)) for one in answers] for answers in found]


def _grade(
    task: Task, work: Sequence[Work], grading: Grading, options: TaskOptions, store: SampleStore, report: Report
) -> tuple[dict[Key, Grade], str | None]:
    judge = grading.judge.name if grading.judge and task.judged else ""
    if task.judged and grading.judge is None:
        return {}, None
    if options.regrade:
        store.forget_grades()
    grades = store.grades(judge)
    left = [item for item in work if (item[1].example, item[1].index) not in grades]
    for start in range(0, len(left), GRADED_AT_ONCE):
        part, problem = left[start : start + GRADED_AT_ONCE], None
        given: Sequence[Grade | None]
        try:
            given = task.grade(part, grading)
        except Silent as error:
            given, problem = error.grades, str(error)
        pairs = [(sample, grade) for (_, sample), grade in zip(part, given, strict=True) if grade is not None]
        store.add_grades(pairs, judge)
        grades |= {(sample.example, sample.index): grade for sample, grade in pairs}
        if problem:
            return grades, problem
        report(f"{task.name}: {start + len(part)} of {len(left)} graded")
    return grades, None


def _assemble(
    examples: Sequence[Example], made: Mapping[Key, Sample], grades: Mapping[Key, Grade], samples: int
) -> list[Graded]:
    graded = []
    for one in examples:
        keys = [(one.id, n) for n in range(samples)]
        found = tuple(grades[key] for key in keys if key in grades)
        graded.append(Graded(one, tuple(made[key] for key in keys), found))
    return graded


def _samples(task: Task, sampling: Sampling) -> int:
    return 1 if task.kind == "likelihood" else sampling.samples


def _settings(task: Task, model: str, sampling: Sampling, options: TaskOptions) -> dict[str, Any]:
    drawn = {k: v for k, v in dataclasses.asdict(sampling).items() if k != "samples"}
    if options.temperature is None:
        drawn["temperature"] = f"{sampling.temperature}, or the question's own"
    # The same questions may lie elsewhere the next time.
    questions = {key: value for key, value in task.provenance.items() if key != "source"}
    base = {"task": task.name.partition("=")[0], "model": model, "data": questions}
    return base | ({"sampling": drawn, "seed": options.seed} if task.kind == "generate" else {})


def _counts(work: Sequence[Work], grades: Mapping[Key, Grade]) -> dict[str, int]:
    given = [grades.get((sample.example, sample.index)) for _, sample in work]
    turns = [turn for _, sample in work for turn in sample.turns]
    likelihoods = [sample.likelihood for _, sample in work if sample.likelihood]
    return {
        "examples": len({example.id for example, _ in work}),
        "samples": len(work),
        "graded": sum(grade is not None and grade.score is not None for grade in given),
        "ungraded": sum(grade is None or grade.score is None for grade in given),
        "unfinished": sum(not turn.finished for turn in turns),
        "empty": sum(not turn.text.strip() for turn in turns),
        "skipped": sum(bool(sample.skipped) for _, sample in work),
        "tokens": sum(turn.tokens for turn in turns) + sum(one.tokens for one in likelihoods),
    }


def _missed(task: Task, work: Sequence[Work]) -> str:
    """How many questions were not asked and what they count as; empty where all were."""
    skipped = {sample.example: sample.skipped for _, sample in work if sample.skipped}
    if not skipped:
        return ""
    count = len({sample.example for _, sample in work})
    as_what = "count as failures" if task.kind == "generate" else "count as wrong and in no mean of likelihoods"
    return f"{len(skipped)} of {count} questions could not be asked and {as_what}; the first: {next(iter(skipped.values()))}"


def _distinct(name: str, examples: Sequence[Example]) -> None:
    seen: set[str] = set()
    for one in examples:
        if one.id in seen:
            raise UserError(f"{name}: two questions are called {one.id!r}: their identities must differ")
        seen.add(one.id)
    if not examples:
        raise UserError(f"{name}: there are no questions")


def _as_many(found: Sequence[Any], asked: Sequence[Any], what: str) -> None:
    if len(found) != len(asked):
        raise RuntimeError(f"the model's {what} gave {len(found)} answers to {len(asked)}")


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "big") >> 1


def versions() -> dict[str, str]:
    """Of Python, this package and the packages that figures depend on, as far as they are installed."""
    found = {"python": platform.python_version(), "ebm_jax": ebm_jax.__version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
