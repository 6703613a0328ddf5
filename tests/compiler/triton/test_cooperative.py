"""What hurts: programs that wait for each other for ever, and clips that a grid of several launches leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.compiler.inputs import Inputs
from cello.compiler.scan import scan
from cello.compiler.triton import launch
from cello.compiler.triton import scan as back_end
from cello.compiler.triton.cooperative import (
    OPTION,
    VARIABLE,
    Multiprocessor,
    aligned,
    launch_options,
    parts,
    programs_beside,
    told_if_refused,
)
from cello.compiler.triton.launch import Call, Tiling, options
from cello.compiler.triton.machine_code import Taken
from cello.compiler.triton.proof import Pair, Way
from cello.compiler.triton.proved import Kind
from cello.compiler.triton.text import waits
from cello.errors import BackendError
from scans import Case, everything

pytest.importorskip("triton")
TILING = Tiling(4, 32, 4, 2)
H100, L4 = Multiprocessor(2048, 228 * 1024), Multiprocessor(1536, 100 * 1024)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: TILING)
    torch.use_deterministic_algorithms(True)  # which fills torch.empty with NaN
    yield
    torch.use_deterministic_algorithms(False)


def case(cell: Cell, batch: int, steps: int = 3, features: int = 5, hidden: int = 20) -> Case:
    draw = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=draw) * 0.5).requires_grad_()

    weights = {name: leaf(*shape) for name, shape in cell.parameters(features, hidden).items()}
    states = tuple(leaf(batch, *each) for each in cell.state_sizes(features, hidden))
    return leaf(batch, steps, features), states, weights


def running(monkeypatch: pytest.MonkeyPatch, programs: int | None) -> list[tuple[int, int]]:
    """Have so many programs run at once; the grids of all launches that follow."""
    grids: list[tuple[int, int]] = []
    grid = Call.grid

    def told(call: Call, part: Any) -> tuple[int, int]:
        grids.append(grid(call, part))
        return grids[-1]

    monkeypatch.setattr(back_end, "_of_pass", lambda inputs, way, found: (found, programs))
    monkeypatch.setattr(Call, "grid", told)
    return grids


@pytest.mark.parametrize("name", ["lstm-peephole", "gru-original", "qrnn-3"])
def test_clips_of_several_launches_are_those_of_one(
    name: str, interpreted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their number fills no tile, so the last launch computes its last clip more than once."""
    cell = with_noise(zoo()[name], zoneout=("h",))
    values, lengths = case(cell, 14), [3, 0, 2, 1, 3, 3, 2, 1, 0, 2, 3, 1, 1, 2]
    draw = torch.Generator().manual_seed(1)
    noise = {"zoneout_h": torch.rand(14, 3, 20, generator=draw).gt(0.2).float()}
    results = []
    for programs, tiles in ((None, [4]), (4, [2, 2])):
        grids = running(monkeypatch, programs)
        results.append(everything(cell, values, "triton", lengths=lengths, masks=noise, reverse=True))
        assert grids == [(each, 1) for _ in range(2) for each in tiles]
        monkeypatch.undo()
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        monkeypatch.setattr(back_end, "tiling_of", lambda inputs: TILING)
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=1e-6, atol=1e-7, msg=key)
    assert torch.equal(results[0]["outputs"], results[1]["outputs"])


@pytest.mark.parametrize(("programs", "grids"), [(8, [(2, 2), (2, 1)]), (2, [(1, 1)] * 6)])
def test_replicates_of_several_launches_are_those_of_one(
    programs: int, grids: list[tuple[int, int]], interpreted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, draw = zoo()["lstm-peephole"], torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 3, 5, generator=draw)
    weights = {
        name: torch.randn(3, *shape, generator=draw).mul(0.4).requires_grad_()
        for name, shape in cell.parameters(5, 20).items()
    }
    results = []
    for at_once in (None, programs):
        found = running(monkeypatch, at_once)
        outputs = torch.vmap(lambda x, weights: scan(cell, x, weights, backend="triton").outputs)(x, weights)
        results.append([outputs, *torch.autograd.grad(outputs.cos().sum(), list(weights.values()))])
        assert found == ([(2, 3)] if at_once is None else grids) * 2
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_no_launch_has_more_programs_than_run_at_once() -> None:
    for replicates, tiles, split, at_once in ((1, 64, 8, 132), (16, 4, 2, 132), (5, 17, 4, 66), (3, 3, 32, 33)):
        every = parts(replicates, tiles, split, at_once)
        assert max(part.tiles * part.replicates * split for part in every) <= at_once
        seen = [
            (r, t)
            for part in every
            for r in range(part.replicate, part.replicate + part.replicates)
            for t in range(part.tile, part.tile + part.tiles)
        ]
        assert seen == [(r, t) for r in range(replicates) for t in range(tiles)]


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "there", "programs"),
    [
        (255, 160 * 1024, 8, H100, 1),
        (128, 100 * 1024, 8, H100, 2),
        (129, 8 * 1024, 8, H100, 1),  # 136 registers of a thread, for they are given out in eights
        (168, 8 * 1024, 4, H100, 3),
        (64, 113 * 1024, 8, H100, 2),
        (64, 114 * 1024, 8, H100, 1),  # beside the 1 KiB that each takes
        (32, 1024, 16, H100, 4),
        (32, 1024, 16, L4, 3),
        (255, 99 * 1024, 16, L4, 1),  # more than there are: it is launched, and refused by name
    ],
)
def test_how_many_programs_a_multiprocessor_runs(
    registers: int, shared: int, warps: int, there: Multiprocessor, programs: int
) -> None:
    """As CUDA's table of occupancy has it."""
    assert programs_beside(registers, shared, warps, there) == programs


