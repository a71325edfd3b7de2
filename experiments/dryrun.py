"""Compiles what a config runs for devices that need not be here, and tells whether it fits and how fast it can be.

usage: python -m experiments.dryrun CONFIG topology=v5e:16x16 [num_slices=2] [rules=fsdp_tp] [key=value ...] [--json]
       python -m experiments.dryrun CONFIG topology=v5e:16x16 search=true [tries=N] [key=value ...]

  CONFIG         of experiments.pretrain, experiments.finetune or experiments.decode
  topology       CHIP:SIZES of one slice (v4, v5e, v5p, v6e), GPU:NODESxGPUS (a100, h100, h200), or cpu:NUMBER of this machine
  num_slices     slices, joined by the data centre's network; mesh.data must be divisible by it
  rules          short for mesh.rules=
  programs       some of train, evaluate (training), read, draw, reward (decoding), by commas; by default all
  method         which method of a comparison is compiled; by default its first
  memory_gib     what a program may take of a chip, if not all that it has (of a GPU: what JAX takes of it, 3/4)
  prompt_tokens  how long prompts are that a decoder reads (512)
  out            a folder to write the records into, one file a program
  search         tries meshes, batches, microbatches and remat for the training step; prints what fits, most rows a second first
  tries          how many of them at most (8); every one is a compilation

Needs the extra `tpu` for TPU topologies and `gpu` for GPUs, and neither device. Exit status 1: a program does not fit.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ebm_jax import cli
from ebm_jax.comparison import Comparison
from ebm_jax.decoding_study import DecodingStudy
from ebm_jax.dryrun.inspection import Inspection, inspect
from ebm_jax.dryrun.programs import Config, Planned, chosen_method, plan
from ebm_jax.dryrun.report import table, verdict
from ebm_jax.dryrun.search import SEARCHED, Candidate, candidates, ranked, search
from ebm_jax.dryrun.topology import Target, find_target
from ebm_jax.errors import UserError
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.overrides import override, parse
from ebm_jax.training.record import write_json
from experiments.finetune import changed

OPTIONS = (
    "topology",
    "num_slices",
    "rules",
    "programs",
    "method",
    "prompt_tokens",
    "memory_gib",
    "out",
    "search",
    "tries",
)


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=OPTIONS, flags=("--json",))
    if "--help" in parts.flags or not parts.positionals:
        print(__doc__)
        return 0
    quiet = "--json" in parts.flags
    if parse(parts.options.get("search", "false"), bool, "search"):
        return _search(parts)
    shown, found = "", list[Inspection]()
    for planned, one in _compiled(parts):
        if not quiet and planned.sharding != shown:
            shown = planned.sharding
            print(shown, end="\n\n")
        if not quiet:
            print(table(one), end="\n\n", flush=True)
        if "out" in parts.options:
            write_json(Path(parts.options["out"]) / f"{one.program}.json", one.to_json())
        found.append(one)
    print(json.dumps([one.to_json() for one in found]) if quiet else verdict(found))
    return int(any(one.fits is False for one in found))


def inspections(argv: list[str]) -> list[Inspection]:
    """What the command would print."""
    return [one for _, one in _compiled(cli.arguments(argv, options=OPTIONS))]


def _asked(parts: cli.Arguments) -> tuple[Config, Target]:
    options = parts.options
    if len(parts.positionals) != 1 or "topology" not in options:
        raise UserError(
            "one config and topology=... are needed: python -m experiments.dryrun CONFIG topology=v5e:16x16"
        )
    # With the others, in one go: a mesh is valid or not together with its rules.
    rules = [f"mesh.rules={options['rules']}"] if "rules" in options else []
    config = load(Path(parts.positionals[0]), [*parts.overrides, *rules], options.get("method", ""))
    memory = parse(options["memory_gib"], float, "memory_gib") * 2**30 if "memory_gib" in options else None
    return config, find_target(options["topology"], _number(options, "num_slices", 1), memory)


def _compiled(parts: cli.Arguments) -> Iterator[tuple[Planned, Inspection]]:
    options, (config, target) = parts.options, _asked(parts)
    prompt_tokens = _number(options, "prompt_tokens", 512)
    planned = plan(config, target.devices, method=options.get("method", ""), prompt_tokens=prompt_tokens)
    names = [one.name for one in planned]
    wanted = options["programs"].split(",") if "programs" in options else names
    if unknown := [name for name in wanted if name not in names]:
        raise UserError(f"programs={','.join(unknown)}: there are {', '.join(names)}")
    for one in planned:
        if one.name in wanted:
            yield one, inspect(one, target)


def _number(options: Mapping[str, str], name: str, default: int) -> int:
    return parse(options[name], int, name) if name in options else default


def load(path: Path, assignments: list[str], method: str = "") -> Config:
    """The config with the assignments applied; ``method`` is for those that compare some."""
    config = cli.load_and_call(path, "get_config")
    if isinstance(config, ExperimentConfig | DecodingStudy) and method:
        raise UserError(f"method={method}: {path} compares none")
    if isinstance(config, Config):
        return _with(config, assignments)
    raise UserError(f"{path}: get_config() returned {type(config).__name__}, which is nothing that runs on devices")


def _with(config: Config, assignments: list[str]) -> Config:
    return changed(config, assignments) if isinstance(config, Comparison) else override(config, assignments)


def _search(parts: cli.Arguments) -> int:
    """Every try is a process of its own: a compiler that gives up may take its process with it."""
    options, (config, target), quiet = parts.options, _asked(parts), "--json" in parts.flags
    trained = config
    if isinstance(config, Comparison):
        trained = config.methods[chosen_method(config, options.get("method", ""))]
    if not isinstance(trained, ExperimentConfig):
        raise UserError("search=true is for training, and this config decodes")
    keys = [*(name for name in options if name == "rules"), *(word.partition("=")[0] for word in parts.overrides)]
    if clash := [key for key in keys if re.search(rf"(^|\.)({'|'.join(('rules', *SEARCHED))})(\.|$)", key)]:
        raise UserError(f"search=true tries them by itself: leave {', '.join(clash)} out")
    tried = candidates(trained, target)

    def compile_one(candidate: Candidate) -> Inspection | None:
        asked = [
            f"{name}={value}" for name, value in options.items() if name not in ("search", "tries", "out", "programs")
        ]
        words = [*parts.positionals, *asked, *parts.overrides, "programs=train", *candidate.assignments(), "--json"]
        command = [sys.executable, "-m", "experiments.dryrun", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        name = " ".join(candidate.assignments())
        if done.returncode not in (0, 1) or not done.stdout.strip():
            lines = done.stderr.strip().splitlines() or [""]
            said = next((line for line in lines if line.startswith(("error:", "F"))), lines[-1])
            print(f"{name}: not compiled, exit status {done.returncode}: {said[:300]}", file=sys.stderr, flush=True)
            return None
        one = Inspection.from_json(json.loads(done.stdout)[0])
        if not quiet:
            print(f"{name}: {verdict([one])} ({one.compile_seconds:.0f} s)", flush=True)
        return one

    found = search(tried, compile_one, _number(options, "tries", 8))
    best = ranked(found)
    if quiet:
        print(json.dumps([{"assignments": one.assignments(), **result.to_json()} for one, result in best]))
    else:
        nothing = f"nothing fits of {len(found)} that compiled" if found else "nothing compiled"
        print("\n" + ("\n\n".join(_found(*each) for each in best) or nothing))
    return int(not best)


def _found(candidate: Candidate, result: Inspection) -> str:
    rows = ""
    if result.step_seconds:
        rows = f"at most {candidate.batch / result.step_seconds:,.0f} rows a second\n"
    return f"{' '.join(candidate.assignments())}\n{rows}{table(result)}"


if __name__ == "__main__":
    sys.exit(cli.main(main))
