"""Decoding of many prompts: in batches of like length, each on disk as soon as it is done: a rerun goes on from there."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ebm_jax import rng
from ebm_jax.decoders.account import Account
from ebm_jax.decoders.calibration import effective_samples
from ebm_jax.decoders.job import Decoded, Job, Method, engine_for
from ebm_jax.decoders.moves import Step
from ebm_jax.decoders.rewards import Response, Reward, ScaleConfig, Scorer
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Prompt
from ebm_jax.evals.tasks.samples import write_whole
from ebm_jax.language_model import LanguageModel
from ebm_jax.serialize import to_dict
from ebm_jax.share import WHOLE, Share, files_of_shares

SAMPLES, RECORD = "samples.jsonl", "decode.json"


@dataclass(frozen=True)
class Sampled:
    """What was decoded of one prompt."""

    number: int
    responses: tuple[Response, ...]
    rewards: tuple[float, ...]
    """Scaled; zeros where the method asks for none."""
    account: dict[str, int]
    log: dict[str, Any] = field(default_factory=dict)
    """Of a chain: how many moves were accepted of those from every cut, the reward after every step, and how many independent
    draws these are worth."""


@dataclass(frozen=True)
class Output:
    """The prompts in their order; of a share, those that somebody has decoded by now."""

    samples: tuple[Sampled, ...]
    seconds: float
    """Of what this call decoded."""

    def account(self) -> dict[str, float]:
        """Means over prompts."""
        names = self.samples[0].account if self.samples else {}
        return {name: float(np.mean([sample.account[name] for sample in self.samples])) for name in names}


def decode(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    method: Method,
    *,
    max_new_tokens: int,
    reward: Reward | None = None,
    cheap: Reward | None = None,
    scale: ScaleConfig | None = None,
    seed: int = 0,
    at_once: int = 16,
    draft: LanguageModel | None = None,
    stop: Sequence[str] = (),
    folder: Path | str | None = None,
    share: Share = WHOLE,
    report: Callable[[str], None] = lambda line: None,
) -> Output:
    """Responses to prompts by a method, with what they cost.

    What comes out is a function of (seed, prompt number, method) alone: neither ``at_once``, the prompts that run side by side,
    nor an interruption matters.

    Args:
      cheap: a cheaper reward, for methods that ask one first.
      draft: a small model of the same tokens that writes ahead of the model, at no change of law.
      stop: strings that end a text: rewards see it up to the first of them, and so does what comes back.
      folder: where samples are kept; those that are there are not made again.
      share: which of the prompts to decode, where several machines decode them into one folder.

    Raises:
      UserError: there is nothing to decode, a prompt does not fit, the reward fails, or the folder holds another decoding.
    """
    if not prompts:
        raise UserError("there are no prompts to decode: give at least one")
    store = _Store(
        Path(folder) if folder else None,
        _record(model, prompts, method, reward, cheap, scale, draft, stop, max_new_tokens, seed),
        share,
    )
    key, began = rng.root_key(seed), time.monotonic()
    engine = engine_for(method, model, max_new_tokens, rng.stream(key, "tokens"), draft, stop)
    scorers = [None if one is None else Scorer(one, scale or ScaleConfig()) for one in (reward, cheap)]
    tokens = [model.encode(prompt) for prompt in prompts]
    engine.check(tokens, range(len(prompts)))
    ours = share.of(sorted(range(len(prompts)), key=lambda n: len(tokens[n])))
    todo = [n for n in ours if n not in store.known]
    for begin in range(0, len(todo), at_once):
        numbers = todo[begin : begin + at_once]
        account = Account.of(len(prompts))
        # A batch is filled with its first prompt, so that all have one shape; what is drawn for it again is not counted.
        filled = [*numbers, *[numbers[0]] * (at_once - len(numbers))] if len(todo) > at_once else numbers
        job = Job(
            engine=engine,
            scorer=scorers[0],
            prompts=[prompts[n] for n in filled],
            tokens=[tokens[n] for n in filled],
            numbers=[n if place < len(numbers) else len(prompts) for place, n in enumerate(filled)],
            key=key,
            account=Account.of(len(prompts) + 1),
            cheap=scorers[1],
        )
        found = method.decode(job)
        account = job.account
        store.add(_told(found, numbers, len(filled), account))
        report(f"decoded {len(store.known)} of {len(prompts)} prompts")
    return Output(tuple(store.known[n] for n in sorted(store.known)), time.monotonic() - began)


def _told(found: Decoded, numbers: Sequence[int], prompts: int, account: Account) -> Iterator[Sampled]:
    each = len(found.responses) // prompts
    for place, number in enumerate(numbers):
        rows = slice(place * each, (place + 1) * each)
        spent = {name: int(values[number]) for name, values in vars(account).items()}
        log = {name: _of(value, place, prompts) for name, value in found.log.items() if name != "trace"}
        if trace := found.log.get("trace"):
            log |= chain_log(trace, place, prompts)
        yield Sampled(number, tuple(found.responses[rows]), tuple(map(float, found.rewards[rows])), spent, log)


def chain_log(trace: Sequence[Step], place: int, prompts: int) -> dict[str, Any]:
    """Of a prompt's chains: moves tried and accepted by cut, and the rewards after every step."""
    each = len(trace[0].cut_X) // prompts
    rows = slice(place * each, (place + 1) * each)
    tried: dict[int, list[int]] = {}
    for step in trace:
        for cut, drawn, accepted in zip(step.cut_X[rows], step.drawn_X[rows], step.accepted_X[rows], strict=True):
            if drawn:
                count = tried.setdefault(int(cut), [0, 0])
                count[0] += 1
                count[1] += int(accepted)
    return {
        "by_cut": {str(cut): tried[cut] for cut in sorted(tried)},
        "rewards": [[float(x) for x in step.reward_X[rows]] for step in trace],
        "effective": effective_samples(np.array([step.reward_X[rows] for step in trace])),
    }


