"""What hurts: programs of few clips one after the other, and more clips where nothing is gained or results differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.compiler.inputs import Inputs
from cello.compiler.scan import scan
from cello.compiler.triton import choice, rounds
from cello.compiler.triton import scan as back_end
from cello.compiler.triton.build import kernels
from cello.compiler.triton.choice import NOT_COMPILED, first_that_fits, of_pass
from cello.compiler.triton.cooperative import Multiprocessor
from cello.compiler.triton.launch import Call, Tiling
from cello.compiler.triton.machine_code import Taken, compiled
from cello.compiler.triton.proof import Pair, Way
from cello.compiler.triton.proved import Kind
from cello.compiler.triton.remembered import Choice
from cello.compiler.triton.rounds import Gpu, of_batch
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import names_of
from cello.compiler.triton.tiling import of_more_clips
from interpreted import check
from ptx.text import parse
from scans import case
from sized_cells import SIZED

pytest.importorskip("triton")
H100 = Gpu(90, 227 * 1024, 132, Multiprocessor(2048, 228 * 1024))
ALL_REGISTERS = Taken(255, 0, 100 * 1024)
"""One program on a multiprocessor."""
LSTM = zoo()["lstm"]
AT_256 = Tiling(16, 256, 8, 4, 2, True)
RAGGED = [3, 0, 2, 1, 3, 3, 2] * 11


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(("rows", "reread"), [(32, "packs"), (32, "held"), (64, "packs"), (64, "")])
@pytest.mark.parametrize("name", ["lstm", "gru", "lstm-peephole-full"])
def test_more_clips_a_program_with_ragged_lengths(
    name: str, rows: int, reread: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an odd batch in programs that share units, the other way in one that does not."""
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(rows, 64, 8, 2, 2, reread=reread))
    check(zoo()[name], (35, 3, 5, 40), share=2e-5, lengths=RAGGED[:35])
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(rows, 16, 4, 1, 1, reread=reread))
    check(zoo()[name], (77, 3, 5, 11), share=2e-5, lengths=RAGGED, reverse=True)


@pytest.mark.usefixtures("interpreted")
def test_derivatives_of_two_gates_at_once_in_programs_of_few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(4, 32, 2, 2, 1, reread="packs"))
    check(zoo()["mogrifier-lstm"], (6, 3, 5, 28), share=2e-5, lengths=[3, 0, 2, 1, 3, 2])


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    "cell", [SIZED["projected"], zoo()["gru-original"], zoo()["lstm-layer-norm"]], ids=lambda c: c.name
)
def test_several_products_as_one_of_vectors_of_other_sizes_and_later_stages(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(32, 64, 4, 2, 2, reread="packs"))
    check(cell, (33, 2, 7, 40), share=2e-5, lengths=[2, 1, 0] * 11)


