"""Configs as plain JSON and back, without loss: what run records store and what overrides edit.

A config is a tree of frozen dataclasses whose annotations say what each field may hold: int, float, bool, str, None,
``Path``, ``Literal``, tuples, lists, dicts, other dataclasses, and unions of these. Where a union has several
dataclasses, each carries ``kind: ClassVar[str]``, and its JSON object says ``"kind"``.
"""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from ebm_jax.errors import UserError

C = TypeVar("C")
Hint: typing.TypeAlias = Any

ABSENT = "<absent>"
"""Stands in a ``Change`` for a key that one side does not have."""
_SPECIAL = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_SEQUENCES = (tuple, list, Sequence)
_MAPPINGS = (dict, Mapping)


class Change(NamedTuple):
    """One key whose value differs between two configs."""

    key: str
    old: Any
    new: Any


def to_dict(config: Any) -> dict[str, Any]:
    """The config as JSON values; raises ``UserError`` for a value that its field's annotation does not allow."""
    return encode(config, type(config), "")


def from_dict(cls: type[C], tree: Mapping[str, Any], prefix: str = "") -> C:
    """Rebuilds what ``to_dict`` wrote; keys that are left out take their defaults.

    Raises ``UserError`` for unknown keys, for values of the wrong type and for fields without default that are missing;
    errors of a dataclass's own ``__post_init__`` pass through.
    """
    known = hints(cls)
    for name in tree:
        if name not in known and name != "kind":
            raise unknown_key(join(prefix, name), known, prefix)
    if "kind" in tree and "kind" not in known and tree["kind"] != getattr(cls, "kind", None):
        raise UserError(f"{join(prefix, 'kind')}={tree['kind']!r} is not {getattr(cls, 'kind', cls.__name__)!r}")
    values = {name: decode(tree[name], hint, join(prefix, name)) for name, hint in known.items() if name in tree}
    for field in dataclasses.fields(typing.cast(Any, cls)):
        if field.init and field.name not in values and not _has_default(field):
            key = join(prefix, field.name)
            raise UserError(f"{key} has no default: give it as {key}=VALUE ({type_name(known[field.name])})")
    return cls(**values)


def fingerprint(config: Any) -> str:
    """Sixteen hexadecimal digits that are equal exactly for equal configs, on every machine."""
    text = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def diff(old: Any, new: Any) -> list[Change]:
    """The keys in which two configs (or their ``to_dict`` forms) differ, with both values as JSON."""
    a, b = (flatten(side if isinstance(side, Mapping) else to_dict(side)) for side in (old, new))
    keys = list(a) + [key for key in b if key not in a]
    pairs = ((key, a.get(key, ABSENT), b.get(key, ABSENT)) for key in keys)
    return [Change(*pair) for pair in pairs if pair[1] != pair[2]]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys and their values; lists and empty objects count as values."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        key = join(prefix, name)
        flat |= flatten(value, key) if isinstance(value, Mapping) and value else {key: value}
    return flat


def hints(cls: Any) -> dict[str, Hint]:
    """The resolved annotations of a dataclass's constructor fields, in order."""
    resolved = typing.get_type_hints(cls)
    return {field.name: resolved[field.name] for field in dataclasses.fields(cls) if field.init}


def members(hint: Hint) -> tuple[Hint, ...]:
    """The alternatives of a union, or the annotation alone."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def dataclass_members(hint: Hint) -> list[type]:
    """The dataclasses among the alternatives of an annotation."""
    return [member for member in members(hint) if isinstance(member, type) and dataclasses.is_dataclass(member)]


def choose_member(tree: Any, hint: Hint, key: str) -> type:
    """The dataclass that a JSON object stands for: the only one of ``hint``, or the one of its ``kind``."""
    choices = dataclass_members(hint)
    kind = tree.get("kind")
    if len(choices) == 1:
        return choices[0]
    kinds = {_kind(choice): choice for choice in choices}
    if kind not in kinds:
        near = get_close_matches(str(kind), kinds, n=1)
        guess = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"{key}.kind={kind!r} is not one of {', '.join(kinds)}{guess}")
    return kinds[kind]


def decode(value: Any, hint: Hint, key: str) -> Any:
    """A JSON value as its annotation wants it; raises ``UserError`` naming key, value and expected type."""
    if isinstance(value, Mapping) and dataclass_members(hint):
        return from_dict(choose_member(value, hint, key), value, key)
    for member in members(hint):
        try:
            return _decode_member(value, member, key)
        except _MismatchError:
            continue
    raise wrong_type(key, value, hint)


def _decode_member(value: Any, hint: Hint, key: str) -> Any:
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is float and isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    if origin is Path and isinstance(value, str):
        return Path(value)
    if origin in _SEQUENCES and isinstance(value, list | tuple):
        items = [decode(item, kind, key) for item, kind in zip(value, _element_hints(args, value), strict=True)]
        return items if origin is list else tuple(items)
    if origin in _MAPPINGS and isinstance(value, Mapping):
        name_hint, item_hint = args or (str, Any)
        return {_decode_name(name, name_hint, key): decode(v, item_hint, join(key, name)) for name, v in value.items()}
    if _is_plain(value, hint):
        return float(value) if origin is float else value
    raise _MismatchError


def _decode_name(name: Any, hint: Hint, key: str) -> Any:
    return decode(int(name) if hint is int and str(name).lstrip("-").isdigit() else name, hint, key)


def encode(value: Any, hint: Hint, key: str) -> Any:
    """The JSON form of a value under an annotation; raises ``UserError`` naming key, value and expected type."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        if hint is not Any and cls not in dataclass_members(hint):
            raise wrong_type(key, value, hint)
        tree = {name: encode(getattr(value, name), h, join(key, name)) for name, h in hints(cls).items()}
        return {"kind": _kind(cls), **tree} if isinstance(getattr(cls, "kind", None), str) else tree
    for member in members(hint):
        try:
            return _encode_member(value, member, key)
        except _MismatchError:
            continue
    raise wrong_type(key, value, hint)


