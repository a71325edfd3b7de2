"""Sampled continuations as texts, and their worth: by how the row goes on, or by what its examples are checked against."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.errors import UserError
from ebm_jax.grading.rewards import Graded, Grader, RewardConfig

WHOLE = "starts"


class Place(NamedTuple):
    """One block of a batch, as its grader knows it."""

    row: int
    block: int
    reference: str
    check: str


class AnswerGrader:
    """Grades the continuations of a split's rows, on the host.

    Raises:
      UserError: what the reward needs is missing: packages, a sandbox, checks, answers.
    """

    def __init__(self, reward: RewardConfig, anchors: AnchorConfig, data: Any, split: str) -> None:
        self._anchors, self._tokenizer, self._end = anchors, data.tokenizer, data.tokenizer.eos_id
        self._checks: Sequence[str] | None = data.checks(split) if data.config.examples.check else None
        if reward.kind == "tests" and self._checks is None:
            raise UserError(
                "reward.kind=tests runs every example's unit tests: name their field in data.examples.check, such as"
                ' "{unit_tests}"'
            )
        if anchors.places == WHOLE and data.config.source_kind != "sft":
            raise UserError(
                f"anchors.places=starts asks for answers, and data.source={data.config.source!r} has none: use sft:FILES,"
                " or another value for continuations of plain text"
            )
        self._grader, self._stop = Grader(reward), reward.stop

    def __call__(
        self, batch: Mapping[str, np.ndarray], made: np.ndarray, anchor: np.ndarray, there: np.ndarray
    ) -> tuple[np.ndarray, Graded]:
        """Rewards ``[B, G, S]`` of continuations ``[B, G, S, T]`` of the blocks that are there, ``[B, S]``; others have 0."""
        places = [self.place(batch, int(b), int(s), int(anchor[b, s])) for b, s in np.argwhere(there > 0)]
        samples = made.shape[1]
        texts = [self.text(made[p.row, g, p.block]) for p in places for g in range(samples)]
        each = lambda values: [value for value in values for _ in range(samples)]
        graded = self._grader(texts, each([p.reference for p in places]), each([p.check for p in places]))
        reward = np.zeros(made.shape[:-1], np.float32)
        for place, scores in zip(places, graded.scores.reshape(-1, samples), strict=True):
            reward[place.row, :, place.block] = scores
        return reward, graded

    def place(self, batch: Mapping[str, np.ndarray], row: int, block: int, anchor: int) -> Place:
        """What the block is compared with."""
        inputs, segments, weights = batch["inputs"][row], batch["segments"][row], batch["weights"][row]
        if self._anchors.places == WHOLE:
            # The token before the anchor predicts the answer's first; the answer ends with what is scored.
            inside = np.flatnonzero((segments == segments[anchor - 1]) & (np.arange(len(inputs)) >= anchor - 1))
            answer = batch["targets"][row][inside][weights[inside] > 0]
        else:
            answer = inputs[anchor : anchor + self._anchors.steps]
        check = ""
        if self._checks is not None and "examples" in batch:
            check = self._checks[int(batch["examples"][row, segments[anchor - 1] - 1])]
        return Place(row, block, self._until_stop(self.text(answer)), check)

    def _until_stop(self, text: str) -> str:
        """A text's own continuation ends where a completion does, so that the two can be equal; answers stay whole."""
        if self._anchors.places == WHOLE:
            return text
        return text[: min((at for stop in self._stop if (at := text.find(stop)) >= 0), default=len(text))]

    def text(self, tokens: np.ndarray) -> str:
        """What tokens say up to the one that ends them."""
        ends: Any = np.flatnonzero(tokens == self._end) if self._end is not None else ()
        return self._tokenizer.decode(tokens[: ends[0]] if len(ends) else tokens)
