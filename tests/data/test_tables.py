"""Parquet files, prepared TFDS sets and Hugging Face sets become documents like any others."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from ebm_jax.data import DataConfig, load_data
from ebm_jax.data.digests import FileDigests
from ebm_jax.data.sources import open_source, read
from ebm_jax.errors import UserError


def documents(source, **changes):
    config = DataConfig(source=source, **changes)
    return list(read(open_source(config), config.max_documents))


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for name in ("a", "b"):
        table = pyarrow.table({"text": [f"{name} é", None, "", f"{name} two"], "id": [1, 2, 3, 4]})
        parquet.write_table(table, tmp_path / f"{name}.parquet", row_group_size=2)
    found = documents(f"parquet:{tmp_path}")
    assert [(d.key, d.text) for d in found] == [
        ("a.parquet:0", "a é"),
        ("a.parquet:3", "a two"),
        ("b.parquet:0", "b é"),
        ("b.parquet:3", "b two"),
    ]
    with pytest.raises(UserError, match=r"a\.parquet: no column 'body', only \['text', 'id'\]; set data\.text_field"):
        documents(f"parquet:{tmp_path}", text_field="body")
    with pytest.raises(UserError, match=r"a\.parquet: row 0: holds a int, not a string"):
        documents(f"parquet:{tmp_path}", text_field="id")


def test_bad_parquet_files_are_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match=r"bad\.parquet: not a readable Parquet file"):
        documents(f"parquet:{tmp_path}")
    parquet.write_table(pyarrow.table({"text": pyarrow.array([], "string")}), tmp_path / "bad.parquet")
    with pytest.raises(UserError, match=r"bad\.parquet: empty: no rows"):
        documents(f"parquet:{tmp_path}")


@pytest.fixture(scope="module")
def tiny_set(tmp_path_factory):
    """A TFDS set that has nothing to do with this package, prepared without TensorFlow."""
    pytest.importorskip("importlib_resources")
    tfds = pytest.importorskip("tensorflow_datasets")

    class TinyStories(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"story": tfds.features.Text(), "number": tfds.features.Scalar(np.int64)}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(40), "test": self._generate_examples(7)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"story": f"é story number {i} of {count}", "number": i}

    folder = tmp_path_factory.mktemp("tfds")
    TinyStories(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


def config_of(folder: Path, tmp_path: Path, **changes) -> DataConfig:
    return DataConfig(
        source="tfds:tiny_stories",
        data_dir=str(folder),
        text_field="story",
        cache_dir=str(tmp_path),
        context=16,
        **changes,
    )


def test_a_prepared_tfds_set_keeps_its_splits_and_lends_its_training_rows_for_the_missing_one(tiny_set, tmp_path):
    data = load_data(config_of(tiny_set, tmp_path, validation_fraction=0.3, test_fraction=0.5), batch_size=2)
    counts = {split: stats.documents for split, stats in data.stats.items()}
    assert counts["test"] == 7 and counts["train"] + counts["validation"] == 40 and 4 <= counts["validation"] <= 20
    texts = [f"é story number {i} of {n}" for n in (40, 7) for i in range(n)]
    assert sum(stats.bytes for stats in data.stats.values()) == sum(len(text.encode()) for text in texts)
    shown = data.tokenizer.decode(next(iter(data.eval("test", batch_size=1)))["targets"][0])
    assert " of 7" in shown
    assert {d.key for d in documents_of(tiny_set)} >= {"tfds:tiny_stories/test:6", "tfds:tiny_stories/train:39"}


def documents_of(folder):
    return documents("tfds:tiny_stories", data_dir=str(folder), text_field="story")


def test_mistakes_with_tfds_sets_are_named(tiny_set, tmp_path):
    with pytest.raises(UserError, match=r"no field 'text', only \['number', 'story'\]"):
        documents("tfds:tiny_stories", data_dir=str(tiny_set))
    with pytest.raises(UserError, match=r"tfds:no_such_set cannot be opened in .*: Dataset no_such_set not found"):
        documents("tfds:no_such_set", data_dir=str(tiny_set))
    with pytest.raises(UserError, match=r"tfds:lm1b is not prepared in .*file_format=array_record"):
        documents("tfds:lm1b", data_dir=str(tmp_path))


def test_a_tfrecord_set_says_that_it_needs_tensorflow(tiny_set, tmp_path):
    copy = tmp_path / "tiny_stories" / "1.0.0"
    copy.mkdir(parents=True)
    for file in (tiny_set / "tiny_stories" / "1.0.0").glob("*.json"):
        text = file.read_text()
        (copy / file.name).write_text(
            text.replace('"array_record"', '"tfrecord"').replace(".array_record", ".tfrecord")
        )
    assert json.loads((copy / "dataset_info.json").read_text())["fileFormat"] == "tfrecord"
    with pytest.raises(UserError, match="stored as tfrecord, which only TensorFlow can read"):
        documents("tfds:tiny_stories", data_dir=str(tmp_path), text_field="story")


class FakeRows(list):
    column_names = ("text",)


def test_hugging_face_sets(monkeypatch, tmp_path):
    asked = []

    def load_dataset(path, name, streaming):
        asked.append((path, name, streaming))
        if path == "gone":
            raise FileNotFoundError("no such set\nmore")
        rows = {
            "train": FakeRows([{"text": "one"}, {"text": None}, {"text": "two"}]),
            "val": FakeRows([{"text": "three"}]),
        }
        return {"odd": FakeRows()} if path == "odd" else rows

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    found = documents("hf:org/books:small")
    assert asked == [("org/books", "small", False)]
    assert [(d.text, d.split) for d in found] == [("one", "train"), ("two", "train"), ("three", "validation")]
    listing = open_source(DataConfig(source="hf:org/books")).listing(FileDigests(tmp_path))
    assert [line.strip() for line in listing] == ["hf:org/books", "train 3", "val 1"]
    for source, message in (
        ("hf:gone", "hf:gone cannot be loaded: no such set$"),
        ("hf:odd", r"hf:odd has splits \['odd'\]; none of them is called train"),
    ):
        with pytest.raises(UserError, match=message):
            documents(source)
    with pytest.raises(UserError, match="hf:org/books has no field 'body'"):
        documents("hf:org/books", text_field="body")


@pytest.mark.parametrize(
    ("source", "module", "extra"),
    [("tfds:x", "tensorflow_datasets", "data"), ("hf:x", "datasets", "hf"), ("parquet:{}", "pyarrow", "data")],
)
def test_missing_packages_name_the_extra(monkeypatch, tmp_path, source, module, extra):
    (tmp_path / "x.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf'needs {module}: pip install "ebm_jax\[{extra}\]"'):
        documents(source.format(tmp_path))
