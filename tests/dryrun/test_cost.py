"""What a program costs, as read from its compiled form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from ebm_jax.accounting.flops import count_flops
from ebm_jax.dryrun.cost import Collective, axes_of, cost_of
from ebm_jax.dryrun.hlo import read_module

P = PartitionSpec
MESH_SIZES = {"data": 2, "fsdp": 2, "tensor": 2}


def cost(fn, *args, turns=1, **options):
    return cost_of(read_module(jax.jit(fn, **options).lower(*args).compile().as_text()), turns)


def shape(*sizes, place=None, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=place)


@pytest.fixture
def mesh():
    return jax.make_mesh(tuple(MESH_SIZES.values()), tuple(MESH_SIZES), axis_types=(jax.sharding.AxisType.Auto,) * 3)


def layers(w_NxDxD, x_BxD, unroll=1, again=False):
    step = lambda x, w: (jnp.tanh(x @ w), None)
    return lax.scan(jax.checkpoint(step) if again else step, x_BxD, w_NxDxD, unroll=unroll)[0].sum()


def test_a_loop_costs_as_often_as_it_runs():
    """The gradient of stacked layers: as many FLOPs as without the loop, and those of layers computed again."""
    w, x = shape(6, 32, 32), shape(8, 32)
    layer = 2 * 8 * 32 * 32
    looped, unrolled = (cost(jax.grad(lambda w, x, n=n: layers(w, x, n)), w, x) for n in (1, 6))
    assert looped.flops == pytest.approx(unrolled.flops, abs=layer), "the first layer's input needs no gradient"
    assert looped.flops == count_flops(jax.grad(layers), w, x) == 3 * 6 * layer
    assert cost(jax.grad(lambda w, x: layers(w, x, again=True)), w, x).flops == 4 * 6 * layer
    assert looped.guessed == 0


def test_loops_of_unknown_length_are_told_and_taken_to_run_so_often():
    def until(x):
        return lax.while_loop(lambda x: jnp.sum(x) < 1e6, lambda x: x @ x, x)

    found = cost(until, shape(16, 16), turns=10)
    assert found.guessed == 1 and found.flops == 10 * 2 * 16**3


def test_a_branch_costs_as_the_dearest_one():
    def one_of(x):
        return lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert cost(one_of, shape(16, 16)).flops == 2 * 2 * 16**3


def test_bytes_are_those_of_operands_and_results():
    n = 10_000
    assert cost(lambda a, b: a * b + 1, shape(n), shape(n)).bytes == 3 * 4 * n


def test_a_loop_reads_of_stacked_weights_what_it_takes():
    w, x = shape(50, 64, 64), shape(1, 64)
    weights = 50 * 64 * 64 * 4
    assert weights < cost(layers, w, x).bytes < 4 * weights


@pytest.mark.parametrize("case", ["plain", "batched", "strided", "dilated", "grouped"])
def test_convolutions_count_what_is_not_padding(case):
    options = {
        "plain": {"padding": "SAME", "window_strides": (1,)},
        "batched": {"padding": "VALID", "window_strides": (1,)},
        "strided": {"padding": [(2, 1)], "window_strides": (2,)},
        "dilated": {"padding": [(3, 3)], "window_strides": (1,), "lhs_dilation": (2,), "rhs_dilation": (2,)},
        "grouped": {"padding": "SAME", "window_strides": (1,), "feature_group_count": 2},
    }[case]
    groups = options.get("feature_group_count", 1)
    rows, features, size, outs, width = 3, 4, 11, 6, 3

    def convolve(x, k):
        return lax.conv_general_dilated(x, k, dimension_numbers=("NCH", "OIH", "NCH"), **options)

    # Products of ones with ones: the sum of a result of ones is the number of pairs that meet.
    ones = np.asarray(convolve(jnp.ones((rows, features, size)), jnp.ones((outs, features // groups, width))))
    text = jax.jit(convolve).lower(shape(rows, features, size), shape(outs, features // groups, width)).as_text("hlo")
    assert cost_of(read_module(text)).flops == 2 * ones.sum()


def test_collectives_by_kind_axes_and_bytes(mesh):
    def body(x):
        total = lax.psum(x, "data")
        every = lax.all_gather(x, "fsdp", tiled=True)
        part = lax.psum_scatter(every, "tensor", tiled=True)
        moved = lax.ppermute(x, "data", [(0, 1), (1, 0)])
        return total, every, part, moved

    specs = (P(None, None), P(None, None), P("tensor", None), P("data", None))
    fn = jax.shard_map(body, mesh=mesh, in_specs=P(("data", "fsdp"), None), out_specs=specs, check_vma=False)
    found = cost(fn, shape(64, 32, place=NamedSharding(mesh, P(("data", "fsdp"), None)))).collectives
    block = 16 * 32 * 4
    seen = {(one.kind, axes_of(one.group, MESH_SIZES), one.bytes, one.sent): times for one, times in found.items()}
    assert seen == {
        ("all-reduce", ("data",), block, block): 1,
        ("all-gather", ("fsdp",), block, block): 1,
        ("reduce-scatter", ("tensor",), 2 * block, block): 1,
        ("collective-permute", ("data",), block, block): 1,
    }


def test_collectives_in_a_loop_are_counted_as_often(mesh):
    def body(x):
        return lax.scan(lambda x, _: (lax.psum(x, "fsdp") * 0.5, None), x, length=7)[0]

    fn = jax.shard_map(body, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False)
    found = cost(fn, shape(64, place=NamedSharding(mesh, P("data")))).collectives
    assert [(one.kind, times) for one, times in found.items()] == [("all-reduce", 7)]


def test_what_a_chip_sends():
    group, block = (0, 1, 2, 3), 1000.0
    sent = {
        kind: Collective(kind, group, block).sent
        for kind in ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")
    }
    assert sent == {"all-reduce": 1500, "all-gather": 3000, "reduce-scatter": 750, "all-to-all": 750}
    assert Collective("all-reduce", (3,), block).sent == 0


def test_axes_of_a_group():
    assert axes_of((0, 1), MESH_SIZES) == ("tensor",)
    assert axes_of((1, 3), MESH_SIZES) == ("fsdp",)
    assert axes_of((0, 2, 4, 6), MESH_SIZES) == ("data", "fsdp")
    assert axes_of((5,), MESH_SIZES) == ()


@pytest.mark.parametrize(
    ("groups", "first"),
    [
        ("{{0,2},{1,3},{4,6},{5,7}}", (0, 2)),
        ("[4,2]<=[8]", (0, 1)),
        ("[4,2]<=[4,2]T(1,0)", (0, 2)),
        ("[2,4]<=[2,2,2]T(1,0,2)", (0, 1, 4, 5)),
        ("mesh['a'=4,'b'=2] {'b'}", (0, 1)),
        ("mesh['a'=4,'b'=2] {'a'}", (0, 2, 4, 6)),
        ("mesh['a'=4,'b'=2] {'a','b'}", tuple(range(8))),
        ("mesh['a'=8] {'a':(1)2}", (0, 4)),
        ("mesh['a'=8] {'a':(4)2}", (0, 1)),
        ("{}", tuple(range(8))),
    ],
)
def test_every_way_to_write_groups(groups, first):
    text = f"""HloModule m, num_partitions=8

