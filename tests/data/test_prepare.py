"""A corpus is prepared once, whole or not at all, and what it is decides where it lies."""

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ebm_jax.data import DataConfig, load_data
from ebm_jax.errors import UserError

pytest.importorskip("importlib_resources")
tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")

TEXTS = [f"document {i} says {'more ' * (i % 7)}\n" for i in range(60)]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "corpus" / "texts.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return DataConfig(
        source=f"jsonl:{path.parent}",
        cache_dir=str(tmp_path / "cache"),
        context=16,
        validation_fraction=0.2,
        test_fraction=0.1,
    )


def changed(config, **changes):
    return DataConfig(**{**vars(config), **changes})


def prepared_folder(config):
    (folder,) = (p for p in (Path(config.cache_dir) / "ebm_documents").iterdir() if p.is_dir())
    return folder


def contents(data):
    """Every row of every split, to compare preparations."""
    return {split: rows.gather(np.arange(len(rows))) for split, rows in data.rows.items()}


def same(a, b):
    one, other = contents(a), contents(b)
    return one.keys() == other.keys() and all(np.array_equal(one[s][k], other[s][k]) for s in one for k in one[s])


def test_every_document_is_in_one_split_with_its_bytes(config):
    data = load_data(config, batch_size=4)
    assert sum(stats.documents for stats in data.stats.values()) == len(TEXTS)
    assert sum(stats.bytes for stats in data.stats.values()) == sum(len(text) for text in TEXTS)
    assert sum(stats.tokens for stats in data.stats.values()) == sum(len(text) for text in TEXTS)
    scored = sum(len(target) for rows in data.rows.values() for _, target in rows.scored_pairs())
    assert scored == sum(len(text) - 1 for text in TEXTS)
    assert set(data.rows) == {"train", "validation", "test"}
    assert next(data.train)["inputs"].shape == (4, 16)
    data.train.close()


def test_the_set_is_a_tfds_set_that_others_can_read(config):
    data = load_data(config, batch_size=4)
    builder = tfds.builder_from_directory(prepared_folder(config) / "1.0.0")
    assert builder.info.file_format.value == "array_record"
    source = builder.as_data_source(split="validation")
    assert len(source) == data.stats["validation"].documents
    row = source[0]
    assert row["key"].startswith(b"texts.jsonl:") and bytes(row["tokens"]).decode() in TEXTS
    assert row["text_bytes"] == len(row["tokens"])


def test_prepared_once_and_read_without_tfds(config, monkeypatch):
    first = load_data(config, batch_size=4)
    files = sorted(prepared_folder(config).rglob("*"))
    times = [file.stat().st_mtime_ns for file in files]
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.delitem(sys.modules, "ebm_jax.data.builder", raising=False)
    again = load_data(config, batch_size=2)
    assert again.fingerprint == first.fingerprint and same(first, again)
    assert [file.stat().st_mtime_ns for file in files] == times
    with pytest.raises(UserError, match=r'needs tensorflow_datasets: pip install "ebm_jax\[data\]"'):
        load_data(changed(config, test_fraction=0.2), batch_size=4)


