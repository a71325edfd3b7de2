"""One answer of many: the most common, or the one that agrees best with all others (minimum Bayes risk)."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache

from ebm_jax.grading.answers import final_answer
from ebm_jax.grading.translation import SentenceBleu


def most_common(
    texts: Sequence[str], weights: Sequence[float], answer: Callable[[str], str | None] = final_answer
) -> int:
    """The first text whose answer has the most weight; texts without one count only where none has any."""
    total, first = defaultdict[str, float](float), dict[str, int]()
    for place, (text, weight) in enumerate(zip(texts, weights, strict=True)):
        if (found := answer(text)) is not None:
            total[found] += weight
            first.setdefault(found, place)
    return first[max(total, key=lambda found: total[found])] if total else 0


def least_risk(
    texts: Sequence[str], weights: Sequence[float], utility: Callable[[str, str], float] | None = None
) -> int:
    """The text of the greatest expected utility against all of them (``argmax_y sum_i w_i u(y, y_i)``).

    ``utility`` is of (text, reference): sentence BLEU where none is given.
    """
    total, first = defaultdict[str, float](float), dict[str, int]()
    for place, (text, weight) in enumerate(zip(texts, weights, strict=True)):
        total[text] += weight
        first.setdefault(text, place)
    of = cache(utility or SentenceBleu(None))
    gain = {text: sum(weight * of(text, other) for other, weight in total.items()) for text in total}
    return first[max(gain, key=lambda text: gain[text])]
