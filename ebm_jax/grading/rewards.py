"""Rewards that can be verified: what completions are worth by their reference text or by their unit tests.

Plain functions of texts, on the host. A completion that cannot be graded is worth 0 and is counted by the reason; what a model
wrote never raises.
"""

import math
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from textwrap import dedent
from typing import Any, ClassVar, Literal

import numpy as np

from ebm_jax.errors import UserError
from ebm_jax.grading import maths_process
from ebm_jax.grading.answers import final_answer, marked_number, maths_answer
from ebm_jax.grading.code_blocks import extract_code
from ebm_jax.grading.maths import equivalent
from ebm_jax.grading.sandbox import Limits, check_calls
from ebm_jax.grading.translation import SentenceBleu, hypothesis, primary
from ebm_jax.grading.unit_tests import UnitTests, read_tests
from ebm_jax.languages import LANGUAGES

KINDS = ("bleu", "exact", "maths", "tests")
_START_SECONDS = 60.0
_MOST_WORKERS = 8


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """What a completion is graded by."""

    kind: Literal["bleu", "exact", "maths", "tests"]
    """``bleu``: sacreBLEU of the one text against its reference, from 0 to 1. ``exact``: the reference's text. ``maths``: the
    reference's final answer. ``tests``: a program that passes the check's unit tests."""
    language: str = "en"
    """Of the references of ``bleu``, a code such as ``en`` or ``zh``: words are cut accordingly. ``auto`` goes by the script of
    every reference."""
    first_line: bool = False
    """Grades the first line that says something alone, as a translation: without a language's name in front and without
    quotation marks around it."""
    stop: tuple[str, ...] = ()
    """A completion ends before the first of these."""
    partial: bool = False
    """``tests`` gives the share of the tests that hold instead of all or nothing."""
    seconds: float = 3.0
    """Wall-clock limit of one program, or of one comparison of answers."""
    workers: int | None = None
    """Programs or comparisons at a time; none takes as many as there are processors, 8 at most."""
    unsafe: bool = False
    """Runs programs without a sandbox where the system has none; see docs/sandbox.md."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"reward.kind={self.kind!r} is not one of {', '.join(KINDS)}")
        if self.language != "auto" and not re.fullmatch(r"[a-z]{2,3}([-_]\w+)?", self.language):
            raise UserError(f"reward.language={self.language!r} is no language: give a code such as en or zh, or auto")
        if self.first_line and self.kind in ("maths", "tests"):
            raise UserError(f"reward.first_line is for texts: reward.kind={self.kind} reads the whole completion")
        if self.partial and self.kind != "tests":
            raise UserError(f"reward.partial counts unit tests: reward.kind={self.kind} has none")
        if "" in self.stop:
            raise UserError("reward.stop holds an empty text, at which every completion would end: leave it out")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UserError(f"reward.seconds={self.seconds} must be a positive number")
        if self.workers is not None and self.workers < 1:
            raise UserError(f"reward.workers={self.workers} must be at least 1, or none")


@dataclass(frozen=True, eq=False)
class Graded:
    """What a batch of completions is worth."""

    scores: np.ndarray
    """float32, one for each completion, from 0 to 1."""
    reasons: tuple[str, ...]
    """Why a completion could not be graded and has 0; empty where it could."""
    failures: dict[str, int]
    """Completions by reason: every reason that the kind of reward knows, the same keys for every batch."""
    error: str = ""
    """What the grader itself said where it failed, for a person to read."""

    def metrics(self) -> dict[str, float]:
        """Figures to log: ``reward``, ``reward_full`` (share with 1), ``reward_failures/REASON`` (shares)."""
        number = max(len(self.scores), 1)
        shares = {f"reward_failures/{reason}": count / number for reason, count in self.failures.items()}
        return {
            "reward": float(self.scores.sum()) / number,
            "reward_full": float((self.scores >= 1).sum()) / number,
            **shares,
        }


@dataclass(frozen=True)
class _Verdict:
    score: float
    reason: str = ""
    error: str = ""


Job = tuple[str, Any]
"""What is graded of a completion, and by what; equal jobs have equal verdicts."""


class Grader:
    """Grades completions as a config says; those that come to the same are graded once.

    Raises:
      UserError: what the reward needs is missing: a package, or a system on which programs can be kept apart.
    """

    def __init__(self, config: RewardConfig) -> None:
        self.config = config
        rules: dict[str, type[_Rule]] = {"bleu": _Bleu, "exact": _Exact, "maths": _Maths, "tests": _Tests}
        self._rule = rules[config.kind](config)
        code = "" if config.language == "auto" else primary(config.language)
        # A pattern of the names that a translation may have in front.
        self._names = LANGUAGES.get(code, "|".join(LANGUAGES.values()))

    def __call__(
        self,
        completions: Sequence[str],
        references: Sequence[str] | None = None,
        checks: Sequence[str] | None = None,
    ) -> Graded:
        """The worth of every completion: by its check where the kind is ``tests``, else by its reference.

        Raises:
          UserError: references or checks are missing, or are not as many as completions.
        """
        name, truths = ("checks", checks) if self.config.kind == "tests" else ("references", references)
        if truths is None:
            raise UserError(f"reward.kind={self.config.kind} grades by {name}, and there are none")
        if len(truths) != len(completions):
            raise UserError(f"{len(completions)} completions and {len(truths)} {name}: there must be one for each")
        jobs = [self._job(text, truth) for text, truth in zip(completions, truths, strict=True)]
        once = list(dict.fromkeys(job for job in jobs if not isinstance(job, _Verdict)))
        found = dict(zip(once, self._run(once), strict=True))
        verdicts = [job if isinstance(job, _Verdict) else found[job] for job in jobs]
        counts = Counter(verdict.reason for verdict in verdicts)
        return Graded(
            scores=np.array([verdict.score for verdict in verdicts], np.float32),
            reasons=tuple(verdict.reason for verdict in verdicts),
            failures={reason: counts[reason] for reason in ("empty", *self._rule.reasons)},
            error=next((verdict.error for verdict in verdicts if verdict.error), ""),
        )

    def _job(self, text: str, truth: str) -> Job | _Verdict:
        """What is to be done for a completion, or its verdict where nothing is."""
        ends = [at for stop in self.config.stop if (at := text.find(stop)) >= 0]
        text = text[: min(ends)] if ends else text
        if self.config.first_line:
            # Quotation marks that the reference has too belong to the text.
            text = hypothesis(text, self._names, source=truth.strip())
        return self._rule.job(text, truth) if text.strip() else _Verdict(0.0, "empty")

    def _run(self, jobs: list[Job]) -> list[_Verdict]:
        if self._rule.workers == 1 or len(jobs) < 2:
            return [self._rule.verdict(*job) for job in jobs]
        with ThreadPoolExecutor(self._rule.workers) as pool:
            return list(pool.map(lambda job: self._rule.verdict(*job), jobs))


class _Rule:
    """One kind of reward."""

    reasons: ClassVar[tuple[str, ...]] = ()
    """Why a completion that says something may have no grade."""
    workers = 1

    def __init__(self, config: RewardConfig) -> None:
        self.config = config

    def job(self, text: str, truth: str) -> Job | _Verdict:
        """What is compared of a completion and its reference, or run of a program and its check."""
        return text.strip(), truth.strip()

    def verdict(self, text: str, truth: Any) -> _Verdict:
        """Does a job."""
        raise NotImplementedError


class _Bleu(_Rule):
    def __init__(self, config: RewardConfig) -> None:
        super().__init__(config)
        self._bleu = SentenceBleu(None if config.language == "auto" else config.language)

    def verdict(self, text: str, truth: str) -> _Verdict:
        return _Verdict(min(self._bleu(text, truth) / 100, 1.0))


class _Exact(_Rule):
    def verdict(self, text: str, truth: str) -> _Verdict:
        return _Verdict(float(text == truth))


class _Maths(_Rule):
    reasons = ("no_answer", "timeout", "grader")

    def __init__(self, config: RewardConfig) -> None:
        super().__init__(config)
        self.workers = min(_workers(config), maths_process.KEPT)
        if not equivalent("2x", "x+x", seconds=_START_SECONDS):
            raise UserError("reward.kind=maths: math-verify does not find x+x equal to 2x: is it installed whole?")

    def job(self, text: str, truth: str) -> Job | _Verdict:
        answer = final_answer(text)
        return (answer, marked_number(truth) or maths_answer(truth) or truth) if answer else _Verdict(0.0, "no_answer")

    def verdict(self, text: str, truth: str) -> _Verdict:
        began = time.monotonic()
        try:
            equal = equivalent(text, truth, seconds=self.config.seconds)
        except Exception as error:  # a batch is not lost to one of its answers
            return _failed(error)
        late = not equal and time.monotonic() - began >= self.config.seconds
        return _Verdict(float(equal), "timeout" if late else "")


class _Tests(_Rule):
    reasons = ("timeout", "memory", "processes", "output", "crashed", "tests", "grader")

    def __init__(self, config: RewardConfig) -> None:
        super().__init__(config)
        self.workers = _workers(config)
        try:
            limits = Limits(seconds=_START_SECONDS)
            tried = check_calls("def f():\n    return 1", "assert f() == 1", limits=limits, unsafe=config.unsafe)
        except UserError as error:
            raise UserError(f"reward.kind=tests runs programs: {error} (here: reward.unsafe=true)") from error
        if not tried.passed:
            raise UserError(f"the sandbox fails a program that is right ({tried.reason}: {tried.detail})")

    def job(self, text: str, truth: str) -> Job | _Verdict:
        tests = read_tests(truth, count=self.config.partial)
        # Where prompt and program are joined by a space, the program's first line begins with it.
        return _Verdict(0.0, "tests") if tests is None else (dedent(extract_code(text)).lstrip(), tests)

    def verdict(self, text: str, truth: UnitTests) -> _Verdict:
        limits = Limits(seconds=self.config.seconds)
        try:
            outcome = check_calls(text, truth.source, limits=limits, unsafe=self.config.unsafe)
        except Exception as error:  # the sandbox itself: the sample is worth nothing, training goes on
            return _failed(error)
        return _Verdict(truth.share(outcome), outcome.reason if outcome.reason in self.reasons else "")


def _failed(error: Exception) -> _Verdict:
    return _Verdict(0.0, "grader", f"{type(error).__name__}: {error}")


def _workers(config: RewardConfig) -> int:
    return config.workers or min(os.cpu_count() or 1, _MOST_WORKERS)