@pytest.mark.usefixtures("interpreted")
def test_replicates_are_divided_by_how_many_there_are_each_pass_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under torch.vmap a scan is prepared before anything knows of replicates."""
    grids, seen, grid = list[tuple[int, int]](), list[Any](), Call.grid

    def told(call: Call, part: Any) -> tuple[int, int]:
        grids.append(grid(call, part))
        return grids[-1]

    def divided(call: Call, way: str) -> Call:
        seen.append((way, *call.layout.place.shape))
        if call.layout.place.numel() < 100:
            return call
        rows, reread = {"forward": (32, "packs"), "backward": (64, "")}[way]
        made = kernels(LSTM, reread, interpreted=True)
        return replace(call, kernels=made, tiling=Tiling(rows, 16, 4, 1, 2, reread=reread))

    monkeypatch.setattr(back_end, "by_clips", lambda inputs: divided)
    monkeypatch.setattr(Call, "grid", told)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 70, 2, 5, generator=draw)
    shapes = LSTM.parameters(5, 12).items()
    weights = {n: torch.randn(3, *s, generator=draw).mul(0.4).requires_grad_() for n, s in shapes}

    def one(x: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return scan(LSTM, x, weights, lengths=torch.tensor([2, 1] * 35), backend="triton").outputs

    outputs = torch.vmap(one)(x, weights)
    gradients = torch.autograd.grad(outputs.cos().sum(), [*weights.values()])
    assert seen == [("forward", 3, 70), ("backward", 3, 70)]
    assert grids == [(3, 3), (2, 3)]
    for r in range(3):
        alone = {name: value[r].detach().requires_grad_() for name, value in weights.items()}
        expected = one(x[r], alone)
        torch.testing.assert_close(outputs[r], expected, rtol=1e-6, atol=1e-6)
        for found, other in zip(gradients, torch.autograd.grad(expected.cos().sum(), [*alone.values()]), strict=True):
            torch.testing.assert_close(found[r], other, rtol=1e-5, atol=1e-5)
    assert grids[2:] == [(5, 1)] * 6  # 70 clips alone are as they were


def chosen_for(
    monkeypatch: pytest.MonkeyPatch,
    clips: tuple[int, int],
    *,
    way: str = "forward",
    given: Tiling = AT_256,
    fits: Any = lambda tiling: True,
    cell: Cell = LSTM,
    precision: str = "bf16",
    gpu: Gpu = H100,
) -> tuple[Tiling, list[Tiling]]:
    """The tiling for replicates and clips where kernels take all registers, and what would have been compiled."""
    asked = []

    def first(cell: Cell, way: str, every: tuple[Tiling, ...], *further: object) -> tuple[Tiling, Taken] | None:
        asked.append(every[0])
        return (every[0], ALL_REGISTERS) if fits(every[0]) else None

    monkeypatch.setattr(rounds, "first_that_fits", first)
    sizes = Sizes(cell, 39, given.units)
    found = of_batch.__wrapped__(cell, way, sizes, precision, gpu, clips, (given, ALL_REGISTERS))
    return found[0], asked


def test_programs_that_all_run_at_once_keep_their_clips_and_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for clips in ((1, 1), (1, 64), (1, 528), (11, 48), (33, 16)):  # 33 of 4 programs each
        assert chosen_for(monkeypatch, clips) == (AT_256, [])
    assert chosen_for(monkeypatch, (1, 529))[0].rows == 32
    assert chosen_for(monkeypatch, (12, 48))[0].rows == 32
    one = Tiling(16, 64, 8, 1, 2, True, "held")
    assert chosen_for(monkeypatch, (1, 2112), given=one) == (one, [])
    assert chosen_for(monkeypatch, (132, 20), given=one)[0].rows == 32
    assert chosen_for(monkeypatch, (133, 16), given=one) == (one, [])  # of 16 clips each: as many rounds by 32


def test_passes_choose_apart_and_what_keeps_values_in_memory_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_for(monkeypatch, (1, 1024))[0] == Tiling(32, 256, 8, 4, 2, True, "packs", cluster=True)
    narrow = chosen_for(
        monkeypatch, (1, 1024), way="backward", fits=lambda each: each.rows == 16, given=replace(AT_256, split=8)
    )
    assert (narrow[0].rows, narrow[0].split) == (16, 4)  # fewer programs for the same clips are fewer rounds too
    assert chosen_for(monkeypatch, (1, 1024), way="backward", fits=lambda each: False)[0] == AT_256


def test_64_clips_only_where_four_warps_multiply_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 9.0 and after it their products are other instructions, which nothing here can run."""
    given = Tiling(16, 256, 8, 8, 2, True)
    for capability, rows in ((90, 64), (80, 32), (100, 32)):
        gpu = H100._replace(capability=capability)
        assert chosen_for(monkeypatch, (1, 1024), given=given, precision="tf32", gpu=gpu)[0].rows == rows


def test_64_clips_of_an_lstm_of_256_units_spill_nothing_forward() -> None:
    """In tf32, 1,024 clips then come in one round, where it were four."""
    given, sizes = Tiling(16, 256, 4, 8, 2, True), Sizes(LSTM, 39, 256)
    groups = of_more_clips(names_of(LSTM), sizes, "forward", given, "tf32", H100.memory, groups=True)
    every = next(group for group in groups if group[0].rows == 64)
    found = first_that_fits(LSTM, "forward", every, sizes, "tf32", 90, H100.memory)
    assert found is not None
    assert (found[0].split, found[1].spilled) == (8, 0)
    function = kernels(LSTM, found[0].reread, interpreted=False).forward
    constant = of_pass(LSTM, "forward", found[0], sizes, "tf32")
    program = parse(compiled(function, constant, "tf32", found[0], 90).asm["ptx"])
    assert len(program.numbers_of("wgmma.mma_async")) == 256 // 8  # each warp has its own columns of all four gates


