"""Sources read what is there and say exactly what is wrong with what is not."""

import gzip
import json
import lzma

import pytest

from ebm_jax.data import DataConfig
from ebm_jax.data.digests import FileDigests
from ebm_jax.data.sources import open_source, read
from ebm_jax.data.splits import SPLITS, SplitRule
from ebm_jax.data.stdlib import StandardLibrary
from ebm_jax.errors import UserError


def texts(source, **changes):
    config = DataConfig(source=source, **changes)
    return {d.key: d.text for d in read(open_source(config), config.max_documents)}


def listing(source, tmp_path, **changes):
    return list(open_source(DataConfig(source=source, **changes)).listing(FileDigests(tmp_path / "cache")))


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("one\ntwo\n\n\nthree é\n", encoding="utf-8")
    (folder / "deep" / "b.md").write_bytes("\ufeffmark".encode())
    (folder / "deep" / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = '\xe9'\n")
    (folder / "c.txt.gz").write_bytes(gzip.compress(b"packed"))
    (folder / "d.txt.xz").write_bytes(lzma.compress(b"tight"))
    (folder / ".hidden.txt").write_text("no")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


def test_text_folder_file_and_glob(corpus):
    found = texts(f"text:{corpus}")
    assert sorted(found) == ["a.txt", "c.txt.gz", "d.txt.xz", "deep/b.md", "deep/latin.py"]
    assert found["deep/b.md"] == "mark" and found["c.txt.gz"] == "packed" and found["d.txt.xz"] == "tight"
    assert found["deep/latin.py"].endswith("x = 'é'\n")
    assert texts(f"text:{corpus}/a.txt") == {"a.txt": found["a.txt"]}
    assert sorted(texts(f"text:{corpus}/**/*.md")) == ["deep/b.md"]
    assert sorted(texts(f"text:{corpus}", exclude=("deep/*", "*.gz"))) == ["a.txt", "d.txt.xz"]
    assert len(texts(f"text:{corpus}", max_documents=2)) == 2


def test_parts_of_a_text_file(corpus):
    file = f"text:{corpus}/a.txt"
    assert list(texts(file, documents="paragraphs").values()) == ["one\ntwo", "three é\n"]
    assert list(texts(file, documents="lines").items()) == [
        ("a.txt#1", "one"),
        ("a.txt#2", "two"),
        ("a.txt#3", "three é"),
    ]
    whole = (corpus / "a.txt").read_text(encoding="utf-8")
    for size in (1, 5, 6, 1000):
        blocks = list(texts(file, documents="blocks", block_chars=size).values())
        assert "".join("".join(blocks).split()) == "".join(whole.split()) and max(map(len, blocks)) <= size
    assert next(iter(texts(file, documents="blocks", block_chars=6).values())) == "one\n"


def test_the_listing_knows_content_not_place(corpus, tmp_path):
    before = listing(f"text:{corpus}", tmp_path)
    moved = corpus.rename(tmp_path / "moved")
    assert listing(f"text:{moved}", tmp_path) == before
    assert listing(f"text:{moved}", tmp_path / "elsewhere") == before
    (moved / "a.txt").write_text("one\ntwo\n\n\nthree e\n")
    assert listing(f"text:{moved}", tmp_path) != before


def test_a_broken_digest_cache_is_rebuilt(corpus, tmp_path):
    digests = FileDigests(tmp_path)
    first = digests(corpus / "a.txt")
    digests.save()
    assert json.loads((tmp_path / "digests.json").read_text())
    (tmp_path / "digests.json").write_text('{"cut')
    assert FileDigests(tmp_path)(corpus / "a.txt") == first


def test_data_folder_from_the_environment(corpus, monkeypatch):
    monkeypatch.setenv("EBM_JAX_DATA", str(corpus))
    assert texts("text:$EBM_JAX_DATA/deep/b.md") == texts("text:${EBM_JAX_DATA}/deep/b.md") == {"b.md": "mark"}
    monkeypatch.delenv("EBM_JAX_DATA")
    with pytest.raises(UserError, match="needs the environment variable EBM_JAX_DATA"):
        texts("text:$EBM_JAX_DATA/deep/b.md")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.txt", b"ok so far \xff", r"bad\.txt: byte 10 \(0xff\) is not valid UTF-8"),
        ("bad.txt.gz", gzip.compress(b"ok \xc3", mtime=0), r"bad\.txt\.gz: byte 3 \(0xc3\) is not valid UTF-8"),
        ("bad.py", b"x = 1\ny = '\xff'\n", r"bad\.py: byte 11 is not valid utf-8"),
        ("odd.py", b"# -*- coding: klingon -*-\n", r"odd\.py: byte 0: unknown encoding: klingon"),
        ("none.txt", b"", r"none\.txt: empty: no text from byte 0"),
        ("blank.txt", b" \n\n", r"blank\.txt: empty: no text from byte 0"),
        ("cut.txt.gz", gzip.compress(b"words" * 100, mtime=0)[:-12], r"cut\.txt\.gz: not a whole compressed file"),
        ("fake.txt.gz", b"not gzip", r"fake\.txt\.gz: not a whole compressed file"),
        ("fake.txt.xz", b"not xz", r"fake\.txt\.xz: not a whole compressed file"),
    ],
)
def test_bad_text_files_are_named_with_the_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        texts(f"text:{tmp_path}")


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere", "nowhere does not exist"), ("*.nothing", "holds no files"), (".", "holds no files that end in .txt")],
)
def test_missing_text_files(tmp_path, path, message):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(UserError, match=message):
        texts(f"text:{tmp_path}/{path}")