def _of(value: Any, place: int, prompts: int) -> Any:
    """A prompt's part of what a method logs by prompt."""
    if isinstance(value, np.ndarray) and value.shape[:1] == (prompts,):
        return value[place].tolist()
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return [_of(one, place, prompts) for one in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def _record(model, prompts, method, reward, cheap, scale, draft, stop, max_new_tokens, seed) -> dict[str, Any]:
    asked = json.dumps([prompt.as_json() for prompt in prompts], ensure_ascii=False)
    return {
        "model": model.name,
        "step": model.step,
        "method": to_dict(method),
        "reward": None if reward is None else reward.name,
        "cheap": None if cheap is None else cheap.name,
        "scale": to_dict(scale or ScaleConfig()),
        "draft": None if draft is None else draft.name,
        "stop": list(stop),
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "prompts": hashlib.sha256(asked.encode()).hexdigest()[:32],
    }


class _Store:
    """Samples on disk, or in memory alone."""

    def __init__(self, folder: Path | None, record: dict[str, Any], share: Share) -> None:
        self.known: dict[int, Sampled] = {}
        self._file = None if folder is None else folder / share.file(SAMPLES)
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / RECORD).is_file():
            theirs = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            record = json.loads(json.dumps(record))
            if differing := [name for name in record if theirs.get(name) != record[name]]:
                name = differing[0]
                raise UserError(
                    f"{folder} holds a decoding with {name}={theirs.get(name)!r}, and this one has {record[name]!r}: choose"
                    " another folder"
                )
        else:
            write_whole(folder / RECORD, json.dumps(record, indent=1) + "\n")
        for line in self._lines(files_of_shares(folder, SAMPLES)):
            self.known[line["number"]] = Sampled(
                line["number"],
                tuple(Response(tuple(r["tokens"]), r["text"], r["complete"]) for r in line["responses"]),
                tuple(line["rewards"]),
                line["account"],
                line["log"],
            )

    def _lines(self, files: Sequence[Path]) -> Iterator[dict[str, Any]]:
        """Whole lines: a last one without its end was cut off, or is being written by another share, and is left out."""
        for file in files:
            text = file.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            if whole != text and file == self._file:
                write_whole(file, whole)
            yield from map(json.loads, whole.splitlines())

    def add(self, samples: Iterator[Sampled]) -> None:
        lines = []
        for one in samples:
            self.known[one.number] = one
            responses = [response._asdict() for response in one.responses]
            lines.append(json.dumps(vars(one) | {"responses": responses}, ensure_ascii=False) + "\n")
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.writelines(lines)