def _encode_member(value: Any, hint: Hint, key: str) -> Any:
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Any and isinstance(value, list | tuple):
        return [encode(item, Any, key) for item in value]
    if origin in _SEQUENCES and isinstance(value, list | tuple):
        return [encode(item, kind, key) for item, kind in zip(value, _element_hints(args, value), strict=True)]
    if origin in (*_MAPPINGS, Any) and isinstance(value, Mapping):
        item_hint = args[1] if args else Any
        return {str(name): encode(item, item_hint, join(key, str(name))) for name, item in value.items()}
    if origin is Path and isinstance(value, Path):
        return str(value)
    if not _is_plain(value, hint):
        raise _MismatchError
    if origin is float:
        value = float(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _is_plain(value: Any, hint: Hint) -> bool:
    if hint is Any:
        return value is None or isinstance(value, bool | int | float | str | list | dict)
    if typing.get_origin(hint) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in typing.get_args(hint))
    if hint is type(None):
        return value is None
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float)
    return hint in (bool, int, str) and isinstance(value, hint)


def _element_hints(args: tuple[Hint, ...], value: Sequence[Any]) -> list[Hint]:
    """The annotation of every element; raises ``_MismatchError`` where a tuple's length is fixed and another."""
    if not args or len(args) == 1 or args[-1] is Ellipsis:
        return [args[0] if args else Any] * len(value)
    if len(args) != len(value):
        raise _MismatchError
    return list(args)


class _MismatchError(Exception):
    """A value does not fit one alternative of an annotation; another may."""


def join(prefix: str, name: Any) -> str:
    """``prefix.name``, or ``name`` at the top."""
    return f"{prefix}.{name}" if prefix else str(name)


def unknown_key(key: str, known: Mapping[str, Any] | Sequence[str], prefix: str, hint: str = "") -> UserError:
    """The error for a key that does not exist, with the nearest that does."""
    # The part that is unknown is the first one after what is known; what follows it may be right.
    unknown, *rest = key.removeprefix(f"{prefix}." if prefix else "").split(".")
    near = get_close_matches(unknown, list(known), n=1, cutoff=0.5)
    guess = hint or (f" Did you mean {'.'.join([join(prefix, near[0]), *rest])!r}?" if near else "")
    return UserError(f"unknown key {key!r}.{guess} Keys {'of ' + prefix if prefix else 'here'}: {', '.join(known)}")


def wrong_type(key: str, value: Any, hint: Hint) -> UserError:
    """The error for a value that its field's annotation does not allow."""
    shown = value if isinstance(value, str) else repr(value)
    return UserError(f"{key}={shown} has the wrong type ({type(value).__name__}): expected {type_name(hint)}")


def type_name(hint: Hint) -> str:
    """An annotation in words for messages and ``--help``."""
    if len(members(hint)) > 1:
        return " or ".join(type_name(member) for member in members(hint))
    if hint is type(None):
        return "none"
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(hint))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return str(getattr(hint, "kind", hint.__name__))
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _kind(cls: type) -> str:
    kind = getattr(cls, "kind", None)
    if not isinstance(kind, str):
        raise TypeError(f"{cls.__name__} is one of several dataclasses in a union and needs `kind: ClassVar[str]`")
    return kind


def _has_default(field: dataclasses.Field) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
