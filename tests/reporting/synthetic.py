"""Run folders as training and evaluation leave them, with made-up numbers that behave like real ones."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

STEPS, BATCH, CONTEXT = 900, 16, 256
TEXT = '''\
def _parse(self, source: str, *, strict=True):
    """Return the tree of *source*; naïve about ünïcode."""
    tokens = list(self.tokenize(source))
    if not tokens and strict:
        raise ValueError(f"empty source: {source!r}")
\treturn self._tree(tokens)
'''
BIGRAM = {"validation": 3.551, "topics": 3.824}
FINAL = {"lm": 2.31, "ebt_s1": 2.42, "ebt_s2": 2.47}


def write_all(folder: Path) -> list[Path]:
    """Transformer++, EBT S1 and EBT S2."""
    return [write_lm(folder / "transformer"), write_ebt(folder / "ebt_s1", 1), write_ebt(folder / "ebt_s2", 2)]


def write_lm(folder: Path) -> Path:
    """Complete records of a Transformer++."""
    config = {
        "name": "demo_transformer",
        "seed": 0,
        "algorithm": {"kind": "lm", "label_smoothing": 0.0},
        **_shared(2e-3),
    }
    final = FINAL["lm"]
    metrics = _metrics(final, 3.3e10, 0.011, energy=False)
    evaluation = _evaluation("demo_transformer", "lm", 264_960, 3.3e10, {"transformer_per_token": 6 * 198_000})
    evaluation["splits"] = {
        name: _split(name, [final + extra], [1]) for name, extra in (("validation", 0.0), ("topics", 0.61))
    }
    evaluation["snippet"] = _snippet(0, final)
    return _write(folder, config, metrics, evaluation)


def write_ebt(folder: Path, system: int) -> Path:
    """Complete records of an EBT by the recipe S1 or S2."""
    one = system == 1
    descent = {
        "landscapes": 2 if one else 1,
        "random_repeats": 0 if one else 2,
        "min_repeats": 1 if one else 2,
        "step_size": 500.0 if one else 5.0,
        "loss_on": "every_step" if one else "last_step",
        "detach": one,
    }
    name, final, trained = f"demo_ebt_s{system}", FINAL[f"ebt_s{system}"], 2 if one else 3
    algorithm = {"kind": "ebt", "descent": descent, "replay": {"capacity": 0 if one else 64}}
    flops = 1.6e11 if one else 2.9e11
    costs = {"transformer_per_token": 6 * 198_000, "paper_per_token": 20 * 198_000 * (trained - 0.5 * (not one))}
    costs["corrected_per_token"] = (6 + 12 * trained) * 198_000
    evaluation = _evaluation(name, "ebt", 298_241, flops, costs) | {"trained_steps": trained, "splits": {}}
    evaluation["verification"] = {}
    passes = list(range(1, 9))
    for split, extra in (("validation", 0.0), ("topics", 0.58)):
        curve = [final + extra + 1.1 * math.exp(-1.4 * (k - 1)) + 0.006 * max(0, k - 5) for k in passes]
        scale = 0.02 if one else 1.0
        energy = [scale * (1.9 * math.exp(-0.8 * k) - 0.7 + extra) for k in range(9)]
        evaluation["splits"][split] = _split(split, curve, passes) | {"energy": energy}
        if not one:
            evaluation["verification"][split] = [
                _verified(g, 3, curve[2] - 0.035 * math.log2(g)) for g in (1, 2, 5, 10)
            ]
    evaluation["snippet"] = _snippet(trained, final)
    config = {"name": name, "seed": 0, "algorithm": algorithm, **_shared(1e-3)}
    return _write(folder, config, _metrics(final, flops, 0.06 if one else 0.1, energy=True), evaluation)


def _shared(rate: float) -> dict[str, Any]:
    return {
        "model": {"size": "4xs", "depth": None},
        "data": {"source": "stdlib", "context": CONTEXT},
        "optim": {"peak_lr": rate},
        "train": {"steps": STEPS, "batch_size": BATCH},
        "eval": {"split": "validation", "extra": {"topics": "stdlib-topics"}},
    }


def _metrics(final: float, flops: float, step_time: float, *, energy: bool) -> list[dict[str, Any]]:
    rng = np.random.default_rng(round(1000 * final))
    lines: list[dict[str, Any]] = []
    for step in [1, *range(5, STEPS + 1, 5)]:
        bits = final + 5.6 * math.exp(-step / 45) + 0.7 * math.exp(-step / 260) + rng.normal(0, 0.07)
        nll = bits * math.log(2)
        line = {"step": step, "loss": nll, "nll": nll, "grad_norm": 1.0, "tokens": float(BATCH * CONTEXT)}
        if energy:
            worth = 0.4 * (1 - math.exp(-step / 200))
            line |= {"nll_first": nll + worth, "energy_gap": 1.5 * worth + rng.normal(0, 0.02), "inner_steps": 2.0}
            line["step_size"] = 500 + 300 * (1 - math.exp(-step / 400)) if final == FINAL["ebt_s1"] else 5.0
        if step > 1:
            line |= {
                "step_time": step_time,
                "tokens_per_s": BATCH * CONTEXT / step_time,
                "flops_per_s": flops / step_time,
            }
        lines.append(line)
        if step % 150 == 0:
            seen = bits - 0.03
            lines.append({"step": step, "validation/nll": seen * math.log(2), "validation/bits_per_byte": seen})
    return lines


def _evaluation(name: str, kind: str, parameters: int, flops: float, costs: dict[str, float]) -> dict[str, Any]:
    stats = {
        "train": {"documents": 612, "tokens": 9_812_345, "bytes": 9_812_345, "rows": 38_409},
        "validation": {"documents": 34, "tokens": 512_004, "bytes": 512_004, "rows": 2_003},
        "test": {"documents": 31, "tokens": 498_771, "bytes": 498_771, "rows": 1_950},
    }
    return {
        "name": name,
        "kind": kind,
        "step": STEPS,
        "parameters": parameters,
        "network_parameters": 198_000,
        "seconds": {"validation and topics": 21.4, "self-verification": 33.0} if kind == "ebt" else 3.2,
        "flops": {"per_step": flops, "tokens_per_step": BATCH * CONTEXT, **costs},
        "data": {"source": "stdlib", "fingerprint": "a1b2c3d4e5f60718aabb", "stats": stats},
    }


def _split(name: str, bits: list[float], passes: list[int]) -> dict[str, Any]:
    nll = [x * math.log(2) for x in bits]
    figures = {"bits_per_byte": bits, "nll": nll, "perplexity": [math.exp(x) for x in nll], "forward_passes": passes}
    return {**figures, "tokens": 81_920.0, "bytes": 81_920.0, "bigram_bits_per_byte": BIGRAM[name]}


def _verified(candidates: int, steps: int, bits: float) -> dict[str, Any]:
    nll = bits * math.log(2)
    passes = candidates * (steps + (candidates > 1))
    figures = {"bits_per_byte": bits, "perplexity": math.exp(nll), "nll": nll}
    return {"candidates": candidates, "steps": steps, "forward_passes": passes, **figures}


def _snippet(steps: int, final: float) -> dict[str, Any]:
    """Beginnings of words are hard and have high energies; ``steps`` 0 is a model without energies."""
    rng = np.random.default_rng(7)
    data = TEXT.encode()
    starts = [i == 0 or not chr(data[i - 1]).isalnum() for i in range(len(data))]
    hard = np.array([1.0 if start else 0.25 for start in starts]) + rng.gamma(1.0, 0.22, len(data))
    hard[[i for i, byte in enumerate(data) if byte == 0x20 and i and data[i - 1] == 0x20]] = 0.05
    nll = hard * final * math.log(2) * 1.8
    record = {"split": "validation", "text": TEXT, "bytes": list(data)}
    if not steps:
        return record | {"nll": [nll.tolist()]}
    left = [math.exp(-1.1 * k) for k in range(steps + 1)]
    noise = rng.normal(0, 0.05, (steps + 1, len(data)))
    energy = [1.6 * share + 0.9 * hard * (1 - 0.5 * share) - 0.8 + n for share, n in zip(left, noise, strict=True)]
    losses = [nll + 2.2 * math.exp(-1.3 * (k + 1)) for k in range(steps)]
    return record | {"energy": [e.tolist() for e in energy], "nll": [x.tolist() for x in losses]}


def _write(folder: Path, config: dict, metrics: list[dict], evaluation: dict) -> Path:
    folder.mkdir(parents=True)
    launch = {
        "start": "2026-01-02T03:04:05+00:00",
        "command": ["configs/demo/run.py", "train.steps=900", f"workdir=runs/demo/{folder.name}"],
        "resumed_at": None,
        "changes": [],
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "versions": {"python": "3.11.7", "ebm_jax": "0.1.0", "jax": "0.10.2", "flax": "0.12.8", "numpy": "2.2.1"},
        "devices": {"platform": "cpu", "kind": "cpu", "count": 1, "processes": 1},
        "host": {"name": "somewhere", "system": "Linux-6.1-x86_64", "cpus": 2},
    }
    result = {
        "name": config["name"],
        "kind": evaluation["kind"],
        "step": STEPS,
        "parameters": evaluation["parameters"],
        "tokens": STEPS * BATCH * CONTEXT,
        "flops": evaluation["flops"]["per_step"] * STEPS,
        "train": {"loss": metrics[-1].get("loss", 1.0)},
        "evaluation": {"validation/bits_per_byte": FINAL["lm"]},
    }
    for name, value in (("run.json", {"config": config, "launches": [launch]}), ("result.json", result)):
        (folder / name).write_text(json.dumps(value))
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    return folder
