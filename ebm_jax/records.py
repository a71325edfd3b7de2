"""Reading what runs leave in their folders; ``training.record`` writes it.

======================  ==========================================================================
``run.json``            resolved config and every launch: command, code, versions, devices
``metrics.jsonl``       one object a logged step or evaluation, while the run goes on
``result.json``         the numbers the run ended with
``evaluation.json``     what ``experiments.evaluate`` found out about the trained model
``thinking.json``       figures by inner steps, candidates and ways of thinking (``experiments.think``)
``uncertainty.json``    energies of a few texts, token by token and step by step (the same)
``finetuned.json``      what ``experiments.finetune`` measured, in means; of every anchor it is in ``anchors.npz``, and
                        what was written behind it in ``continuations.npz``
======================  ==========================================================================

A comparison's folder has ``comparison.json``, what is compared and how, the record of the model that all begin with in
``base/``, and the runs in ``METHOD/seed=N/``.
"""

import json
from pathlib import Path
from typing import Any

from ebm_jax.errors import UserError

RUN = "run.json"
METRICS = "metrics.jsonl"
RESULT = "result.json"
EVALUATION = "evaluation.json"
THINKING = "thinking.json"
UNCERTAINTY = "uncertainty.json"
FINETUNED, ANCHORS, CONTINUATIONS = "finetuned.json", "anchors.npz", "continuations.npz"
COMPARISON, BASE = "comparison.json", "base"


def read_run_record(workdir: Path | str) -> dict[str, Any]:
    """The content of ``run.json``; raises ``UserError`` where there is none or it is not one."""
    record = _read_json(Path(workdir) / RUN, "no run lives there")
    if not isinstance(record, dict) or not {"config", "launches"} <= record.keys():
        raise UserError(f"{Path(workdir) / RUN} is not the record of a run: it has no config and launches")
    return record


def read_result(workdir: Path | str) -> dict[str, Any]:
    """The content of ``result.json``; raises ``UserError`` where the run has not ended."""
    return _read_json(Path(workdir) / RESULT, "the run has not ended")


def read_evaluation(workdir: Path | str) -> dict[str, Any]:
    """The content of ``evaluation.json``; raises ``UserError`` where the run was not evaluated."""
    return _read_json(Path(workdir) / EVALUATION, f"run python -m experiments.evaluate {workdir}")


def read_thinking(workdir: Path | str) -> dict[str, Any]:
    """The content of ``thinking.json``; raises ``UserError`` where the run was not studied."""
    return _read_json(Path(workdir) / THINKING, f"run python -m experiments.think {workdir}")


def read_uncertainty(workdir: Path | str) -> dict[str, Any]:
    """The content of ``uncertainty.json``; raises ``UserError`` where the run was not studied."""
    return _read_json(Path(workdir) / UNCERTAINTY, f"run python -m experiments.think {workdir}")


def read_finetuned(workdir: Path | str) -> dict[str, Any]:
    """The content of ``finetuned.json``; raises ``UserError`` where nothing was measured."""
    return _read_json(Path(workdir) / FINETUNED, "run python -m experiments.finetune CONFIG")


def read_compared(workdir: Path | str) -> dict[str, Any]:
    """The content of ``comparison.json``; raises ``UserError`` where there is none."""
    return _read_json(Path(workdir) / COMPARISON, "run python -m experiments.finetune CONFIG")


def read_metrics(path: Path | str) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl`` (or of the one in a run's folder), each with its ``step``.

    The last line of a killed run may be incomplete and is dropped; any other line that does not parse is a
    ``UserError`` with its number.
    """
    path = Path(path)
    path = path / METRICS if path.is_dir() else path
    if not path.exists():
        raise UserError(f"{path}: no such file; the run has not started")
    texts = path.read_bytes().splitlines()
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
            lines.append({"step": int(line["step"]), **line})
        except (ValueError, KeyError, TypeError):
            if number == len(texts):
                break
            raise UserError(f"{path}:{number} is not a line of metrics; mend or delete that line") from None
    return lines


def _read_json(path: Path, absent: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file; {absent}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; mend it, or delete it to have it written anew") from None
