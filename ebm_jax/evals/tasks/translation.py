"""Translation: ``mt:xx-yy`` (WMT22 as ALMA uses it), ``mtnt:xx-yy`` (noisy comments) and ``opensubtitles:xx-yy``.

The prompt is the one of ALMA (Xu et al. 2024)::

    Translate this from German to English:
    German: {source}
    English:

The translation is the first line of the completion that says something, without a repeated language name and without
quotation marks around all of it where the source has none; a chat's "Here is the translation:" is not it. Figures are those
of the whole corpus, of the first sample of every sentence: BLEU and chrF (both 0 to 100), and COMET where its package and
model are present. Intervals resample sentences (Koehn 2004).
"""

from collections.abc import Sequence

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Example, Grade, Graded, Grading, Metric, Prompt, Sampling
from ebm_jax.evals.tasks.rows import Row, read_rows
from ebm_jax.evals.tasks.task import BaseTask, Work
from ebm_jax.grading.translation import corpus_bleu, hypothesis
from ebm_jax.languages import LANGUAGES


class Translation(BaseTask):
    """Sentences of one language to be said in another."""

    local, hub = "", ""
    splits: tuple[str, ...] = ("test",)

    def __init__(self, pair: str, file: str = "", form: str = "plain") -> None:
        super().__init__()
        self.source, self.target = _pair(self.name, pair)
        self.name = f"{self.name}:{pair}"
        self._file, self._chat = file, form == "chat"
        source = LANGUAGES[self.source]
        stop = () if self._chat else ("\n\n", f"\n{source}:", "\nTranslate ")
        self.sampling = Sampling(max_new_tokens=256, stop=stop)

    def examples(self) -> list[Example]:
        names = {"pair": f"{self.source}-{self.target}", "sorted": "-".join(sorted((self.source, self.target)))}
        local, hub = self.local.format(**names), self.hub.format(**names)
        rows = read_rows(self.name, file=self._file, local=local, hub=hub, splits=self.splits)
        self.provenance = rows.provenance()
        return [self._example(row, number) for number, row in enumerate(rows.rows)]

    def _example(self, row: Row, number: int) -> Example:
        source, target = self._texts(row)
        names = LANGUAGES[self.source], LANGUAGES[self.target]
        text = f"Translate this from {names[0]} to {names[1]}:\n{names[0]}: {source}\n{names[1]}:"
        prompt = Prompt.chat(text) if self._chat else Prompt(text=text)
        return Example(str(number), prompt, target, {"source": source})

    def _texts(self, row: Row) -> tuple[str, str]:
        if "source" in row or "target" in row:
            return row.text("source"), row.text("target")
        # ALMA's files and Hugging Face name the pair's texts by language, under "translation" or the pair itself.
        pairs = ("translation", f"{self.source}-{self.target}", f"{self.target}-{self.source}")
        inner = next((name for name in pairs if name in row), "translation")
        texts = Row(row.get(inner, dict), row.where)
        return texts.text(self.source), texts.text(self.target)

    def grade(self, work: Sequence[Work], grading: Grading) -> list[Grade]:
        grades = []
        for example, sample in work:
            said = hypothesis(sample.text, LANGUAGES[self.target], example.info["source"].strip())
            one = corpus_bleu([said], [example.reference], target_language=self.target)
            grades.append(Grade(one.chrf, {"translation": said}))
        return grades

    def summarise(self, graded: Sequence[Graded], grading: Grading) -> dict[str, Metric]:
        from ebm_jax.evals.tasks.corpus import corpus_metrics

        said = [str(one.grades[0].info["translation"]) for one in graded]
        references = [one.example.reference for one in graded]
        sources = [one.example.info["source"] for one in graded]
        figures, self.details = corpus_metrics(sources, said, references, self.target, grading)
        return figures


class WMT(Translation):
    """The WMT22 test sets."""

    name, local, hub = "mt", "mt_alma/test.{pair}.jsonl*", "haoranxu/WMT22-Test:{pair}"


class MTNT(Translation):
    """Comments of an internet forum (Michel and Neubig 2018)."""

    name, local, hub = "mtnt", "mt_mtnt/test.{pair}.*", "sacrebleu:mtnt1.1/test:{pair}"


class OpenSubtitles(Translation):
    """Lines of films (Lison and Tiedemann 2016); the set has no test split, so its first rows are what is read."""

    name, local, hub = "opensubtitles", "mt_opensubtitles/test.{pair}.*", "Helsinki-NLP/open_subtitles:{sorted}"
    splits = ("test", "train")


def _pair(task: str, pair: str) -> tuple[str, str]:
    source, _, target = pair.partition("-")
    for code in (source, target):
        if code not in LANGUAGES:
            raise UserError(f"{task}:{pair}: {code!r} is not one of {', '.join(LANGUAGES)}; write {task}:de-en")
    if source == target:
        raise UserError(f"{task}:{pair} translates nothing: name two languages")
    return source, target
