"""Examples lie in JSON lines, JSON lists and Parquet files alike, and a row that is none is named by file and place."""

import json

import pytest

from ebm_jax.data import DataConfig
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.data.sources import open_source
from ebm_jax.errors import UserError

ROWS = [{"prompt": "1+1", "completion": "2", "n": 1}, {"prompt": "2+2", "completion": "4", "n": None}]
TALKS = [{"chosen": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}]


def write_parquet(path, rows):
    pa, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    path.parent.mkdir(exist_ok=True, parents=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def texts(source, **examples):
    config = DataConfig(source=source, examples=ExamplesConfig(**examples))
    return [(document.key, document.text, document.split) for document in open_source(config)]


def test_a_json_list_and_json_lines_by_its_name(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text("\ufeff" + json.dumps(ROWS, indent=1))
    assert texts(f"sft:{path}") == [("rows.json:1", "1+12", None), ("rows.json:2", "2+24", None)]
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert [text for _, text, _ in texts(f"sft:{path}")] == ["1+12", "2+24"]


def test_parquet_in_a_folder_of_splits(tmp_path):
    for split, row in zip(("train", "validation"), ROWS, strict=True):
        write_parquet(tmp_path / "set" / f"{split}-00000-of-00001.parquet", [row])
    (tmp_path / "set" / "dataset_info.json").write_text('{"about": "the rows"}')
    assert texts(f"sft:{tmp_path / 'set'}") == [
        ("train-00000-of-00001.parquet:0", "1+12", "train"),
        ("validation-00000-of-00001.parquet:0", "2+24", "validation"),
    ]


def test_pairs_and_chats_in_parquet(tmp_path):
    path = write_parquet(tmp_path / "p.parquet", [{"prompt": "q", "chosen": "good", "rejected": "bad"}])
    found = texts(f"pairs:{path}", separator=None)
    assert [text for _, text, _ in found] == ["qgood", "qbad"]
    jinja = tmp_path / "chat.jinja"
    jinja.write_text("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}")
    pytest.importorskip("jinja2")
    path = write_parquet(tmp_path / "chats.parquet", TALKS)
    found = texts(f"sft:{path}", messages="chosen", chat_template=str(jinja), loss="full")
    assert [text for _, text, _ in found] == ["user:u;assistant:a;"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"prompt": "a", "completion": "b"}, 1]', r"rows\.json: row 2: a int, not an object"),
        ('[{"prompt": "a"},\n{"prompt": }]', r"rows\.json: line 2: not JSON"),
        ("[]", r"rows\.json: empty: a JSON list without rows"),
        ('[{"prompt": "a", "completion": null}]', r"rows\.json: row 1: field 'completion' holds null"),
        ('{"prompt":\n "a"}', r"rows\.json: line 1: not JSON"),
    ],
)
def test_malformed_json_is_named_by_its_place(tmp_path, text, said):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        texts(f"sft:{path}")


def test_malformed_parquet_is_named_by_its_row(tmp_path):
    path = write_parquet(tmp_path / "rows.parquet", ROWS)
    with pytest.raises(UserError, match=r"rows\.parquet: row 1: field 'n' holds null"):
        texts(f"sft:{path}", completion="{n}")
    with pytest.raises(UserError, match=r"rows\.parquet: row 0: no field 'answer'"):
        texts(f"sft:{path}", completion="{answer}")
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"rows\.parquet: not a readable Parquet file"):
        texts(f"sft:{path}")
    write_parquet(path, ROWS[:0])
    with pytest.raises(UserError, match=r"rows\.parquet: empty: no rows"):
        texts(f"sft:{path}")
