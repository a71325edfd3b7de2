"""Layers: pure functions for the arithmetic, small Linen modules for what owns parameters.

``norms`` and ``rope`` are functions; ``attention`` holds the attention operation; ``blocks`` one transformer block with the
two streams of an energy-based transformer; ``stack`` runs the blocks under one ``lax.scan``.
"""
