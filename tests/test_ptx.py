"""What hurts: an emulator that forgives what a GPU does not, or computes what none would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ptx import matrices
from ptx.arithmetic import NotEmulatedError, from_bf16, to_bf16
from ptx.machine import IN_ORDER, Machine, Order
from ptx.memory import GlobalMemory, KernelError
from ptx.text import parse

KERNEL = """
.visible .entry kernel(
	.param .u64 .ptr .global .align 1 kernel_param_0
)
.reqntid 64
{directives}{{
	.reg .pred 	%p<4>;
	.reg .b16 	%rs<4>;
	.reg .b32 	%r<16>;
	.reg .b64 	%rd<8>;
	ld.param.b64 	%rd1, [kernel_param_0];
	mov.u32 	%r1, %tid.x;
	mov.u32 	%r2, %ctaid.x;
	mul.wide.s32 	%rd2, %r1, 4;
	add.s64 	%rd3, %rd1, %rd2;
	shl.b32 	%r3, %r1, 2;
	mov.b32 	%r4, global_smem;
	add.s32 	%r5, %r4, %r3;
	xor.b32 	%r6, %r3, 128;
	add.s32 	%r7, %r4, %r6;
	{text}
	ret;
}}
"""
"""64 threads: %rd3 is each one's element of the buffer, %r5 of shared memory, %r7 one of the other warp there."""


def run(text: str, data: np.ndarray[Any, Any], order: Order = IN_ORDER, blocks: int = 1, cluster: int = 1) -> Machine:
    """A kernel on a buffer of 32 bits an element, which it changes."""
    memory, directives = GlobalMemory(), f".reqnctapercluster {cluster}, 1, 1\n" if cluster > 1 else ""
    machine = Machine(parse(KERNEL.format(text=text.replace(";", ";\n"), directives=directives)), 256, order)
    base = memory.add("buffer", data.view(np.uint8))
    with np.errstate(all="ignore"):
        machine.launch((blocks, 1), memory, [base])
    return machine


def refused(text: str, message: str, error: type[Exception] = KernelError, blocks: int = 1, cluster: int = 1) -> None:
    with pytest.raises(error, match=message):
        run(text, np.zeros(64, np.float32), blocks=blocks, cluster=cluster)


def test_an_address_outside_every_buffer_names_the_instruction() -> None:
    refused(
        "st.global.b32 [%rd3+4], %r1;",
        r"4 bytes at byte 256 of buffer, which has 256 \(lane 31\): instruction 10, "
        r"'st.global.b32 \[%rd3\+4\], %r1', of no line of the kernel \(block 0, warp 1\)",
    )
    refused("ld.global.b32 %r8, [%rd3+-4];", "address 0xfffffffffc is in no buffer")
    refused("ld.global.b32 %r8, [%rd2];", "address 0x0 is in no buffer")
    refused("ld.global.v2.b32 {%r8, %r9}, [%rd3];", "no multiple of the 8 bytes at it")
    refused("st.shared.b32 [%r5+4], %r1;", "4 bytes at byte 256 of shared memory, which has 256")


def test_what_is_read_as_if_nobody_wrote_there_was_written_by_nobody() -> None:
    run("ld.global.nc.b32 %r8, [%rd3]; st.global.b32 [%rd3], %r8;", np.zeros(64, np.int32))
    refused(
        "st.global.b32 [%rd3], %r1; ld.global.nc.b32 %r8, [%rd3];", "the kernel wrote to buffer is read as if nobody"
    )


def test_elements_with_the_number_of_a_meeting_may_be_read_while_they_are_written() -> None:
    """64 bits at once, of two registers; and registers of a block in braces are its own."""
    data = np.zeros(128, np.int32)
    body = "\n\t{\n\t.reg .b64 w;\n\tmov.b64 w, {%r1, %r5};\n\tst.relaxed.gpu.global.b64 [%rd3], w;\n\t}\n"
    run("mul.wide.u32 %rd4, %r1, 4; add.s64 %rd3, %rd3, %rd4; " + body, data)
    np.testing.assert_array_equal(data[::2], np.arange(64))