def test_a_cluster_is_tried_where_the_others_of_as_many_clips_would_not_be_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was not, where the first of these had no room for a cluster's buffers; and what met in memory and kept
    nothing there was taken before a cluster that keeps little, and then was too slow."""
    asked = []

    def first(cell: Cell, way: str, every: tuple[Tiling, ...], *further: object) -> None:
        asked.append({(each.rows, each.split, each.reread, each.cluster) for each in every})

    monkeypatch.setattr(rounds, "first_that_fits", first)
    given = Tiling(16, 256, 4, 8, 2, True, "held", cluster=True), ALL_REGISTERS
    for name, tried in (("lstm", {"packs"}), ("gru", {"", "packs"})):
        sizes = Sizes(zoo()[name], 39, 256)
        of_batch.__wrapped__(zoo()[name], "forward", sizes, "bf16", H100, (1, 1024), given)
        assert asked.pop(0) == {(32, 4, reread, True) for reread in tried}
    assert asked == []


def test_matrices_of_which_threads_hold_some_quarters_are_read_the_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that programs of 16 clips in two rounds take no longer than those of 32 in one, which hold nothing."""
    given = Tiling(16, 128, 8, 1, 2, True, "held 7")
    few: dict[str, Any] = {"cell": zoo()["gru"], "precision": "tf32"}
    assert chosen_for(monkeypatch, (1, 4096), given=given, **few) == (given, [])
    assert chosen_for(monkeypatch, (1, 4096), given=replace(given, reread="held 1"), **few)[0].rows == 32


def test_nothing_is_gained_where_single_threads_multiply_or_tiles_are_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_for(monkeypatch, (1, 4096), precision="ieee") == (AT_256, [])
    heads = Tiling(16, 64, 4, 1, 2)
    assert chosen_for(monkeypatch, (1, 4096), cell=SIZED["heads"], given=heads) == (heads, [])
    again = replace(AT_256, reread="all", split=16)
    assert chosen_for(monkeypatch, (1, 4096), given=again) == (again, [])


def test_never_do_more_programs_wait_for_each_other_than_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "WORTH", 100.0)  # whatever time it takes
    few: dict[str, Any] = {"given": AT_256, "cell": zoo()["rnn"], "fits": lambda each: False}
    assert {each.split for each in chosen_for(monkeypatch, (1, 4096), **few)[1]} == {4, 8}
    asked = chosen_for(monkeypatch, (1, 4096), gpu=H100._replace(multiprocessors=6), **few)[1]
    assert {each.split for each in asked} == {4}


def test_warps_share_out_the_columns_of_what_is_tried() -> None:
    """Of 32 columns of each of several products, Triton has all warps compute all: 512 products a warp, not 128."""
    given = Tiling(16, 256, 4, 8, 2, True)

    def tried(name: str, way: str, precision: str = "tf32") -> dict[tuple[int, int], set[str]]:
        groups = of_more_clips(names_of(zoo()[name]), Sizes(zoo()[name], 39, 256), way, given, precision)
        return {(group[0].rows, group[0].split): {each.reread for each in group} for group in groups}

    assert tried("lstm", "forward") == {(32, 8): {"packs"}}
    assert tried("lstm", "backward") == {(32, 8): {"scatter", ""}}  # of all four at once, which is a single product
    of_sums = {(32, 4): {"", "packs"}, (32, 8): {"", "held"}, (16, 4): {"", "packs"}}
    assert tried("lstm", "backward", "bf16") == {key: {"scatter", *others} for key, others in of_sums.items()}
    assert tried("gru", "forward").keys() == {(32, 4), (16, 4)}  # the third matrix stands alone
    assert tried("rnn", "backward")[32, 8] == {"held", "", "packs"}


