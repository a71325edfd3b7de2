"""The energy of every byte of a text, as the text itself: each character's background is its energy."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from ebm_jax.reporting import markup
from ebm_jax.reporting.figures import INK, colour, key, marker, plot
from ebm_jax.reporting.markup import Html, tag, text
from ebm_jax.reporting.numbers import fixed, signed
from ebm_jax.reporting.runs import Run, split_names, split_title
from ebm_jax.reporting.theme import LEVELS, gradient

MOST_PANELS = 6
"""Steps shown at most: the first ones and the last."""
_BITS = 1 / np.log(2)


class Snippet(NamedTuple):
    """A text character by character, with what one model says about each."""

    characters: list[str]
    """The scored ones, in order."""
    before: str
    """Context that was not scored."""
    energies: np.ndarray
    """Before each inner step and at the end: ``[steps + 1, characters]``; no rows for a model without energies."""
    bits: np.ndarray
    """Cross-entropy of the true byte after each inner step, in bits: ``[steps, characters]``."""


class Scale(NamedTuple):
    """From a value to a shade."""

    prefix: str
    low: float
    high: float

    def shade(self, value: float) -> str:
        """The CSS class of the value's background."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return f"{self.prefix}{round(min(max(share, 0.0), 1.0) * (LEVELS - 1))}"


def section(runs: Sequence[Run]) -> Html:
    """The picture of the last energy model that has one, others folded away, and how mean energies fall."""
    snippets = [(run, found) for run in runs if (found := snippet(run)) is not None]
    ebts = [(run, found) for run, found in snippets if len(found.energies)]
    means = _mean_energies(runs)
    if not ebts:
        return markup.section("energy", "Energy", means) if means else Html()
    feed_forward = next(((run, found) for run, found in snippets if not run.is_ebt), None)
    main = max(ebts, key=lambda pair: bool(pair[0].evaluation.get("verification")))
    others = [pair for pair in ebts if pair[0] is not main[0]]
    folded = [markup.details(f"The same text in {run.label}", _picture(run, s, feed_forward)) for run, s in others]
    return markup.section("energy", "Energy of every byte", _picture(*main, feed_forward), *folded, means)


def snippet(run: Run) -> Snippet | None:
    """The run's text with its values on characters: a character of several bytes takes their mean energy, their total
    bits. ``None`` where there is no text, lengths disagree, or a value is not finite."""
    record = run.evaluation.get("snippet") or {}
    energies, nll = (np.atleast_2d(np.array(record.get(name) or [[]], float)) for name in ("energy", "nll"))
    words, before = _pieces(record)
    starts = np.cumsum([0, *(size for _, size in words)])[:-1]
    size = sum(size for _, size in words)
    lengths = {nll.shape[1], energies.shape[1] if energies.size else size}
    if not words or lengths != {size} or not (np.isfinite(nll).all() and np.isfinite(energies).all()):
        return None
    sizes = np.array([size for _, size in words])
    means = np.add.reduceat(energies, starts, axis=1) / sizes if energies.size else np.zeros((0, len(words)))
    return Snippet([word for word, _ in words], before, means, np.add.reduceat(nll, starts, axis=1) * _BITS)


def _pieces(record: dict) -> tuple[list[tuple[str, int]], str]:
    """Characters with the number of bytes each stands for, and the text before them."""
    whole = str(record.get("text") or "")
    raw = record.get("bytes")
    if raw is None:
        return [(letter, 1) for letter in whole], ""
    data = bytes(byte & 0xFF for byte in raw)
    scored = data.decode("utf-8", "replace")
    sizes = _byte_sizes(data)
    pieces = list(zip(scored, sizes, strict=True)) if len(sizes) == len(scored) else [(chr(b), 1) for b in data]
    return pieces, whole.removesuffix(scored) if whole.endswith(scored) else ""


def _byte_sizes(data: bytes) -> list[int]:
    """How many bytes each character of ``data.decode("utf-8", "replace")`` came from."""
    sizes, start = [], 0
    while start < len(data):
        sizes.append(_first_size(data[start : start + 4]))
        start += sizes[-1]
    return sizes