def test_jsonl(tmp_path):
    rows = [{"text": "first é", "id": 1}, {"text": ""}, {"text": "third"}]
    lines = "\n".join(json.dumps(row) for row in rows).encode() + b"\n\n"
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "c.jsonl.xz").write_bytes(lzma.compress(lines))
    found = texts(f"jsonl:{tmp_path}")
    assert list(found) == [f"{n}:{i}" for n in ("a.jsonl", "b.jsonl.gz", "c.jsonl.xz") for i in (1, 3)]
    assert set(found.values()) == {"first é", "third"}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (b'{"text": "x"', r"x\.jsonl: line 2: not JSON: .* at column 13"),
        (b"[1]", r"x\.jsonl: line 2: a list, not an object with fields"),
        (b'{"body": "x"}', r"x\.jsonl: line 2: no field 'text', only \['body'\]; set data\.text_field"),
        (b'{"text": 3}', r"x\.jsonl: line 2: field 'text' holds a int"),
        (b'{"text": "\xff"}', r"x\.jsonl: line 2: byte 10 of the line is not valid UTF-8"),
    ],
)
def test_bad_jsonl_lines_are_named(tmp_path, second, message):
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "fine"}\n' + second + b"\n")
    with pytest.raises(UserError, match=message):
        texts(f"jsonl:{tmp_path}/x.jsonl")


def test_empty_and_cut_jsonl_files(tmp_path):
    (tmp_path / "e.jsonl").write_bytes(b"\n")
    with pytest.raises(UserError, match=r"e\.jsonl: empty"):
        texts(f"jsonl:{tmp_path}")
    (tmp_path / "e.jsonl").unlink()
    (tmp_path / "z.jsonl.gz").write_bytes(gzip.compress(b'{"text": "fine"}\n' * 9000)[:-20])
    with pytest.raises(UserError, match=r"z\.jsonl\.gz: not a whole compressed file after line \d+"):
        texts(f"jsonl:{tmp_path}")


def test_standard_library_leaves_out_tests_packages_and_the_ood_text():
    found = texts("stdlib")
    assert "json/decoder.py" in found and "asyncio/base_events.py" in found
    for part in ("site-packages", "pydoc_data", "__pycache__"):
        assert not [key for key in found if part in key]
    assert not [key for key in found if "test" in key.split("/")[:-1] or "_sysconfigdata" in key]
    topics = texts("stdlib-topics")
    assert "lambda" in topics and not set(topics.values()) & set(found.values())
    assert "if" in topics["if"] and sum(map(len, topics.values())) > 200_000


