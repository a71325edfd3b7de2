"""Overrides: typed values, unions, containers, and messages that name the key and the fix."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from ebm_jax.errors import UserError
from ebm_jax.overrides import format_value, override, parse


@dataclass(frozen=True, kw_only=True)
class Replay:
    capacity: int = 0
    fraction: float = 0.0

    def __post_init__(self) -> None:
        if self.fraction > 0 and self.capacity == 0:
            raise UserError(f"fraction={self.fraction} needs a capacity")


@dataclass(frozen=True, kw_only=True)
class EBT:
    kind: ClassVar[str] = "ebt"
    landscapes: int = 2
    replay: Replay = field(default_factory=Replay)


@dataclass(frozen=True, kw_only=True)
class LM:
    kind: ClassVar[str] = "lm"
    smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Optim:
    peak_lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float | None = 1.0
    milestones: tuple[int, ...] = ()
    schedule: Literal["cosine", "constant"] = "cosine"


@dataclass(frozen=True, kw_only=True)
class Eval:
    steps: int = 10


@dataclass(frozen=True, kw_only=True)
class Config:
    name: str = "run"
    seed: int = 0
    fast: bool = False
    algorithm: EBT | LM = field(default_factory=EBT)
    optim: Optim = field(default_factory=Optim)
    eval: Eval | None = None
    tags: list[str] = field(default_factory=list)
    axes: dict[str, int] = field(default_factory=dict)
    note: str | None = None
    limit: int | Literal["auto"] = "auto"
    folder: Path = Path("runs")
    extra: dict[str, Any] = field(default_factory=dict)


def test_sets_values_by_annotation():
    new = override(
        Config(),
        ["name=none", "seed=1e3", "fast=true", "optim.peak_lr=3e-4", "optim.betas=(0.8, 0.9)", "optim.clip=none"]
        + ["optim.milestones=[1, 2,3]", "optim.schedule=constant", "tags=a,b c", "axes={data: 4, 'model': 2}"]
        + ["limit=7", "folder=/data/x", "extra={a: [1, 2], b: hello}", "note=a=b"],
    )
    assert new == Config(
        name="none",
        seed=1000,
        fast=True,
        optim=Optim(peak_lr=3e-4, betas=(0.8, 0.9), clip=None, milestones=(1, 2, 3), schedule="constant"),
        tags=["a", "b c"],
        axes={"data": 4, "model": 2},
        limit=7,
        folder=Path("/data/x"),
        extra={"a": [1, 2], "b": "hello"},
        note="a=b",
    )
    assert isinstance(new.seed, int) and isinstance(new.optim.milestones, tuple)


def test_the_config_itself_stays():
    config = Config()
    override(config, ["tags=a", "axes.data=2"])
    assert config == Config()


def test_order_of_settings_that_need_each_other_does_not_matter():
    for keys in (["fraction=0.5", "capacity=8"], ["capacity=8", "fraction=0.5"]):
        replay = override(Config(), [f"algorithm.replay.{key}" for key in keys]).algorithm.replay
        assert replay == Replay(capacity=8, fraction=0.5)
    with pytest.raises(UserError, match="needs a capacity"):
        override(Config(), ["algorithm.replay.fraction=0.5"])


@pytest.mark.parametrize("key", ["algorithm", "algorithm.kind"])
def test_a_kind_replaces_the_member_by_its_defaults(key: str):
    tuned = Config(algorithm=EBT(landscapes=5))
    assert override(tuned, [f"{key}=lm", "algorithm.smoothing=0.1"]).algorithm == LM(smoothing=0.1)
    assert override(tuned, [f"{key}=ebt"]).algorithm == EBT()
    whole = override(tuned, ['algorithm={"kind": "lm", "smoothing": 0.2}'])
    assert whole.algorithm == LM(smoothing=0.2)


def test_an_optional_group_appears_when_a_key_of_it_is_set():
    on = override(Config(), ["eval.steps=3"])
    assert on.eval == Eval(steps=3)
    assert override(on, ["eval=none"]).eval is None


def test_a_key_of_a_dict():
    assert override(Config(axes={"data": 1}), ["axes.model=2"]).axes == {"data": 1, "model": 2}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optim.peek_lr=1", "unknown key 'optim.peek_lr'. Did you mean 'optim.peak_lr'? Keys of optim: peak_lr, betas"),
        ("peak_lr=1", "Did you mean 'optim.peak_lr'"),
        ("sed=1", "Did you mean 'seed'"),
        ("algorithm.smoothing=1", "'smoothing' belongs to lm: put algorithm=lm before it"),
        ("algorithm=ebtt", "algorithm=ebtt is not one of ebt, lm (did you mean 'ebt'?)"),
        ("seed=1.5", "seed=1.5 cannot be read as int"),
        ("seed=1e-3", "seed=1e-3 cannot be read as int"),
        ("seed=inf", "seed=inf cannot be read as int"),
        ("seed=1e400", "seed=1e400 cannot be read as int"),
        ("seed=true", "seed=true cannot be read as int"),
        ("fast=maybe", "fast=maybe cannot be read as bool"),
        ("optim.clip=x", "optim.clip=x cannot be read as float or none"),
        ("optim.betas=0.9", "cannot be read as tuple[float, float]"),
        ("optim.milestones=1,b", "optim.milestones=1,b cannot be read as tuple[int, ...]"),
        ("optim.schedule=linear", "cannot be read as one of cosine, constant"),
        ("optim=3", "set one of them, as in optim.KEY=VALUE"),
        ("seed.x=3", "seed has no keys of its own"),
        ("seed", "'seed' is not of the form key=value"),
        ("=3", "is not of the form key=value"),
        ('algorithm={"kind"', "is not a JSON object"),
    ],
)
def test_mistakes_name_the_key_and_the_fix(assignment: str, message: str):
    with pytest.raises(UserError) as caught:
        override(Config(), [assignment])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (3, int),
        (3e-4, float),
        (True, bool),
        (None, int | None),
        ("none", str | None),
        ("", str),
        (" padded ", str),
        ([1, 2], tuple[int, ...]),
        (["a, b", "c"], tuple[str, ...]),
        ([[1, 2], [3]], tuple[tuple[int, ...], ...]),
        ({"a": 1}, dict[str, int]),
        ({"a:b": "x,y"}, dict[str, str]),
        ([], list[int]),
    ],
)
def test_formatted_values_read_back(value: Any, hint: Any):
    assert parse(format_value(value), hint, "key") == value


@dataclass(frozen=True, kw_only=True)
class Several:
    runs: dict[str, Config] = field(default_factory=lambda: {"a": Config(), "a.b": Config(), "c": Config()})
    seeds: tuple[int, ...] = (0,)


def test_configs_in_a_dict_are_named_by_their_place():
    several = override(Several(), ["runs.a.optim.peak_lr=2", "runs.c.algorithm=lm", "runs.c.algorithm.smoothing=0.5"])
    assert several.runs["a"].optim.peak_lr == 2.0 and several.runs["c"].algorithm == LM(smoothing=0.5)
    assert several.runs["a.b"] == Config() and override(Several(), ["seeds=1,2"]).seeds == (1, 2)
    assert override(Several(), ["runs.a.b.seed=3"]).runs["a.b"].seed == 3, "the longest name that fits is meant"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("runs.d.seed=1", r"unknown key 'runs.d.seed'"),
        ("runs.c.sede=1", r"unknown key 'runs.c.sede'.*Did you mean 'runs.c.seed'"),
        ("runs.c.algorithm.smoothing=1", r"'smoothing' belongs to lm: put runs.c.algorithm=lm before it"),
        ("runs.c=1", r"runs.c=1: runs.c is a group of keys"),
        ("runs.c.seed=x", r"runs.c.seed=x cannot be read as int"),
    ],
)
def test_bad_keys_of_configs_in_a_dict(assignment, message):
    with pytest.raises(UserError, match=message):
        override(Several(), [assignment])