def test_a_block_may_look_at_many_elements_before_it_writes_one() -> None:
    """As where the units of a vector are many: that is no block that waits for ever."""
    run("ld.volatile.global.b32 %r8, [%rd3];" * 250, np.zeros(64, np.int32))


def test_lanes_that_a_predicate_leaves_out_touch_nothing() -> None:
    data = np.zeros(64, np.float32)
    run("setp.lt.s32 %p1, %r1, 40; @%p1 st.global.b32 [%rd3+96], 0f3F800000;", data)
    assert data[24:].all()
    assert not data[:24].any()


def test_what_nobody_wrote_or_another_warp_did_since_the_last_barrier_is_not_read() -> None:
    refused("ld.shared.b32 %r8, [%r5];", "reads from shared memory what nobody has written")
    exchanged = "st.shared.b32 [%r5], %r1; {} ld.shared.b32 %r8, [%r7]; {} st.shared.b32 [%r5], %r8;"
    refused(exchanged.format("", ""), "what nobody has written")
    refused(exchanged.format("bar.sync 0;", ""), "warp 1 reads from shared memory what another warp wrote")
    data = np.zeros(64, np.int32)
    both = exchanged.format("bar.sync 0;", "bar.sync 0;") + "st.global.b32 [%rd3], %r8;"
    for order in (Order(), Order(reverse=True)):
        run(both, data, order)
        np.testing.assert_array_equal(data, np.arange(64) ^ 32)


COPY = "cp.async.ca.shared.global [%r5], [%rd3], 0x4, {size}; cp.async.commit_group; {wait} ld.shared.b32 %r8, [%r5];"


def test_a_copy_is_there_once_it_was_waited_for_and_zero_where_nothing_was_asked_for() -> None:
    refused(COPY.format(size="0x4", wait=""), "what a copy that was not waited for is still bringing")
    changed = COPY.format(size="0x4", wait="st.global.b32 [%rd3], %r1; cp.async.wait_group 0;")
    refused(changed, "what is copied to shared memory was changed")
    data = np.arange(1, 65, dtype=np.int32)
    half = "setp.lt.s32 %p1, %r1, 8; selp.b32 %r10, 4, 0, %p1;" + COPY.format(
        size="%r10", wait="cp.async.wait_group 0;"
    )
    run(half + "st.global.b32 [%rd3], %r8;", data)
    np.testing.assert_array_equal(data, np.where(np.arange(64) < 8, np.arange(1, 65), 0))


def test_lanes_that_part_meet_again_and_wait_for_nobody_apart() -> None:
    data = np.zeros(64, np.int32)
    loop = "mov.b32 %r8, 0; and.b32 %r9, %r1, 7; $L1: add.s32 %r8, %r8, %r1; add.s32 %r9, %r9, -1;"
    loop += "setp.gt.s32 %p1, %r9, 0; @%p1 bra $L1; bar.sync 0; st.global.b32 [%rd3], %r8;"
    run(loop.replace("$L1:", "\n$L1:\n"), data)
    np.testing.assert_array_equal(data, np.arange(64) * np.maximum(np.arange(64) % 8, 1))
    refused(
        "setp.lt.s32 %p1, %r1, 8; @%p1 bra $L1; bar.sync 0; \n$L1:\n", "only some threads of a warp come to bar.sync"
    )
    refused(
        "setp.lt.s32 %p1, %r1, 32; @%p1 bra $L1; bar.sync 0; \n$L1:\n", "wait at a barrier, and others are at an end"
    )
    refused("\n$L1:\nbra $L1;", "a loop ends not even after 10,000 rounds")


def test_blocks_that_write_to_the_same_place_wait_for_each_other() -> None:
    own = "mad.lo.s32 %r8, %r2, 100, %r1;"
    refused(f"{own} st.global.b32 [%rd3], %r8;", "block 1 writes what block 0 wrote to buffer", blocks=2)
    run("st.global.b32 [%rd3], %r1;", np.zeros(64, np.int32), blocks=2)  # which both have alike
    refused(
        "setp.eq.s32 %p1, %r2, 0; @%p1 ld.global.b32 %r8, [%rd3]; @!%p1 st.global.b32 [%rd3], -1;",
        "block 1 writes to buffer what block 0 may be reading",
        blocks=2,
    )


