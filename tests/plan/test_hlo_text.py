"""The reader of compiled programs on small texts, by hand."""

import pytest

from biofm_jax.plan.counting import count
from biofm_jax.plan.groups import crossed
from biofm_jax.plan.hlo import Instruction, arrays, parse
from biofm_jax.plan.loops import runs, trip_count

SIZES = (2, 4, 1, 1)

# A TPU's way: a loop of two steps at a time, an all-gather that overlaps with two fusions, kernel
# metadata over several lines, arrays on the chip (S(1)) and in HBM.
TPU = """HloModule step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%a, %b)
}, execution_thread="sparsecore"

%first (p: bf16[2,8]) -> bf16[8,8] {
  %p = bf16[2,8]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.1 = bf16[8,8]{1,0} all-gather(%p), channel_id=7, replica_groups=[2,4]<=[8]
}

%second (q: bf16[2,8]) -> bf16[8,8] {
  %q = bf16[2,8]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[8,8]{1,0} all-gather(%q), channel_id=7, replica_groups=[2,4]<=[8]
}

%body (state: (s32[], bf16[2,8], f32[4,16])) -> (s32[], bf16[2,8], f32[4,16]) {
  %two = s32[] constant(2)
  %state = (s32[], bf16[2,8]{1,0}, f32[4,16]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %w = bf16[2,8]{1,0} get-tuple-element(%state), index=1
  %x = f32[4,16]{1,0} get-tuple-element(%state), index=2
  %f = bf16[8,8]{1,0:T(8,128)S(1)} fusion(%w), kind=kOutput, calls=%first
  %g = bf16[8,8]{1,0:T(8,128)S(1)} fusion(%w), kind=kOutput, calls=%second
  %d = f32[4,4]{1,0:S(1)} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={1}
  %mine.1 = f32[8]{0:S(1)} custom-call(%d), custom_call_target="tpu_custom_call", more={metadata={
"sizes":"{\\"block\\": 512}"
}}, metadata={op_name="x"}
  %next = s32[] add(%i, %two)
  ROOT %out = (s32[], bf16[2,8]{1,0}, f32[4,16]{1,0}) tuple(%next, %w, %x)
}

%condition (state.1: (s32[], bf16[2,8], f32[4,16])) -> pred[] {
  %limit = s32[] constant(10)
  %state.1 = (s32[], bf16[2,8]{1,0}, /*index=2*/f32[4,16]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}

ENTRY %main (w.1: bf16[2,8], x.1: f32[4,16]) -> f32[4,16] {
  %zero = s32[] constant(0)
  %w.1 = bf16[2,8]{1,0} parameter(0)
  %x.1 = f32[4,16]{1,0} parameter(1)
  %start = (s32[], bf16[2,8]{1,0}, f32[4,16]{1,0}) tuple(%zero, %w.1, %x.1)
  %loop = (s32[], bf16[2,8]{1,0}, f32[4,16]{1,0}) while(%start), condition=%condition, body=%body
  %y = f32[4,16]{1,0} get-tuple-element(%loop), index=2
  ROOT %r = f32[4,16]{1,0} all-reduce(%y), channel_id=9, replica_groups={{0,4},{1,5},{2,6},{3,7}}
}
"""


def collective(attributes: str) -> Instruction:
    return Instruction("c", "f32[8]", "all-reduce", "%x", attributes)


@pytest.mark.parametrize(
    ("groups", "axes", "members"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", "fsdp", 4),
        ("replica_groups={{0,4},{1,5},{2,6},{3,7}}", "data", 2),
        ("replica_groups={}", "data+fsdp", 8),
        ("replica_groups=[2,4]<=[8]", "fsdp", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", "data", 2),
        ("replica_groups=[1,8]<=[8]", "data+fsdp", 8),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}, x=1", "fsdp", 4),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_0'}", "data", 2),
        ("replica_groups=mesh['axis_0'=8,'axis_1'=1] {'axis_0','axis_1'}", "data+fsdp", 8),
        ("replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}", "fsdp", 4),
        ("replica_groups=mesh['a'=4,'b'=2], device_ids=(0,4,1,5,2,6,3,7) {'b'}", "data", 2),
        # The inner 4 of an axis of 8.
        ("replica_groups=mesh['axis_0'=8] {'axis_0':(2)4}", "fsdp", 4),
        ("replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}", "", 1),
        ("channel_id=1, source_target_pairs={{0,1},{1,2},{2,3},{3,0}}", "fsdp", 2),
        ("channel_id=1, source_target_pairs={{0,0},{1,1}}", "", 1),
    ],
)
def test_groups_of_devices_name_their_mesh_axes(groups, axes, members):
    assert crossed(collective("channel_id=1, " + groups), SIZES) == (axes, members)


