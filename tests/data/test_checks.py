"""Checks: what completions are verified against, stored beside the examples and found again from any batch."""

import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from ebm_jax.data import DataConfig
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.data.sources import open_source
from ebm_jax.data.store import Texts
from ebm_jax.errors import UserError
from tests.data.test_examples import config, loaded

TASKS = [
    {
        "task": f"{n} → {'+' * (n % 3)}",
        "code": f"f{n}()",
        "setup": "import é" if n % 2 else "",
        "tests": [f"assert {n}", "assert 2"],
    }
    for n in range(20)
]
CODE = {"prompt": "{task}\n", "completion": "{code}"}
TESTS = ExamplesConfig(**CODE, check="{setup}\n{tests}")


def expected(task):
    return f"{task['setup']}\n" + "\n".join(task["tests"])


def written(tmp_path, **changes):
    return config(
        tmp_path, TASKS, **{"examples": TESTS, "context": 64, "append_eos": True, "layout": "packed"} | changes
    )


def found(data, batch, split):
    """Prompt, completion and check of every example of a batch."""
    checks = data.checks(split)
    for row, numbers in enumerate(batch["examples"]):
        inside = [batch["segments"][row] == number + 1 for number in range(len(numbers))]
        assert [bool(where.any()) for where in inside] == [number >= 0 for number in numbers]
        for where, number in zip(inside, numbers, strict=True):
            if number >= 0:
                # The first scored target is predicted by the prompt's last token.
                scored = batch["weights"][row][where] > 0
                prompt = batch["inputs"][row][where][: np.argmax(scored) + 1]
                completion = batch["targets"][row][where][scored]
                yield data.tokenizer.decode(prompt), data.tokenizer.decode(completion), checks[number]


@pytest.mark.parametrize("layout", ["packed", "truncate"])
def test_batches_say_which_check_belongs_to_which_segment(tmp_path, layout):
    data = loaded(written(tmp_path, layout=layout, validation_fraction=0.4))
    most = {split: int((rows.table.first[1:] - rows.table.first[:-1]).max()) for split, rows in data.rows.items()}
    assert (most["train"] > 1) == (layout == "packed") and data.extra == {"examples": (most["train"],)}
    seen = []
    for split in ("train", "validation"):
        for batch in data.eval(split, batch_size=3):
            assert batch["examples"].shape == (3, most[split]) and batch["examples"].dtype == np.int32
            assert np.all(batch["examples"][~batch["segments"].any(1)] == -1), "rows that fill a batch hold nothing"
            seen += found(data, batch, split)
        assert len(data.checks(split)) == data.stats[split].documents
    assert sorted(seen) == sorted((f"{task['task']}\n", task["code"], expected(task)) for task in TASKS)
    batch = next(data.train)
    assert batch["examples"].shape == (1, most["train"]) and len(list(found(data, batch, "train"))) >= 1
    data.train.close()


def test_without_checks_nothing_changes(tmp_path):
    plain = written(tmp_path, examples=ExamplesConfig(**CODE))
    data = loaded(plain)
    batch = next(data.train)
    data.train.close()
    assert sorted(batch) == ["index", "inputs", "positions", "segments", "targets", "weights"] and data.extra == {}
    (tokens,) = Path(plain.cache_dir).glob("ebm_documents/*/tokens")
    assert "checks" not in (tokens / "meta.json").read_text()
    assert sorted(file.name for file in tokens.iterdir()) == [
        "meta.json",
        "train.offsets.npy",
        "train.scored",
        "train.tokens",
    ]
    assert loaded(written(tmp_path)).fingerprint != data.fingerprint
    with pytest.raises(UserError, match=r"nothing to verify completions against: set data\.examples\.check"):
        data.checks("train")


def test_a_store_whose_checks_are_cut_short_is_made_again(tmp_path):
    settings = written(tmp_path)
    before = [loaded(settings).checks("train")[n] for n in range(len(TASKS))]
    (file,) = Path(settings.cache_dir).glob("ebm_documents/*/tokens/train.checks")
    file.write_bytes(file.read_bytes()[:-1])
    again = loaded(settings).checks("train")
    assert [again[n] for n in range(len(again))] == before


def test_texts_are_found_by_their_numbers():
    texts = Texts(np.frombuffer("aé".encode(), np.uint8), np.array([0, 1, 1, 3]))
    assert list(texts) == ["a", "", "é"] and texts[np.int32(2)] == "é"
    for number in (-1, 3):
        with pytest.raises(IndexError, match=f"there are texts 0 to 2, not {number}"):
            texts[number]


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ("{setup}", r"line 1: data\.examples\.check='{setup}' is blank: leave the row out"),
        ("{numbers}", "line 1: field 'numbers' holds list"),
        ("{nothing}", "line 1: no field 'nothing'"),
    ],
)
def test_rows_without_a_check_are_named(tmp_path, check, told):
    rows = [task | {"numbers": [1]} for task in TASKS]
    with pytest.raises(UserError, match=told):
        list(open_source(config(tmp_path, rows, examples=ExamplesConfig(**CODE, check=check))))


def test_prompts_are_no_lists(tmp_path):
    with pytest.raises(UserError, match="line 1: field 'tests' holds list"):
        list(open_source(config(tmp_path, TASKS, examples=ExamplesConfig(prompt="{tests}", completion="{code}"))))


def test_settings_that_have_nothing_to_check():
    for settings, told in (
        ({"source": "stdlib"}, r"check: data\.source='stdlib' has no whole examples"),
        ({"source": "pairs:x"}, r"check: data\.source='pairs:x' has no whole examples"),
        ({"source": "sft:x", "layout": "stream"}, r"check: data\.layout='stream' has no whole examples"),
    ):
        with pytest.raises(UserError, match=told):
            DataConfig(examples=TESTS, **settings)
    with pytest.raises(UserError, match=r"data\.examples\.check='pass' names no field"):
        ExamplesConfig(check="pass")
    run = DataConfig(source="sft:x", examples=TESTS)
    assert run.evaluation_of("stdlib").examples.check == "" and run.evaluation_of("sft:y").examples == TESTS


def test_hugging_face_sets_of_questions_with_tests(monkeypatch, tmp_path):
    rows = [{"question": f"Q{n}", "answer": f"A{n}", "unit_tests": [f"assert {n}"], "source": "x"} for n in range(3)]
    sets = {"train": rows, "test": [rows[0] | {"question": "T", "unit_tests": "assert T"}]}
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=lambda *_, **__: sets))
    examples = ExamplesConfig(prompt="{question}\n", completion="{answer}", check="{unit_tests}")
    source = open_source(DataConfig(source="sft:hf:org/code", cache_dir=str(tmp_path), examples=examples))
    documents = [(document.text, document.check, document.split) for document in source]
    assert documents == [(f"Q{n}\nA{n}", f"assert {n}", "train") for n in range(3)] + [("T\nA0", "assert T", "test")]


@pytest.mark.skipif("EBM_JAX_DATA" not in os.environ, reason="EBM_JAX_DATA names no folder with MBPP")
def test_mbpp():
    examples = ExamplesConfig(prompt="{text}\n", completion="{code}", check="{test_setup_code}\n{test_list}")
    first = next(iter(open_source(DataConfig(source="sft:$EBM_JAX_DATA/code_mbpp", examples=examples))))
    assert first.check.count("\nassert min_cost(") == 3 and first.text.startswith(
        "Write a function to find the minimum"
    )
