"""BLEU and chrF by sacrebleu (Post 2018) with the tokenizer that the target language needs; COMET where it is installed.

Also which line of a completion is the translation.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebm_jax.errors import UserError
from ebm_jax.grading.extras import require

TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char"}
"""By target language: sacrebleu's own for Chinese; characters where words have no spaces and its own tokenizer needs a
dictionary. Others take its default, 13a."""
COMET_MODEL = "Unbabel/wmt22-comet-da"
_SCRIPTS = (("ja", re.compile("[\u3040-\u30ff]")), ("ko", re.compile("[\uac00-\ud7af]")),
            ("th", re.compile("[\u0e00-\u0e7f]")), ("zh", re.compile("[\u4e00-\u9fff]")))  # fmt: skip
_ANNOUNCED = re.compile(r"(?:\btranslat\w*|^(?:sure|here)\b)[^:]*:\**$", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "「": "」"}


@dataclass(frozen=True)
class TranslationScores:
    """Scores from 0 to 100 and sacrebleu's signature of BLEU, which says how it was computed."""

    bleu: float
    chrf: float
    signature: str
    chrf_signature: str


def corpus_bleu(
    hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    target_language: str,
    chrf_words: int = 0,
) -> TranslationScores:
    """Corpus BLEU and chrF (chrF++ with ``chrf_words=2``); ``references`` has one text, or several, for each hypothesis.

    Raises:
      UserError: the numbers of texts differ, or there are none.
    """
    sacrebleu = require("sacrebleu", "translation scores")
    streams = _streams(hypotheses, references)
    bleu = sacrebleu.metrics.BLEU(tokenize=tokenizer(target_language), effective_order=len(hypotheses) == 1)
    chrf = sacrebleu.metrics.CHRF(word_order=chrf_words)
    return TranslationScores(
        bleu.corpus_score(list(hypotheses), streams).score,
        chrf.corpus_score(list(hypotheses), streams).score,
        str(bleu.get_signature()),
        str(chrf.get_signature()),
    )


class SentenceBleu:
    """BLEU of single sentences, 0 to 100: n-grams up to the longest that the hypothesis has (sacrebleu's effective order).

    Identical texts have 100, a text without a word in common with its reference 0. ``target_language`` None goes by the script
    of every reference.

    Raises:
      UserError: sacrebleu is not installed.
    """

    def __init__(self, target_language: str | None) -> None:
        self._sacrebleu = require("sacrebleu", "sentence BLEU")
        self._language = target_language
        self._metrics: dict[str, Any] = {}

    def __call__(self, hypothesis: str, reference: str) -> float:
        """The score of one hypothesis."""
        language = script_language(reference) if self._language is None else self._language
        name = tokenizer(language)
        if name not in self._metrics:
            self._metrics[name] = self._sacrebleu.metrics.BLEU(tokenize=name, effective_order=True)
        return self._metrics[name].sentence_score(hypothesis, [reference]).score


def tokenizer(target_language: str) -> str:
    """sacrebleu's name of the tokenizer for a language such as ``zh``, ``zh-cn`` or ``pt_BR``."""
    return TOKENIZERS.get(primary(target_language), "13a")


def primary(language: str) -> str:
    """The language's own code in ``zh-cn`` or ``pt_BR``: ``zh``, ``pt``."""
    return language.partition("-")[0].partition("_")[0].lower()


def script_language(text: str) -> str:
    """A language whose tokenizer suits the script of ``text``: ``ja``, ``ko``, ``th`` or ``zh``; else ``en``."""
    return next((language for language, script in _SCRIPTS if script.search(text)), "en")


def comet_scores(
    sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], model: str = COMET_MODEL
) -> list[float]:
    """COMET of every sentence (Rei et al. 2022), by the ``unbabel-comet`` package; nothing is downloaded.

    ``model`` is a checkpoint file, or the name of a model that was downloaded before.

    Raises:
      UserError: the package is not installed, or the model is not there.
    """
    try:
        import comet
    except ImportError:
        raise UserError("COMET needs its own package: pip install unbabel-comet") from None
    try:
        path = model if Path(model).is_file() else comet.download_model(model, local_files_only=True)
        scorer: Any = comet.load_from_checkpoint(path, local_files_only=True)
    except Exception as error:  # of many kinds: no such folder, no such model, a broken file
        raise UserError(
            f"the COMET model {model} is not on this machine ({error}): fetch it once with "
            f"python -c \"import comet; comet.download_model('{model}')\""
        ) from error
    data = [
        {"src": source, "mt": hypothesis, "ref": reference}
        for source, hypothesis, reference in zip(sources, hypotheses, references, strict=True)
    ]
    return list(scorer.predict(data, batch_size=16, gpus=0).scores)


def _streams(hypotheses: Sequence[str], references: Sequence[Any]) -> list[list[str]]:
    """References as sacrebleu wants them: one list for each way of translating."""
    if not hypotheses or len(hypotheses) != len(references):
        raise UserError(f"{len(hypotheses)} translations and {len(references)} references: as many, and one at least")
    several = [[one] if isinstance(one, str) else list(one) for one in references]
    if len({len(ways) for ways in several}) > 1:
        raise UserError("every sentence needs the same number of references")
    return [list(way) for way in zip(*several, strict=True)]


def hypothesis(text: str, language: str, source: str = "") -> str:
    """The translation of ``source`` in a completion; empty where there is none."""
    label = rf"(?:(?:the\s+)?(?:{language}\s+)?translation(?:\s+is)?|{language}|Answer|Output)"
    for line in text.splitlines():
        line = re.sub(rf"^\s*(\**){label}\s*(?:\1\s*:|:\s*\1)\s*", "", line, flags=re.IGNORECASE).strip()
        if _ANNOUNCED.search(line) and not source.endswith(":"):
            continue  # what a chat says before it translates
        if line:
            inner = line[1:-1]
            enclosed = len(line) > 1 and _QUOTES.get(line[0]) == line[-1] and not {line[0], line[-1]} & set(inner)
            if enclosed and source[:1] not in _QUOTES:
                return inner.strip()
            return line
    return ""
