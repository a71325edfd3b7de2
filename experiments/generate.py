"""Goes on with a prompt, as a trained run or a published language model would.

usage: python -m experiments.generate MODEL prompt=TEXT [key=value ...] [checkpoint=STEP]

  MODEL                    a run's folder; a Hugging Face model as a folder, OWNER/NAME or gs://BUCKET/FOLDER
  prompt=TEXT              what to go on from              prompt_file=FILE      the same from a file; - is the input
  chat=true                prompt is a message, written as the model's chat template says; system=TEXT stands before it
  tokens=256               how much to write               samples=4             texts, of different draws
  sampling.temperature=0   greedy; also sampling.top_k, sampling.top_p and sampling.min_p
  stop=Question:,Q:        texts that end a sample and are left out of it
  thinking.steps=4         inner steps of an EBT for every token
  thinking.candidates=8    candidates of which the one with the lowest energy is kept, position by position
  energies=true            every token with its energies before each inner step and at the end
  out=FILE.json            also texts, tokens, their log-probabilities and energies as JSON
  checkpoint=STEP          a run's checkpoint other than the newest
  dtype=bfloat16           type of a published model's weights and arithmetic (float32)
  mesh.rules=fsdp_tp       how its weights lie on several devices, with mesh.fsdp and mesh.tensor; a run has its own

Text appears as it is made. Every key:
"""

import json
import sys
from pathlib import Path
from typing import Any

from ebm_jax import cli
from ebm_jax.data.files import read_text
from ebm_jax.describe import describe
from ebm_jax.errors import UserError
from ebm_jax.experiment import open_run
from ebm_jax.generation import (
    Chunk,
    GenerationOptions,
    Source,
    Token,
    as_chat,
    encode_prompt,
    model_source,
    run_source,
    stream,
)
from ebm_jax.interop.hugging_face.folder import is_model
from ebm_jax.language_model import open_model
from ebm_jax.overrides import override
from ebm_jax.parallel.mesh import MeshConfig
from ebm_jax.precision import Precision
from ebm_jax.records import RUN

OPTIONS = ("prompt", "prompt_file", "chat", "system", "checkpoint", "out", "dtype")


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=OPTIONS)
    if "--help" in parts.flags:
        print(__doc__)
        print(describe(GenerationOptions()))
        return 0
    if len(parts.positionals) != 1:
        raise UserError("one model is expected: python -m experiments.generate MODEL prompt=TEXT")
    places = [text.removeprefix("mesh.") for text in parts.overrides if text.startswith("mesh.")]
    overrides = [text for text in parts.overrides if not text.startswith("mesh.")]
    override(GenerationOptions(), overrides)  # mistakes are told before anything is loaded
    mesh = override(MeshConfig(), places) if places else None
    prompt, source = _prompt(parts.options), _source(parts.positionals[0], parts.options, mesh)
    if source.thinking is None and any(text.startswith("thinking.") for text in overrides):
        raise UserError(f"{parts.positionals[0]} does not think, only an EBT does: leave out thinking.*")
    options = override(source.options(), overrides)
    if parts.options.get("chat", "false") not in ("true", "false"):
        raise UserError(f"chat={parts.options['chat']} must be true or false")
    if parts.options.get("chat") == "true":
        source, prompt = as_chat(source, prompt, parts.options.get("system"))
    elif "system" in parts.options:
        raise UserError("system= goes with chat=true")
    encode_prompt(prompt, source)
    texts, tokens = _write(prompt, options, stream(source, [prompt], options))
    if out := parts.options.get("out"):
        rows = [{"text": text, "tokens": [t._asdict() for t in row]} for text, row in zip(texts, tokens, strict=True)]
        Path(out).write_text(json.dumps({"prompt": prompt, "samples": rows}), encoding="utf-8")
    return 0


def _source(name: str, options: dict[str, str], mesh: MeshConfig | None) -> Source:
    checkpoint, dtype = options.get("checkpoint"), options.get("dtype")
    if checkpoint is not None and not checkpoint.isdigit():
        raise UserError(f"checkpoint={checkpoint!r} is not a step number")
    path = Path(name)
    if (path / RUN).is_file() or (path.is_dir() and not is_model(path)):
        if dtype is not None:
            raise UserError("dtype is for published models; a run has its own precision")
        if mesh is not None:
            raise UserError("mesh.* is for published models; a run has its own mesh")
        experiment, params, _ = open_run(path, int(checkpoint) if checkpoint else None)
        return run_source(experiment, params)
    if checkpoint is not None:
        raise UserError(f"checkpoint={checkpoint} is for runs; {name} is a published model")
    precision = Precision(param=dtype, compute=dtype) if dtype else Precision()
    return model_source(open_model(name, precision=precision, mesh=mesh))


def _prompt(options: dict[str, str]) -> str:
    if ("prompt" in options) == ("prompt_file" in options):
        raise UserError("give either prompt=TEXT or prompt_file=FILE")
    if "prompt" in options:
        return options["prompt"]
    if options["prompt_file"] == "-":
        return sys.stdin.read()
    path = Path(options["prompt_file"])
    if not path.is_file():
        raise UserError(f"prompt_file={path}: no such file")
    return read_text(path)


def _write(prompt: str, options: GenerationOptions, chunks: Any) -> tuple[list[str], list[list[Token]]]:
    """Prints as it comes: one sample letter by letter, several one after another, energies a line a token."""
    texts, tokens = [""] * options.samples, [list[Token]() for _ in range(options.samples)]
    live = options.samples == 1 and not options.energies
    shown = False
    for chunk in chunks:
        texts[chunk.row] += chunk.text
        tokens[chunk.row].extend(chunk.tokens)
        if live:
            print(chunk.text if shown else prompt + chunk.text, end="", flush=True)
            shown = True
        elif options.energies:
            _print_energies(chunk, options.samples)
    if live:
        print()
        return texts, tokens
    for number, text in enumerate(texts):
        print(f"--- sample {number + 1} of {options.samples} ---" if options.samples > 1 else "---")
        print(prompt + text)
    return texts, tokens


def _print_energies(chunk: Chunk, samples: int) -> None:
    for token in chunk.tokens:
        row = f"{chunk.row + 1:>3} " if samples > 1 else ""
        energies = "  ".join(f"{energy:9.4f}" for energy in token.energies)
        print(f"{row}{token.text!r:<12} {energies}  {token.passes} forward passes", flush=True)


if __name__ == "__main__":
    sys.exit(cli.main(main))
