"""The page of scaling is that of the committed records, and its rows can be asked for."""

import json
from pathlib import Path

import pytest

from ebm_jax.dryrun.programs import plan
from ebm_jax.errors import UserError
from experiments import dryrun, scaling_page
from experiments.scaling_page import PAGE, RECORDS, ROWS, page


def records():
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDS.glob("*.json"))}


def test_the_page_is_that_of_the_records():
    assert records().keys() <= ROWS.keys()
    assert PAGE.read_text(encoding="utf-8") == page(records()), "python -m experiments.scaling_page"


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_of_configs_and_of_rows_like_them(name):
    row = ROWS[name]
    assert Path(row.config).is_file()
    if row.like:
        other = ROWS[row.like]
        assert not other.like and (row.config, row.program, row.slices) == (other.config, other.program, other.slices)
        assert row.assignments == other.assignments
    elif name in records():
        assert records()[name]["command"] == " ".join(row.command())


def test_a_record_says_what_its_row_compiles():
    for name, record in records().items():
        assert record["program"] == ROWS[name].program and record["slices"] == ROWS[name].slices
        assert record["topology"] == ROWS[name].topology
        if not record["refused"]:
            assert record["total_bytes"] < record["memory_bytes"] and record["fits"]


def test_rows_that_are_not_there():
    with pytest.raises(UserError, match="compile=nothing: rows to be compiled are ebt_small"):
        scaling_page.main(["compile=nothing"])
    with pytest.raises(UserError, match="compile=ebt_small_v6e_16"):
        scaling_page.main(["compile=ebt_small_v6e_16"])


def test_the_serving_config_has_both_programs():
    import jax

    config = dryrun.load(Path("configs/ebd/serving_7b.py"), [])
    assert [one.name for one in plan(config, jax.devices()[:8])] == ["read", "draw"]
