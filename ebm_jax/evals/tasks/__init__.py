"""Benchmarks: what is asked, what an answer is worth, and everything kept on disk.

::

    protocol        Prompt, Example, Completion, Model, Task, Judge: plain values and interfaces
    registry        tasks by name
    rows            their questions, from files or public sets
    code  multipl_e  maths  translation  choices  instructions  likelihood       the tasks
    alpaca  mt_bench  writing                                                    those that a judge grades
    judges          a model here or a chat endpoint as the judge
    runner          one task from questions to figures; a rerun goes on
    evaluate        several tasks and their table
    metrics         figures with bootstrap intervals

Nothing here knows JAX: a model is anything with ``generate``, ``log_likelihood`` and ``misfit``.
"""

from ebm_jax.evals.tasks.evaluate import evaluate_tasks, table
from ebm_jax.evals.tasks.judges import EndpointJudge, JudgeError, LocalJudge
from ebm_jax.evals.tasks.options import TaskOptions
from ebm_jax.evals.tasks.protocol import Completion, Example, LogLikelihood, Model, Prompt, Sampling
from ebm_jax.evals.tasks.registry import REGISTRY, make_task
from ebm_jax.evals.tasks.runner import TaskResult, run_task
from ebm_jax.evals.tasks.task import Task

__all__ = [
    "REGISTRY", "Completion", "EndpointJudge", "Example", "JudgeError", "LocalJudge", "LogLikelihood", "Model", "Prompt",
    "Sampling", "Task", "TaskOptions", "TaskResult", "evaluate_tasks", "make_task", "run_task", "table",
]  # fmt: skip
