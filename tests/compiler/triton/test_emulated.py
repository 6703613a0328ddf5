"""A cell as it is compiled for a GPU is the cell: its PTX run by an emulator on the CPU."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.compiler.scan import scan
from cello.compiler.triton.launch import Call, Tiling
from cello.errors import BackendError
from random_cells import random_cell
from real_cells.tensors import development_cell, kalman_cell
from scans import case, errors, everything, wider
from sized_cells import SIZED

pytest.importorskip("triton")

from ptx import launch
from ptx.launch import SHARES, Device, Ran, emulated
from ptx.machine import Machine, Order
from ptx.memory import GlobalMemory, KernelError
from ptx.text import Program

pytestmark = pytest.mark.usefixtures("filled_with_nan")


def check(
    cell: Cell, sizes: tuple[int, int, int, int], precision: str, device: Device | None = None, **more: Any
) -> list[Ran]:
    given_case, masks = case(cell, sizes), more.pop("masks", {})
    expected = everything(cell, wider(given_case, torch.float64), "plain", masks=masks, **more)
    torch.set_float32_matmul_precision(precision)
    with emulated(device or Device()) as used:
        found = everything(cell, given_case, "triton", masks={k: v.float() for k, v in masks.items()}, **more)
    for key, error in errors(found, expected).items():
        assert error <= SHARES[precision], f"{key}: {error:.1e}"
    return used.ran


@pytest.mark.parametrize(("precision", "clips", "hidden"), [("highest", 3, 16), ("high", 18, 20), ("medium", 3, 16)])
def test_ragged_clips_in_every_precision(precision: str, clips: int, hidden: int) -> None:
    ran = check(zoo()["lstm"], (clips, 3, 7, hidden), precision, lengths=([3, 0, 2] * 6)[:clips], reverse=True)
    blocks = (-(-clips // 16), 1)
    assert [(one.program.name, one.grid) for one in ran] == [("forward", blocks), ("backward", blocks)]
    assert 200 < ran[0].of_a_step < ran[0].instructions


@pytest.mark.parametrize("name", ["lstm", "gru-original"])
def test_threads_that_hold_some_quarters_of_matrices(name: str) -> None:
    """What they hold and what they read is the same matrix, and no warp writes operands that another still reads."""
    device = Device(tiling=Tiling(16, 128, 8, stages=2, all_registers=True, reread="held 5"))
    ran = check(zoo()[name], (3, 2, 7, 100), "high", device, lengths=[2, 0, 1])
    assert [one.grid for one in ran] == [(1, 1), (1, 1)]


@pytest.mark.parametrize("order", [Order(), Order(reverse=True, at_once=2)], ids=str)
def test_programs_that_share_units_in_any_order(order: Order) -> None:
    device = Device(order=order, tiling=Tiling(16, 64, 4, 2))
    check(zoo()["gru-original"], (18, 2, 7, 40), "high", device, lengths=[2, 0, 1] * 6)


@pytest.mark.parametrize(
    ("name", "precision", "tiling", "lengths"),
    [
        ("lstm", "high", Tiling(32, 32, 8, 1, 2, True, "held"), [2, 0, 1] * 11),
        ("lstm", "medium", Tiling(32, 32, 4, 2, 1, True, "packs"), [1, 2] * 10),
        ("gru", "medium", Tiling(32, 32, 8, 1, 1, True, "packs"), [2, 1, 2] * 11),
        ("gru", "high", Tiling(32, 32, 4, 2, 2, True), [2, 1] * 10),
        ("lstm-peephole-full", "high", Tiling(32, 32, 8, 1, 2, True), [1, 0, 2] * 11),
        ("lstm-peephole-full", "high", Tiling(32, 32, 4, 2, 2, True, "packs"), [2, 1] * 10),
        ("lstm", "high", Tiling(64, 32, 4, 1, 1, True, "packs"), [2, 0, 1] * 22),
        ("mogrifier-lstm", "high", Tiling(4, 32, 2, 2, 1, True, "packs"), [2, 0, 1, 2, 1]),
        ("gru", "medium", Tiling(64, 64, 8, 2, 1, True), [2, 1] * 30),
        ("rnn", "high", Tiling(64, 128, 8, 1, 1, True), [1, 2] * 30),
        ("gru", "medium", Tiling(32, 32, 4, 2, 1, True, "packs", cluster=True), [2, 1, 0] * 11),
        ("rnn", "high", Tiling(64, 64, 4, 2, 2, True, cluster=True), [2, 1] * 33),
    ],
    ids=lambda value: (
        f"{value.split} programs{' of a cluster' * value.cluster}" if isinstance(value, Tiling) else str(value)[:6]
    ),
)
def test_programs_of_more_or_fewer_clips(name: str, precision: str, tiling: Tiling, lengths: list[int]) -> None:
    sizes = (len(lengths), 2, 7, tiling.units - 7)
    ran = check(zoo()[name], sizes, precision, Device(tiling=tiling), lengths=lengths, reverse=True)
    assert all(bool(one.program.numbers_of("wgmma.mma")) == (tiling.rows == 64) for one in ran)
    assert {one.program.cluster for one in ran} == {tiling.split if tiling.cluster else 1}


@pytest.mark.parametrize("cell", [kalman_cell, development_cell], ids=lambda cell: cell.name)
def test_matrices_in_blocks_that_leave_few_registers(cell: Cell) -> None:
    """Derivatives are added up in memory, behind barriers, and places there are the same at every step."""
    device = Device(tiling=Tiling(1, 16, 4, 1, 1, True, "rows"))
    ran = check(cell, (3, 3, 5, 16), "high", device, lengths=[3, 0, 2])
    assert [one.grid for one in ran] == [(3, 1), (3, 1)]


@pytest.mark.parametrize("tiling", [None, Tiling(16, 32, 4, 2)], ids=["one program", "two"])
def test_products_of_ieee_float32_on_a_gpu_without_copies_ahead_and_tensor_cores(tiling: Tiling | None) -> None:
    ran = check(zoo()["gru"], (18, 3, 7, 30), "highest", Device(75, tiling=tiling), lengths=[3, 0, 2] * 6)
    for unknown in ("cp.async", "mma", "cvt.rn.bf16"):
        assert not any(one.program.numbers_of(unknown) for one in ran)


@pytest.mark.parametrize("capability", [100, 120])
def test_clusters_and_additions_of_two_values_at_once_on_newer_gpus(capability: int) -> None:
    """Values of float32 come in pairs there; products are instructions of one warp, as before 9.0."""
    tiling = Tiling(16, 32, 4, 2, all_registers=True, cluster=True)
    ran = check(zoo()["lstm"], (18, 3, 7, 30), "high", Device(capability, tiling=tiling), lengths=[3, 0, 2] * 6)
    assert {one.program.cluster for one in ran} == {2}
    assert any(each.opcode.endswith("f32x2") for one in ran for each in one.program.instructions)
    assert not any(one.program.numbers_of("wgmma") + one.program.numbers_of("tcgen05") for one in ran)


def test_matrices_of_heads_on_an_older_gpu() -> None:
    ran = check(SIZED["heads"], (3, 3, 7, 16), "medium", Device(80), lengths=[1, 3, 2])
    assert not any(one.program.numbers_of("stmatrix") for one in ran)


def test_states_of_several_elements_a_unit_with_masks() -> None:
    cell = with_noise(SIZED["columns"], zoneout=("S",))
    draw = torch.Generator().manual_seed(0)
    masks = {"zoneout_S": torch.randint(0, 2, (3, 2, 8, 5), generator=draw).double()}
    check(cell, (3, 2, 3, 8), "highest", masks=masks, lengths=[2, 1, 2])


@pytest.mark.parametrize(("seed", "precision"), [(0, "medium"), (3, "high")])
def test_random_cells(seed: int, precision: str) -> None:
    check(random_cell(seed, 3 + seed), (5, 3, 5, 6), precision, lengths=[3, 0, 2, 1, 3])


def test_a_launch_tells_which_kernel_is_not_compiled() -> None:
    def fails(program: Program) -> Program:
        raise RuntimeError("PassManager::run failed")

    x, _, weights = case(zoo()["rnn"], (2, 2, 3, 6))
    told = r"Triton \S+ does not compile the forward kernel of cell 'rnn' for H=6 and products in ieee \(PassManager"
    with emulated(Device(change=fails)), torch.no_grad(), pytest.raises(BackendError, match=told):
        scan(zoo()["rnn"], x, weights, backend="triton")


def test_replicates_of_one_launch() -> None:
    cell = zoo()["rnn"]
    x, _, weights = case(cell, (2, 2, 3, 6))
    with emulated(Device()) as device, torch.no_grad():
        both = torch.vmap(lambda x: scan(cell, x, weights, backend="triton").outputs)(torch.stack([x, -x]))
        alone = scan(cell, -x, weights, backend="triton").outputs
    assert [one.grid for one in device.ran] == [(1, 2), (1, 1)]
    torch.testing.assert_close(both[1], alone, rtol=0, atol=0)


def of_forward(change: Any) -> Any:
    return lambda program: change(program) if program.name == "forward" else program


def without(opcode: str, among: slice = slice(None)) -> Any:
    """A change that leaves some of the forward pass's instructions out."""

    def change(program: Program) -> Program:
        found = program.numbers_of(opcode)[among]
        assert found
        for number in found:
            program = program.without(number)
        return program

    return of_forward(change)


