"""Training methods: where models, losses, energy and decoding meet. Each is one small file; none forks the loop."""