@pytest.mark.parametrize(("way", "precision", "split"), [("forward", "tf32", 8), ("backward", "bf16", 4)])
def test_several_products_as_one_spill_nothing_and_no_warp_computes_what_others_do(
    way: str, precision: str, split: int
) -> None:
    tiling, sizes = Tiling(32, 256, 8, split, 1, True, "packs"), Sizes(LSTM, 39, 256)
    tiling = replace(tiling, stages=2) if way == "forward" else tiling
    found = first_that_fits(LSTM, way, (tiling,), sizes, precision, 90, H100.memory)
    assert found is not None
    assert found[1].spilled == 0
    function = getattr(kernels(LSTM, "packs", interpreted=False), way)
    program = parse(compiled(function, of_pass(LSTM, way, tiling, sizes, precision), precision, tiling, 90).asm["ptx"])
    step = [program.instructions[n].opcode for n in program.loop]
    of_one = 16 * 8 * (8 if precision == "tf32" else 16)
    assert sum(each.startswith("mma") for each in step) == 32 * 256 * 4 * (256 // split) // of_one // 8
    assert sum(each.startswith("bar.sync") for each in step) == (4 if way == "forward" else 8)


def test_the_first_that_keeps_nothing_in_memory_is_taken_and_remembered_as_is_that_none_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every, sizes = tuple(replace(AT_256, rows=32, stages=n) for n in (2, 1, 3)), Sizes(LSTM, 39, 256)
    kept, takes = dict[str, Choice](), dict[int, Taken]()
    compiled_by = list[int]()

    def told(function: object, constant: object, precision: str, each: Tiling, capability: int) -> Taken:
        compiled_by.append(each.stages)
        if takes[each.stages] == NOT_COMPILED:
            raise RuntimeError("the compiler failed")
        return takes[each.stages]

    monkeypatch.setattr(choice, "taken", told)
    monkeypatch.setattr(choice, "remembered", kept.get)
    monkeypatch.setattr(choice, "remember", kept.__setitem__)

    def found(*spilled: int, shared: int = 1024) -> Tiling | None:
        takes.update({each.stages: Taken(255, n, shared) for each, n in zip(every, spilled, strict=True)})
        takes.update({n: NOT_COMPILED for n, each in takes.items() if each.spilled < 0})
        kept.clear()
        first = first_that_fits.__wrapped__(LSTM, "forward", every, sizes, "bf16", 90, H100.memory)
        count = len(compiled_by)
        assert first == first_that_fits.__wrapped__(LSTM, "forward", every, sizes, "bf16", 90, H100.memory)
        assert len(compiled_by) == count  # nothing was compiled again
        return None if first is None else first[0]

    assert found(0, 0, 0) == every[0]
    assert compiled_by == [2]
    assert found(8, 0, 0) == every[1]
    assert found(24, 16, 100) == every[1]
    assert found(100, -1, 40) is None
    assert found(0, 0, 0, shared=H100.memory + 1) is None


class Properties:
    """Those of an H100."""

    multi_processor_count, max_threads_per_multi_processor = 132, 2048
    shared_memory_per_multiprocessor, shared_memory_per_block_optin = 228 * 1024, 227 * 1024


class Frames:
    dtype, device, is_cuda, is_cpu, shape = torch.float32, torch.device("cuda"), True, False, (4, 3, 5)
    requires_grad = False


class Clips:
    """Where clips stand, of so many replicates."""

    def __init__(self, *shape: int) -> None:
        self.place = torch.empty(shape, device="meta")


def test_a_call_is_divided_by_its_clips_and_launched_as_many_as_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, states, weights = case(LSTM, (4, 3, 5, 256))
    inputs = Inputs(LSTM, Frames(), weights, states, {}, None, False)  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    best, judged = Way(AT_256, ALL_REGISTERS), list[Pair]()
    monkeypatch.setattr(back_end, "kind_of", lambda device: Kind("H100", "580.1", "3.6.0"))
    monkeypatch.setattr(back_end, "taken", lambda asked, here: Pair(best, best))
    monkeypatch.setattr(back_end, "right", lambda asked, pair, here: judged.append(pair) or len(judged) == 1)
    monkeypatch.setattr(rounds, "first_that_fits", lambda cell, way, every, *rest: (every[-1], Taken(120, 0, 1024)))
    torch.set_float32_matmul_precision("medium")
    divided = back_end.by_clips(inputs)
    torch.set_float32_matmul_precision("highest")
    assert divided is not None
    layout: Any = Clips(1, 1024)
    call = Call(
        names_of(LSTM),
        kernels(LSTM, interpreted=False),
        layout,
        AT_256,
        "bf16",
        Sizes(LSTM, 5, 256),
        at_once=(132, 132),
    )
    found = divided(call, "forward")
    assert (found.tiling.rows, found.tiling.reread, found.at_once) == (32, "packs", (264, None))
    assert found.kernels is kernels(LSTM, "packs", interpreted=False, exact=False)
    assert [one.tiling.rows for one in judged[0] if one] == [32, 16]  # with the backward pass that is right
    assert divided(call, "forward") is call  # where it is not
    few: Any = Clips(1, 64)
    assert divided(replace(call, layout=few), "forward").tiling == AT_256
    another = replace(call, tiling=replace(AT_256, split=8))
    assert divided(another, "forward") is another  # what was asked for by name is not divided anew
