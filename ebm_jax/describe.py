"""Every key of a config with its type, value and meaning: what ``--help`` prints."""

import ast
import dataclasses
import inspect
import textwrap
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from ebm_jax.overrides import format_value
from ebm_jax.serialize import Hint, dataclass_members, encode, hints, join, type_name

_UNSET = object()
REQUIRED = "(required)"


class Key(NamedTuple):
    """One settable key: ``value`` is its JSON value or ``(required)``, ``kind`` the union member it belongs to."""

    key: str
    type: str
    value: Any
    doc: str
    kind: str = ""


def keys(config: Any) -> list[Key]:
    """The keys of a config, or of a config class with its defaults.

    A tagged union lists the keys of the member that the config has; a class lists those of every member.
    """
    cls = config if isinstance(config, type) else type(config)
    return _keys(cls, _UNSET if isinstance(config, type) else config, "", "")


def describe(config: Any, width: int = 120) -> str:
    """``keys`` as text: one group of keys after another, documentation wrapped beside them."""
    lines, group = [], None
    for entry in keys(config):
        owner = (entry.key.rpartition(".")[0], entry.kind)
        if owner != group:
            lines += ["", " ".join(filter(None, (owner[0] or "(top)", entry.kind and f"[{entry.kind}]")))]
            group = owner
        shown = format_value(entry.value)
        head = f"  {entry.key}={shown}"
        text = textwrap.wrap(f"{entry.type}. {entry.doc}".strip(), width - 6)
        lines += [head, *(f"      {line}" for line in text)]
    return "\n".join(lines).lstrip("\n")


@cache
def attribute_docs(cls: type) -> dict[str, str]:
    """The string literals that stand under a class's fields, inherited ones included; none without its source."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError, SyntaxError, ValueError):
            continue
        body = getattr(tree, "body", [])
        for field, below in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = below.value.value if _is_text(below) else None
                if text:
                    docs[field.target.id] = " ".join(text.split())
    return docs


def _keys(cls: type, config: Any, prefix: str, kind: str) -> list[Key]:
    plain, groups = [], []
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name, hint in hints(cls).items():
        key, doc = join(prefix, name), attribute_docs(cls).get(name, "")
        value = _default(fields[name]) if config is _UNSET else getattr(config, name)
        choices = dataclass_members(hint)
        if not choices:
            plain.append(Key(key, type_name(hint), _shown(cls, name, value), doc, kind))
            continue
        if len(choices) > 1 or type(None) in getattr(hint, "__args__", ()):
            plain.append(Key(key, type_name(hint), _shown_member(value), doc, kind))
        for member in _members_to_list(config, value, hint):
            label = str(getattr(member, "kind", "")) if len(choices) > 1 else kind
            groups += _keys(member, value if type(value) is member else _UNSET, key, label)
    return plain + groups


def _members_to_list(config: Any, value: Any, hint: Hint) -> list[type]:
    choices = dataclass_members(hint)
    return choices if config is _UNSET or type(value) not in choices else [type(value)]


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return REQUIRED if field.default is dataclasses.MISSING else field.default


def _shown(cls: type, name: str, value: Any) -> Any:
    return REQUIRED if value is REQUIRED else encode(value, hints(cls)[name], name)


def _shown_member(value: Any) -> Any:
    if value is None or value is REQUIRED:
        return value
    return getattr(value, "kind", "{...}")


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
