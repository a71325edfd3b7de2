"""What responses are worth: one interface for reward models, verifiers, callables and sums of them, checked and remembered.

A chain keeps its target only if a reward is a function of prompt and response alone, whatever is scored beside them and
whenever it is asked. ``Scorer`` sees to that: a response is asked for once and remembered by its tokens, the first ones are
asked for twice in another order, and what is not finite, has the wrong shape or differs between two calls is refused by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np

from ebm_jax.decoders.account import Account
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Prompt

ASKED_TWICE = 8
TOLERANCE = 1e-3
"""Share of the size of rewards by which two calls may differ: rounding of another batch."""


class Response(NamedTuple):
    """What was written behind a prompt."""

    tokens: tuple[int, ...]
    """With the end, where it has one."""
    text: str
    """Without it."""
    complete: bool
    """Whether it ended by itself; else it was cut off."""


class Reward(Protocol):
    """The worth of responses: deterministic, and independent of what else is in the batch."""

    @property
    def name(self) -> str: ...

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> np.ndarray:
        """A reward for every response to its prompt, ``[N]``."""
        ...


@dataclass(frozen=True)
class CallableReward:
    """A Python function of (prompt, text, whether it is complete), asked of one response after the other."""

    function: Callable[[Prompt, str, bool], float]
    name: str = "callable"

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> np.ndarray:
        pairs = zip(prompts, responses, strict=True)
        return np.array([self.function(prompt, r.text, r.complete) for prompt, r in pairs], np.float64)


@dataclass(frozen=True)
class SumReward:
    """``sum_i weight_i R_i``."""

    parts: tuple[tuple[float, Reward], ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise UserError("a sum of rewards needs at least one of them")

    @property
    def name(self) -> str:
        return " + ".join(f"{weight:g} {part.name}" for weight, part in self.parts)

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> np.ndarray:
        return np.sum(
            [weight * np.asarray(part(prompts, responses), np.float64) for weight, part in self.parts], axis=0
        )


@dataclass(frozen=True)
class StepReward:
    """What a reward says of a response up to the end of every step of it: all of that together, or the least.

    A process reward (Uesato et al. 2022, Lightman et al. 2023) as a function of whole responses, which chains may be guided
    by: ``sum_k R(s_1 .. s_k)`` or ``min_k R(s_1 .. s_k)``. Beginnings are remembered, since suffixes that are drawn anew share
    theirs. A response without any step is asked for as it is.
    """

    reward: Reward
    separator: str
    """What stands between steps."""
    over: Literal["sum", "least"] = "sum"
    _known: dict[tuple[Prompt, str], float] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.separator:
            raise UserError("reward.steps is empty: it must be what stands between the steps of a response")
        if self.over not in ("sum", "least"):
            raise UserError(f"reward.over={self.over!r} is not one of sum, least")

    @property
    def name(self) -> str:
        return f"{self.over} over steps of {self.reward.name}"

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> np.ndarray:
        each = [beginnings(response.text, self.separator) or [response.text] for response in responses]
        keys = {(p, text): None for p, texts in zip(prompts, each, strict=True) for text in texts}
        if new := [key for key in keys if key not in self._known]:
            found = np.asarray(
                self.reward([p for p, _ in new], [Response((), text, True) for _, text in new]), np.float64
            )
            self._known.update(zip(new, found.tolist(), strict=True))
        of_steps = [[self._known[p, text] for text in texts] for p, texts in zip(prompts, each, strict=True)]
        return np.array([sum(values) if self.over == "sum" else min(values) for values in of_steps], np.float64)


def beginnings(text: str, separator: str) -> list[str]:
    """A text up to the end of its first step, of its second, and so on; what is empty between separators is no step."""
    ends, at = [], 0
    for part in text.split(separator):
        at += len(part)
        if part:
            ends.append(at)
        at += len(separator)
    return [text[:end] for end in ends]


@dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """How rewards are brought to a scale, which is the same as another ``inv_temp``: it is explicit, and logged."""

    shift: float = 0.0
    scale: float = 1.0
    """``(R - shift) / scale``."""
    least: float | None = None
    most: float | None = None
    """Bounds that rewards are cut to, after that."""
    cut_off: float = 0.0
    """Added to the reward of a response that was cut off before its end."""

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise UserError(f"reward.scale={self.scale} must be positive")
        if self.least is not None and self.most is not None and self.least >= self.most:
            raise UserError(f"reward.least={self.least} must lie below reward.most={self.most}")


@dataclass
class Scorer:
    """A reward as decoders ask it: scaled, remembered, counted, and checked.

    Raises:
      UserError: the reward raised, or gave NaN, infinity, the wrong number of values, or another value when asked again.
    """

    reward: Reward
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    calls: int = 0
    """Responses that the reward was asked for; those that are asked for twice as a check, and what is remembered, do not
    count."""
    tokens: int = 0
    """Tokens of these responses."""
    _known: dict[tuple[int, tuple[int, ...]], float] = field(default_factory=dict)
    _checked: int = 0

    def __call__(self, numbers: Sequence[int], prompts: Sequence[Prompt], responses: Sequence[Response]) -> np.ndarray:
        """Scaled rewards ``[N]``, float64; ``numbers`` are those of the prompts."""
        keys = [(number, response.tokens) for number, response in zip(numbers, responses, strict=True)]
        if new := self.unknown(numbers, responses):
            asked = [prompts[n] for n in new], [responses[n] for n in new]
            found = self._ask(*asked)
            self._again(*asked, found)
            self.calls += len(new)
            self.tokens += sum(len(responses[n].tokens) for n in new)
            self._known |= {keys[n]: float(value) for n, value in zip(new, found, strict=True)}
        raw, s = np.array([self._known[key] for key in keys], np.float64), self.scale
        scaled = (raw - s.shift) / s.scale
        if s.least is not None or s.most is not None:
            scaled = np.clip(scaled, s.least, s.most)
        return scaled + s.cut_off * np.array([not response.complete for response in responses], np.float64)

    def counted(
        self,
        account: Account,
        number_X: np.ndarray,
        prompts: Sequence[Prompt],
        responses: Sequence[Response],
        rows: np.ndarray | None = None,
    ) -> np.ndarray:
        """Scaled rewards of all rows or of some, with their cost in ``account``; ``number`` are the prompts' of all rows."""
        some: list[int] = (np.arange(len(responses)) if rows is None else rows).tolist()
        numbers, asked = [int(number_X[row]) for row in some], [responses[row] for row in some]
        for place in self.unknown(numbers, asked):
            account.add("reward_calls", np.array([numbers[place]]), 1)
            account.add("reward_tokens", np.array([numbers[place]]), len(asked[place].tokens))
        return self(numbers, [prompts[row] for row in some], asked) if some else np.zeros(0)

    def unknown(self, numbers: Sequence[int], responses: Sequence[Response]) -> list[int]:
        """Places of the responses that the reward would be asked for: those that are not remembered, each once."""
        keys = [(number, response.tokens) for number, response in zip(numbers, responses, strict=True)]
        return sorted({key: place for place, key in reversed(list(enumerate(keys))) if key not in self._known}.values())

    def _ask(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> np.ndarray:
        name = self.reward.name
        try:
            found = np.asarray(self.reward(prompts, responses), np.float64)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"the reward {name} failed: {type(error).__name__}: {error}") from error
        if found.shape != (len(responses),):
            raise UserError(
                f"the reward {name} gave an array of shape {found.shape} for {len(responses)} responses: one number for each is"
                " expected"
            )
        if not np.isfinite(found).all():
            bad = int(np.flatnonzero(~np.isfinite(found))[0])
            raise UserError(
                f"the reward {name} gave {found[bad]} for {responses[bad].text[:80]!r}: rewards must be finite"
            )
        return found

    def _again(self, prompts: Sequence[Prompt], responses: Sequence[Response], found: np.ndarray) -> None:
        """Asks for the first responses of all once more, in another order."""
        count = min(ASKED_TWICE - self._checked, len(responses))
        if count <= 0:
            return
        self._checked += count
        order = list(range(count))[::-1]
        again = self._ask([prompts[n] for n in order], [responses[n] for n in order])
        for n, value in zip(order, again, strict=True):
            if abs(value - found[n]) > TOLERANCE * max(1.0, abs(found[n])):
                raise UserError(
                    f"the reward {self.reward.name} gave {found[n]:g} and then {value:g} for {responses[n].text[:80]!r}: it"
                    " must depend on nothing but prompt and response"
                )
