"""The key listing shows each key once, with its type, value and the text under the field."""

from dataclasses import dataclass, field
from typing import ClassVar

from ebm_jax.describe import REQUIRED, Key, attribute_docs, describe, keys


@dataclass(frozen=True, kw_only=True)
class Base:
    seed: int = 0
    """Seeds
    everything."""


@dataclass(frozen=True, kw_only=True)
class Small:
    kind: ClassVar[str] = "small"
    """Not a key."""
    width: int = 8
    """Of each layer."""


@dataclass(frozen=True, kw_only=True)
class Large:
    kind: ClassVar[str] = "large"
    depth: int | None = None


@dataclass(frozen=True, kw_only=True)
class Config(Base):
    name: str
    model: Small | Large = field(default_factory=Small)
    backup: Small | None = None


def test_a_class_lists_every_member():
    assert keys(Config) == [
        Key("seed", "int", 0, "Seeds everything."),
        Key("name", "str", REQUIRED, ""),
        Key("model", "small or large", "small", ""),
        Key("backup", "small or none", None, ""),
        Key("model.width", "int", 8, "Of each layer.", "small"),
        Key("model.depth", "int or none", None, "", "large"),
        Key("backup.width", "int", 8, "Of each layer."),
    ]


def test_a_config_lists_its_own_member_and_values():
    listed = {key.key: key.value for key in keys(Config(name="x", model=Large(depth=3)))}
    assert listed["model.depth"] == 3 and listed["name"] == "x" and "model.width" not in listed


def test_text():
    text = describe(Config)
    assert "  seed=0\n      int. Seeds everything." in text
    assert "  backup=none\n" in text
    assert "model [large]\n  model.depth=none\n" in text


def test_docs_of_a_class_without_source():
    assert attribute_docs(type("Made", (), {})) == {}