def swapped(program: Program) -> Program:
    """With the second and the third register of a product's left operand in each other's place."""
    changed = list(program.instructions)
    for number in program.numbers_of("mma"):
        d, a, *rest = changed[number].operands
        assert isinstance(a, tuple)
        changed[number] = replace(changed[number], operands=(d, (a[0], a[2], a[1], a[3]), *rest))
    return replace(program, instructions=tuple(changed))


BETWEEN_WARPS = "what another warp (wrote|read) since the last barrier|what nobody has written"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        *((without("bar.sync", slice(n, n + 1)), BETWEEN_WARPS) for n in (1, -2)),
        (of_forward(swapped), ""),
    ],
    ids=["a barrier", "a barrier of the loop", "another layout of products"],
)
def test_what_is_missing_from_a_kernel_is_noticed(change: Any, fault: str) -> None:
    with pytest.raises(KernelError if fault else AssertionError, match=fault or "outputs: "):
        check(zoo()["lstm"], (2, 3, 7, 20), "high", Device(change=change))


def test_a_copy_that_nobody_waits_for_is_noticed() -> None:
    """Where matrices change, Triton reads ahead by copies to shared memory."""
    change = without("cp.async.wait_group", slice(1))
    with pytest.raises(KernelError, match="what a copy that was not waited for is still bringing"):
        check(zoo()["mlstm-heads"], (2, 3, 7, 16), "high", Device(change=change))


