"""A rollout over all devices as a program of its own, for a test that starts two: FILE."""

import sys

import jax
import numpy as np

from ebm_jax.parallel import rules
from ebm_jax.parallel.mesh import MeshConfig, make_mesh
from ebm_jax.parallel.multihost import is_main, to_global
from ebm_jax.parallel.processes import initialize


def main(file: str) -> None:
    initialize()
    from tests.decoding.test_rollout import MANY, WARM, packed, sampled, small  # makes arrays

    algorithm, params = small()
    mesh = make_mesh(MeshConfig())
    batch = {name: np.asarray(x) for name, x in packed(MANY).items()}
    local = len(MANY) // jax.process_count()
    mine = slice(jax.process_index() * local, (jax.process_index() + 1) * local)
    whole = jax.sharding.NamedSharding(mesh, jax.P())
    with rules.use(mesh, "ddp"):
        rows = to_global({name: x[mine] for name, x in batch.items()}, mesh)
        params = jax.device_put(jax.tree.map(np.asarray, params), whole)
        run = jax.jit(lambda params, rows: sampled(algorithm.model, params, rows, WARM), out_shardings=whole)
        made = run(params, rows)
    if is_main():
        np.savez(file, tokens=np.asarray(made.tokens), log_probs=np.asarray(made.log_probs))


if __name__ == "__main__":
    main(*sys.argv[1:])
