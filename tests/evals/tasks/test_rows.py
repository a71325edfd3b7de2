"""Questions come from a named file, the data folder or a public set; what is wrong with a row is said with its place."""

import gzip
import json
import sys
import types
from pathlib import Path

import pytest

from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.registry import make_task
from ebm_jax.evals.tasks.rows import Row, beside, read_rows
from tests.evals.tasks.fakes import write_rows

ROWS = [{"text": "one"}, {"text": "two"}]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EBM_JAX_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "datasets", None)
    return tmp_path


def hub(monkeypatch: pytest.MonkeyPatch, sets: dict) -> list:
    asked = []

    def load_dataset(path, config, streaming):
        asked.append((path, config))
        return sets

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_a_file_goes_before_the_data_folder_and_that_before_a_public_set(root: Path, monkeypatch):
    write_rows(root / "set" / "test.jsonl", ROWS)
    other = root / "mine.jsonl.gz"
    with gzip.open(other, "wt") as file:
        file.write(json.dumps({"text": "mine"}) + "\n")
    asked = hub(monkeypatch, {"test": [{"text": "public"}]})
    local, name = "set/test.jsonl*", "who/what:main"
    assert [r.text("text") for r in read_rows("t", file=str(other), local=local, hub=name).rows] == ["mine"]
    found = read_rows("t", local=local, hub=name)
    assert [r.text("text") for r in found.rows] == ["one", "two"] and not asked
    assert found.provenance()["rows"] == 2 and beside(found, "test.jsonl") == root / "set" / "test.jsonl"
    public = read_rows("t", local="absent/*.jsonl", hub=name)
    assert [r.text("text") for r in public.rows] == ["public"] and asked == [("who/what", "main")]
    assert beside(public, "test.jsonl") is None
    assert read_rows("t", file="hf:who/what").rows[0].text("text") == "public"
    assert found.provenance()["digest"] != public.provenance()["digest"]


def test_a_public_set_that_is_a_script_is_read_by_its_file(monkeypatch: pytest.MonkeyPatch):
    asked = {}

    def load_dataset(path, *, data_files, streaming):
        asked.update(path=path, data_files=data_files)
        return {"train": [{"instruction": "Do", "output": "done", "dataset": "d"}]}

    monkeypatch.delenv("EBM_JAX_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    (example,) = make_task("alpacaeval").examples()
    assert (example.info["instruction"], example.reference) == ("Do", "done")
    file = "hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval_gpt4_baseline.json"
    assert asked == {"path": "json", "data_files": file}


def test_lists_and_tab_separated_files_are_read(root: Path):
    (root / "a.json").write_text(json.dumps(ROWS))
    (root / "b.tsv").write_text("0\tHallo\tHello\n1\tWelt\tworld\n")
    assert len(read_rows("t", file=str(root / "a.json")).rows) == 2
    assert [r.fields for r in read_rows("t", file=str(root / "b.tsv")).rows][1] == {"source": "Welt", "target": "world"}


def test_tables_are_read_by_their_columns(root: Path):
    (root / "c.csv").write_text('Question,Correct Answer\r\n"two\nlines, ending",4\r\nplain,5\r\n')
    rows = read_rows("t", file=str(root / "c.csv")).rows
    assert rows[0].text("Question") == "two\nlines, ending" and rows[1].where.endswith("c.csv: line 4")
    pa, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    parquet.write_table(pa.Table.from_pylist([{"text": "one", "turns": ["a", "b"]}]), root / "d.parquet")
    (row,) = read_rows("t", file=str(root / "d.parquet")).rows
    assert row.texts("turns") == ["a", "b"] and row.where.endswith("d.parquet: row 0")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "a,b\n1,2\n3\n", r"a\.csv: line 3: it has not the 2 cells"),
        ("a.csv", "a,b\n1,2\n3,4,5\n", r"a\.csv: line 3: it has not the 2 cells"),
        ("a.csv", 'a,b\n"1,2\n', r"a\.csv: line 2: no comma-separated table"),
        ("a.jsonl", '{"text": "one"}\n{"text": \n', r"a\.jsonl: line 2: not JSON"),
        ("a.jsonl", '{"text": "one"}\n[1]\n', r"a\.jsonl: line 2: a list, not an object"),
        ("a.jsonl", "", r"a\.jsonl: empty"),
        ("a.json", '{"text": 1}', r"a\.json: not a JSON list of objects"),
        ("a.json", "[\n{]", r"a\.json: line 2: not JSON"),
        ("a.tsv", "1\tone\ttwo\nonly\n", r"a\.tsv: line 2: 1 tab-separated cells"),
    ],
)
def test_malformed_files_name_file_and_line(root: Path, name: str, text: str, said: str):
    (root / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read_rows("t", file=str(root / name))


def test_malformed_fields_name_the_row():
    row = Row({"text": " ", "number": True, "list": ["a", 1], "n": 3}, "f.jsonl: line 7")
    for call, said in [
        (lambda: row.text("text"), "field 'text' is blank"),
        (lambda: row.get("absent"), r"no field 'absent', only \['list', 'n', 'number', 'text'\]"),
        (lambda: row.get("number", int), "field 'number' holds a bool, not a whole number"),
        (lambda: row.texts("list"), "field 'list' is not a list of texts"),
        (lambda: row.get("n"), "field 'n' holds a int, not text"),
    ]:
        with pytest.raises(UserError, match=f"f.jsonl: line 7: {said}"):
            call()


def test_absent_questions_say_how_to_get_them(root: Path, monkeypatch):
    with pytest.raises(
        UserError, match=r"t: its questions are not here: put set/\*\.jsonl under \$EBM_JAX_DATA"
    ) as told:
        read_rows("t", local="set/*.jsonl", hub="who/what")
    assert "have hf:who/what at hand" in str(told.value) and "t=FILE" in str(told.value)
    assert 'pip install "ebm_jax[hf]"' in str(told.value)
    hub(monkeypatch, {"odd": []})
    with pytest.raises(UserError, match=r"has splits \['odd'\], none of test"):
        read_rows("t", hub="who/what")
    with pytest.raises(UserError, match=r"does not exist"):
        read_rows("t", file=str(root / "absent.jsonl"))
