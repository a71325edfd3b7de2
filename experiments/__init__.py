"""Entry points: each module is a thin ``main`` over ``ebm_jax``, run as ``python -m experiments.NAME``."""

import sys

from ebm_jax.huge_pages import ask_again

# What Python calls a program given by ``-m`` until it has found it: nothing has been imported or written yet.
if sys.argv[0] == "-m":
    ask_again()