def test_the_fingerprint_follows_what_decides_the_rows(config, tmp_path):
    base = load_data(config, batch_size=4).fingerprint
    changes = [
        {"context": 8},
        {"layout": "truncate"},
        {"packing_seed": 1},
        {"min_tokens": 20},
        {"validation_fraction": 0.3},
        {"max_documents": 30},
        {"ignore_id": None},
        {"append_eos": True},
    ]
    found = [load_data(changed(config, **change), batch_size=4).fingerprint for change in changes]
    assert len({base, *found}) == len(changes) + 1
    for change in ({"workers": 0}, {"shuffle_seed": 5}, {"cache_dir": str(tmp_path / "other")}):
        assert load_data(changed(config, **change), batch_size=8).fingerprint == base
    moved = tmp_path / "moved"
    Path(config.source_path).rename(moved)
    assert load_data(changed(config, source=f"jsonl:{moved}"), batch_size=4).fingerprint == base
    with (moved / "texts.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    assert load_data(changed(config, source=f"jsonl:{moved}"), batch_size=4).fingerprint != base


def test_layouts_share_the_prepared_documents(config):
    load_data(config, batch_size=4)
    truncated = load_data(changed(config, layout="truncate"), batch_size=4)
    folder = prepared_folder(config)
    assert {p.name for p in folder.iterdir()} >= {"1.0.0", "tokens", "rows-packed-16-0-2", "rows-truncate-16-0-2"}
    assert sum(stats.rows for stats in truncated.stats.values()) == len(TEXTS)


def test_end_of_text_ends_documents(config):
    data = load_data(changed(config, append_eos=True, ignore_id=None), batch_size=4)
    plain = sum(len(text) for text in TEXTS)
    assert sum(stats.tokens for stats in data.stats.values()) == plain + len(TEXTS)
    assert sum(stats.bytes for stats in data.stats.values()) == plain
    ends = sum(int((target == 0).sum()) for rows in data.rows.values() for _, target in rows.scored_pairs())
    assert ends == len(TEXTS)


def test_splits_without_documents_are_left_out(config):
    data = load_data(config.evaluation_of(config.source), batch_size=4)
    assert set(data.rows) == {"test"} and data.stats["test"].documents == len(TEXTS)
    with pytest.raises(UserError, match=r"the train split has no rows \(documents: test 60\)"):
        _ = data.train
    tiny = load_data(changed(config, max_documents=1), batch_size=4)
    assert len(tiny.rows) == 1


@pytest.mark.parametrize(
    "broken",
    ["tokens/train.tokens", "tokens/train.offsets.npy", "tokens/meta.json", "rows-packed-16-0-2/train/first.npy"],
)
@pytest.mark.parametrize("how", ["missing", "cut"])
def test_derived_files_are_rebuilt(config, broken, how):
    before = contents(load_data(config, batch_size=4))
    file = prepared_folder(config) / broken
    raw = file.read_bytes()
    file.unlink()
    if how == "cut":
        file.write_bytes(raw[: len(raw) // 2])
    after = contents(load_data(config, batch_size=4))
    assert all(np.array_equal(before[s][k], after[s][k]) for s in before for k in before[s])


def test_damaged_record_files_are_named(config):
    load_data(config, batch_size=4)
    folder = prepared_folder(config)
    (folder / "tokens" / "meta.json").unlink()
    (record,) = (folder / "1.0.0").glob("*train*")
    record.write_bytes(record.read_bytes()[:100])
    with pytest.raises(UserError, match=r"1\.0\.0 are damaged .*remove"):
        load_data(config, batch_size=4)


def test_a_mistake_half_way_through_is_named_and_leaves_nothing(config):
    path = Path(config.source_path) / "texts.jsonl"
    good = path.read_text()
    path.write_text(good + "{broken\n")
    with pytest.raises(UserError, match=r"texts\.jsonl: line 61: not JSON"):
        load_data(config, batch_size=4)
    assert not list(Path(config.cache_dir).rglob("dataset_info.json"))
    path.write_text(good + json.dumps({"text": "nul \0"}) + "\n")
    with pytest.raises(UserError, match=r"texts\.jsonl:61: byte 4 of the text is NUL"):
        load_data(config, batch_size=4)
    path.write_text('{"text": ""}\n')
    with pytest.raises(UserError, match="has no documents with text"):
        load_data(config, batch_size=4)
    path.write_text(good)
    assert sum(stats.documents for stats in load_data(config, batch_size=4).stats.values()) == 60


KILLED = """
import os, signal, sys, types
from ebm_jax.data import DataConfig, load_data, tokenizers
from ebm_jax.data import store
place, source, cache = sys.argv[1:]
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
if place == "tokenising":
    encode, calls = tokenizers.ByteTokenizer.encode, []
    def count(self, text):
        calls.append(text)
        return encode(self, text) if len(calls) < 40 else die()
    tokenizers.ByteTokenizer.encode = count
elif place == "storing":
    store.np.save = die
else:
    store.os = types.SimpleNamespace(replace=die)
fractions = {'validation_fraction': 0.2, 'test_fraction': 0.1}
load_data(DataConfig(source=source, cache_dir=cache, context=16, **fractions), batch_size=4)
"""


@pytest.mark.parametrize("place", ["tokenising", "storing", "renaming"])
def test_a_killed_preparation_is_not_trusted(config, tmp_path, place):
    arguments = [sys.executable, "-c", KILLED, place, config.source, config.cache_dir]
    killed = subprocess.run(arguments, capture_output=True, timeout=120, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    folder = prepared_folder(config)
    assert [*folder.glob("incomplete.*"), *folder.glob("unfinished-*")], "it was killed in the middle"
    data = load_data(config, batch_size=4)
    assert not [*folder.glob("incomplete.*"), *folder.glob("unfinished-*")]
    assert same(data, load_data(changed(config, cache_dir=str(tmp_path / "clean")), batch_size=4))


def test_two_preparations_at_once_are_one(config, tmp_path):
    script = (
        "import sys\nfrom ebm_jax.data import DataConfig, load_data\n"
        "config = DataConfig(source=sys.argv[1], cache_dir=sys.argv[2], context=16, validation_fraction=0.2, "
        "test_fraction=0.1)\nprint(load_data(config, batch_size=4).fingerprint)"
    )
    arguments = [sys.executable, "-c", script, config.source, config.cache_dir]
    root = Path(__file__).parents[2]
    running = [subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root) for _ in range(3)]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    assert len({out for out, _ in outputs}) == 1
    assert same(
        load_data(config, batch_size=4), load_data(changed(config, cache_dir=str(tmp_path / "one")), batch_size=4)
    )


def test_a_cache_folder_that_cannot_be(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"set data\.cache_dir=.* elsewhere"):
        load_data(changed(config, cache_dir=str(tmp_path / "file" / "cache")), batch_size=4)


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("ebm_jax.data.store.np.save", OSError(errno.ENOSPC, "full")),
        (
            "ebm_jax.data.builder.EbmDocuments.download_and_prepare",
            RuntimeError("write() failed: No space left on device"),
        ),
    ],
)
def test_a_full_disk_is_named(config, monkeypatch, where, error):
    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(where, full)
    with pytest.raises(UserError, match=r"no space left for data\.cache_dir="):
        load_data(config, batch_size=4)
    monkeypatch.undo()
    assert len(load_data(config, batch_size=4).rows) == 3


def test_impossible_options(config, monkeypatch):
    with pytest.raises(UserError, match="batch size 3 cannot be shared by 2 processes"):
        load_data(config, batch_size=3, process_count=2)
    monkeypatch.setattr("ebm_jax.data.tokenizers.ByteTokenizer.eos_id", None)
    with pytest.raises(UserError, match="bytes has no end-of-text token"):
        load_data(changed(config, append_eos=True), batch_size=4)


def test_ends_that_no_model_would_learn_are_told(config, caplog):
    """Id 0 is the bytes' end of a text, and by default not scored."""
    load_data(changed(config, append_eos=True), batch_size=4)
    assert "data.ignore_id=0 is the token that data.append_eos=true writes" in caplog.text
    caplog.clear()
    load_data(changed(config, append_eos=True, ignore_id=None), batch_size=4)
    load_data(config, batch_size=4)
    assert "ignore_id" not in caplog.text
