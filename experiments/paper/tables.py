"""Sections of a page, and figures with their intervals as text."""

from collections.abc import Sequence

from ebm_jax.reporting.intervals import Estimate, Interval
from ebm_jax.reporting.markdown import markdown_table
from ebm_jax.reporting.numbers import MISSING, fixed, known, signed


def section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *notes: str) -> str:
    """A table under its heading, with notes below."""
    parts = [f"## {title}", markdown_table(head, rows), *(note for note in notes if note)]
    return "\n\n".join(parts)


def between(interval: Interval | None, digits: int = 1, *, sign: bool = True) -> str:
    """`` [+1.0, +2.0]``, or nothing where there is no interval."""
    if interval is None or not (known(interval.low) and known(interval.high)):
        return ""
    show = signed if sign else fixed
    return f" [{show(interval.low, digits)}, {show(interval.high, digits)}]"


def percent(value: float | None, interval: Interval | None = None, digits: int = 1) -> str:
    """``+12.3 % [+8.0, +15.1]``."""
    return f"{signed(value, digits)} %{between(interval, digits)}" if known(value) else MISSING


def percent_of(estimate: Estimate | None, digits: int = 1) -> str:
    """A mean in percent with its interval."""
    return MISSING if estimate is None else percent(estimate.value, estimate.interval, digits)


def number_of(estimate: Estimate | None, digits: int = 2) -> str:
    """A mean with its interval, unsigned."""
    if estimate is None:
        return MISSING
    return fixed(estimate.value, digits) + between(estimate.interval, digits, sign=False)
