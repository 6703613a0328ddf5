"""What hurts: programs of a cluster that take what is not theirs yet, wait for ever, or do not fit into the GPU."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from cello.cells.load import zoo
from cello.compiler.scan import scan
from cello.compiler.triton import build, choice, clusters
from cello.compiler.triton.backward import backward
from cello.compiler.triton.build import kernels
from cello.compiler.triton.choice import of_pass
from cello.compiler.triton.clusters import FIRST, LARGEST, MEMORY, VARIABLE, in_cluster, possible
from cello.compiler.triton.cooperative import launch_options, parts, told_if_refused
from cello.compiler.triton.forward import forward
from cello.compiler.triton.launch import BatchLayout, Call, Tiling
from cello.compiler.triton.machine_code import Taken, compiled, taken
from cello.compiler.triton.resources import MEMORY as OF_GPUS
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import buffers_of, names_of, runtime_text
from cello.compiler.triton.tiling import at_most, bytes_left
from cello.errors import BackendError
from scans import case, errors, everything, wider

pytest.importorskip("triton")

from ptx.launch import SHARES, Device, computed, emulated
from ptx.machine import Order
from ptx.memory import KernelError
from ptx.text import Program

pytestmark = pytest.mark.usefixtures("filled_with_nan")


@pytest.mark.parametrize(
    ("name", "hidden", "precision", "tiling", "clips"),
    [
        ("lstm", 64, "medium", Tiling(16, 64, 4, 4, 2, cluster=True), 18),
        ("rnn", 100, "high", Tiling(16, 128, 4, 8, 2, cluster=True), 3),
        ("gru", 32, "high", Tiling(8, 32, 4, 2, 1, cluster=True), 5),
        ("gru-original", 24, "highest", Tiling(16, 32, 4, 2, 2, cluster=True), 5),
    ],
    ids=str,
)
def test_programs_of_a_cluster_compute_what_those_that_meet_in_memory_do(
    name: str, hidden: int, precision: str, tiling: Tiling, clips: int
) -> None:
    """To the bit, for a word holds of an element all that products read of it."""
    cell = zoo()[name]
    found, ran = computed(cell, hidden, precision, tiling, clips, order=Order(reverse=clips > 5))
    inputs, lengths = case(cell, (clips, 3, 7, hidden)), ([3, 0, 2] * 6)[:clips]
    expected = everything(cell, wider(inputs, torch.float64), "plain", lengths=lengths, reverse=True)
    for key, error in errors(found, expected).items():
        assert error <= SHARES[precision], f"{key}: {error:.1e}"
    assert [(one.program.cluster, one.grid) for one in ran] == [
        (tiling.split, (-(-clips // tiling.rows) * tiling.split, 1))
    ] * 2
    assert not any(one.program.numbers_of(opcode) for one in ran for opcode in ("ld.volatile.global", "st.relaxed.gpu"))
    in_memory, _ = computed(cell, hidden, precision, replace(tiling, cluster=False), clips)
    for key, value in in_memory.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize(
    ("name", "split"), [("lstm-layer-norm", 2), ("lstm-projected", 4)], ids=["sums over units", "few elements"]
)
def test_meetings_of_few_elements_leave_no_warp_and_no_program_behind(name: str, split: int) -> None:
    """Each warp had all of what was added up, and went on while others still looked; and of a vector of two parts,
    four programs waited for two."""
    tiling = Tiling(16, 64, 4, split, 2, cluster=True)
    found, _ = computed(zoo()[name], 64, "medium", tiling, 3, 2, order=Order(slow=1))
    inputs = case(zoo()[name], (3, 2, 7, 64))
    expected = everything(zoo()[name], wider(inputs, torch.float64), "plain", lengths=[2, 0, 2], reverse=True)
    for key, error in errors(found, expected).items():
        assert error <= SHARES["medium"], f"{key}: {error:.1e}"


def test_words_of_a_vector_pass_for_no_sum_of_a_later_meeting() -> None:
    """Where both lie in one buffer their numbers are in other bits, and a word of a positive value is a large one."""
    cell = zoo()["gru-layer-norm"]
    x, state, weights = case(cell, (10, 2, 7, 32))
    torch.set_float32_matmul_precision("high")
    tiling = Tiling(16, 32, 8, 2, 1, cluster=True)
    with emulated(Device(tiling=tiling, order=Order(slow=1))), torch.no_grad():
        found = scan(cell, x, weights, state=state, backend="triton").outputs
    x, state, weights = wider((x, state, weights), torch.float64)
    expected = scan(cell, x, weights, state=state, backend="plain").outputs
    assert errors({"outputs": found}, {"outputs": expected})["outputs"] <= SHARES["high"]


def test_no_bits_of_a_sum_pass_for_the_number_of_a_word() -> None:
    """Sums over units lay where words of a vector come later: one of 8,192 has the number in its last bits."""
    both = 0
    for cell in zoo().values():
        for way, write in (("forward", forward), ("backward", backward)):
            for reread in ("", "scatter"):
                text = "\n".join(write(names_of(cell, reread)))
                words = [int(slot) + int(count) for slot, count in OF_WORDS.findall(text)]
                elements = [int(first) for first in BEHIND.findall(text)]
                left = buffers_of(cell, way, reread)
                both += bool(words and elements)
                assert {*elements} <= {max(words, default=0)}, cell.name
                assert not words or left.words == 1, cell.name
                exact = re.findall(r"(store_part|whole)\(others \+ \d+ \*.* PRECISION, False", text)
                assert not (exact and (words or left.sums)), cell.name
    assert both > 20


OF_WORDS = re.compile(r"store_part\(others \+ (\d+) \* SLOT, .*, (\d+), (?:[^,]*, ){4}SPLIT, PRECISION, True")
BEHIND = re.compile(r"others \+ \((\d+) \+ 2 \* \d+ if CLUSTER else \d+\) \* SLOT, .* PRECISION, False")
TWO = Tiling(16, 32, 4, 2, 2, cluster=True)


def without(opcode: str, among: slice) -> Any:
    """A change that leaves some of the forward pass's instructions out."""

    def change(program: Program) -> Program:
        if program.name != "forward":
            return program
        found = program.numbers_of(opcode)[among]
        assert found
        for number in found:
            program = program.without(number)
        return program

    return change


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (without("barrier.cluster", slice(2)), "of block 1, which has not begun or has ended"),
        (without("barrier.cluster", slice(-2, None)), "block 0 ends, and others wrote into its shared memory"),
        (without("barrier.cluster.wait", slice(-1, None)), "block 0 ends, and others wrote into its shared memory"),
        (without("st.relaxed.cluster.shared::cluster", slice(1)), "2 of 2 blocks wait for each other for ever"),
        (without("st.shared.v4", slice(1)), "reads from shared memory what nobody has written"),
    ],
    ids=["no barrier at the begin", "none at the end", "no wait at the end", "a part is not sent", "numbers of none"],
)
def test_a_protocol_with_a_fault_is_noticed(change: Any, fault: str) -> None:
    with pytest.raises(KernelError, match=fault):
        computed(zoo()["lstm"], 32, "medium", TWO, change=change)


