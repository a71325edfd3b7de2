"""A toy run as a program of its own, for tests that kill it or start two: FOLDER STEPS [SLEEP_S]."""

import os
import sys
import time
from pathlib import Path

import jax
import numpy as np

from ebm_jax.parallel.mesh import MeshConfig
from ebm_jax.parallel.multihost import is_main
from ebm_jax.parallel.processes import initialize
from ebm_jax.rng import root_key
from ebm_jax.training.checkpoints import Checkpoints
from ebm_jax.training.loop import train
from ebm_jax.training.progress import Progress
from tests.training.toy import ToyStream, toy_config, toy_program, toy_start


class Slow(ToyStream):
    pause = 0.0

    def __next__(self):
        time.sleep(self.pause)
        return super().__next__()


def main(folder: str, steps: str, pause: str = "0") -> None:
    initialize()
    config = toy_config(steps=int(steps), checkpoint_every=2, eval_every=3, keep=2)
    mesh = MeshConfig(fsdp=2, rules="fsdp") if jax.device_count() > 1 else MeshConfig()
    program = toy_program(config, mesh, devices=jax.device_count())
    stream = Slow(process=jax.process_index(), count=jax.process_count())
    stream.pause = float(pause)
    with Checkpoints(Path(folder) / "checkpoints", keep=2) as checkpoints:
        start = toy_start(program, checkpoints)
        if is_main():
            print(start.describe(), flush=True)
        result = train(
            program,
            start,
            stream=stream,
            config=config,
            key=root_key(1),
            checkpoints=checkpoints,
            progress=Progress(config.steps, every_s=0.0),
        )
    params = jax.jit(lambda x: x, out_shardings=jax.sharding.NamedSharding(program.mesh, jax.P()))(result.state.params)
    if is_main():
        np.savez(Path(folder) / "params.npz", **{name: np.asarray(value) for name, value in params.items()})
        print(f"done {result.step} {result.stopped_by}", flush=True)


if __name__ == "__main__":
    if os.environ.get("TOY_WARNINGS"):
        import warnings

        warnings.simplefilter("error")
    main(*sys.argv[1:])
