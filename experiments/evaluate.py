"""Evaluates a trained run, or any language model on tasks.

usage: python -m experiments.evaluate RUN_DIR [key=value ...] [checkpoint=STEP]
       python -m experiments.evaluate MODEL tasks=NAME,... [key=value ...] [judge=...] [out=FOLDER] [dtype=bfloat16]

Perplexity and bits per byte after every inner step, thinking, and costs; a table, and RUN_DIR/evaluation.json:

  splits=validation,test   splits of the run's corpus          rows=256        rows of each, 0 = all
  steps=8                  inner steps of the curves           extra=false     leave out the config's eval.extra texts
  candidates=1,2,5         numbers of candidates to compare    verify_steps=3  inner steps for them
  checkpoint=STEP          a checkpoint other than the newest

Tasks (docs/tasks.md lists them): a run's folder, or a Hugging Face model as a folder, OWNER/NAME or gs://BUCKET/FOLDER:

  tasks=humaneval,gsm8k,mt:de-en    what to ask               samples=20      completions of every question
  temperature=0.8 top_p=0.95        other than the task's     limit=50        questions of each, 0 = all
  judge=api:MODEL                   an endpoint that judges; judge=MODEL is a model that runs here
  out=FOLDER                        by default RUN_DIR/tasks, or runs/tasks/NAME; another one for another checkpoint=STEP
"""

import sys
from pathlib import Path
from typing import Any

from ebm_jax import cli
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks import LocalJudge, TaskOptions, evaluate_tasks
from ebm_jax.evals.tasks import table as tasks_table
from ebm_jax.evaluation import EvaluationOptions, evaluate_run
from ebm_jax.experiment import open_run
from ebm_jax.language_model import open_model
from ebm_jax.overrides import override
from ebm_jax.parallel.mesh import MeshConfig
from ebm_jax.parallel.multihost import is_main
from ebm_jax.parallel.processes import initialize, together
from ebm_jax.precision import Precision
from ebm_jax.records import RUN
from ebm_jax.training.record import write_json


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("checkpoint", "tasks", "judge", "out", "dtype", "distributed"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1:
        raise UserError("one model is expected: python -m experiments.evaluate RUN_DIR [key=value ...]")
    if "tasks" in parts.options:
        return _tasks(parts.positionals[0], parts.options, parts.overrides)
    if others := [name for name in ("judge", "out", "dtype") if name in parts.options]:
        raise UserError(f"{others[0]}= goes with tasks=NAME,...")
    workdir = Path(parts.positionals[0])
    options = override(EvaluationOptions(), parts.overrides)
    checkpoint = _step(parts.options)
    initialize(parts.options.get("distributed"))
    with together():
        experiment, params, step = open_run(workdir, checkpoint)
        record = evaluate_run(experiment, params, step, options)
        if is_main():
            write_json(workdir / "evaluation.json", record)
            print(table(record))
    return 0


def _tasks(name: str, options: dict[str, str], overrides: list[str]) -> int:
    places = [text.removeprefix("mesh.") for text in overrides if text.startswith("mesh.")]
    chosen = override(TaskOptions(), [text for text in overrides if not text.startswith("mesh.")])
    mesh, path = override(MeshConfig(), places) if places else None, Path(name)
    if mesh is not None and (path / RUN).is_file():
        raise UserError("mesh.* is for published models; a run has its own mesh")
    judge: Any = options.get("judge")
    precision = Precision(param=options["dtype"], compute=options["dtype"]) if "dtype" in options else None
    model = open_model(name, precision=precision, mesh=mesh, rows=chosen.batch_size, checkpoint=_step(options))
    if judge is not None and judge.partition(":")[0] != "api":
        judge = LocalJudge(open_model(judge, precision=precision, mesh=mesh), judge)
    folder = path / "tasks" if (path / RUN).is_file() else Path("runs/tasks") / path.name
    folder = Path(options.get("out", folder))
    # A run goes on: what a checkpoint wrote is not taken for the next one's.
    title = name if model.step is None else f"{name} at step {model.step}"
    results = evaluate_tasks(
        model, options["tasks"], folder, judge=judge, model_name=title, report=print, **vars(chosen)
    )
    print(tasks_table(results))
    print(f"samples, grades and results: {folder}")
    return 1 if any(result.problem for result in results) else 0


def _step(options: dict[str, str]) -> int | None:
    checkpoint = options.get("checkpoint")
    if checkpoint is not None and not checkpoint.isdigit():
        raise UserError(f"checkpoint={checkpoint!r} is not a step number")
    return None if checkpoint is None else int(checkpoint)


def table(record: dict) -> str:
    """The record's figures for a terminal."""
    lines = [f"{record['name']} at step {record['step']}: {record['parameters']:,} parameters"]
    for name, split in record["splits"].items():
        curve = "  ".join(f"{x:.4f}" for x in split.get("bits_per_byte", split["nll"]))
        lines.append(f"  {name:<12} bits/byte after each inner step: {curve}")
        if "bigram_bits_per_byte" in split:
            lines.append(f"  {'':<12} byte bigram: {split['bigram_bits_per_byte']:.4f}")
        for row in record.get("verification", {}).get(name, []):
            shown = row.get("bits_per_byte", row["nll"])
            candidates = f"best of {row['candidates']} by energy, {row['steps']} steps"
            lines.append(f"  {'':<12} {candidates}: {shown:.4f} ({row['forward_passes']} forward passes)")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(cli.main(main))