TOGETHER = "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;"
BEGIN = f"mov.b32 %r9, 0; st.shared.b32 [%r5], %r9; {TOGETHER} and.b32 %r10, %r2, 1; xor.b32 %r10, %r10, 1;"
"""Two blocks have begun, and have zeros in their shared memory; %r10 is the other one's number."""
LEAVE = "st.relaxed.cluster.shared::cluster.b32 [%r11], %r12;"
SENT = f"mapa.shared::cluster.u32 %r11, %r5, %r10; add.s32 %r12, %r1, 1; {LEAVE}"
TAKEN = "$L1:\nld.volatile.shared.b32 %r13, [%r5]; setp.eq.s32 %p1, %r13, 0; @%p1 bra $L1;"


@pytest.mark.parametrize("order", [IN_ORDER, Order(reverse=True), Order(slow=1)], ids=str)
def test_blocks_of_a_cluster_write_into_each_other(order: Order) -> None:
    data = np.zeros(64, np.int32)
    own = "setp.eq.s32 %p2, %r2, 1; @%p2 st.global.b32 [%rd3], %r13;"
    run(f"{BEGIN} {SENT} {TAKEN} {TOGETHER} {own}", data, order, blocks=4, cluster=2)
    assert [*data] == [*range(1, 65)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"xor.b32 %r10, %r2, 1; {SENT}", "block 0 writes into the shared memory of block 1, which has not begun"),
        (f"{BEGIN} {SENT} {TAKEN}", "block 0 ends, and others wrote into its shared memory since the last barrier"),
        (f"{BEGIN} {SENT} add.s32 %r12, %r12, 64; {LEAVE}", "block 1 overwrites .* what nobody has read yet"),
        (
            f"{BEGIN} {SENT} ld.shared.b32 %r14, [%r5]; {TOGETHER}",
            "what another block left there and nobody waited for",
        ),
        (f"{BEGIN} {SENT} {TAKEN} st.relaxed.cluster.shared::cta.b32 [%r5], 7;", "block 0 overwrites .* block 1 wrote"),
        (f"{BEGIN} setp.eq.s32 %p1, %r2, 0; @%p1 bra $L2; {TAKEN} \n$L2:\n {TOGETHER}", "2 of 2 blocks wait for each"),
        (f"{BEGIN} setp.eq.s32 %p1, %r2, 0; @%p1 bra $L2; {TOGETHER} \n$L2:\n", "1 of 2 blocks wait for each"),
        ("barrier.cluster.wait.acquire.aligned;", "waits at a barrier of the cluster at which it has not arrived"),
        (f"{BEGIN} mov.b32 %r10, 2; {SENT}", "is in the shared memory of no block of this cluster"),
        ("ld.volatile.shared.b32 %r13, [%r5];", "reads from shared memory what nobody has written"),
    ],
)
def test_what_blocks_of_a_cluster_must_not_do(text: str, fault: str) -> None:
    refused(text, fault, blocks=2, cluster=2)


def test_a_program_that_gives_up_is_told() -> None:
    refused("setp.eq.s32 %p1, %r1, 40; @%p1 trap;", r"it gives up: .*block 0, warp 1")


