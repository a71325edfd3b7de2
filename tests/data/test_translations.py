"""Translations: one row gives an example for each direction, in words that name the languages, all in one split."""

import itertools
import os

import pytest

from ebm_jax.data import DataConfig
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.data.examples import reading
from ebm_jax.data.sources import open_source
from ebm_jax.data.splits import SplitRule
from ebm_jax.errors import UserError
from tests.data.test_examples import config

PROMPT = "Translate this from {source_language} to {target_language}:\n{source_language}: {source}\n{target_language}:"
CHANGES = {"check": "{a}", "directions": ("de-en",), "prompt": "{a}", "ending": "x"}
ROWS = [{"translation": {"de": "Ja.", "en": "Yes."}}, {"cs": "Ne.", "en": "No.", "de": None, "n": 1}]


def examples(*directions, **changes):
    return ExamplesConfig(**{"prompt": PROMPT, "completion": " {target}", "directions": directions} | changes)


def read(tmp_path, rows, options, **changes):
    return list(open_source(config(tmp_path, rows, examples=options, **changes)))


def test_fields_inside_fields(tmp_path):
    options = ExamplesConfig(prompt="{translation[de]} =", completion=" {translation[en]}", check="{translation[en]}")
    (document,) = read(tmp_path, ROWS[:1], options)
    assert (document.text, document.check, document.split_key) == ("Ja. = Yes.", "Yes.", "Ja. =")


def test_both_directions_of_a_row(tmp_path):
    found = read(tmp_path, ROWS, examples("de-en", "en-de", "en-cs", check="{target}"))
    assert [(document.key, document.text, document.check) for document in found] == [
        ("rows.jsonl:1 (de-en)", "Translate this from German to English:\nGerman: Ja.\nEnglish: Yes.", "Yes."),
        ("rows.jsonl:1 (en-de)", "Translate this from English to German:\nEnglish: Yes.\nGerman: Ja.", "Ja."),
        ("rows.jsonl:2 (en-cs)", "Translate this from English to Czech:\nEnglish: No.\nCzech: Ne.", "Ne."),
    ]


def test_translations_of_one_text_are_in_one_split(tmp_path):
    rows = [{"translation": {code: f"{code} {n}", "en": f"en {n}"}} for n in range(30) for code in ("de", "cs")]
    rule = SplitRule(validation=0.5, test=0.0)
    sides = {}
    for document in read(tmp_path, rows, examples("de-en", "en-de", "cs-en", "en-cs")):
        sides.setdefault(document.split_key, []).append(rule(document))
    assert len(sides) == 30 and all(len(found) == 4 and len(set(found)) == 1 for found in sides.values())
    assert {found[0] for found in sides.values()} == {"train", "validation"}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"translation": {"de": "a", "cs": "b"}}, r"line 2: it has texts in cs, de, and none of .*=de-en,en-de goes"),
        ({"translation": {"de": "a", "en": " "}}, "line 2: it has texts in de, en, and none of"),
        ({"text": "a"}, "line 2: it has texts in no language"),
        ({"translation": "a"}, "line 2: field 'translation' holds a str"),
    ],
)
def test_rows_that_cannot_be_translated_are_named(tmp_path, row, told):
    with pytest.raises(UserError, match=told):
        read(tmp_path, [ROWS[0], row], examples("de-en", "en-de"))
    with pytest.raises(UserError, match=r"line 1 \(de-en\): no field 'about'"):
        read(tmp_path, ROWS, examples("de-en", prompt="{about}"))


@pytest.mark.parametrize("direction", ["de", "de-xx", "de-de", "de-en-cs"])
def test_directions_that_are_none(direction):
    with pytest.raises(UserError, match=rf"data\.examples\.directions: '{direction}' is not two different ones of"):
        examples("en-de", direction)


def test_prepared_sets_are_found_again():
    plain = reading(ExamplesConfig(), None)
    assert plain == "reading 75b46ce3680b3ccde3b1c286973c4aa3", "sets of earlier versions would be prepared anew"
    others = [reading(ExamplesConfig(**{name: value}), None) for name, value in CHANGES.items()]
    assert len({plain, *others}) == 1 + len(CHANGES)


@pytest.mark.skipif("EBM_JAX_DATA" not in os.environ, reason="EBM_JAX_DATA names no folder with translations")
def test_a_folder_of_files_by_split_and_language():
    settings = DataConfig(
        source="sft:$EBM_JAX_DATA/mt_alma", exclude=("*ru*", "*zh*", "*cs*"), examples=examples("de-en", "en-de")
    )
    source = open_source(settings)
    first, second = itertools.islice(source, 2)
    assert source.own_splits == {"train", "validation", "test"} and first.split == second.split == "test"
    assert (first.key, second.key) == tuple(f"test.de-en.jsonl.gz:1 ({way})" for way in ("de-en", "en-de"))
    assert first.text.startswith("Translate this from German to English:\nGerman: ") and "\nEnglish: " in first.text
