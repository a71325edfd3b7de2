"""Configs survive JSON unchanged, and values that the annotations forbid do not get in."""

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from ebm_jax.errors import UserError
from ebm_jax.serialize import ABSENT, Change, diff, fingerprint, from_dict, to_dict


@dataclass(frozen=True, kw_only=True)
class Noise:
    kind: ClassVar[str] = "noise"
    sigma: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Zeros:
    kind: ClassVar[str] = "zeros"


@dataclass(frozen=True, kw_only=True)
class Config:
    steps: int
    rate: float = 1.0
    ceiling: float = math.inf
    start: Noise | Zeros = field(default_factory=Noise)
    stages: tuple[Noise | Zeros, ...] = ()
    pair: tuple[int, str] = (1, "a")
    layers: list[int] = field(default_factory=list)
    by_depth: dict[int, float] = field(default_factory=dict)
    mode: Literal["a", 3] = "a"
    path: Path | None = None
    anything: Any = None


FULL = Config(
    steps=3,
    rate=2,
    start=Zeros(),
    stages=(Noise(sigma=0.5), Zeros()),
    pair=(2, "b"),
    layers=[1, 2],
    by_depth={1: 0.5},
    mode=3,
    path=Path("a/b"),
    anything={"x": [1, None]},
)


@pytest.mark.parametrize("config", [Config(steps=1), FULL], ids=["defaults", "full"])
def test_round_trip_through_json(config: Config):
    text = json.dumps(to_dict(config), allow_nan=False)
    assert from_dict(Config, json.loads(text)) == config


def test_nan_travels():
    (value,) = (from_dict(Noise, json.loads(json.dumps(to_dict(Noise(sigma=math.nan)), allow_nan=False))).sigma,)
    assert math.isnan(value)


def test_left_out_keys_take_their_defaults():
    assert from_dict(Config, {"steps": 1}) == Config(steps=1)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "steps has no default: give it as steps=VALUE (int)"),
        ({"steps": 1, "rat": 2.0}, "Did you mean 'rate'"),
        ({"steps": "1"}, "steps=1 has the wrong type (str): expected int"),
        ({"steps": True}, "steps=True has the wrong type (bool): expected int"),
        ({"steps": 1.0}, "expected int"),
        (
            {"steps": 1, "start": {"kind": "nois"}},
            "start.kind='nois' is not one of noise, zeros (did you mean 'noise'?)",
        ),
        ({"steps": 1, "start": {"kind": "noise", "sigma": "big"}}, "start.sigma=big has the wrong type"),
        ({"steps": 1, "pair": [1]}, "pair=[1] has the wrong type (list): expected tuple[int, str]"),
        ({"steps": 1, "mode": "b"}, "expected one of a, 3"),
    ],
)
def test_bad_trees(tree: dict, message: str):
    with pytest.raises(UserError) as caught:
        from_dict(Config, tree)
    assert message in str(caught.value)


def test_a_config_with_values_of_the_wrong_type_is_refused():
    with pytest.raises(UserError, match=r"start\.sigma=a lot has the wrong type"):
        to_dict(Config(steps=1, start=Noise(sigma="a lot")))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="expected noise or zeros"):
        to_dict(Config(steps=1, start=Config(steps=2)))  # type: ignore[arg-type]


def test_diff_lists_changed_keys():
    assert diff(FULL, FULL) == []
    assert diff(FULL, replace(FULL, steps=4, start=Noise())) == [
        Change("steps", 3, 4),
        Change("start.kind", "zeros", "noise"),
        Change("start.sigma", ABSENT, 1.0),
    ]
    assert diff(to_dict(FULL), replace(FULL, layers=[])) == [Change("layers", [1, 2], [])]


def test_equal_configs_have_equal_fingerprints():
    assert fingerprint(Config(steps=1, rate=2)) == fingerprint(Config(steps=1, rate=2.0))
    assert fingerprint(FULL) != fingerprint(replace(FULL, steps=4))
    assert fingerprint(Noise()) == "d02bdf75ae2b3f7d"