def _first_size(data: bytes) -> int:
    """Bytes of the first character, or of the first stretch that the decoder replaces by one sign."""
    for size in range(1, len(data) + 1):
        try:
            data[:size].decode("utf-8")
            return size
        except UnicodeDecodeError as error:
            bad = error.end - error.start
    return bad


def _picture(run: Run, s: Snippet, feed_forward: tuple[Run, Snippet] | None) -> Html:
    shared = _scale("e", s.energies)
    stages = _stages(len(s.energies))
    panels = [
        markup.panel(
            markup.join(
                [_stage_name(k, len(s.energies)), " ", markup.muted(f"mean {signed(s.energies[k].mean(), 2)}")]
            ),
            _code(s, s.energies[k], shared),
        )
        for k in stages
    ]
    left_out = "" if len(stages) == len(s.energies) else "; steps in between are left out"
    split = (run.evaluation.get("snippet") or {}).get("split", "validation")
    first = markup.figure(
        f"Every character of this {split_title(str(split))} text in the colour of its energy under {run.label}, on one"
        f" scale for all panels: descending should turn it from orange towards blue{left_out}.",
        *panels,
        key=_bar(shared, "energy"),
        wide=True,
    )
    return markup.join([_lead(run, s), first, _last_step(run, s, feed_forward)])


def _lead(run: Run, s: Snippet) -> Html:
    linked = correlation(s.energies[-1], s.bits[-1])
    told = "" if linked is None else f" Over this text the two correlate by {signed(linked, 2)} (Spearman)."
    return markup.paragraph(
        f"{run.label} gives a number, the energy, to its guess at every byte, and lowers it step by step; no label is"
        f" needed for it. Where the energy stays high the model is unsure, so it should rise with the cross-entropy,"
        f" which does need the true byte.{told}"
    )


def _last_step(run: Run, s: Snippet, feed_forward: tuple[Run, Snippet] | None) -> Html:
    own, surprise = _scale("e", s.energies[-1:]), _scale("s", s.bits[-1:], low=0.0)
    panels = [
        markup.panel("Final energy, on its own scale", _bar(own, "energy"), _code(s, s.energies[-1], own, "energy")),
        markup.panel(
            markup.join(["Cross-entropy of the true byte ", markup.muted(f"mean {fixed(s.bits[-1].mean(), 2)} bits")]),
            _bar(surprise, "bits"),
            _code(s, s.bits[-1], surprise, "bits"),
        ),
    ]
    if feed_forward is not None and feed_forward[1].characters == s.characters:
        other, theirs = feed_forward
        name = markup.join(
            [f"Cross-entropy in {other.label} ", markup.muted(f"mean {fixed(theirs.bits[-1].mean(), 2)} bits")]
        )
        panels.append(markup.panel(name, _bar(surprise, "bits"), _code(theirs, theirs.bits[-1], surprise, "bits")))
    panels.append(markup.panel("Energy against cross-entropy, byte by byte", _scatter(run, s)))
    caption = (
        f"What {run.label} is unsure of (orange) beside what then surprised it (purple): where the two pictures agree, its"
        " energy tells its errors in advance; rest the pointer on a character for its value."
    )
    return tag("div", markup.figure(caption, *panels, wide=True), class_="rows")


def _scatter(run: Run, s: Snippet) -> Html:
    def draw(axes) -> None:
        axes.plot(s.energies[-1], s.bits[-1], linestyle="none", marker="o", markersize=4, color=INK, alpha=0.38)
        axes.set_xlabel("final energy")
        axes.set_ylabel("cross-entropy, bits")
        axes.set_ylim(bottom=min(0.0, float(s.bits[-1].min())))

    return plot(f"energy-scatter-{run.folder}", "Final energy against cross-entropy of every byte", draw, height=2.7)


