"""What is told of the EBD paper (arXiv 2605.28020) and of its peers: shares of right answers, or scores of judges.

Of EBD's own tables two figures are from the abstract; the others come from one summary of it, and most are not known. Figures
of its peers are as printed in their papers, without error bars.
"""

from typing import NamedTuple

DIRECT, POWER, EBD = "direct", "power", "ebd"
MATH500, HUMANEVAL, GPQA = "math500", "humaneval", "gpqa"
ALPACA, MT_BENCH, WRITING = "alpacaeval", "mtbench", "writingbench"


class Figure(NamedTuple):
    """One figure; not ``sure`` where only a summary has it."""

    value: float
    sure: bool = True

    def shown(self) -> str:
        return f"{self.value:.3g}" + ("" if self.sure else " (told)")


TABLES: dict[str, dict[str, dict[str, Figure]]] = {
    "Qwen3-8B-Base": {
        DIRECT: {
            ALPACA: Figure(8.8), MATH500: Figure(0.690, False), HUMANEVAL: Figure(0.598, False), MT_BENCH: Figure(6.115, False)
        },
        EBD: {
            ALPACA: Figure(44.5), MATH500: Figure(0.792, False), HUMANEVAL: Figure(0.689, False), MT_BENCH: Figure(7.700, False)
        },
    },
}  # fmt: skip
"""By base model, method and benchmark. Of Qwen2.5-7B, Olmo-3-1025-7B, Meta-Llama-3-8B and Mistral-7B-v0.3 no figure could be
obtained whose column is certain; whether 44.5 is controlled for length is not known."""

OTHER = {
    "latency of power sampling over EBD's, Mistral-7B, Math500": Figure(18.9),
    "Pearson correlation with the instructed sibling's scores, direct": Figure(0.256, False),
    "that correlation, EBD": Figure(0.385, False),
    "valid answers of Meta-Llama-3-8B, direct": Figure(0.032, False),
    "the same answers, EBD": Figure(0.285, False),
    "a reward model of 0.6 B, Qwen2.5-7B": Figure(0.720, False),
    "one of 8 B": Figure(0.722, False),
}

POWER_SAMPLING: dict[str, dict[str, dict[str, Figure]]] = {
    "Qwen2.5-Math-7B": {
        DIRECT: {MATH500: Figure(0.496), HUMANEVAL: Figure(0.329), GPQA: Figure(0.278), ALPACA: Figure(1.61)},
        POWER: {MATH500: Figure(0.748), HUMANEVAL: Figure(0.573), GPQA: Figure(0.389), ALPACA: Figure(2.88)},
        "scalable_power": {MATH500: Figure(0.758), HUMANEVAL: Figure(0.604), GPQA: Figure(0.409)},
        "likeliest_of_n": {MATH500: Figure(0.684), HUMANEVAL: Figure(0.512), GPQA: Figure(0.343)},
    },
    "Qwen2.5-7B": {
        DIRECT: {MATH500: Figure(0.498), HUMANEVAL: Figure(0.329), GPQA: Figure(0.278), ALPACA: Figure(7.05)},
        POWER: {MATH500: Figure(0.706), HUMANEVAL: Figure(0.622), GPQA: Figure(0.318), ALPACA: Figure(8.59)},
        "scalable_power": {MATH500: Figure(0.708), HUMANEVAL: Figure(0.756), GPQA: Figure(0.349)},
        "likeliest_of_n": {MATH500: Figure(0.650), HUMANEVAL: Figure(0.609), GPQA: Figure(0.282)},
        "reward_smc": {MATH500: Figure(0.784), HUMANEVAL: Figure(0.878), GPQA: Figure(0.384)},
    },
}
"""arXiv 2510.14901, 2601.21590 and 2604.16453."""

ETS: dict[str, dict[str, Figure]] = {
    DIRECT: {MATH500: Figure(0.600), "gsm8k": Figure(0.8939), GPQA: Figure(0.3434), HUMANEVAL: Figure(0.5854)},
    "best_of_n": {MATH500: Figure(0.652), "gsm8k": Figure(0.9409), GPQA: Figure(0.3889), HUMANEVAL: Figure(0.6707)},
    "ets": {MATH500: Figure(0.724), "gsm8k": Figure(0.9424), GPQA: Figure(0.3838), HUMANEVAL: Figure(0.7134)},
}
"""Qwen3-8B, arXiv 2601.21484."""


def published(model: str) -> dict[str, dict[str, Figure]]:
    """Figures by method and benchmark of a model, by the end of its name; none where none is known."""
    found: dict[str, dict[str, Figure]] = {}
    for tables in (TABLES, POWER_SAMPLING):
        for method, figures in tables.get(model.rpartition("/")[2], {}).items():
            found[method] = found.get(method, {}) | figures
    return found
