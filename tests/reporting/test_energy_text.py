"""Energies on characters: alignment with bytes, shades, correlation."""

from pathlib import Path

import numpy as np
import pytest

from ebm_jax.reporting.energy_text import Scale, _byte_sizes, correlation, snippet
from ebm_jax.reporting.runs import Run
from ebm_jax.reporting.theme import LEVELS, blend


def run(**record) -> Run:
    return Run(Path("x"), evaluation={"snippet": record})


def test_a_character_of_several_bytes_takes_mean_energy_and_total_bits():
    data = "aé b".encode()
    nll = np.log(2) * np.arange(1.0, 6.0)
    found = snippet(run(text="# aé b", bytes=list(data), energy=[[1, 2, 4, 0, 0], [0] * 5], nll=[nll.tolist()]))
    assert found is not None
    assert found.characters == ["a", "é", " ", "b"] and found.before == "# "
    np.testing.assert_allclose(found.energies, [[1, 3, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(found.bits, [[1, 5, 4, 5]])


@pytest.mark.parametrize("data", [b"abc", "é€😀".encode(), b"\xa9cut", "cut€".encode()[:-1], b"\xff\xfea\xe2\x82b"])
def test_sizes_of_characters_follow_the_decoder(data: bytes):
    sizes = _byte_sizes(data)
    assert sum(sizes) == len(data) and len(sizes) == len(data.decode("utf-8", "replace"))


def test_records_that_do_not_fit_are_left_out():
    good = {"text": "ab", "bytes": [97, 98], "nll": [[1.0, 2.0]]}
    assert snippet(run(**good)) is not None and snippet(run()) is None
    assert snippet(run(**good, energy=[[1.0]])) is None
    assert snippet(run(**good | {"nll": [[1.0, float("nan")]]})) is None
    assert snippet(run(text="word piece", nll=[[1.0, 2.0]])) is None


def test_shades_end_at_the_ends_of_the_scale():
    scale = Scale("e", -1.0, 1.0)
    assert [scale.shade(x) for x in (-9.0, -1.0, 1.0, 9.0)] == ["e0", "e0", f"e{LEVELS - 1}", f"e{LEVELS - 1}"]
    assert Scale("e", 1.0, 1.0).shade(1.0) == f"e{round(0.5 * (LEVELS - 1))}"
    assert blend(("#000000", "#ffffff", "#ff0000"), 0.25) == "#808080"


def test_rank_correlation():
    x = np.array([1.0, 2.0, 2.0, 3.0])
    assert correlation(x, np.exp(x)) == pytest.approx(1.0)
    assert correlation(x, -x) == pytest.approx(-1.0)
    assert correlation(x, np.ones(4)) is None
