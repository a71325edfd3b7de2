"""Fine-tunes a model in several ways and sets them side by side.

usage: python -m experiments.finetune CONFIG [workdir=FOLDER] [only=METHOD,...] [seeds=0,1,2] [key=value ...]

CONFIG is a comparison (configs/ebft/stories.py): every method is trained with every seed in WORKDIR/METHOD/seed=N, measured
beside the model that all begin with, and WORKDIR/report.md is written. What is there already is not made again. An ordinary
config (configs/ebft/smoke.py) is trained alone. key=value changes the config of every method, METHOD.key=value of one.
"""

import dataclasses
import sys
from pathlib import Path

from ebm_jax import cli
from ebm_jax.comparison import Comparison, run_comparison
from ebm_jax.errors import UserError
from ebm_jax.experiment import ExperimentConfig, run_training
from ebm_jax.overrides import override
from ebm_jax.parallel.multihost import initialize, is_main
from ebm_jax.reporting.finetuning import markdown, read_comparison


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("workdir", "only", "seeds"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1:
        raise UserError("one config is expected: python -m experiments.finetune CONFIG [key=value ...]")
    found = cli.load_and_call(parts.positionals[0], "get_config")
    initialize()
    if isinstance(found, ExperimentConfig):
        config = override(found, parts.overrides)
        run_training(config, Path(parts.options.get("workdir") or f"runs/{config.name}"), argv)
        return 0
    if not isinstance(found, Comparison):
        raise UserError(f"{parts.positionals[0]}: get_config gave {type(found).__name__}, no config and no comparison")
    comparison = changed(found, parts.overrides, parts.options.get("seeds"))
    workdir = Path(parts.options.get("workdir") or f"runs/{comparison.name}")
    only = [name for name in parts.options.get("only", "").split(",") if name]
    run_comparison(comparison, workdir, argv, only)
    if is_main():
        text = markdown(read_comparison(workdir))
        (workdir / "report.md").write_text(text, encoding="utf-8")
        print(text)
        print(f"written to {workdir / 'report.md'}")
    return 0


def changed(comparison: Comparison, overrides: list[str], seeds: str | None = None) -> Comparison:
    """The comparison with ``key=value`` applied to every method and ``METHOD.key=value`` to one."""
    methods = {}
    for name, config in comparison.methods.items():
        own = [text.removeprefix(f"{name}.") for text in overrides if text.startswith(f"{name}.")]
        others = [text for text in overrides if text.partition(".")[0] not in comparison.methods]
        methods[name] = override(config, [*others, *own])
    comparison = dataclasses.replace(comparison, methods=methods)
    if seeds is None:
        return comparison
    if not all(seed.isdigit() for seed in seeds.split(",")):
        raise UserError(f"seeds={seeds} is not a list of numbers such as 0,1,2")
    return dataclasses.replace(comparison, seeds=tuple(map(int, seeds.split(","))))


if __name__ == "__main__":
    sys.exit(cli.main(main))