def hasty(program: Program) -> Program:
    """As if all elements had been left at a later meeting: no warp waits for the least of their numbers."""
    changed = list(program.instructions)
    for number in program.numbers_of("redux"):
        target, *_ = changed[number].operands
        changed[number] = replace(changed[number], opcode="mov.b32", operands=(target, "1000"))
    assert changed != list(program.instructions)
    return replace(program, instructions=tuple(changed))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (without("st.relaxed", slice(1)), "2 of 2 blocks wait for each other for ever"),
        (of_forward(hasty), ""),
    ],
    ids=["an element is never there", "nobody waits"],
)
def test_programs_that_do_not_wait_for_each_other_are_noticed(change: Any, fault: str) -> None:
    device = Device(tiling=Tiling(16, 64, 4, 2), change=change)
    with pytest.raises(KernelError if fault else AssertionError, match=fault or "outputs: "):
        check(zoo()["gru-original"], (2, 2, 7, 40), "high", device)


def test_fewer_programs_at_once_than_wait_for_each_other_never_end() -> None:
    device = Device(tiling=Tiling(16, 64, 4, 2), order=Order(at_once=1))
    with pytest.raises(KernelError, match="1 of 2 blocks wait for each other for ever"):
        check(zoo()["gru-original"], (2, 2, 7, 40), "high", device)


AWAY = 1 << 27
"""Rows, and clips, before the first one of a call: 2 ** 31 elements of a state, and more of all else."""


def far_away(machine: Machine, grid: tuple[int, int], given: list[tuple[str, Any]]) -> None:
    """Run a kernel whose clips stand far behind where its tensors begin, and nothing is in memory before them."""
    memory, values = GlobalMemory(), list[int]()
    for name, value in given:
        if not isinstance(value, Tensor):
            values.append(int(value))
            continue
        rows, states = ("projected", "saved", "d_sums", "vectors"), ("first", "last", "d_first", "d_last")
        elements = 16 if name in states else value[0, 0].numel() if name in (*rows, "outputs", "d_outputs") else 0
        before = AWAY * elements * value.element_size()
        there = value + AWAY if name in ("start", "place") else value
        values.append(memory.add(name, launch.bytes_of(there), first=before))
    with np.errstate(all="ignore"):
        machine.launch(grid, memory, [*values, 0, 0])


@pytest.mark.parametrize("large", [True, False])
def test_places_beyond_31_bits(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With places of 32 bits the same call reads where there is no memory."""
    monkeypatch.setattr(Call, "large", large)
    monkeypatch.setattr(launch, "run", far_away)
    with nullcontext() if large else pytest.raises(KernelError, match=r"of \w+, which has"):
        check(zoo()["rnn"], (3, 2, 7, 16), "high", lengths=[2, 1, 2])
