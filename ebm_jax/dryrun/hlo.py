"""A compiled program as XLA prints it: computations, their instructions, and which calls which."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

BITS = {"pred": 8, "token": 0, "opaque": 0}
"""Of types whose names do not say it."""
_ARRAY = re.compile(r"([a-z]\w*)\[([^\]]*)\](?:\{([^{}]*)\})?")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|branch_computations|called_computations)=(\{[^}]*\}|%?[\w.-]+)")
_NAMED = re.compile(r"%?([\w.-]+)$")
_TRIPS = re.compile(r'"known_trip_count":\s*\{\s*"n":\s*"?(\d+)')


@dataclass(frozen=True)
class Shape:
    """An array: its type, sizes, and layout as printed."""

    dtype: str
    sizes: tuple[int, ...]
    layout: str = ""

    @property
    def elements(self) -> int:
        return math.prod(self.sizes)

    @property
    def bytes(self) -> float:
        """Without what its tiles are padded by."""
        digits = re.search(r"\d+", self.dtype)
        bits = BITS[self.dtype] if self.dtype in BITS else int(digits[0]) if digits else 0
        return self.elements * bits / 8

    @property
    def in_main_memory(self) -> bool:
        """Whether it lies in the device's large memory; a layout names other places, ``S(1)`` the vector memory of a TPU."""
        return "S(" not in self.layout


@dataclass(frozen=True)
class Instruction:
    """One line; ``shapes`` has the arrays of a tuple one by one."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    """Names of instructions in the same computation; of a parameter, its number; of a constant, its value."""
    attributes: str
    root: bool

    @property
    def bytes(self) -> float:
        return sum(shape.bytes for shape in self.shapes)

    @property
    def main_bytes(self) -> float:
        """Those of ``shapes`` that lie in main memory."""
        return sum(shape.bytes for shape in self.shapes if shape.in_main_memory)

    @cached_property
    def calls(self) -> dict[str, tuple[str, ...]]:
        """Names of computations by what they are to this instruction: ``body``, ``calls`` and so on."""
        found = {}
        for kind, text in _CALLED.findall(self.attributes):
            found[kind] = tuple(name.strip().lstrip("%") for name in text.strip("{}").split(",") if name.strip())
        return found

    @cached_property
    def trips(self) -> int | None:
        """How often the body of a loop runs, where the compiler knows it."""
        known = _TRIPS.search(self.attributes)
        return int(known[1]) if known else None

    def attribute(self, name: str) -> str:
        """The text of ``name=...``, without it; empty where there is none."""
        at = re.search(rf"(?:^|, ){name}=", self.attributes)
        return self.attributes[at.end() : _end(self.attributes, at.end(), ",")] if at else ""


@dataclass
class Computation:
    """Instructions by name, in the order in which they stand."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)

    @property
    def root(self) -> Instruction:
        return next(one for one in self.instructions.values() if one.root)

    @cached_property
    def parameters(self) -> dict[int, Instruction]:
        """By number."""
        return {int(one.operands[0]): one for one in self.instructions.values() if one.opcode == "parameter"}

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Who reads an instruction."""
        found: dict[str, list[Instruction]] = {}
        for one in self.instructions.values():
            for operand in dict.fromkeys(one.operands):
                found.setdefault(operand, []).append(one)
        return found


@dataclass(frozen=True)
class Module:
    """A program's computations by name; ``entry`` is where it begins."""

    computations: dict[str, Computation]
    entry: str
    partitions: int = 1
    """Devices that run it together."""


def read_module(text: str) -> Module:
    """Parses ``compiled.as_text()``.

    Raises:
      ValueError: the text has no entry computation.
    """
    computations, entry, current = dict[str, Computation](), "", None
    together = re.search(r"\b(?:num_partitions|replica_count)=(\d+)", text.partition("\n")[0])
    for line in text.splitlines():
        if current is None:
            if line.endswith("{") and not line.startswith((" ", "HloModule")):
                name = line.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%")
                current = computations[name] = Computation(name)
                entry = name if line.startswith("ENTRY") else entry
        elif line.startswith("}"):
            current = None
        elif (one := read_instruction(line)) is not None:
            current.instructions[one.name] = one
    if not entry:
        raise ValueError("this is no HLO module: there is no ENTRY computation")
    return Module(computations, entry, int(together[1]) if together else 1)


def read_instruction(line: str) -> Instruction | None:
    """One line ``[ROOT] %name = shape opcode(operands), attributes``; None where it is something else."""
    head, equals, rest = re.sub(r"/\*.*?\*/", "", line).strip().partition(" = ")
    if not equals:
        return None
    shape_end = _end(rest, 0, " ")
    shape, rest = rest[:shape_end], rest[shape_end + 1 :]
    opcode, _, rest = rest.partition("(")
    inside = _end(rest, 0, ")")
    operands = [text for text in _split(rest[:inside]) if text]
    if opcode not in ("parameter", "constant"):
        # Operands may be printed behind their shapes.
        operands = [match[1] for text in operands if (match := _NAMED.search(text))]
    return Instruction(
        name=head.removeprefix("ROOT ").lstrip("%"),
        opcode=opcode,
        shapes=tuple(_shapes(shape)),
        operands=tuple(operands),
        attributes=rest[inside + 1 :].removeprefix(",").strip(),
        root=head.startswith("ROOT "),
    )


def _shapes(text: str) -> Iterator[Shape]:
    for dtype, sizes, layout in _ARRAY.findall(text):
        numbers = (size.strip().removeprefix("<=") for size in sizes.split(","))
        yield Shape(dtype, tuple(int(number) for number in numbers if number), layout)


def _split(text: str) -> Iterator[str]:
    """Parts between commas that stand in no bracket."""
    start = 0
    while start <= len(text):
        end = _end(text, start, ",")
        yield text[start:end].strip()
        start = end + 1


def _end(text: str, start: int, mark: str) -> int:
    """Where ``mark`` stands first outside of brackets and quotes, from ``start`` on; the text's end where it does not."""
    depth, quoted, at = 0, False, start
    while at < len(text):
        letter = text[at]
        if letter == '"' and text[at - 1 : at] != "\\":
            quoted = not quoted
        elif not quoted:
            if depth == 0 and letter == mark:
                return at
            depth += (letter in "([{") - (letter in ")]}")
        at += 1
    return at
