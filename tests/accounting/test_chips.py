import pytest

from ebm_jax.accounting.chips import CHIPS, get_chip, slice_of_topology, slice_of_type
from ebm_jax.accounting.utilisation import PEAK_BF16_FLOPS
from ebm_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "topology", "chips", "hosts", "accelerator_type"),
    [
        ("v4", "2x2x1", 4, 1, "v4-8"),
        ("v4", "2x2x2", 8, 2, "v4-16"),
        ("v5p", "4x4x4", 64, 16, "v5p-128"),
        ("v5p", "16x16x24", 6144, 1536, "v5p-12288"),
        ("v5e", "1x1", 1, 1, "v5e-1"),
        ("v5e", "2x4", 8, 1, "v5e-8"),
        ("v5e", "4x4", 16, 4, "v5e-16"),
        ("v6e", "16x16", 256, 64, "v6e-256"),
    ],
)
def test_slices(name: str, topology: str, chips: int, hosts: int, accelerator_type: str):
    found = slice_of_topology(name, topology)
    assert (found.chips, found.hosts, found.accelerator_type) == (chips, hosts, accelerator_type)
    assert slice_of_type(accelerator_type) == found


def test_hosts_share_the_chips_evenly_and_sizes_ascend():
    for chip in CHIPS.values():
        found = [slice_of_topology(chip.name, topology) for topology in chip.topologies]
        assert [piece.chips for piece in found] == sorted({piece.chips for piece in found})
        assert all(piece.hosts * piece.chips_per_host == piece.chips for piece in found)
        assert all(piece.chips_per_host == 4 for piece in found if piece.hosts > 1)


def test_larger_slices_are_made_of_cubes():
    assert slice_of_topology("v5p", "4x4x12").hosts == 48
    assert slice_of_type("v5litepod-8") == slice_of_type("v5e-8")


@pytest.mark.parametrize(
    ("name", "topology"),
    [
        ("v5p", "4x4"),
        ("v5e", "2x2x2"),
        ("v5p", "12x4x4"),
        ("v5p", "4x4x6"),
        ("v4", "0x4x4"),
        ("v5e", "big"),
        ("v5p", "16x16x64"),
    ],
)
def test_there_is_no_such_slice(name: str, topology: str):
    with pytest.raises(UserError, match=f"topology='{topology}': {name} has"):
        slice_of_topology(name, topology)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UserError, match="accelerator='v9' is none of v4, v5e, v5p, v6e"):
        get_chip("v9")
    with pytest.raises(UserError, match="type='v5p-12' is none of v5p-8, v5p-16"):
        slice_of_type("v5p-12")


def test_rates_are_those_that_utilisation_counts_with():
    assert {name: chip.peak_bf16_flops for name, chip in CHIPS.items()} == {
        name: PEAK_BF16_FLOPS[f"TPU {name}"] for name in ("v4", "v5e", "v5p", "v6e")
    }
