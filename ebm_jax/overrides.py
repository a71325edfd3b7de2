"""``key=value`` on a config: the one engine behind the command line and sweeps.

All overrides are applied to the config's JSON form and the dataclasses are built once, afterwards. Two settings that
are only valid together may therefore be given in either order.

>>> override(config, ["optim.peak_lr=3e-4", "model.depth=8", "algorithm=ebt", "algorithm.descent.landscapes=4"])
"""

import json
import types
import typing
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

from ebm_jax.errors import UserError
from ebm_jax.serialize import (
    Hint,
    choose_member,
    dataclass_members,
    from_dict,
    hints,
    join,
    members,
    to_dict,
    type_name,
    unknown_key,
)

C = TypeVar("C")

_NONE = ("none", "null")
_BOOLS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_MAX_DIGITS = 30
_PRECISION_ORDER = (types.NoneType, Literal, int, float, bool)
"""In a union the narrowest type that can read the text wins; text itself comes last."""


def override(config: C, assignments: Sequence[str]) -> C:
    """A new config with each ``key=value`` applied in order.

    Values are read by the field's annotation: ``1e3`` is an int where it is exact, ``none`` is None where that is
    allowed, ``a,b`` or ``[a, b]`` is a tuple or list, ``{a: 1}`` a dict; in a dict of configs, ``NAME.key`` is a key of one of
    them. ``algorithm=ebt`` (or ``algorithm.kind=ebt``) replaces a member of a tagged union by that member's defaults;
    later assignments then set its keys. Raises ``UserError`` for unknown keys (with the nearest key), for values of the
    wrong type, and whatever the config's own checks raise.
    """
    cls = type(config)
    tree = to_dict(config)
    for assignment in assignments:
        key, text = split_assignment(assignment)
        _assign(tree, cls, key.split("."), "", text, key)
    return from_dict(cls, tree)


def split_assignment(assignment: str) -> tuple[str, str]:
    """``key=value`` as its two sides; raises ``UserError`` for anything else."""
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise UserError(f"{assignment!r} is not of the form key=value, as in optim.peak_lr=3e-4")
    return key.strip(), text.strip()


def parse(text: str, hint: Hint, key: str) -> Any:
    """The JSON value that ``text`` is under an annotation; raises ``UserError`` naming key, text and expected type."""
    try:
        return _parse(text, hint, key)
    except ValueError:
        raise UserError(f"{key}={text} cannot be read as {type_name(hint)}") from None


def format_value(value: Any) -> str:
    """The text that ``parse`` reads back as this value; tuples, lists and dicts in the notation of JSON."""
    if value is None:
        return "none"
    if isinstance(value, str):
        ambiguous = value.lower() in _NONE or value != value.strip() or value[:1] in ('"', "'")
        return f'"{value}"' if ambiguous else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quote(str(k))}: {_format_item(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_format_item(item) for item in value) + "]"
    return repr(value)


def _format_item(value: Any) -> str:
    return _quote(value) if isinstance(value, str) else format_value(value)


def _quote(text: str) -> str:
    return f"'{text}'" if '"' in text else f'"{text}"'


def _assign(tree: dict[str, Any], cls: type, path: list[str], prefix: str, text: str, key: str) -> None:
    """Sets ``path`` (relative to ``prefix``) in the JSON object ``tree`` of dataclass ``cls``."""
    name, *rest = path
    known = hints(cls)
    if name not in known:
        raise unknown_key(key, known, prefix, _elsewhere(cls, prefix, path, key))
    hint, here = known[name], join(prefix, name)
    choices = dataclass_members(hint)
    if not rest:
        tree[name] = _select(text, choices, hint, here) if choices else parse(text, hint, here)
    elif rest == ["kind"] and len(choices) > 1:
        tree[name] = _select(text, choices, hint, here)
    elif choices:
        if not isinstance(tree.get(name), dict):
            tree[name] = _defaults(choices, here)
        member = choose_member(tree[name], hint, here)
        if rest[0] not in hints(member):
            raise unknown_key(key, hints(member), here, _other_kind(choices, member, rest[0], here))
        _assign(tree[name], member, rest, here, text, key)
    else:
        _assign_item(tree, name, hint, rest, here, text)


def _assign_item(tree: dict[str, Any], name: str, hint: Hint, rest: list[str], here: str, text: str) -> None:
    mappings = [member for member in members(hint) if typing.get_origin(member) in (dict, Mapping) or member is dict]
    if not mappings:
        raise UserError(f"{join(here, '.'.join(rest))}: {here} has no keys of its own; it is {type_name(hint)}")
    if not isinstance(tree.get(name), dict):
        tree[name] = {}
    item_hint = (typing.get_args(mappings[0]) or (str, Any))[1]
    item, choices, items = ".".join(rest), dataclass_members(item_hint), tree[name]
    if not choices:
        items[item] = parse(text, item_hint, join(here, item))
        return
    # Names may have dots themselves: the longest one that fits is meant.
    owner = max((known for known in items if f"{item}.".startswith(f"{known}.")), key=len, default=None)
    if owner is None:
        raise unknown_key(join(here, item), items, here)
    inside = join(here, owner)
    if item == owner:
        items[owner] = _select(text, choices, item_hint, inside)
    else:
        path = item.removeprefix(f"{owner}.").split(".")
        _assign(items[owner], choose_member(items[owner], item_hint, inside), path, inside, text, join(here, item))


def _select(text: str, choices: list[type], hint: Hint, key: str) -> Any:
    """The JSON form of a whole dataclass: a kind's name, a JSON object, or none."""
    if text.lower() in _NONE and type(None) in members(hint):
        return None
    if text.startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{key}={text} is not a JSON object: {error}") from None
    kinds = [choice.kind for choice in choices if isinstance(getattr(choice, "kind", None), str)]
    if text in kinds:
        return {"kind": text}
    if kinds:
        near = get_close_matches(text, kinds, n=1)
        guess = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"{key}={text} is not one of {', '.join(kinds)}{guess}")
    keys = ", ".join(hints(choices[0]))
    raise UserError(f"{key}={text}: {key} is a group of keys; set one of them, as in {key}.KEY=VALUE. Keys: {keys}")


