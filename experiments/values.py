"""Fits a value head for controlled decoding: what going on with a token is worth, by the rewards of a model's own responses.

usage: python -m experiments.values CONFIG out=FILE.npz [samples=8] [held_out=0.2] [values.KEY=...] [key=value ...]

CONFIG is a study as experiments.decode takes it; its prompts should be others than those that it is run on (prompts.skip=).
Draws plain samples of them, asks the study's reward, brought to the study's scale, and fits Q to the samples of most prompts.
Their mean reward is taken off first: Q begins at 0, and no law changes by a constant. What is printed is the mean of (Q - R)^2
over tokens, beside that of Q = 0: a head that is not below it on the prompts that were held out has learned nothing. No head
gets to 0, since responses that begin alike end with different rewards. A method of kind controlled takes the file as its
head, and its inv_temp has the units of a chain's target.inv_temp.

  values.target=bellman          fits Q to what it says a token later itself, and not to rewards of whole responses
  values.steps=2000  values.rows=64  values.learning_rate=3e-4  values.seed=1
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ebm_jax import cli
from ebm_jax.decoders.guided import ValueHead
from ebm_jax.decoders.rewards import Response
from ebm_jax.decoders.values import ValueConfig, fit_head, mean_error, save_head
from ebm_jax.decoding_study import DecodingStudy, PlainSamples, plain_samples
from ebm_jax.errors import UserError
from ebm_jax.language_model import LanguageModel
from ebm_jax.overrides import override
from ebm_jax.reporting.markdown import markdown_table

Rows = tuple[list[list[int]], list[Response], np.ndarray]
"""Tokens of prompts, responses to them, and rewards: one of each for every response."""


@dataclass(frozen=True, kw_only=True)
class ValuesOptions:
    """How much is drawn, and how a head is fitted to it."""

    out: Path
    samples: int = 8
    held_out: float = 0.2
    """Share of the prompts that the head is not fitted to."""
    values: ValueConfig = field(default_factory=ValueConfig)

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise UserError(f"held_out={self.held_out} must lie between 0 and 1: it is a share")


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("out", "samples", "held_out"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1 or "out" not in parts.options:
        raise UserError("a config and out= are expected: python -m experiments.values CONFIG out=FILE [key=value ...]")
    of_head = [one for one in parts.overrides if one.startswith("values.")]
    of_study = [one for one in parts.overrides if one not in of_head]
    study = override(cli.load_config(parts.positionals[0], DecodingStudy), of_study)
    given = [f"{key}={value}" for key, value in parts.options.items()]
    options = override(ValuesOptions(out=Path(parts.options["out"])), [*given, *of_head])
    drawn = plain_samples(study, options.samples)
    held_P = _held_out(len(drawn.prompts), options)
    rewards = drawn.rewards_PxN
    fitted, tested = (_rows(drawn, of_P, rewards[~held_P].mean()) for of_P in (~held_P, held_P))
    print(
        f"{rewards.size} responses to {len(held_P)} prompts, {held_P.sum()} of these held out; rewards {rewards.mean():.3f} +-"
        f" {rewards.std():.3f}\n"
    )
    head, _ = fit_head(options.values, drawn.model, *fitted)
    errors = [
        [name, *(f"{error:.4f}" for error in _errors(head, drawn.model, rows, options.values.rows))]
        for name, rows in (("fitted to", fitted), ("held out", tested))
    ]
    print(markdown_table(["(Q - R)^2", "Q = 0", "the head"], errors))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_head(options.out, head)
    print(f"\nwritten to {options.out}: the head of a method of kind controlled")
    return 0


def _held_out(prompts: int, options: ValuesOptions) -> np.ndarray:
    """Which prompts are held out, ``[P]``: at least one, and not all."""
    if prompts < 2:
        raise UserError("there is one prompt, and some are held out: give at least two (prompts.count=)")
    count = min(prompts - 1, max(1, round(options.held_out * prompts)))
    return np.isin(np.arange(prompts), np.random.default_rng(options.values.seed).permutation(prompts)[:count])


def _rows(drawn: PlainSamples, of_P: np.ndarray, less: float) -> Rows:
    """The responses to some of the prompts, with their rewards less a constant."""
    numbers = np.flatnonzero(of_P)
    responses = [response for n in numbers for response in drawn.responses[n]]
    tokens = [drawn.model.encode(drawn.prompts[n]) for n in numbers for _ in drawn.responses[n]]
    return tokens, responses, drawn.rewards_PxN[numbers].reshape(-1) - less


def _errors(head: ValueHead, model: LanguageModel, rows: Rows, at_once: int) -> tuple[float, float]:
    """The mean of ``(Q - R)^2`` over tokens: of Q = 0 and of a head."""
    prompts, responses, rewards = rows
    nothing = float(np.average(rewards**2, weights=[len(response.tokens) for response in responses]))
    return nothing, mean_error(head, model, prompts, responses, rewards, at_once)


if __name__ == "__main__":
    sys.exit(cli.main(main))
