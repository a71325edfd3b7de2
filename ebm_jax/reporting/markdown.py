"""Markdown tables that also read well in a terminal."""

import unicodedata
from collections.abc import Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to one width, numbers to the right of all but the first."""
    lines = [list(head), *map(list, rows)]
    widths = [max(3, *(_width(line[i]) for line in lines)) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join("| " + " | ".join(_padded(line, widths)) + " |" for line in (lines[0], rule, *lines[1:]))


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    room = [" " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)]
    return [line[0] + room[0], *(space + cell for cell, space in zip(line[1:], room[1:], strict=True))]


def _width(text: str) -> int:
    return sum(not unicodedata.combining(letter) for letter in text)