ENTRY %main (x: f32[4]) -> f32[4] {{
  %x = f32[4]{{0}} parameter(0)
  ROOT %r = f32[4]{{0}} all-reduce(%x), channel_id=1, replica_groups={groups}, use_global_device_ids=true, to_apply=%add
}}
"""
    ((found, times),) = cost_of(read_module(text)).collectives.items()
    assert (found.group, times) == (first, 1)


def test_a_sum_of_which_a_slice_is_kept_is_a_reduce_scatter():
    text = """HloModule m, num_partitions=4

%scatter (i: f32[64]) -> f32[16] {
  %i = f32[64]{0} parameter(0)
  %zero = s32[] constant(0)
  %sum = f32[64]{0} all-reduce(%i), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %mine = f32[16]{0} dynamic-slice(%sum, %zero), dynamic_slice_sizes={16}
}

ENTRY %main (x: f32[64]) -> f32[16] {
  %x = f32[64]{0} parameter(0)
  ROOT %f = f32[16]{0} fusion(%x), kind=kCustom, calls=%scatter
}
"""
    (found,) = cost_of(read_module(text)).collectives
    assert (found.kind, found.bytes, found.sent) == ("reduce-scatter", 256, 192)


def test_transfers_between_slices_are_collectives_of_their_first_chips():
    how = 'frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}'
    text = f"""HloModule m

ENTRY %main (x: f32[100]) -> token[] {{
  %x = f32[100]{{0}} parameter(0)
  %after = token[] after-all()
  %send = (f32[100]{{0}}, u32[], token[]) send(%x, %after), channel_id=2, is_host_transfer=true, {how}
  ROOT %done = token[] send-done(%send), channel_id=2
}}
"""
    (found,) = cost_of(read_module(text)).collectives
    assert (found.kind, found.group, found.bytes, found.sent) == ("all-reduce", (0, 4), 400, 400)
    assert axes_of(found.group, {"data": 2, "fsdp": 4, "tensor": 1}) == ("data",)


def test_an_asynchronous_collective_counts_once():
    def part(name, target, operands):
        return f"""%{name} (i: f32[64]) -> f32[256] {{
  %i = f32[64]{{0}} parameter(0)
  %g = f32[256]{{0}} all-gather(%i), channel_id=1, replica_groups={{{{0,1,2,3}}}}, dimensions={{0}}
  ROOT %c = f32[256]{{0}} custom-call({operands}), custom_call_target="{target}"
}}

