"""Shares cover all work once, and their files are told from others."""

from pathlib import Path

import pytest

from ebm_jax.errors import UserError
from ebm_jax.share import WHOLE, Share, files_of_shares, parse_share


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_apart_and_cover_everything(count):
    pieces = range(7)
    shares = [Share(index, count).of(pieces) for index in range(count)]
    assert sorted(piece for share in shares for piece in share) == list(pieces)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_each_share_has_files_of_its_own(tmp_path: Path):
    names = [WHOLE.file("samples.jsonl"), *(Share(index, 2).file("samples.jsonl") for index in range(2))]
    assert names == ["samples.jsonl", "samples.0-of-2.jsonl", "samples.1-of-2.jsonl"]
    for name in (*names, "samples.old.jsonl", "samples.jsonl.part", "samples_more.jsonl"):
        (tmp_path / name).touch()
    assert sorted(file.name for file in files_of_shares(tmp_path, "samples.jsonl")) == sorted(names)


def test_a_share_is_named(monkeypatch):
    assert parse_share("1/4") == Share(1, 4) and str(Share(1, 4)) == "1/4" and parse_share("0/1") == WHOLE
    monkeypatch.setenv("SLURM_PROCID", "2")
    monkeypatch.setenv("SLURM_NTASKS", "3")
    assert parse_share("slurm") == Share(2, 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("4/4", "share=4/4: the first number must lie below the second"),
        ("0/0", "share=0/0: "),
        ("1", "share='1' must be INDEX/COUNT"),
        ("-1/2", "share='-1/2' must be INDEX/COUNT"),
        ("slurm", "share=slurm: SLURM_PROCID is not set"),
    ],
)
def test_shares_that_are_none(text, told, monkeypatch):
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(UserError, match=told):
        parse_share(text)
