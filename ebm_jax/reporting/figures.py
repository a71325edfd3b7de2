"""Plots as SVG whose colours and letters are the page's own: matplotlib draws in stand-in colours, CSS fills them in."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ebm_jax.data.extras import require
from ebm_jax.reporting.markup import Html, tag, text
from ebm_jax.reporting.numbers import si
from ebm_jax.reporting.theme import SERIES_LIGHT

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
_NAMES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"}
_MARKERS = "os^Dv*"

Draw = Callable[[Any], None]
"""Draws into matplotlib axes."""


def colour(index: int) -> str:
    """The stand-in colour of the run at this place."""
    return f"#05{index % len(SERIES_LIGHT):02x}05"


def marker(index: int) -> str:
    """The marker of the run at this place."""
    return _MARKERS[index % len(_MARKERS)]


def plot(name: str, about: str, draw: Draw, *, width: float = 4.8, height: float = 3.2) -> Html:
    """What ``draw(axes)`` draws, as an inline SVG of that many inches at its natural size.

    ``name`` must be unique in the page; ``about`` is read out where the picture cannot be seen. Raises ``UserError``
    where matplotlib is missing.
    """
    matplotlib = require("matplotlib", "log", "the report's pictures")
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        draw(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _inline(file.getvalue(), name, about)


def key(entries: Sequence[tuple[object, int | None, str]]) -> Html:
    """What lines mean: (label, run's place or None for grey, ``line``, ``dashed``, ``dotted`` or ``mark``)."""
    return tag("ul", *(tag("li", _sample(index, how), label) for label, index, how in entries), class_="key")


def quantity_axis(axis: Any, unit: str = "") -> None:
    """Ticks as 200 k, 1.5 M."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, unit)))


def _tick(value: float, unit: str) -> str:
    number, _, prefix = si(value, unit).partition("\u00a0")
    return f"{float(number):g} {prefix}".rstrip()


def log_quantity_axis(axis: Any, unit: str = "") -> None:
    """A logarithmic axis with ticks at 1, 2 and 5 times powers of ten, thinned where they would crowd."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.7 else (1, 3) if decades < 2.6 else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    quantity_axis(axis, unit)


def step_axis(axes: Any, most: int, label: str) -> None:
    """Whole numbers from 1 to ``most`` along x."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    stride = next(s for s in (1, 2, 4, 8, 16, 32, 64, 10**9) if most / s <= 12)
    ticks = [1, *range(stride, most + 1, stride)] if stride > 1 else list(range(1, most + 1))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.set_xlim(1 - 0.04 * most, most + 0.04 * most)
    axes.set_xlabel(label)


def rule(axes: Any, value: float | None, label: str) -> None:
    """A dashed grey line across, with its name on it."""
    if value is None:
        return
    axes.axhline(value, color=MUTED, lw=1.1, dashes=(4, 3), zorder=1.5)
    place = {"xy": (1, value), "xycoords": ("axes fraction", "data"), "xytext": (-2, 3.5)}
    axes.annotate(label, **place, textcoords="offset points", annotation_clip=True, **_RULE_TEXT)


def _sample(index: int | None, how: str) -> Html:
    stroke = "var(--muted)" if index is None else f"var(--c{index % len(SERIES_LIGHT)})"
    if how == "mark":
        shape = f'<circle cx="13" cy="6" r="4" fill="none" stroke="{stroke}" stroke-width="1.6"/>'
    else:
        dashes = {"dashed": ' stroke-dasharray="5 3"', "dotted": ' stroke-dasharray="1.5 2.5"'}.get(how, "")
        shape = f'<path d="M0 6H26" stroke="{stroke}" stroke-width="2.4"{dashes}/>'
    return Html(f'<svg width="26" height="12" aria-hidden="true">{shape}</svg>')


def _inline(svg: str, name: str, about: str) -> Html:
    """Only the drawing: no prologue, no style of its own, identifiers that no other plot of the page has."""
    name = re.sub(r"[^\w-]+", "-", name)
    svg = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="[^"]*"', svg)
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r"<style.*?</style>|<metadata.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", body)
    # The page chooses the typeface; which form the size comes in depends on matplotlib's version.
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r"font: [^;\"]*?([\d.]+px)[^;\"]*", r"font-size: \1", body)
    body = re.sub(r"#05([0-9a-f]{2})05", lambda found: f"var(--c{int(found[1], 16)})", body)
    for stand_in, variable in _NAMES.items():
        body = body.replace(stand_in, f"var(--{variable})")
    body = re.sub(r">\s+<", "><", body).strip()
    head = f'<svg class="plot" role="img" aria-label="{text(about)}" {box[0] if box else ""}>'
    return Html(head + body)


_RULE_TEXT: dict[str, Any] = {"ha": "right", "va": "bottom", "color": MUTED, "fontsize": 8.5}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.9,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3.5,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.9,
    "lines.markersize": 5,
    "lines.markeredgewidth": 0,
}