"""

    text = "HloModule m, num_partitions=4\n\n" + part("start", "AsyncCollectiveStart", "%g")
    text += part("done", "AsyncCollectiveDone", "%i, %g")
    text += """ENTRY %main (x: f32[64]) -> f32[256] {
  %x = f32[64]{0} parameter(0)
  %s = f32[256]{0} fusion(%x), kind=kCustom, calls=%start
  ROOT %d = f32[256]{0} fusion(%x), kind=kCustom, calls=%done
}
"""
    assert list(cost_of(read_module(text)).collectives.values()) == [1]


def test_what_goes_on_beside_other_work_counts_where_it_begins():
    """A gather begun in front of a loop, carried through three turns of other work, and ended behind it."""
    gather = "%g = f32[256]{0} all-gather(%shard), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={0}"
    text = f"""HloModule m, num_partitions=4

%start (shard: f32[64]) -> (f32[64], f32[256]) {{
  %shard = f32[64]{{0}} parameter(0)
  {gather}
  ROOT %c = (f32[64]{{0}}, f32[256]{{0}}) custom-call(%g), custom_call_target="AsyncCollectiveStart"
}}

%onward (shard: f32[64], whole: f32[256], y: f32[8]) -> (f32[8], f32[64], f32[256]) {{
  %shard = f32[64]{{0}} parameter(0)
  %whole = f32[256]{{0}} parameter(1)
  {gather}
  %y = f32[8]{{0}} parameter(2)
  %z = f32[8]{{0}} add(%y, %y)
  ROOT %t = (f32[8]{{0}}, f32[64]{{0}}, f32[256]{{0}}) tuple(%z, %shard, %whole)
}}

%done (shard: f32[64], whole: f32[256]) -> f32[256] {{
  %shard = f32[64]{{0}} parameter(0)
  %whole = f32[256]{{0}} parameter(1)
  {gather}
  ROOT %c = f32[256]{{0}} custom-call(%shard, %whole, %g), custom_call_target="AsyncCollectiveDone"
}}

%body (at: (f32[8], f32[64], f32[256])) -> (f32[8], f32[64], f32[256]) {{
  %at = (f32[8]{{0}}, f32[64]{{0}}, f32[256]{{0}}) parameter(0)
  %y = f32[8]{{0}} get-tuple-element(%at), index=0
  %s = f32[64]{{0}} get-tuple-element(%at), index=1
  %w = f32[256]{{0}} get-tuple-element(%at), index=2
  ROOT %f = (f32[8]{{0}}, f32[64]{{0}}, f32[256]{{0}}) fusion(%s, %w, %y), kind=kCustom, calls=%onward
}}

%more (at: (f32[8], f32[64], f32[256])) -> pred[] {{
  %at = (f32[8]{{0}}, f32[64]{{0}}, f32[256]{{0}}) parameter(0)
  ROOT %p = pred[] constant(true)
}}

ENTRY %main (x: f32[64], y: f32[8]) -> f32[256] {{
  %x = f32[64]{{0}} parameter(0)
  %y = f32[8]{{0}} parameter(1)
  %b = (f32[64]{{0}}, f32[256]{{0}}) fusion(%x), kind=kCustom, calls=%start
  %s = f32[64]{{0}} get-tuple-element(%b), index=0
  %w = f32[256]{{0}} get-tuple-element(%b), index=1
  %i = (f32[8]{{0}}, f32[64]{{0}}, f32[256]{{0}}) tuple(%y, %s, %w)
  %l = (f32[8]{{0}}, f32[64]{{0}}, f32[256]{{0}}) while(%i), condition=%more, body=%body, \
backend_config={{"known_trip_count":{{"n":"3"}}}}
  %s2 = f32[64]{{0}} get-tuple-element(%l), index=1
  %w2 = f32[256]{{0}} get-tuple-element(%l), index=2
  ROOT %d = f32[256]{{0}} fusion(%s2, %w2), kind=kCustom, calls=%done
}}
"""
    found = cost_of(read_module(text.replace("\\\n", "")))
    ((one, times),) = found.collectives.items()
    assert (one.kind, one.bytes, times) == ("all-gather", 256, 1)
    # The beginning reads a shard and writes both, the three turns read and write 8 numbers.
    assert found.bytes == 4 * (64 + 64 + 256) + 3 * 4 * (8 + 8)


def test_a_slice_within_a_fusion_of_a_fusion_is_a_slice():
    text = """HloModule m

