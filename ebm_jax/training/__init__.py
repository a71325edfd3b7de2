"""Training: the state, the step, the loop, checkpoints, and where a run begins."""