def _scale(prefix: str, values: np.ndarray, low: float | None = None) -> Scale:
    """From the 2nd to the 98th percentile, so that a single outlier does not wash out the rest."""
    bottom, top = np.percentile(values, [2, 98])
    return Scale(prefix, float(bottom) if low is None else low, float(top))


def _bar(scale: Scale, unit: str) -> Html:
    strip = tag("i", style=f"background:{gradient(scale.prefix)}")
    label = {"energy": ("low", "high energy"), "bits": ("", "bits")}[unit]
    ends = (f"{label[0]} {fixed(scale.low, 2 if unit == 'energy' else 0)}", f"{fixed(scale.high, 2)} {label[1]}")
    return tag("div", ends[0].strip(), strip, ends[1], class_="bar")


def _stages(count: int) -> list[int]:
    return list(range(count)) if count <= MOST_PANELS else [*range(MOST_PANELS - 1), count - 1]


def _stage_name(k: int, count: int) -> str:
    if k == 0:
        return "Before the first step"
    return f"After step {k}" + (", the last" if k == count - 1 else "")


def _code(s: Snippet, values: np.ndarray, scale: Scale, unit: str | None = None) -> Html:
    """The text in shades; with a unit, every character tells its own value."""
    before = [tag("span", s.before, class_="before")] if s.before else []
    shades = [scale.shade(float(value)) for value in values]
    if unit is not None:
        name = {"energy": "energy ", "bits": ""}[unit]
        said = [f"{name}{fixed(float(value), 2)}{' bits' if unit == 'bits' else ''}" for value in values]
        marks = zip(s.characters, shades, said, strict=True)
        body = [tag("span", _visible(letter), class_=shade, title=value) for letter, shade, value in marks]
    else:
        pairs = list(zip(s.characters, shades, strict=True))
        runs = ((shade, list(group)) for shade, group in groupby(pairs, key=lambda pair: pair[1]))
        body = [tag("span", *(_visible(letter) for letter, _ in group), class_=shade) for shade, group in runs]
    return tag("pre", *before, *body, class_="code", tabindex="0")


def _visible(letter: str) -> Html:
    """A line's end has a colour of its own, so it gets a sign; so do control characters."""
    if letter == "\n":
        return Html('<span class="nl">↵</span>\n')
    if ord(letter) < 32 and letter != "\t":
        return text(chr(0x2400 + ord(letter)))
    return text(letter)


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; ``None`` where one side is constant."""
    ranks = [_ranks(side) for side in (a, b)]
    if min(float(np.std(side)) for side in ranks) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _mean_energies(runs: Sequence[Run]) -> Html:
    shown = [(place, run) for place, run in enumerate(runs) if _energy_splits(run)]
    if not shown:
        return Html()

    def draw(run: Run, place: int) -> Callable:
        def inside(axes) -> None:
            from matplotlib.ticker import MaxNLocator

            for number, name in enumerate(_energy_splits(run)):
                energy = run.splits[name]["energy"]
                dashes = ((1, 0), (4, 2), (1, 1.5))[number % 3]
                style = {"color": colour(place), "marker": marker(place), "markersize": 4.5}
                axes.plot(range(len(energy)), energy, dashes=dashes, **style)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9))
            axes.set_xlabel("inner steps done")
            axes.set_ylabel("mean energy")

        return inside

    panels = [
        markup.panel(run.label, plot(f"energy-{place}", f"Mean energy of {run.label}", draw(run, place), height=2.6))
        for place, run in shown
    ]
    names = [name for name in split_names(runs) if any(name in _energy_splits(run) for _, run in shown)]
    styles = ("line", "dashed", "dotted")
    entries: list[tuple[object, int | None, str]] = [
        (split_title(name), None, styles[number % 3]) for number, name in enumerate(names)
    ]
    caption = (
        "Mean energy of a whole text before the first and after every further inner step, on each model’s own scale."
    )
    return tag("div", markup.figure(caption, *panels, key=key(entries)), class_="rows")


def _energy_splits(run: Run) -> list[str]:
    return [name for name in split_names([run]) if len(run.splits[name].get("energy") or []) > 1]
