"""HTML by small functions; everything that comes from a record is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple


class Html(str):
    """Markup, as opposed to text that is still to be escaped."""

    __slots__ = ()


def text(value: object) -> Html:
    """Markup as it is, anything else escaped."""
    return value if isinstance(value, Html) else Html(escape(str(value), quote=True))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element; ``class_`` and ``aria_label`` become ``class`` and ``aria-label``, ``None`` is left out."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    shown = "".join(f' {key}="{escape(str(value), quote=True)}"' for key, value in given.items())
    return Html(f"<{name}{shown}>{join(children)}</{name}>")


def join(parts: Iterable[object], between: str = "") -> Html:
    """Several pieces as one."""
    return Html(between.join(text(part) for part in parts))


def section(anchor: str, title: str, *children: object) -> Html:
    """A section of the page with its heading."""
    return tag("section", tag("h2", title), *children, id=anchor)


def paragraph(*children: object) -> Html:
    """Prose."""
    return tag("p", *children)


def figure(caption: object, *panels: object, key: object = "", wide: bool = False) -> Html:
    """Panels side by side where there is room, a key of what the colours mean, and one sentence on what to see."""
    grid = tag("div", *panels, class_="panels wide" if wide else f"panels n{len(panels)}")
    return tag("figure", key, grid, tag("figcaption", caption))


def panel(title: object, *children: object) -> Html:
    """One picture of a figure."""
    return tag("div", tag("h3", title), *children, class_="panel")


def details(summary: object, *children: object, open_: bool = False) -> Html:
    """What only some readers want."""
    inner = join([tag("summary", summary), *children])
    return Html(f"<details{' open' if open_ else ''}>{inner}</details>")


class Row(NamedTuple):
    """One line of a table; a heading row has no cells."""

    name: object
    cells: Sequence[object] = ()
    emphasis: bool = False


def table(head: Sequence[object], rows: Sequence[Row], caption: object = "", text_columns: bool = False) -> Html:
    """A table whose first column names the rows; cells are numbers, aligned right, unless ``text_columns``."""
    columns = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    body = [_row(row, len(head)) for row in rows]
    inner = tag("table", tag("thead", columns), tag("tbody", *body), class_="texts" if text_columns else None)
    # Beside the table and not in it: a caption would be as wide as the table, and wider than a phone.
    note = tag("p", caption, class_="note") if caption else ""
    return join([tag("div", inner, class_="scroll", tabindex="0"), note])


def _row(row: Row, width: int) -> Html:
    if not row.cells:
        return tag("tr", tag("th", row.name, colspan=width, scope="colgroup"), class_="group")
    cells = (tag("td", cell) for cell in row.cells)
    return tag("tr", tag("th", row.name, scope="row"), *cells, class_="strong" if row.emphasis else None)


def muted(value: object) -> Html:
    """A remark in smaller, greyer letters."""
    return tag("span", value, class_="muted")