%inner (x: f32[24,100], n: s32[]) -> f32[1,100] {
  %x = f32[24,100]{1,0} parameter(0)
  %n = s32[] parameter(1)
  %z = s32[] constant(0)
  ROOT %s = f32[1,100]{1,0} dynamic-slice(%x, %n, %z), dynamic_slice_sizes={1,100}
}

%outer (x: f32[24,100], n: s32[]) -> f32[1,100] {
  %x = f32[24,100]{1,0} parameter(0)
  %n = s32[] parameter(1)
  %f = f32[1,100]{1,0} fusion(%x, %n), kind=kLoop, calls=%inner
  ROOT %a = f32[1,100]{1,0} add(%f, %f)
}

ENTRY %main (x: f32[24,100], n: s32[]) -> f32[1,100] {
  %x = f32[24,100]{1,0} parameter(0)
  %n = s32[] parameter(1)
  ROOT %r = f32[1,100]{1,0} fusion(%x, %n), kind=kLoop, calls=%outer
}
"""
    assert cost_of(read_module(text)).bytes == pytest.approx(4 * 200, abs=8)


def test_a_product_by_a_library_counts():
    text = """HloModule m

ENTRY %main (x: bf16[64,256], y: bf16[256,32]) -> bf16[64,32] {
  %x = bf16[64,256]{1,0} parameter(0)
  %y = bf16[256,32]{1,0} parameter(1)
  %g = (bf16[64,32]{1,0}, s8[1024]{0}) custom-call(%x, %y), custom_call_target="__cublas$lt$matmul", \
backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
  ROOT %r = bf16[64,32]{1,0} get-tuple-element(%g), index=0
}
"""
    assert cost_of(read_module(text.replace("\\\n", ""))).flops == 2 * 64 * 256 * 32


def test_a_loop_that_counts_by_two_from_one():
    """As the compiler cuts a product over what comes round from other chips."""
    text = """HloModule m

%body (at: (f32[8,8], u32[])) -> (f32[8,8], u32[]) {
  %at = (f32[8,8]{1,0}, u32[]) parameter(0)
  %x = f32[8,8]{1,0} get-tuple-element(%at), index=0
  %n = u32[] get-tuple-element(%at), index=1
  %two = u32[] constant(2)
  %y = f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %m = u32[] add(%n, %two)
  ROOT %t = (f32[8,8]{1,0}, u32[]) tuple(%y, %m)
}

%more (at: (f32[8,8], u32[])) -> pred[] {
  %at = (f32[8,8]{1,0}, u32[]) parameter(0)
  %n = u32[] get-tuple-element(%at), index=1
  %eight = u32[] constant(8)
  ROOT %p = pred[] compare(%n, %eight), direction=LT
}

ENTRY %main (x: f32[8,8]) -> f32[8,8] {
  %x = f32[8,8]{1,0} parameter(0)
  %one = u32[] constant(1)
  %first = u32[] copy(%one)
  %i = (f32[8,8]{1,0}, u32[]) tuple(%x, %first)
  %l = (f32[8,8]{1,0}, u32[]) while(%i), condition=%more, body=%body
  ROOT %r = f32[8,8]{1,0} get-tuple-element(%l), index=0
}
"""
    found = cost_of(read_module(text))
    assert (found.flops, found.guessed) == (4 * 2 * 8**3, 0)


def test_a_collective_that_begins_where_another_goes_on():
    """Each counts where it begins, though one fusion has both."""
    gather = lambda name, channel: (
        f"%{name} = f32[256]{{0}} all-gather(%i), channel_id={channel}, replica_groups={{{{0,1,2,3}}}}, dimensions={{0}}"
    )
    part = lambda name, body: f"%{name} (i: f32[64]) -> f32[256] {{\n  %i = f32[64]{{0}} parameter(0)\n{body}\n}}\n\n"
    call = lambda target, of: f'  ROOT %c = f32[256]{{0}} custom-call(%{of}), custom_call_target="{target}"'
    text = "HloModule m, num_partitions=4\n\n"
    text += part("first", f"  {gather('a', 1)}\n{call('AsyncCollectiveStart', 'a')}")
    text += part("second", f"  {gather('a', 1)}\n  {gather('b', 2)}\n{call('AsyncCollectiveStart', 'b')}")
    text += part("last", f"  {gather('b', 2)}\n{call('AsyncCollectiveDone', 'b')}")
    text += """ENTRY %main (x: f32[64]) -> f32[256] {
  %x = f32[64]{0} parameter(0)
  %1 = f32[256]{0} fusion(%x), kind=kCustom, calls=%first
  %2 = f32[256]{0} fusion(%x), kind=kCustom, calls=%second
  ROOT %3 = f32[256]{0} fusion(%x), kind=kCustom, calls=%last
}
"""
    assert sum(cost_of(read_module(text)).collectives.values()) == 2
