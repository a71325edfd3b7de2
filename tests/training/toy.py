"""A tiny language model that uses everything the loop offers: noise, augmented rows, a carry, groups, two terms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import LogicallyPartitioned

from ebm_jax.algorithm import Algorithm, BatchSpec, GroupOptions, LossOutput, Variables
from ebm_jax.optim import OptimConfig
from ebm_jax.parallel.mesh import MeshConfig, make_mesh
from ebm_jax.parallel.rules import constrain
from ebm_jax.rng import normal_rows, root_key, stream
from ebm_jax.training.config import TrainConfig
from ebm_jax.training.program import Program, build_program
from ebm_jax.training.startup import start_run
from ebm_jax.weighted import Term, weighted_sum

VOCAB, WIDTH, HIDDEN, CONTEXT, ROWS = 16, 8, 16, 6, 16


class ToyLM(Algorithm):
    """Predicts each next token from the token before it, through one hidden layer and some noise."""

    def __init__(self, *, replay: bool = True, poison_at: int | None = None) -> None:
        self.replay, self.poison_at = replay, poison_at

    def init(self, key, spec: BatchSpec) -> Variables:
        def weight(name, shape, axes):
            return LogicallyPartitioned(0.3 * jax.random.normal(stream(key, name), shape), names=axes)

        params = {
            "embed": weight("embed", (spec.vocab_size, WIDTH), ("vocab", "embed")),
            "up": weight("up", (WIDTH, HIDDEN), ("embed", "mlp")),
            "gain": LogicallyPartitioned(jnp.ones(HIDDEN), names=("mlp",)),
            "out": weight("out", (HIDDEN, spec.vocab_size), ("mlp", None)),
            "scale": jnp.ones(()),
            "fixed": jnp.full((), 2.0),
        }
        ring = jnp.zeros((ROWS, spec.context)) if self.replay else None
        return Variables(params=params, carry=ring)

    def augment(self, variables, batch, key, step):
        if not self.replay:
            return batch
        extra = {name: batch[name][: ROWS // 2] for name in batch}
        extra["index"] = extra["index"] + 1000
        joined = {name: jnp.concatenate([batch[name], extra[name]]) for name in batch}
        return {**joined, "seen": jnp.concatenate([variables.carry, variables.carry[: ROWS // 2]])}

    def loss(self, params, variables, batch, key, step) -> LossOutput:
        table = constrain(params["embed"], "vocab", None)
        x = constrain(table[batch["inputs"]], "batch", "time", "act_embed")
        noise = normal_rows(stream(key, "noise"), batch["index"], x.shape[1:], jnp.float32)
        hidden = jnp.tanh((x + 0.1 * noise) @ params["up"]) * params["gain"] * params["scale"] * params["fixed"]
        hidden = constrain(hidden, "batch", "time", "act_mlp")
        log_probs = jax.nn.log_softmax(hidden @ params["out"])
        nll = -jnp.take_along_axis(log_probs, batch["targets"][..., None], -1)[..., 0]
        if self.poison_at is not None:
            nll = nll * jnp.sqrt(params["scale"] * jnp.where(step == self.poison_at, -1.0, 1.0))
        if self.replay:
            nll = nll + 0.01 * batch["seen"]
        main = weighted_sum(nll, batch["weights"])
        size = weighted_sum(jnp.sum(hidden**2, -1), jnp.ones_like(batch["weights"]))
        accuracy = weighted_sum(jnp.argmax(log_probs, -1) == batch["targets"], batch["weights"])
        return LossOutput(
            {"nll": Term(1.0, main), "size": Term(1e-2, size)}, {"accuracy": accuracy}, jax.lax.stop_gradient(nll)
        )

    def absorb(self, variables, batch, records, key, step):
        return records[:ROWS] if self.replay else None

    def groups(self, params):
        return {name: {"scale": "scale", "fixed": "fixed"}.get(name, "default") for name in params}

    def group_options(self):
        return {
            "default": GroupOptions(),
            "scale": GroupOptions(lr_multiplier=10.0, weight_decay=0.0),
            "fixed": GroupOptions(trainable=False),
        }


class ToyStream:
    """Rows that are a function of their global position, of one process among ``count``."""

    def __init__(self, rows: int = ROWS, process: int = 0, count: int = 1) -> None:
        self.rows, self.process, self.count, self.position = rows, process, count, 0
        self.handed_out: list[int] = []

    def __iter__(self) -> "ToyStream":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        local = self.rows // self.count
        first = self.position * self.rows + self.process * local
        self.handed_out.append(self.position)
        self.position += 1
        rows = [toy_row(i) for i in range(first, first + local)]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def state(self) -> dict[str, Any]:
        return {"position": self.position}

    def restore(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def toy_row(index: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(index)
    tokens = rng.integers(0, VOCAB, CONTEXT + 1).astype(np.int32)
    real = np.arange(CONTEXT) < rng.integers(2, CONTEXT + 1)
    return {
        "inputs": tokens[:-1],
        "targets": (tokens[:-1] * 3 + 1) % VOCAB,
        "weights": real.astype(np.float32),
        "segments": real.astype(np.int32),
        "positions": np.arange(CONTEXT, dtype=np.int32),
        "index": np.uint32(index),
    }


class Lines:
    """A writer that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def write(self, step: int, values) -> None:
        self.lines.append((step, dict(values)))

    def steady(self) -> list[tuple[int, dict[str, float]]]:
        """Without what depends on the clock."""
        clock = ("step_time", "tokens_per_s", "tokens_per_s_per_device")
        return [(step, {k: v for k, v in values.items() if k not in clock}) for step, values in self.lines]


def toy_program(
    config: TrainConfig, mesh: MeshConfig | None = None, devices: int = 1, algorithm: ToyLM | None = None, **optim
) -> Program:
    mesh = mesh or MeshConfig()
    return build_program(
        algorithm=algorithm or ToyLM(),
        spec=BatchSpec(batch_size=config.batch_size, context=CONTEXT, vocab_size=VOCAB),
        optim=OptimConfig(**{"peak_lr": 1e-2, "warmup_steps": 2, "decay_steps": 50, **optim}),
        config=config,
        mesh=make_mesh(mesh, jax.devices()[:devices]),
        rules=mesh.rules,
    )


def toy_config(**fields) -> TrainConfig:
    return TrainConfig(**{"batch_size": ROWS, "log_every": 1, **fields})


def toy_start(program: Program, checkpoints=None, **options):
    from ebm_jax.serialize import diff

    options = {"config": {"seed": 0}, "compare": diff, **options}
    return start_run(program, stream(root_key(0), "init"), checkpoints=checkpoints, **options)