def _defaults(choices: list[type], key: str) -> dict[str, Any]:
    if len(choices) > 1:
        kinds = ", ".join(str(choice.kind) for choice in choices)
        raise UserError(f"{key} is none: choose one of {kinds} first, as in {key}=KIND")
    return {}


def _other_kind(choices: list[type], current: type, name: str, key: str) -> str:
    owners = [str(choice.kind) for choice in choices if choice is not current and name in hints(choice)]
    if not owners:
        return ""
    return f" {key} is {current.kind!r} here; {name!r} belongs to {', '.join(owners)}: put {key}={owners[0]} before it."


def _elsewhere(cls: type, prefix: str, path: list[str], key: str) -> str:
    """Where a key of that name lives, when the user left out the group before it."""
    if prefix:
        return ""
    found = [
        join(name, ".".join(path))
        for name, hint in hints(cls).items()
        for member in dataclass_members(hint)
        if path[0] in hints(member)
    ]
    return f" Did you mean {found[0]!r}?" if found and not get_close_matches(path[0], hints(cls), cutoff=0.8) else ""


def _rank(hint: Hint) -> int:
    origin = typing.get_origin(hint) or hint
    if origin in _PRECISION_ORDER:
        return _PRECISION_ORDER.index(origin)
    return len(_PRECISION_ORDER) + (origin in (str, Path, Any))


def _parse(text: str, hint: Hint, key: str) -> Any:
    for member in sorted(members(hint), key=_rank):
        try:
            return _parse_member(text, member, key)
        except ValueError:
            continue
    raise ValueError


def _parse_member(text: str, hint: Hint, key: str) -> Any:
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Literal:
        return _parse_literal(text, args)
    if origin is type(None):
        return _require(None, text.lower() in _NONE)
    if origin is bool:
        return _require(_BOOLS.get(text.lower()), text.lower() in _BOOLS)
    if origin is int:
        return _parse_int(text)
    if origin is float:
        return _parse_float(text)
    if origin in (str, Path):
        return _unquote(text)
    if origin in (tuple, list, Sequence):
        items = _split(_strip_brackets(text, "([", ")]"))
        fixed = origin is tuple and len(args) > 1 and args[-1] is not Ellipsis
        kinds = list(args) if fixed else [args[0] if args else Any] * len(items)
        return [_parse(item, kind, key) for item, kind in zip(items, kinds, strict=True)]
    if origin in (dict, Mapping):
        item_hint = args[1] if args else Any
        pairs = [_split_pair(item) for item in _split(_strip_brackets(text, "{", "}"))]
        return {name: _parse(value, item_hint, join(key, name)) for name, value in pairs}
    if dataclass_members(hint):
        return _select(text, dataclass_members(hint), hint, key)
    if hint is Any:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    raise TypeError(f"{key}: configs cannot hold {type_name(hint)}")


def _parse_literal(text: str, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if str(choice) == _unquote(text) or (isinstance(choice, bool) and str(choice).lower() == text.lower()):
            return choice
    raise ValueError


def _parse_int(text: str) -> int:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError from None
    _require(None, number.is_finite() and number.adjusted() < _MAX_DIGITS and number == number.to_integral_value())
    return int(number)


def _parse_float(text: str) -> float | str:
    value = float(text)
    # JSON has no infinities: they travel as text.
    return value if value - value == 0 else str(value)


def _require(value: Any, ok: bool) -> Any:
    if not ok:
        raise ValueError
    return value


def _unquote(text: str) -> str:
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def _strip_brackets(text: str, opening: str, closing: str) -> str:
    for left, right in zip(opening, closing, strict=True):
        if text.startswith(left) and text.endswith(right):
            return text[1:-1].strip()
    _require(None, opening != "{")
    return text


def _split(text: str, separator: str = ",") -> list[str]:
    """The parts between separators that stand outside brackets and quotes; a trailing separator adds none."""
    parts, depth, quote, start = [], 0, "", 0
    for i, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == separator and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def _split_pair(item: str) -> tuple[str, str]:
    for separator in ":=":
        name, *value = _split(item, separator)
        if value:
            return _unquote(name), separator.join(value)
    raise ValueError
