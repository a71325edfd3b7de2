"""Benchmarks: ratios taken in one run, one file each; ``python -m experiments.bench NAME`` runs one."""
