"""Numbers as a reader wants them: grouped digits, units, real minus signs, and a dash where there is none."""

import math
from typing import TypeGuard

MISSING = "–"
_THIN = "\u202f"
_MINUS = "\u2212"
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def known(value: object) -> TypeGuard[float]:
    """Whether this is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def integer(value: float | None) -> str:
    """``1 234 567``."""
    return f"{round(value):,}".replace(",", _THIN).replace("-", _MINUS) if known(value) else MISSING


def fixed(value: float | None, digits: int = 3) -> str:
    """With that many decimals."""
    return f"{value:.{digits}f}".replace("-", _MINUS) if known(value) else MISSING


def signed(value: float | None, digits: int = 1) -> str:
    """As ``fixed``, with its sign; a number that rounds to zero has none."""
    if not known(value):
        return MISSING
    return fixed(0.0, digits) if round(value, digits) == 0 else f"{value:+.{digits}f}".replace("-", _MINUS)


def si(value: float | None, unit: str = "", digits: int = 3) -> str:
    """``3.21 PFLOP``; plain below a thousand."""
    if not known(value):
        return MISSING
    for size, prefix in _PREFIXES:
        # Rounding must not end in 1000 of the smaller prefix.
        if float(f"{abs(value):.{digits}g}") >= size:
            return f"{_figures(value / size, digits)}\u00a0{prefix}{unit}".replace("-", _MINUS)
    return f"{_figures(value, digits)}\u00a0{unit}".replace("-", _MINUS).rstrip("\u00a0")


def duration(seconds: float | None) -> str:
    """``3 h 05 min``, ``4 min 12 s``, ``8.1 s``."""
    if not known(seconds):
        return MISSING
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u00a0h {minutes:02}\u00a0min" if hours else f"{minutes}\u00a0min {rest:02}\u00a0s"


def ratio(value: float | None, base: float | None) -> str:
    """``× 4.8``; empty where either is missing or zero."""
    return f"×\u00a0{_figures(value / base, 3)}" if known(value) and known(base) and value and base else ""


def plural(count: float, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{integer(count)} {noun}{'' if round(count) == 1 else 's'}"


def enumeration(words: list[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def _figures(value: float, digits: int) -> str:
    whole = len(str(int(abs(value))))
    return f"{value:.{max(0, digits - whole)}f}"
