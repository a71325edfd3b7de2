"""Losses as pure functions that return values per token or ``WeightedSum``s, never means."""