def test_standard_library_without_source_is_explained(tmp_path):
    with pytest.raises(UserError, match="ships its library without source"):
        StandardLibrary(root=tmp_path)


def test_splits_are_stable_and_have_their_shares():
    rule = SplitRule(validation=0.1, test=0.2)
    documents = list(read(StandardLibrary(), None))
    chosen = {d.key: rule(d) for d in documents}
    counts = {split: list(chosen.values()).count(split) / len(chosen) for split in SPLITS}
    assert abs(counts["validation"] - 0.1) < 0.05 and abs(counts["test"] - 0.2) < 0.06
    # A document's split does not depend on the others, nor on its content where it has a path.
    assert {d.key: rule(d._replace(text="edited")) for d in documents[::7]} == {
        d.key: chosen[d.key] for d in documents[::7]
    }
    # More validation moves nothing from test to train.
    more = SplitRule(validation=0.3, test=0.2)
    assert {k for k, v in chosen.items() if v == "test"} == {d.key for d in documents if more(d) == "test"}


def test_equal_texts_are_on_one_side(tmp_path):
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": f"t{i % 20}"}) + "\n" for i in range(60)))
    rule = SplitRule(validation=0.3, test=0.3)
    sides = {}
    for document in open_source(DataConfig(source=f"jsonl:{tmp_path}")):
        sides.setdefault(document.text, set()).add(rule(document))
    assert all(len(side) == 1 for side in sides.values()) and len(set.union(*sides.values())) == 3


def test_a_folder_of_split_files_brings_its_splits(tmp_path):
    for name, count in (("train-00.jsonl", 30), ("train-01.jsonl", 10), ("valid.jsonl.gz", 5), ("test_v1.jsonl", 3)):
        lines = "".join(json.dumps({"text": f"{name} {i}"}) + "\n" for i in range(count)).encode()
        (tmp_path / name).write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    source = open_source(DataConfig(source=f"jsonl:{tmp_path}"))
    assert source.own_splits == {"train", "validation", "test"}
    rule = SplitRule(validation=0.3, test=0.3, own=source.own_splits)
    assert {d.key.partition(".")[0]: rule(d) for d in source} == {
        "train-00": "train",
        "train-01": "train",
        "valid": "validation",
        "test_v1": "test",
    }
    own = listing(f"jsonl:{tmp_path}", tmp_path)
    glob = open_source(DataConfig(source=f"jsonl:{tmp_path}/*"))
    assert not glob.own_splits and all(d.split is None for d in glob)
    assert own != listing(f"jsonl:{tmp_path}/*", tmp_path), "another split is another prepared set"


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt",),
        ("test.txt", "valid.txt"),
        ("train.txt", "test.txt", "notes.txt"),
        ("train/a.txt", "test/a.txt"),
        ("training.txt", "test.txt"),
    ],
)
def test_other_folders_are_split_as_ever(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    source = open_source(DataConfig(source=f"text:{tmp_path}"))
    assert source.own_splits == frozenset() and all(d.split is None for d in source)
    assert [line.split()[0] for line in listing(f"text:{tmp_path}", tmp_path)] == sorted(names)
    assert not open_source(DataConfig(source=f"text:{tmp_path / names[0]}")).own_splits


def test_text_and_parquet_folders_of_split_files(tmp_path):
    for name in ("train.txt", "dev.txt"):
        (tmp_path / name).write_text("one\n\ntwo\n")
    for rule in ("file", "paragraphs"):
        splits = {d.key[:3]: d.split for d in open_source(DataConfig(source=f"text:{tmp_path}", documents=rule))}
        assert splits == {"tra": "train", "dev": "validation"}
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for name in ("train", "val"):
        parquet.write_table(pyarrow.table({"text": [name]}), tmp_path / f"{name}.parquet")
    found = open_source(DataConfig(source=f"parquet:{tmp_path}"))
    assert {d.text: d.split for d in found} == {"train": "train", "val": "validation"}
