"""Plots as SVG files that stand alone: letters as shapes, colours on white, the same bytes for the same figures."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebm_jax.data.extras import require
from ebm_jax.reporting.families import S1, S2, TRANSFORMER
from ebm_jax.reporting.theme import SERIES_LIGHT

COLOURS = {TRANSFORMER: SERIES_LIGHT[0], S1: SERIES_LIGHT[1], S2: SERIES_LIGHT[2]}
MARKERS = {TRANSFORMER: "o", S1: "s", S2: "^"}
LINES = SERIES_LIGHT
SHAPES = "os^Dv*Pp"
PUBLISHED = "#8c8c8c"
"""Published figures are grey and dashed everywhere."""
INK = "#1c1d20"

Draw = Callable[[Any], None]
"""Draws into matplotlib axes."""


@dataclass(frozen=True)
class Picture:
    """One SVG file: its panels, each so many inches, and whether one legend serves them all."""

    panels: Sequence[Draw]
    columns: int = 3
    width: float = 4.4
    height: float = 3.4
    shared_legend: bool = False


def save(path: Path, picture: Picture) -> Path:
    """Writes a picture; raises ``UserError`` where matplotlib is missing."""
    matplotlib = require("matplotlib", "log", "the pictures of tables and figures")
    from matplotlib.figure import Figure

    panels, columns = picture.panels, min(picture.columns, len(picture.panels))
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": path.stem}):
        size = (picture.width * columns, picture.height * rows + 0.45 * picture.shared_legend)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, draw in zip(grid, panels, strict=False):
            draw(axes)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        if picture.shared_legend:
            named = {
                label: line for axes in grid for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
            }
            style = {"loc": "outside lower center", "ncols": min(len(named), 2 * columns), "frameon": False}
            figure.legend(named.values(), named.keys(), **style, fontsize=9)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"
    path.write_text(text, encoding="utf-8")
    return path


def legend(axes: Any, **settings: Any) -> None:
    """Names of the lines, where there are any."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(**({"frameon": False, "fontsize": 8.5} | settings))


def dashed(axes: Any, value: float, label: str, colour: str = PUBLISHED) -> None:
    """A line across."""
    axes.axhline(value, color=colour, lw=1.3, dashes=(4, 3), zorder=1.5, label=label)


def error_bar(axes: Any, x: float, low: float, high: float, colour: str) -> None:
    """The interval of one point."""
    axes.vlines(x, low, high, color=colour, lw=1.1, alpha=0.7)


def log_ticks(axis: Any) -> None:
    """A logarithmic axis that always has labels, even within less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = sorted(axis.get_view_interval())
    many = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    subs = many if high / low < 5 else (1, 2, 5) if high / low < 60 else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if 1 <= value < 1e5 else f"{value:.3g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


_STYLE: dict[str, Any] = {
    "svg.fonttype": "path",
    "text.parse_math": False,  # tokens may be dollars
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#62656c",
    "axes.titlesize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}