def test_a_cluster_runs_whole() -> None:
    refused("add.s32 %r9, %r1, 1;", "a cluster has 2 blocks, of 3 blocks side by side", blocks=3, cluster=2)
    with pytest.raises(KernelError, match=r"a cluster has 2 blocks, .* and 1 run at once"):
        run("add.s32 %r9, %r1, 1;", np.zeros(64, np.int32), Order(at_once=1), blocks=2, cluster=2)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("add.f64 %rd2, %rd3, %rd3;", "add.f64"),
        ("ld.global.lu.b32 %r8, [%rd3];", "lu"),
        ("mov.u32 %r8, %clock;", "%clock"),
        ("wgmma.wait_group.sync.aligned 1;", "wgmma.wait_group.sync.aligned"),
        ("add.f32 %rd2, %r1, %r1;", "%rd2 cannot be read as f32"),
    ],
)
def test_an_instruction_that_is_not_emulated_is_named(text: str, name: str) -> None:
    refused(text, name, NotEmulatedError)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bfe.s32 %r8, %r1, 3, 2;", lambda n: ((n >> 3) & 3) - 4 * ((n >> 4) & 1)),
        ("neg.s32 %r9, %r1; shr.s32 %r8, %r9, 40;", lambda n: np.where(n > 0, -1, 0)),
        ("shl.b32 %r8, %r1, 32;", lambda n: 0 * n),
        (
            "mul.wide.s32 %rd2, %r1, -1; shr.u64 %rd2, %rd2, 32; cvt.u32.u64 %r8, %rd2;",
            lambda n: np.where(n > 0, -1, 0),
        ),
        ("mad.lo.s32 %r8, %r1, %r1, 7;", lambda n: n * n + 7),
        ("mov.b32 {%rs1, %rs2}, %r1; mov.b32 %r8, {%rs2, %rs1};", lambda n: n << 16),
        ("prmt.b32 %r8, %r1, 511, 0x5410U;", lambda n: (n & 0xFFFF) | (511 << 16)),
        ("setp.lt.u32 %p1, %r1, 3; selp.b32 %r8, 5, -1, %p1;", lambda n: np.where(n < 3, 5, -1)),
        ("shfl.sync.bfly.b32 %r8, %r1, 5, 31, -1;", lambda n: n ^ 5),
        ("shfl.sync.idx.b32 %r8, %r1, 3, 31, -1;", lambda n: n // 32 * 32 + 3),
        ("shfl.sync.up.b32 %r8, %r1, 1, 0, -1;", lambda n: np.where(n % 32 > 0, n - 1, n)),
    ],
)
def test_whole_numbers(text: str, expected: Any) -> None:
    data, threads = np.zeros(64, np.int32), np.arange(64)
    run(f"{text} st.global.b32 [%rd3], %r8;", data)
    np.testing.assert_array_equal(data, expected(threads))


def test_floating_point() -> None:
    data = np.array([1e-39, np.nan, -0.0, 3.0, 1 + 2**-23, np.inf] + [1.5] * 58, np.float32)

    def found(text: str) -> np.ndarray[Any, Any]:
        here = data.copy()
        run(f"ld.global.b32 %r8, [%rd3]; {text} st.global.b32 [%rd3], %r9;", here)
        return here[:6]

    one = np.float32(1)
    np.testing.assert_array_equal(found("mul.ftz.f32 %r9, %r8, 0f3F800000;")[0], 0)
    np.testing.assert_array_equal(found("mul.f32 %r9, %r8, 0f3F800000;"), data[:6])
    np.testing.assert_array_equal(found("max.f32 %r9, %r8, 0f3F800000;"), [one, one, one, 3, data[4], np.inf])
    assert np.isnan(found("max.NaN.f32 %r9, %r8, 0f3F800000;")[1])
    both = "mov.b64 %rd4, {%r8, %r1}; mul.rn.ftz.f32x2 %rd4, %rd4, %rd4; fma.rn.f32x2 %rd4, %rd4, %rd4, %rd4;"
    np.testing.assert_array_equal(found(f"{both} mov.b64 {{%r9, %r10}}, %rd4;")[[0, 3]], [0, 9 * 9 + 9])
    second = found("mov.b64 %rd4, {%r1, %r8}; add.rn.f32x2 %rd4, %rd4, %rd4; mov.b64 {%r10, %r9}, %rd4;")
    np.testing.assert_array_equal(second[2:4], [-0.0, 6])
    fused = found("fma.rn.f32 %r9, %r8, %r8, 0fBF800000;")
    assert fused[4] == np.float32(2**-22 + 2.0**-46)  # 0 ± rounding if the product were rounded by itself
    np.testing.assert_array_equal(
        from_bf16(to_bf16(np.array([1 + 2**-8, 1 + 3 * 2**-8, -np.inf], np.float32))), [1, 1 + 2**-6, -np.inf]
    )


