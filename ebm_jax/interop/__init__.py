"""Checkpoints of other programs become our parameters, and back."""
