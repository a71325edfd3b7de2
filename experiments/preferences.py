"""Says how often a reward model agrees with people's choices, beside what length alone would decide.

usage: python -m experiments.preferences RUN_DIR [key=value ...] [checkpoint=STEP]
       python -m experiments.preferences MODEL source=pairs:PATH [key=value ...] [out=FOLDER] [dtype=bfloat16]

  split=validation         train, validation or test           batch_size=32   texts scored at once
  source=pairs:PATH        other pairs, read whole             checkpoint=STEP   a checkpoint other than the newest

MODEL is a published ...ForSequenceClassification with one label: a folder, OWNER/NAME or gs://BUCKET/FOLDER. Prints a table of
each file of pairs and writes preferences.json into the run, or into out= (by default runs/preferences/NAME).
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from ebm_jax import cli
from ebm_jax.errors import UserError
from ebm_jax.evals.preferences import preference_record
from ebm_jax.overrides import override
from ebm_jax.precision import Precision
from ebm_jax.records import RUN
from ebm_jax.reward import open_reward
from ebm_jax.training.record import write_json


@dataclass(frozen=True, kw_only=True)
class PreferenceOptions:
    """What to look at."""

    split: str = "validation"
    source: str | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size={self.batch_size} must be at least 1")


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("checkpoint", "out", "dtype"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1:
        raise UserError("one reward model is expected: python -m experiments.preferences RUN_DIR [key=value ...]")
    name, options = parts.positionals[0], override(PreferenceOptions(), parts.overrides)
    checkpoint, is_run = parts.options.get("checkpoint"), (Path(name).expanduser() / RUN).is_file()
    if checkpoint is not None and not checkpoint.isdigit():
        raise UserError(f"checkpoint={checkpoint!r} is not a step number")
    if not is_run and options.source is None:
        raise UserError(f"{name} is no run with pairs of its own: add source=pairs:PATH")
    kind = parts.options.get("dtype", "float32")
    reward = open_reward(
        name,
        step=int(checkpoint) if checkpoint else None,
        precision=Precision(param=kind, compute=kind),
        rows=options.batch_size,
    )
    data, split = reward.data, options.split
    if options.source is not None:
        data, split = data.evaluation_of(options.source), "test"
    record = preference_record(reward.of_tokens, data, reward.tokenizer, split=split)
    record = {"name": reward.name, "step": reward.step} | record
    default = name if is_run else Path("runs/preferences") / Path(name).name
    write_json(Path(parts.options.get("out", default)) / "preferences.json", record)
    print(table(record))
    return 0


def table(record: dict) -> str:
    """The record's figures for a terminal."""
    span = lambda figures, name: "{:.3f} [{:.3f}, {:.3f}]".format(figures[name], *figures[f"{name}_interval"])
    columns = ("accuracy", "longer", "shorter", "gain")
    width = max(len(name) for name in record["files"])
    at = "" if record["step"] is None else f" at step {record['step']}"
    lines = [f"{record['name']}{at}: {record['source']}, {record['split']}"]
    lines.append(f"  {'':<{width}}  pairs  " + "  ".join(f"{name:<20}" for name in columns).rstrip())
    for name, figures in record["files"].items():
        shown = "  ".join(f"{span(figures, column):<20}" for column in columns).rstrip()
        lines.append(f"  {name:<{width}}  {figures['pairs']:>5}  {shown}")
    lines.append(f"  {record['dropped']} pairs too long, {record['cut']} cut; left out: {record['left_out'] or 'none'}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(cli.main(main))
