"""Thin mains: each reads top to bottom and is run as ``python -m experiments.NAME``."""
