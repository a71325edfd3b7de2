"""The main job in one command: trains Transformer++, EBT S1 and EBT S2 on the standard library, evaluates, reports.

usage: python -m experiments.demo [workdir=runs/demo] [key=value ...]

Writes WORKDIR/<model>/ (one run each), WORKDIR/report.html and WORKDIR/result.json. Started again, it goes on where it
stopped. A key=value changes all three configs, as in train.steps=50 for a quick look.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from ebm_jax import cli
from ebm_jax.evaluation import EvaluationOptions, evaluate_run
from ebm_jax.experiment import ExperimentConfig, open_run, run_training
from ebm_jax.overrides import override
from ebm_jax.reporting import summary_table, write_report
from ebm_jax.training.record import write_json

MODELS = ("transformer_pp", "ebt_s1", "ebt_s2")
CONFIGS = Path(os.path.relpath(Path(__file__).parents[1] / "configs" / "demo"))
OPTIONS = EvaluationOptions(splits=("validation",), rows=96, steps=8)
VERIFIED = EvaluationOptions(splits=("validation",), rows=96, steps=8, candidates=(1, 2, 4))
"""S2 is trained to be thought with, so it alone compares candidates."""


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv)
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    workdir = Path(parts.options.get("workdir", "runs/demo"))
    began = time.monotonic()
    records: dict[str, Any] = {}
    for name in MODELS:
        config = override(cli.load_config(CONFIGS / f"{name}.py", ExperimentConfig), parts.overrides)
        records[name] = train_and_evaluate(config, workdir / name, parts.overrides)
        if records[name] is None:
            return 0
    folders = [workdir / name for name in MODELS]
    write_report(folders, workdir / "report.html")
    write_json(workdir / "result.json", {"seconds": round(time.monotonic() - began, 1), "models": records})
    print(summary_table(folders))
    print(f"report: {workdir / 'report.html'}   figures: {workdir / 'result.json'}")
    return 0


def train_and_evaluate(config: ExperimentConfig, folder: Path, overrides: list[str]) -> dict[str, Any] | None:
    """One model's evaluation record, or None where a signal ended its training."""
    command = [str(CONFIGS / f"{config.name}.py"), *overrides, f"workdir={folder}"]
    result = run_training(config, folder, command)
    if result.stopped_by != "steps":
        return None
    experiment, params, step = open_run(folder)
    record = evaluate_run(experiment, params, step, VERIFIED if config.name == "ebt_s2" else OPTIONS)
    write_json(folder / "evaluation.json", record)
    return record


if __name__ == "__main__":
    sys.exit(cli.main(main))
