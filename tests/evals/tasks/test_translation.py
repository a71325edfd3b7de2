"""Translation: the published prompt, what counts as the translation, and corpus figures with intervals."""

import json
from pathlib import Path

import pytest

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.options import TaskOptions
from ebm_jax.evals.tasks.registry import make_task
from ebm_jax.evals.tasks.runner import run_task
from ebm_jax.evals.tasks.translation import hypothesis
from tests.evals.tasks.fakes import FakeModel, read_lines, write_rows

sacrebleu = pytest.importorskip("sacrebleu", reason="the eval extra is not installed")
OPTIONS = TaskOptions(resamples=200)
PAIRS = [
    ("Das Haus ist sehr klein.", "The house is very small."),
    ("Ich mag keinen Kaffee.", "I do not like coffee."),
    ("Der Zug kommt um acht an.", "The train arrives at eight."),
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "t.jsonl", [{"translation": {"de": de, "en": en}} for de, en in PAIRS])


def test_the_prompt_and_the_figures_of_the_corpus(rows: Path, tmp_path: Path):
    said = {"Haus": " The house is very small.\n", "Kaffee": "\nI like coffee.\nGerman: next", "Zug": ""}
    model = FakeModel(said)
    result = run_task(model, make_task(f"mt:de-en={rows}"), tmp_path / "out", OPTIONS)
    assert model.prompts[0].text == (
        "Translate this from German to English:\nGerman: Das Haus ist sehr klein.\nEnglish:"
    )
    heard, references = ["The house is very small.", "I like coffee.", ""], [en for _, en in PAIRS]
    assert [row["info"]["translation"] for row in read_lines(tmp_path / "out" / "grades.jsonl")] == heard
    assert result.metrics["bleu"].value == pytest.approx(sacrebleu.corpus_bleu(heard, [references]).score)
    assert result.metrics["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(heard, [references]).score)
    assert result.metrics["chrf"].low < result.metrics["chrf"].value < result.metrics["chrf"].high
    assert "tok:13a" in json.dumps(result.record["details"]), "the settings behind the figures are kept"


def test_perfect_translations_and_the_other_direction(rows: Path, tmp_path: Path):
    model = FakeModel({en: de for de, en in PAIRS})
    result = run_task(model, make_task(f"mt:en-de:chat={rows}"), tmp_path / "out", OPTIONS)
    assert result.metrics["bleu"].value == pytest.approx(100.0) and result.metrics["bleu"].low == pytest.approx(100.0)
    assert model.prompts[0].messages[0]["content"].startswith("Translate this from English to German:")


def test_other_shapes_of_rows(tmp_path: Path):
    by_pair = write_rows(tmp_path / "a.jsonl", [{"de-en": {"de": "Hallo", "en": "Hello"}}])
    flat = write_rows(tmp_path / "b.jsonl", [{"source": "Hallo", "target": "Hello"}])
    (tmp_path / "c.tsv").write_text("1\tHallo\tHello\n")
    for path in (by_pair, flat, tmp_path / "c.tsv"):
        for task in ("mt", "mtnt", "opensubtitles"):
            (example,) = make_task(f"{task}:de-en={path}").examples()
            assert "German: Hallo\n" in example.prompt.text and example.reference == "Hello"
    write_rows(flat, [{"source": "Hallo", "target": "Hello"}, {"translation": {"de": "x", "fr": "y"}}])
    with pytest.raises(UserError, match=r"b\.jsonl: line 2: no field 'en', only \['de', 'fr'\]"):
        make_task(f"mt:de-en={flat}").examples()


def test_noisy_comments_come_from_sacrebleu_when_they_are_nowhere_else(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("EBM_JAX_DATA", raising=False)
    files = [tmp_path / "source", tmp_path / "target"]
    for path, text in zip(files, ("lol yes\n", "mdr oui\n"), strict=True):
        path.write_text(text)
    asked = []
    monkeypatch.setattr(sacrebleu, "get_source_file", lambda *names: asked.append(names) or str(files[0]))
    monkeypatch.setattr(sacrebleu, "get_reference_files", lambda *names: [str(files[1])])
    (example,) = make_task("mtnt:en-fr").examples()
    assert asked == [("mtnt1.1/test", "en-fr")] and example.reference == "mdr oui"
    monkeypatch.setattr(sacrebleu, "get_source_file", lambda *names: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(UserError, match=r"mtnt:en-fr: its questions are not here: put mt_mtnt/.* \(.*no network\)"):
        make_task("mtnt:en-fr").examples()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (" Hello.\nGerman: x", "Hello."),
        ("\n\nEnglish: Hello.", "Hello."),
        ("English:\nHello.", "Hello."),
        ('"Hello there"', "Hello there"),
        ('"Hello" and "bye"', '"Hello" and "bye"'),
        ("'", "'"),
        ("  \n ", ""),
        ("Translation: Hallo: du", "Hallo: du"),
        ("Here is the translation:\n\nHello.", "Hello."),
        ('Sure! This is the text, translated into English:\n"Hello."', "Hello."),
        ("The English translation is: Hello.", "Hello."),
        ("**English:** Hello.", "Hello."),
        ("**Translation**: Hello.", "Hello."),
        ("They said in English:\nmore", "They said in English:"),
    ],
)
def test_what_counts_as_the_translation(text: str, found: str):
    assert hypothesis(text, "English") == found


def test_quotation_marks_of_the_source_stay():
    assert hypothesis('"Hello"', "English", "„Hallo“") == '"Hello"'
    assert hypothesis("Here is the list:", "English", "Hier ist die Liste:") == "Here is the list:"
