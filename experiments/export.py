"""Writes a trained run's parameters for other programs.

usage: python -m experiments.export RUN_DIR out=FOLDER [dtype=bfloat16] [family=llama] [checkpoint=STEP]
       python -m experiments.export RUN_DIR out=FILE.safetensors [checkpoint=STEP]

A FOLDER gets a language or reward model as Hugging Face stores it, tokenizer included, adapters merged; ``transformers`` loads
it, and so does weights=FOLDER. Its family is that of the model the run began with, or the first that can say what it is.
A FILE (.safetensors or .npz) gets the names and layouts of the EBT reference implementation; weights=FILE reads it.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ebm_jax import cli
from ebm_jax.algorithms.ebt import EBT
from ebm_jax.algorithms.lm import LM
from ebm_jax.algorithms.reward_model import RewardModel
from ebm_jax.data.paths import expand
from ebm_jax.errors import UserError
from ebm_jax.experiment import Experiment, ExperimentConfig, open_run
from ebm_jax.interop.hugging_face.export import write_model
from ebm_jax.interop.hugging_face.families import Published, family_of
from ebm_jax.interop.hugging_face.folder import is_model, locate, read_published
from ebm_jax.interop.reference_ebt import Layout, to_reference, write_state
from ebm_jax.precision import Precision
from ebm_jax.types import Params


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("out", "checkpoint", "dtype", "family"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1 or parts.overrides or "out" not in parts.options:
        raise UserError("one run and one folder or file are expected: python -m experiments.export RUN_DIR out=FOLDER")
    checkpoint, out = parts.options.get("checkpoint"), Path(parts.options["out"])
    if checkpoint is not None and not checkpoint.isdigit():
        raise UserError(f"checkpoint={checkpoint!r} is not a step number")
    experiment, params, step = open_run(Path(parts.positionals[0]), int(checkpoint) if checkpoint else None)
    if out.suffix in (".npz", ".safetensors"):
        state = to_reference(params, layout(experiment.config, isinstance(experiment.algorithm, EBT)))
        write_state(out, {name: np.asarray(value, np.float32) for name, value in state.items()})
    else:
        dtype = Precision(param=parts.options.get("dtype", "float32")).param
        _export_folder(experiment, params, out, dtype, parts.options.get("family"))
    print(f"wrote step {step} of {experiment.config.name} to {out}")
    return 0


def _export_folder(experiment: Experiment, params: Params, out: Path, dtype: str, family: str | None) -> None:
    config, algorithm = experiment.config, experiment.algorithm
    if not isinstance(algorithm, LM | RewardModel):
        raise UserError(
            f"algorithm={config.algorithm.kind} has no Hugging Face form; name a .safetensors or .npz file for the reference's"
        )
    origin = _origin(config)
    tokenizer = experiment.data.tokenizer
    published = origin or Published(
        family=family or family_of(config.model),
        model=config.model,
        vocab_size=experiment.program.spec.vocab_size,
        context=config.data.context,
        bos_id=tokenizer.bos_id,
        eos_ids=() if tokenizer.eos_id is None else (tokenizer.eos_id,),
    )
    changes: dict[str, Any] = {"model": config.model}
    if isinstance(algorithm, RewardModel):
        changes |= {
            "head": "score",
            "labels": 1,
            "pad_id": padding(published, tokenizer.vocab_size, config.data.append_eos),
        }
    if family:
        changes["family"] = family
    published = dataclasses.replace(published, **changes)
    path = config.data.tokenizer.partition(":")[2]
    tokenizer_file, template = (expand(file) if file else None for file in (path, config.data.examples.chat_template))
    write_model(out, params, published, dtype=dtype, tokenizer=tokenizer_file, chat_template=template)


def padding(published: Published, known: int, append_eos: bool) -> int:
    """A token that ends no text, for readers take the last other one for a text's end.

    ``known`` are the tokenizer's tokens, below the rows of the model's table; texts end with the end-of-text token or not.
    """
    ends = published.eos_ids if append_eos else ()
    spare = known if known < published.vocab_size else None
    # Where every text ends with the end-of-text token, any other will do.
    choices = (published.pad_id, published.bos_id, spare, *published.eos_ids, *range(published.vocab_size))
    return next(token for token in choices if token is not None and token not in ends)


def _origin(config: ExperimentConfig) -> Published | None:
    """The published model that the run began with."""
    if config.weights is None:
        return None
    path = expand(config.weights) if "://" not in config.weights else Path(config.weights)
    if path.exists() and not is_model(path):
        return None
    return read_published(path if path.is_dir() else locate(config.weights))


def layout(config: ExperimentConfig, is_ebt: bool) -> Layout:
    """Names and shapes of the run's tensors in a reference checkpoint."""
    algorithm, model = config.algorithm, config.model
    return Layout(
        depth=model.resolved_depth,
        heads=model.block().heads,
        conditioning=getattr(algorithm, "conditioning", "default"),
        tied=getattr(algorithm, "tied", False),
        norm=model.norm,
        is_lm=not is_ebt,
    )


if __name__ == "__main__":
    sys.exit(cli.main(main))
