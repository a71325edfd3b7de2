"""Programs as the compiler prints them."""

import pytest

from ebm_jax.dryrun.hlo import read_instruction, read_module

TEXT = """\
HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[8,4]{1,0})->f32[8]{0}}, num_partitions=8

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]{1,0:T(8,128)S(1)}) parameter(0)
  ROOT %t = (s32[], f32[8,4]{1,0:T(8,128)S(1)}) tuple(%p, /*index=1*/%p), metadata={op_name="a(b), c"}
}

ENTRY %main.3 (x: f32[8,4]) -> f32[8] {
  %x = f32[8,4]{1,0:T(8,128)} parameter(0), sharding={devices=[8,1]<=[8]}
  %while.2 = (s32[], f32[8,4]) while(%x), condition=%cond.1, body=%body, backend_config={"known_trip_count":{"n":"12"},"x":[1]}
  ROOT %all = bf16[8]{0} all-reduce(f32[8,4]{1,0} %x), channel_id=1, replica_groups=[2,4]<=[4,2]T(1,0), to_apply=%add.5
}
"""


def test_computations_and_their_instructions():
    module = read_module(TEXT)
    assert (module.entry, module.partitions, list(module.computations)) == ("main.3", 8, ["body", "main.3"])
    body, main = module.computations.values()
    assert body.root.operands == ("p", "p")
    assert [shape.dtype for shape in body.root.shapes] == ["s32", "f32"]
    assert body.root.bytes == 4 + 8 * 4 * 4 and body.root.main_bytes == 4, "S(1) is not main memory"
    loop, reduce = main.instructions["while.2"], main.root
    assert loop.trips == 12 and loop.calls == {"condition": ("cond.1",), "body": ("body",)}
    assert reduce.operands == ("x",) and reduce.attribute("replica_groups") == "[2,4]<=[4,2]T(1,0)"
    assert reduce.calls == {"to_apply": ("add.5",)} and reduce.bytes == 16
    assert main.parameters[0].shapes[0].sizes == (8, 4)
    assert [user.name for user in main.users["x"]] == ["while.2", "all"]


@pytest.mark.parametrize(
    ("shape", "size"), [("pred[3]", 3), ("s4[10]", 5), ("c64[2]", 16), ("f8e4m3fn[7]", 7), ("u32[]", 4), ("token[]", 0)]
)
def test_bytes_of_types(shape, size):
    (found,) = read_instruction(f"  %a = {shape}{{0}} add(%b, %c)").shapes
    assert found.bytes == size


def test_lines_that_are_no_instructions():
    assert read_instruction("") is None
    with pytest.raises(ValueError, match="no ENTRY"):
        read_module("HloModule nothing\n")
