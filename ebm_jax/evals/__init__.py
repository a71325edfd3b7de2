"""Evaluation: sums over whole splits, reached by the training loop as callables."""