def test_shapes_with_layouts_and_memory_spaces():
    one, two = arrays("(bf16[8,154,33]{1,2,0:T(8,128)(2,1)S(1)}, /*index=1*/f32[]{:T(128)})")
    assert (one.dims, one.bytes, one.on_chip) == ((8, 154, 33), 8 * 154 * 33 * 2, True)
    assert (two.dims, two.bytes, two.on_chip) == ((), 4, False)
    assert arrays("s32[<=4,2]")[0].dims == (4, 2)
    assert arrays("token[]")[0].bytes == 0


def test_loops_run_as_often_as_their_counter_says():
    module = parse(TPU)
    entry = module.computations[module.entry]
    assert trip_count(module, entry, entry.instructions["loop"]) == 5
    times = {run.computation.name: run.times for run in runs(module)}
    assert times == {"main": 1, "condition": 5, "body": 5, "first": 5, "second": 5}
    told = TPU.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"3"}}')
    module = parse(told)
    entry = module.computations[module.entry]
    assert trip_count(module, entry, entry.instructions["loop"]) == 3


def test_a_small_program_by_hand():
    counts = count(parse(TPU), SIZES)
    assert counts.flops == 5 * 2 * 4 * 4 * 16
    assert counts.unknown == ("mine.1",)
    gathered, reduced = sorted(counts.collectives, key=lambda one: one.kind)
    # Once a turn, though both fusions hold it: 3 of the 4 shards of 2 x 8 come from elsewhere.
    assert (gathered.kind, gathered.axes, gathered.count) == ("all-gather", "fsdp", 5)
    assert gathered.bytes == 5 * 3 * 2 * 8 * 2
    assert (reduced.axes, reduced.count, reduced.bytes) == ("data", 1, 2 * (1 / 2) * 4 * 16 * 4)
    # Both fusions read w, the dot x twice; the results stay on the chip. The counter is added to
    # (12 bytes) and compared (9). Then the all-reduce.
    assert counts.memory_bytes == 5 * (2 * 32 + 2 * 256 + 12 + 9) + 2 * 256


# A fusion that reads one layer of a stack inside another fusion, writes one layer of another stack
# in place, and hands a third array through.
SLICED = """HloModule sliced

%inner (s: f32[10,8], i: s32[]) -> f32[1,8] {
  %s = f32[10,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %o = s32[] constant(0)
  ROOT %slice = f32[1,8]{1,0} dynamic-slice(%s, %i, %o), dynamic_slice_sizes={1,8}
}

%outer (a: f32[10,8], b: f32[10,8], c: f32[10,8], j: s32[]) -> (f32[10,8], f32[10,8]) {
  %a = f32[10,8]{1,0} parameter(0)
  %b = f32[10,8]{1,0} parameter(1)
  %c = f32[10,8]{1,0} parameter(2)
  %j = s32[] parameter(3)
  %o.1 = s32[] constant(0)
  %one = f32[1,8]{1,0} fusion(%a, %j), kind=kLoop, calls=%inner
  %put = f32[10,8]{1,0} dynamic-update-slice(%b, %one, %j, %o.1)
  ROOT %both = (f32[10,8]{1,0}, f32[10,8]{1,0}) tuple(%put, %c)
}

ENTRY %main (a.1: f32[10,8], b.1: f32[10,8], c.1: f32[10,8], j.1: s32[]) -> (f32[10,8], f32[10,8]) {
  %a.1 = f32[10,8]{1,0} parameter(0)
  %b.1 = f32[10,8]{1,0} parameter(1)
  %c.1 = f32[10,8]{1,0} parameter(2)
  %j.1 = s32[] parameter(3)
  ROOT %f = (f32[10,8], f32[10,8]) fusion(%a.1, %b.1, %c.1, %j.1), kind=kLoop, calls=%outer
}
"""


def test_of_a_stack_of_layers_one_is_read_and_one_is_written():
    index, layer = 4, 8 * 4
    assert count(parse(SLICED), SIZES).memory_bytes == index + 2 * layer


KERNEL = """HloModule kernel

ENTRY %main (m: s8[1,2,2], q: bf16[4,256,32], k: bf16[4,256,32]) -> f32[4,256,32] {
  %m = s8[1,2,2]{2,1,0} parameter(0)
  %q = bf16[4,256,32]{2,1,0} parameter(1)
  %k = bf16[4,256,32]{2,1,0} parameter(2)
  ROOT %splash_mha_NAME.1 = f32[4,8] custom-call(%m, %q, %k), custom_call_target="tpu_custom_call"
}
"""


@pytest.mark.parametrize(("name", "products"), [("fwd", 2), ("dq", 3), ("dkv", 4)])
def test_kernels_of_splash_attention(name, products):
    counts = count(parse(KERNEL.replace("NAME", f"{name}_segmented")), SIZES, blocks=0.75)
    assert counts.flops == products * 2 * 4 * 256 * 256 * 32 * 0.75