def test_programs_that_wait_are_launched_cooperatively_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch_options(2, waits=True) == {OPTION: True}
    assert launch_options(1, waits=True) == launch_options(2, waits=False) == {}
    assert waits(zoo()["lstm"], "forward")
    assert not waits(zoo()["qrnn"], "backward")
    assert [waits(zoo()["delta-rule"], way) for way in ("forward", "backward")] == [False, True]
    monkeypatch.setenv(VARIABLE, "0")
    assert launch_options(2, waits=True) == {}


def test_triton_compiles_and_launches_by_that_option() -> None:
    """An option that a release does not know would be an argument of the kernel that is not there."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend

    for capability in (80, 90):
        made = make_backend(GPUTarget("cuda", capability, 32)).parse_options(
            options(TILING) | launch_options(2, waits=True)
        )
        assert made.launch_cooperative_grid is True


class Properties:
    """Those of an H100."""

    multi_processor_count, max_threads_per_multi_processor = 132, H100.threads
    shared_memory_per_multiprocessor, shared_memory_per_block_optin = H100.shared, 227 * 1024


class Frames:
    dtype, device, is_cuda, is_cpu, shape = torch.float32, torch.device("cuda"), True, False, (4, 3, 5)
    requires_grad = False


def test_what_a_kernel_takes_says_how_many_of_its_programs_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, states, weights = case(zoo()["lstm"], 4)
    inputs = Inputs(zoo()["lstm"], Frames(), weights, states, {}, None, False)  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    told: list[tuple[Tiling, Taken | None]] = [
        (TILING, Taken(120, 0, 70 * 1024)),
        (TILING, None),
        (Tiling(16, 32, 4), Taken(120, 0, 70 * 1024)),
    ]
    monkeypatch.setattr(back_end, "kind_of", lambda device: Kind("H100", "580.1", "3.6.0"))
    monkeypatch.setattr(back_end, "taken", lambda asked, here: Pair(Way(*told[0])))
    expected: list[int | None] = [3 * 132, 132, None]
    for programs in expected:
        assert back_end._of_pass(inputs, "forward", TILING) == (told.pop(0)[0], programs)
    told.append((TILING, None))
    assert back_end._of_pass(inputs._replace(cell=zoo()["qrnn"]), "forward", TILING) == (TILING, None)
    told.clear()
    told.append((TILING, None))
    monkeypatch.setenv(VARIABLE, "0")  # all at once, as before
    assert back_end._of_pass(inputs, "forward", TILING) == (TILING, None)


def test_a_driver_that_refuses_is_told_with_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(said: str, split: int = 8) -> None:
        with told_if_refused("forward kernel of cell 'lstm' for H=256", 128, split, waits=True):
            raise RuntimeError(f"Triton Error [CUDA]: {said}")

    for said in ("too many blocks in cooperative launch", "operation not supported"):
        with pytest.raises(BackendError) as told:
            refused(said)
        assert str(told.value) == (
            "the GPU's driver refuses a cooperative launch of the forward kernel of cell 'lstm' for H=256, 128 "
            f'programs of which 8 each wait for each other ({said}). Take fewer units or backend="plain", or set '
            "CELLO_COOPERATIVE_LAUNCH=0, which launches them plainly: then run no other kernels on that GPU at the "
            "same time"
        )
    for split, other in ((1, "operation not supported"), (8, "operation not permitted when stream is capturing")):
        with pytest.raises(RuntimeError, match=other):  # which a capture tells by itself
            refused(other, split)


def test_a_refusal_is_told_from_a_launch(interpreted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        def __getitem__(self, grid: tuple[int, int]) -> Any:
            raise RuntimeError("Triton Error [CUDA]: too many blocks in cooperative launch")

    monkeypatch.setattr(back_end, "kernels", lambda *asked, **how: launch.Kernels(Kernel(), Kernel()))
    x, _, weights = case(zoo()["rnn"], 2)
    with pytest.raises(BackendError, match="launch of the forward kernel of cell 'rnn' for H=20, 1 programs"):
        scan(zoo()["rnn"], x, weights, backend="triton")


def test_where_fewer_run_at_once_than_was_told_the_launches_are_smaller(
    interpreted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where tensors are of another type than those by which a kernel was measured; the same is not tried twice."""
    kernels, asked = back_end.kernels, list[int]()

    class Kernel:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: tuple[int, int]) -> Any:
            asked.append(grid[0])
            if grid[0] > 2:
                raise RuntimeError("Triton Error [CUDA]: too many blocks in cooperative launch")
            return self.kernel[grid]

    @cache
    def crowded(*given: Any, **how: Any) -> launch.Kernels:
        made = kernels(*given, **how)
        return launch.Kernels(Kernel(made.forward), Kernel(made.backward))

    values = case(zoo()["lstm-peephole"], 14)
    expected = everything(zoo()["lstm-peephole"], values, "triton")
    monkeypatch.setattr(back_end, "kernels", crowded)
    monkeypatch.setattr(back_end, "_of_pass", lambda inputs, way, found: (found, 8))
    monkeypatch.setattr(back_end, "_at_once", lambda x: 4)
    monkeypatch.setattr(launch, "_CROWDED", set())
    for tries in ([4], []):
        found = everything(zoo()["lstm-peephole"], values, "triton")
        assert asked == [*tries, 2, 2] * 2
        asked.clear()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-7, msg=key)


def test_what_is_only_read_lies_where_kernels_are_compiled_for() -> None:
    values = torch.arange(12, dtype=torch.int32)
    assert aligned(values[4:]).data_ptr() == values[4:].data_ptr()
    moved = aligned(values[1:])
    assert moved.data_ptr() % 16 == 0
    assert torch.equal(moved, values[1:])
