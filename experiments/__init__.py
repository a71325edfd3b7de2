"""Entry points: each module is a thin ``main`` over ``ebm_jax``, run as ``python -m experiments.NAME``."""
