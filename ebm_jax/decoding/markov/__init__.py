"""Metropolis-Hastings over responses: targets, where a response is cut, and whether a proposal is accepted (EBD)."""