def fragments(matrix: np.ndarray[Any, Any], places: list[tuple[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    return [np.ascontiguousarray(matrix[place]) for place in places]


def test_products_of_tensor_cores() -> None:
    draw = np.random.default_rng(0)
    lane = np.arange(32)
    group, member = lane >> 2, lane & 3
    a, b, c = (draw.normal(size=size).astype(np.float32) for size in ((16, 8), (8, 8), (16, 8)))
    corners = [(group + 8 * (n // 2), 2 * member + n % 2) for n in range(4)]
    of_a = fragments(a, [(group + 8 * (n % 2), member + 4 * (n // 2)) for n in range(4)])
    of_b = fragments(b, [(member + 4 * n, group) for n in range(2)])
    given = [[each.view(np.uint32) for each in whole] for whole in (of_a, of_b, fragments(c, corners))]
    found = matrices.product("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", *given)
    cut = [(each.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64) for each in (a, b)]
    for register, corner in zip(found, corners, strict=True):
        np.testing.assert_allclose(register, (cut[0] @ cut[1] + c)[corner], rtol=1e-6)
    assert np.abs(found[0] - (a.astype(np.float64) @ b + c)[corners[0]]).max() > 1e-5  # tf32 shows
    with pytest.raises(NotEmulatedError, match="m16n8k4"):
        matrices.product("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32", *given)


WRITTEN = """shr.u32 %r8, %r3, 7; shl.b32 %r8, %r8, 4; xor.b32 %r8, %r3, %r8; add.s32 %r8, %r4, %r8;
ld.global.b32 %r9, [%rd3]; st.shared.b32 [%r8], %r9; bar.sync 0; mov.b32 %r10, 0f3F800000; mov.b32 %r11, 0f40000000;"""
"""A matrix of 8 columns in rows of 32 bytes, whose halves change places from the fifth on; 1 and 2."""
MULTIPLIED = """shr.u32 %r9, %r4, 4; cvt.u64.u32 %rd4, %r9; or.b64 %rd4, %rd4, 13835058124001640448;
wgmma.fence.sync.aligned; mov.b32 %r12, 0; mov.b32 %r13, 0; mov.b32 %r14, 0; mov.b32 %r15, 0;
wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {%r12,%r13,%r14,%r15}, {%r10,%r10,%r11,%r11}, %rd4, 1, 1, 1;
wgmma.commit_group.sync.aligned;"""
FENCE, WAIT = "fence.proxy.async.shared::cta;", "wgmma.wait_group.sync.aligned 0;"


def test_products_of_four_warps_find_a_matrix_in_shared_memory_and_are_there_when_waited_for() -> None:
    fenced = WRITTEN.replace("bar.sync", f"{FENCE} bar.sync")
    given = np.arange(64, dtype=np.float32)
    data = given.copy()
    run(f"{fenced} {MULTIPLIED} {WAIT} bar.sync 0; st.global.b32 [%rd3], %r13;", data)
    columns = given.reshape(8, 8)  # row by row 8 elements of a column; the left operand is 1, and 2 from the fifth on
    sums = columns[:, :4].sum(1) + 2 * columns[:, 4:].sum(1)
    np.testing.assert_array_equal(data, np.tile(sums[1::2], 16))
    run(f"{fenced} {MULTIPLIED} st.global.b32 [%rd3], %r13; {WAIT}", data)
    assert np.isnan(data).all()
    refused(f"{WRITTEN} {MULTIPLIED} {WAIT}", "reads from shared memory what was written with no fence since")
    refused(f"{fenced} {MULTIPLIED} bar.sync 0; {WAIT}", "a product of several warps was not waited for")
    refused(f"{fenced} {MULTIPLIED.replace('1, 1, 1;', '1, 1, -1;')}", "or less the other", NotEmulatedError)


@pytest.mark.parametrize("transposed", [False, True])
def test_matrices_on_their_way_between_memory_and_lanes(transposed: bool) -> None:
    whole = np.arange(128, dtype=np.uint16).reshape(2, 8, 8)
    registers = matrices.to_registers(whole.reshape(16, 8).view(np.uint8), transposed=transposed)
    seen = whole.swapaxes(1, 2) if transposed else whole
    for matrix, register in zip(seen, registers, strict=True):
        np.testing.assert_array_equal(register & 0xFFFF, matrix.reshape(32, 2)[:, 0])
        np.testing.assert_array_equal(register >> 16, matrix.reshape(32, 2)[:, 1])
    back = matrices.to_rows(registers, transposed=transposed)
    np.testing.assert_array_equal(back.view(np.uint16).reshape(2, 8, 8), whole)
