"""Ablations of energy-based fine-tuning: variants of one method, by names, to be compared side by side."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ebm_jax.algorithms.ebft import EBFTConfig
from ebm_jax.experiment import ExperimentConfig

Variants = dict[str, ExperimentConfig]
GAMMAS, ALPHAS = (0.0, 0.03, 0.1), (0.0, 0.5, 1.0)


def grid(config: ExperimentConfig, whitenings: Sequence[str]) -> Variants:
    """Whitening times gamma times alpha: 18 runs with two whitenings (the EBFT paper's first set), 9 with one (its second)."""
    return {
        f"{'plain' if whiten == 'none' else whiten}_gamma{gamma:g}_alpha{alpha:g}": _with(
            config, whiten=whiten, gamma=gamma, alpha=alpha
        )
        for whiten in whitenings
        for gamma in GAMMAS
        for alpha in ALPHAS
    }


def features(config: ExperimentConfig) -> Variants:
    """What is matched: other depths, norms, poolings, and a network that has learned nothing."""
    depth = config.model.resolved_depth
    changes: dict[str, dict[str, Any]] = {
        "reference": {},
        "depth_quarter": {"depths": (0.25,)},
        "depth_half": {"depths": (0.5,)},
        "depth_three_quarters": {"depths": (0.75,)},
        "depth_last": {"depths": (float(depth),)},
        "norm_per_layer": {"norm": "per_layer"},
        "pool_mean": {"pool": "mean"},
        "pool_concat": {"pool": "concat"},
        "pool_token": {"pool": "token"},
        "network_random": {"weights": "random"},
    }
    return {name: with_features(config, **change) for name, change in changes.items()}


def rollouts(config: ExperimentConfig) -> Variants:
    """How many continuations, how long, how far apart; all of them tile rows of 256 and of 1,024 tokens."""
    places = {
        "reference": {},
        "steps4": {"steps": 4, "stride": 4},
        "steps16": {"steps": 16, "stride": 16, "prefix": 16},
        "stride4": {"stride": 4},
        "stride16": {"stride": 16},
    }
    of = _method(config).anchors
    samples = {f"n{n}": _with(config, samples=n) for n in (2, 8)}
    return {name: _with(config, anchors=replace(of, **change)) for name, change in places.items()} | samples


def with_features(config: ExperimentConfig, **changes: Any) -> ExperimentConfig:
    """An EBFT with another feature network, or with other features of it."""
    return _with(config, features=replace(_method(config).features, **changes))


def _method(config: ExperimentConfig) -> EBFTConfig:
    if not isinstance(config.algorithm, EBFTConfig):
        raise TypeError(f"{config.name} is no EBFT")
    return config.algorithm


def _with(config: ExperimentConfig, **changes: Any) -> ExperimentConfig:
    return replace(config, algorithm=replace(_method(config), **changes))
