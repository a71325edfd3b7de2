"""One process of a small cluster: joins as ``argv[1]`` says, then meets the others, or comes late by ``argv[2]`` seconds."""

import socket
import sys
import time

from ebm_jax import cli
from ebm_jax.parallel import processes


def main(argv: list[str]) -> int:
    how, late = argv
    assert processes.initialize(how)
    import jax

    print(f"process {jax.process_index()} of {jax.process_count()} on {socket.gethostname()}", flush=True)
    time.sleep(float(late))
    processes.barrier("first")
    processes.barrier("again", timeout=60)
    processes.barrier("again", timeout=2 if float(late) == 0 else 60)
    if float(late) < 0.5:
        processes.barrier("nobody else comes here", timeout=1)
    time.sleep(3)
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(main))
