"""What the EBFT paper reports, as far as public accounts of it have it (Jelassi et al. 2026, arXiv 2603.12248).

Blanks are figures that could not be obtained: MBPP, MultiPL-E, pass@1 and pass@4, BLEU, OpenSubtitles, best of k, the
feature-matching loss by length, and all figures of the ablations. Cross-entropy is of held-out examples; of which of their
tokens is not known. Every figure is without error bars.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from ebm_jax.records import BASE

EBFT, SFT, RLVR = "ebft", "sft", "rlvr"
"""Methods by the names that the configs give them."""


class Published(NamedTuple):
    """One figure; not ``exact`` where it was read off a picture."""

    value: float
    exact: bool = True

    def shown(self, digits: int = 3) -> str:
        """``0.548``, ``≈ 0.484``."""
        return f"{'' if self.exact else '≈ '}{self.value:.{digits}f}"


@dataclass(frozen=True)
class Measure:
    """A row of a table: a figure of one benchmark or the mean of several, or one of a comparison's own records."""

    title: str
    figure: tuple[str, ...]
    """Of benchmarks its name; of a record the keys to it."""
    tasks: tuple[str, ...] = ()
    """Benchmarks as ``experiments.evaluate`` calls them; none: the comparison's record."""
    greedy: bool = True
    """Whether benchmarks were answered greedily, or sampled at 0.6."""
    published: dict[str, Published] = field(default_factory=dict)
    digits: int = 3


_CE = (Measure("cross-entropy, scored tokens", ("nll", "scored")), Measure("cross-entropy, all tokens", ("nll", "all")))


def _ce(**published: Published) -> tuple[Measure, ...]:
    return (Measure(_CE[0].title, _CE[0].figure, published=published), _CE[1])


def _code(task: str, title: str, greedy: dict[str, Published], pass16: dict[str, Published]) -> tuple[Measure, ...]:
    sampled = [Measure(f"{title}, pass@{k}", (f"pass@{k}",), (task,), False) for k in (1, 4)]
    last = Measure(f"{title}, pass@16", ("pass@16",), (task,), False, pass16)
    return (Measure(f"{title}, greedy", ("pass@1",), (task,), True, greedy), *sampled, last)


MULTIPL_E = tuple(f"multipl-e:{language}" for language in ("cpp", "js", "rs"))
"""Three of the paper's eight languages; which the others are is not known."""

QA_CODE = (
    *_code(
        "humaneval",
        "HumanEval",
        {BASE: Published(0.484, False), SFT: Published(0.483), RLVR: Published(0.535), EBFT: Published(0.548)},
        {SFT: Published(0.728), EBFT: Published(0.771)},
    ),
    *_code("mbpp", "MBPP", {}, {}),
    Measure("MultiPL-E (C++, JavaScript, Rust), greedy", ("pass@1",), MULTIPL_E),
    *_ce(
        base=Published(0.338, False), sft=Published(0.289), rlvr=Published(0.774, False), ebft=Published(0.207)
    ),
)  # fmt: skip
"""Questions and Python answers, Qwen2.5-1.5B."""

RAW_CODE = (
    Measure("HumanEval, pass@1", ("pass@1",), ("humaneval",), False, {SFT: Published(0.467), EBFT: Published(0.524)}),
    Measure("HumanEval, pass@16", ("pass@16",), ("humaneval",), False),
    Measure("MBPP, pass@1", ("pass@1",), ("mbpp",), False),
    Measure("MBPP, pass@16", ("pass@16",), ("mbpp",), False),
    *_CE,
)
"""Python files, Qwen2.5-1.5B. It is not certain which benchmark the published figures are of."""

LANGUAGES = ("cs", "de", "is", "ru", "zh")
FROM_ENGLISH = tuple(f"mt:en-{language}" for language in LANGUAGES)
TO_ENGLISH = tuple(f"mt:{language}-en" for language in LANGUAGES)
WMT22 = FROM_ENGLISH + TO_ENGLISH
MTNT = ("mtnt:en-fr", "mtnt:fr-en", "mtnt:en-ja", "mtnt:ja-en")
TRANSLATION = (
    Measure("COMET, WMT22", ("comet",), WMT22, published={SFT: Published(0.717), EBFT: Published(0.725)}),
    Measure("COMET, WMT22, from English", ("comet",), FROM_ENGLISH),
    Measure("COMET, WMT22, into English", ("comet",), TO_ENGLISH),
    Measure("BLEU, WMT22", ("bleu",), WMT22, digits=1),
    Measure("COMET, MTNT", ("comet",), MTNT, published={RLVR: Published(0.705), EBFT: Published(0.737)}),
    Measure("BLEU, MTNT", ("bleu",), MTNT, digits=1),
    *_ce(base=Published(1.870), sft=Published(1.782), rlvr=Published(2.454), ebft=Published(1.670)),
)
"""Translations, Llama-3.2-1B; means over directions. Which directions of MTNT the published figures have is not known."""

GPU_HOURS = {SFT: 0.5, RLVR: 56.0, EBFT: 72.0}
"""Hours of an H100 for one epoch of questions and answers."""


class Size(NamedTuple):
    """HumanEval, greedy, of a base model and of EBFT (figure 8, gamma = 0)."""

    title: str
    parameters: float
    base: float
    ebft: float


SCALE = (
    Size("Qwen2.5-1.5B", 1.54e9, 0.35, 0.49),
    Size("Qwen2.5-3B", 3.09e9, 0.37, 0.60),
    Size("Qwen2.5-7B", 7.62e9, 0.55, 0.69),
)
"""The smallest one's figures are not those of ``QA_CODE``; what differs is not known."""

ABLATIONS = (
    "leaving out whitening hurts most",
    "features of the last token do better than means",
    "a network that has learned nothing is only a little worse than the base model",
    "gamma = 0 lowers cross-entropy below SFT's already; a larger gamma lowers it faster and costs nothing downstream",
    "alpha = 1 is the most stable; below it with gamma = 0 cross-entropy diverges",
)
"""What the paper says of its ablations, whose figures could not be obtained."""