@pytest.mark.parametrize("name", ["lstm", "gru-original"])
def test_one_buffer_for_all_meetings_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = runtime_text(interpreted=False)
    one = text.replace("buffers + meeting % 2 * (SLOTS * SLOT)", "buffers")
    assert one != text
    monkeypatch.setattr(build, "runtime_text", lambda *, interpreted: one)
    for made in (build._runtime, build.kernels):
        made.cache_clear()
    try:
        with pytest.raises(KernelError, match=r"overwrites in shared memory what nobody has read yet|for ever"):
            computed(zoo()[name], 32, "medium", TWO, order=Order(slow=0))
    finally:
        for made in (build._runtime, build.kernels):
            made.cache_clear()


def chosen(
    hidden: int, precision: str, way: str, capability: int = 90, memory: int | None = None, name: str = "lstm"
) -> tuple[Tiling, Taken]:
    found = choice.chosen(
        zoo()[name], way, Sizes(zoo()[name], 39, hidden), precision, capability, memory or OF_GPUS[capability], 132
    )
    assert found is not None
    assert found[1] is not None
    return found[0], found[1]


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_where_there_is_room_programs_are_a_cluster(way: str) -> None:
    """And what their buffers take is counted: by the estimate, and by what Triton is told of shared memory."""
    tiling, takes = chosen(256, "bf16", way)
    assert (tiling.split, tiling.cluster, takes.spilled) == (8, True, 0)
    cell, sizes = zoo()["lstm"], Sizes(zoo()["lstm"], 39, 256)
    left = bytes_left(cell, way, sizes, tiling, "bf16")
    assert left == 32 * 1024
    assert left < takes.shared <= at_most(names_of(cell), sizes, tiling, "bf16") + left
    assert takes.shared <= OF_GPUS[90]
    alone = taken_by(replace(tiling, cluster=False), way)
    assert 0 <= takes.shared - left - alone.shared < 16 + 1024


