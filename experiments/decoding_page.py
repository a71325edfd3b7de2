"""Writes the table of ways of decoding anew, from the registry of decoders.

usage: python -m experiments.decoding_page [docs/decoding.md]
"""

import sys
from pathlib import Path

from ebm_jax import cli
from ebm_jax.decoders.registry import page
from ebm_jax.training.record import write_atomically


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv)
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    file = Path((parts.positionals or ["docs/decoding.md"])[0])
    write_atomically(file, page(file.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(main))