def taken_by(tiling: Tiling, way: str) -> Taken:
    function = getattr(kernels(zoo()["lstm"], tiling.reread, interpreted=False), way)
    given = of_pass(zoo()["lstm"], way, tiling, Sizes(zoo()["lstm"], 39, 256), "bf16")
    found = taken(function, given, "bf16", tiling, 90)
    assert found is not None
    return found


def test_programs_meet_in_memory_where_they_can_be_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """On 8.0, where more than 8 share the units, where buffers have no room, and where a user wants it."""
    assert possible(LARGEST, FIRST)
    assert not possible(LARGEST, FIRST - 1)
    assert not possible(2 * LARGEST, FIRST)
    assert not possible(1, FIRST)
    asked = {(way, cluster): meeting(way, memory=memory) for way, memory, cluster in ROOM}
    assert asked == {(way, cluster): cluster for way, _, cluster in ROOM}
    monkeypatch.setenv(VARIABLE, "0")
    assert not possible(2, FIRST)
    assert not meeting("forward")


ROOM = (("forward", 227 * 1024, True), ("forward", 100 * 1024, False), ("backward", 227 * 1024, True))


def meeting(way: str, memory: int = 227 * 1024, capability: int = 90) -> bool:
    """Whether programs of an LSTM of 256 units are tried as a cluster first, rather than in memory alone."""
    cell, first = zoo()["lstm"], Tiling(16, 256, 4, 8, 2, all_registers=True)
    found = choice.ways_of_meeting(cell, way, first, Sizes(cell, 39, 256), "bf16", capability, memory)
    assert found in ([first], [replace(first, cluster=True), first])
    return len(found) == 2


def test_a_pass_whose_programs_do_not_wait_is_no_cluster() -> None:
    cell = zoo()["qrnn"]
    assert buffers_of(cell, "backward").slots == 0
    assert choice.ways_of_meeting(cell, "backward", TWO, Sizes(cell, 39, 32), "bf16", 90, 1 << 20) == [TWO]


def test_what_is_only_multiplied_takes_half_as_much() -> None:
    """But in IEEE float32, and where a vector is added up too."""
    of = {way: buffers_of(zoo()["lstm"], way) for way in ("forward", "backward")}
    assert {way: (each.slots, each.words) for way, each in of.items()} == {"forward": (1, 1), "backward": (4, 1)}
    assert buffers_of(zoo()["lstm"], "forward", exact=True).words == 2
    of_both = buffers_of(zoo()["lstm-layer-norm"], "forward")
    assert (of_both.slots, of_both.words) == (1 + 2, 1)


def test_a_cluster_is_launched_plainly_and_at_once() -> None:
    assert launch_options(8, waits=True, cluster=True) == {}
    rows = torch.zeros(2, 640)
    layout = BatchLayout(rows, rows, rows, rows, 640, 1, whole=True, padding=False)
    tiling = Tiling(16, 256, 4, 8)
    call = Call(
        names_of(zoo()["lstm"]), None, layout, tiling, "bf16", Sizes(zoo()["lstm"], 39, 256), at_once=(132, 132)
    )  # type: ignore[arg-type]
    assert len(call.parts) == len(parts(2, 40, 8, 132)) > 1
    cluster = replace(call, tiling=replace(tiling, cluster=True))
    assert cluster.parts == parts(2, 40, 8, None)
    assert (call.workspace(rows).numel() > 0, cluster.workspace(rows).numel()) == (True, 0)
    assert (call.constants()["CLUSTER"], cluster.constants()["CLUSTER"]) == (False, True)


def test_a_driver_that_refuses_clusters_is_told_with_the_way_back() -> None:
    def refused(said: str, *, cluster: bool) -> None:
        with told_if_refused("forward kernel of cell 'lstm' for H=256", 128, 8, waits=True, cluster=cluster):
            raise RuntimeError(f"Triton Error [CUDA]: {said}")

    for said in ("a kernel launch error has occurred due to cluster misconfiguration", "operation not supported"):
        with pytest.raises(BackendError) as told:
            refused(said, cluster=True)
        reason = next(each for each in clusters.REFUSED if each in said)
        assert str(told.value) == (
            "the GPU's driver refuses to launch the forward kernel of cell 'lstm' for H=256 in clusters of 8 programs "
            f"({reason}). Set CELLO_CLUSTERS=0, which has them wait for each other in the GPU's memory"
        )
    for said, cluster in (("out of memory", True), ("cluster misconfiguration", False)):
        with pytest.raises(RuntimeError, match=said):
            refused(said, cluster=cluster)


PTX = f"""
.version 8.7
.target sm_90a
.address_size 64
{MEMORY}
.visible .entry forward(
)
.reqntid 128
{{
	mov.b32 %r1, cello_cluster_8_32768;
	ld.volatile.global.v4.b32 {{ %r2, %r3, %r4, %r5 }}, [ %rd1 + 0 ];
	ret;
}}
"""


def test_what_a_kernel_asks_for_is_written_into_it() -> None:
    ptx, shared = in_cluster(PTX, 1001)
    assert shared == 1008 + 32768
    assert "mov.b32 %r1, global_smem+1008;" in ptx
    assert ".reqntid 128\n.explicitcluster\n.reqnctapercluster 8, 1, 1\n{" in ptx
    assert "ld.volatile.shared.v4.b32" in ptx
    assert in_cluster(PTX.replace(f"{MEMORY}\n", ""), 1001) == in_cluster(PTX, 1001)  # a kernel without any of its own
    others = PTX.replace("cello_cluster_8_32768", "0")
    assert in_cluster(others, 1001) == (others, 1001)
    for changed in (PTX.replace(".reqntid", ".maxntid"), PTX.replace(MEMORY, MEMORY * 2), PTX + PTX):
        with pytest.raises(BackendError, match=r"release of Triton writes kernels otherwise .* set CELLO_CLUSTERS=0"):
            in_cluster(changed, 0)


def test_the_machine_code_is_that_of_a_cluster() -> None:
    """Whose size a launch need not give: it is the kernel's own."""
    cell, sizes = zoo()["lstm"], Sizes(zoo()["lstm"], 39, 32)
    text = compiled(
        kernels(cell, interpreted=False).forward, of_pass(cell, "forward", TWO, sizes, "bf16"), "bf16", TWO, 90
    )
    assert ".reqnctapercluster 2, 1, 1" in text.asm["ptx"]
    assert text.metadata.shared % 16 == 0
    assert not text.metadata.launch_cooperative_grid
    assert text.metadata.num_ctas == 1
