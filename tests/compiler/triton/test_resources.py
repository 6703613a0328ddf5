"""Compiled for a GPU that is not here: nothing spills, and every size that is offered fits into shared memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.compiler.triton import choice
from cello.compiler.triton.build import kernels
from cello.compiler.triton.choice import of_pass
from cello.compiler.triton.launch import BatchLayout, Call, Tiling
from cello.compiler.triton.machine_code import Taken, compiled, taken
from cello.compiler.triton.resources import MEMORY, compilation, resources
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import names_of, own_text
from cello.compiler.triton.tiling import at_most, bytes_left, tiling, tilings
from cello.errors import BackendError
from ptx.text import parse
from real_cells.filters import s4d_cell
from real_cells.tensors import kalman_cell, mass_conserving_cell, neural_cde_cell, programmed_cell
from sized_cells import SIZED

RELEASE = tuple(map(int, pytest.importorskip("triton").__version__.split(".")[:2]))
spills_here = pytest.mark.skipif(RELEASE < (3, 9), reason="what spills by the first tiling spills with Triton 3.9")


@pytest.mark.parametrize("name", ["forward", "backward"])
@pytest.mark.parametrize(
    ("cell", "hidden", "precision", "capability"),
    [
        ("lstm", 64, "bf16", 90),
        ("gru", 128, "tf32", 90),
        ("rwkv-6", 64, "tf32", 90),
        ("gru", 64, "bf16", 80),
        ("gru", 64, "ieee", 75),
        ("lstm", 64, "tf32", 120),
    ],
)
def test_no_register_spills_and_shared_memory_suffices(
    cell: str, hidden: int, precision: str, capability: int, name: str
) -> None:
    found = resources(zoo()[cell], name, hidden, precision, capability)
    assert found.spilled == 0
    assert found.registers <= 255
    assert found.shared <= MEMORY[capability]
    sizes = Sizes(zoo()[cell], 39, hidden)
    assert found.shared <= at_most(names_of(zoo()[cell]), sizes, found.tiling, precision)


@pytest.mark.parametrize(
    ("cell", "precision", "way"),
    [
        ("lstm-peephole-full", "tf32", "backward"),
        ("ltc", "bf16", "backward"),
        ("lmu", "bf16", "forward"),
        ("mogrifier-lstm", "tf32", "backward"),
        ("rwkv-6", "tf32", "forward"),
    ],
)
def test_cells_of_many_values_spill_nothing_either(cell: str, precision: str, way: str) -> None:
    """They spilled 144, 412, 8, 792 and 104 bytes: operands of several products at once, or kept for later ones, 512
    threads of 128 registers, and a layout in which each warp had all values of a head."""
    found = resources(zoo()[cell], way, 128, precision)
    assert found.spilled == 0
    left = bytes_left(zoo()[cell], way, Sizes(zoo()[cell], 39, 128), found.tiling, precision)
    assert found.shared <= at_most(names_of(zoo()[cell]), Sizes(zoo()[cell], 39, 128), found.tiling, precision) + left


@spills_here
@pytest.mark.parametrize(("cell", "hidden", "way"), [("mogrifier-lstm", 64, "backward"), ("gru", 128, "forward")])
def test_products_of_ieee_float32_spill_nothing_either(cell: str, hidden: int, way: str) -> None:
    """By no tiling did they spill less than 360 and 56 bytes: a thread held all its operands of several products, and
    across the barrier beyond which their sums are read."""
    made = compilation(zoo()[cell], way, hidden, "ieee")
    found = made.resources()
    assert (found.spilled, found.tiling) == (0, made.tilings[0])
    assert found.shared <= at_most(names_of(zoo()[cell]), made.sizes, found.tiling, "ieee")


@spills_here
def test_products_of_ieee_float32_read_units_side_by_side_and_multiply_no_clip_twice() -> None:
    """The threads of a warp read shared memory at places of the same banks, eight at a time, and of 8 clips each was
    multiplied twice, as tensor cores want it."""
    cell, sizes = zoo()["lstm"], Sizes(zoo()["lstm"], 39, 64)
    tiling = Tiling(8, 64, 8, stages=1, all_registers=True)
    function = kernels(cell, interpreted=False, exact=True).forward
    text = compiled(function, of_pass(cell, "forward", tiling, sizes, "ieee"), "ieee", tiling, 90).asm
    matrices = re.findall(r"local_load %\S+ : !ttg.memdesc<32x256xf32, (#\w+)", text["ttgir"])
    assert len(matrices) == 2  # of all four matrices, in slices of 32 rows
    for layout in matrices:
        assert re.search(rf"^{layout} = .*order = \[1, 0\]", text["ttgir"], re.MULTILINE)
    products = 8 * 64 * 4 * 64 // (8 * 32)
    assert products <= text["ptx"].count("fma.rn.f32") < 1.1 * products


@spills_here
@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("capability", [90, 80])
def test_one_program_has_four_matrices_of_128_units_in_tf32(capability: int, way: str) -> None:
    """They are 256 KB, more than its shared memory, so two programs shared the units and met at every step."""
    found = resources(zoo()["lstm"], way, 128, "tf32", capability)
    assert (found.tiling.split, found.tiling.rows, found.spilled) == (1, 16, 0)
    assert found.tiling.reread.startswith("held ")
    assert found.shared <= MEMORY[capability]
    assert found.shared <= at_most(names_of(zoo()["lstm"]), tried_sizes(128), found.tiling, "tf32")


def test_programs_of_few_units_multiply_fewer_derivatives_at_once_at_last() -> None:
    """A Mogrifier LSTM's backward pass in tf32 spilled 16 bytes on 8.0, where 8 programs have 16 units each."""
    names, sizes = names_of(zoo()["mogrifier-lstm"]), Sizes(zoo()["mogrifier-lstm"], 39, 128)
    tried = {precision: tilings(names, sizes, precision, MEMORY[80]) for precision in ("tf32", "bf16", "ieee")}
    assert tried["tf32"][-1] == Tiling(4, 128, 2, 8, 1, all_registers=True, reread="packs")
    assert not any(each.reread == "packs" for each in (*tried["bf16"], *tried["ieee"]))


def test_a_quarter_of_the_clips_and_twice_the_programs_at_last_in_ieee_float32() -> None:
    """An LTC's backward pass spilled 24 bytes at H 128 on 9.0; by this it takes 85 registers and spills none."""
    names, sizes = names_of(zoo()["ltc"]), Sizes(zoo()["ltc"], 39, 128)
    assert tilings(names, sizes, "ieee", MEMORY[90])[-1] == Tiling(4, 128, 8, 2, 1)
    assert Tiling(4, 128, 8, 2, 1, all_registers=True) not in tilings(names, sizes, "tf32", MEMORY[90])


@spills_here
def test_thirteen_matrices_of_128_units_spill_nothing() -> None:
    """They spilled 72 bytes: programs handed each other derivatives of gates twice, all four as one and each
    alone; and loads of all matrices at once, before the first step, took the registers of what lives through it."""
    found = resources(zoo()["fgr"], "backward", 128, "tf32", 90)
    assert (found.spilled, found.tiling.split) == (0, 4)
    assert own_text(zoo()["fgr"]).partition("def backward")[2].count("store_part(") == 4


@spills_here
@pytest.mark.parametrize(
    ("cell", "hidden", "precision", "way"),
    [("lstm-layer-norm", 64, "tf32", "backward"), ("lstm", 128, "bf16", "backward")],
)
def test_what_spills_by_the_first_tiling_is_compiled_by_another(
    cell: str, hidden: int, precision: str, way: str
) -> None:
    """They spilled 312 and 56 bytes where threads held the matrices and read a step ahead."""
    made = compilation(zoo()[cell], way, hidden, precision)
    assert made.resources().spilled == 0
    assert made.resources().tiling != made.tilings[0]
    assert made.digest() != made.digest(None)


@spills_here
def test_the_machine_code_tells_what_the_assembler_said(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """And a kernel whose machine code tells nothing keeps the tiling it has."""
    import triton

    cell = zoo()["lstm"]
    sizes = Sizes(cell, 39, 128)
    first = tilings(names_of(cell), sizes, "bf16")[0]
    assert first.reread == "held"
    kernel, constant = kernels(cell, "held", interpreted=False), of_pass(cell, "backward", first, sizes, "bf16")
    with triton.knobs.cache.scope(), triton.knobs.nvidia.scope():
        triton.knobs.cache.dir, triton.knobs.nvidia.dump_ptxas_log = str(tmp_path), True
        found = taken(kernel.backward, constant, "bf16", first, 90)
    said = capfd.readouterr().out
    assert found is not None
    assert f"Used {found.registers} registers" in said
    assert f"{found.spilled} bytes stack frame" in said
    assert found.spilled > 0


def of_bytes(
    monkeypatch: pytest.MonkeyPatch,
    spilled: Callable[[Tiling], int | Exception | None],
    shared: Callable[[Tiling], int] = lambda each: 1024,
    memory: int = MEMORY[90],
    at_once: int = 132,
    hidden: int = 64,
) -> Tiling:
    """The tiling chosen for an LSTM whose kernels spill so much by each, and take so much shared memory."""

    def told(function: object, constant: object, precision: str, each: Tiling, capability: int) -> Taken | None:
        found = spilled(each)
        if isinstance(found, Exception):
            raise found
        return None if found is None else Taken(255, found, shared(each))

    monkeypatch.setattr(choice, "taken", told)
    monkeypatch.setattr(choice, "remembered", lambda key: None)
    monkeypatch.setattr(choice, "remember", lambda key, found: None)
    sizes = Sizes(zoo()["lstm"], 39, hidden)
    found = choice.chosen.__wrapped__(zoo()["lstm"], "forward", sizes, "tf32", 90, memory, at_once)
    assert found is not None
    return found[0]


def test_the_tiling_that_spills_least_is_taken_and_no_more_programs_for_little(monkeypatch: pytest.MonkeyPatch) -> None:
    first = tilings(names_of(zoo()["lstm"]), Sizes(zoo()["lstm"], 39, 64), "tf32")[0]
    assert of_bytes(monkeypatch, lambda each: 0) == first
    assert of_bytes(monkeypatch, lambda each: None) == first  # the machine code tells nothing
    assert of_bytes(monkeypatch, lambda each: 8 * each.stages).stages == 1
    assert of_bytes(monkeypatch, lambda each: 8 if each.reread == "held" else 0) == replace(first, reread="")
    assert of_bytes(monkeypatch, lambda each: 100 // each.split).split == 2
    assert of_bytes(monkeypatch, lambda each: 100 // each.split, at_once=1).split == 1  # two would wait forever
    assert of_bytes(monkeypatch, lambda each: 100 - 20 * each.split).split == 1
    failed = RuntimeError("the compiler failed")
    assert of_bytes(monkeypatch, lambda each: 8 if each == first else failed) == first
    # Triton 3.8 compiles no backward pass of an LSTM whose threads hold matrices
    assert of_bytes(monkeypatch, lambda each: failed if each.reread == "held" else 0) == replace(first, reread="")
    assert of_bytes(monkeypatch, lambda each: failed) == first  # which the launch will say, or another Triton can


def test_a_tiling_is_never_launched_with_more_shared_memory_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the estimate it has enough, by what the compiler takes it has not."""
    memory = 132 * 1024
    first = tiling_of(zoo()["lstm"], 64, "tf32", memory)
    assert first is not None
    assert first.stages > 1
    found = of_bytes(monkeypatch, lambda each: 0, lambda each: memory + (1 if each.stages > 1 else 0), memory)
    assert found.stages == 1
    found = of_bytes(monkeypatch, lambda each: 64 // each.rows, lambda each: memory + (each.rows > 8), memory)
    assert found.rows == 8  # though it spills more
    bound = of_bytes(monkeypatch, lambda each: None, memory=memory)  # nothing is told: as much as it takes at most fits
    assert bound != first
    assert at_most(names_of(zoo()["lstm"]), Sizes(zoo()["lstm"], 39, 64), bound, "tf32") <= memory
    with pytest.raises(BackendError, match=r"'lstm' for H=64 needs 135,169 bytes .* has 135,168 .* take fewer units"):
        of_bytes(monkeypatch, lambda each: 0, lambda each: memory + 1, memory)


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_programs_see_what_others_wrote_before_they_read_it(way: str) -> None:
    """What a GPU may do and the interpreter does not: an element comes without the number of its meeting, an old one
    comes from the cache of a multiprocessor, or a thread goes on while another of its program still waits."""
    cell, sizes = zoo()["lstm"], Sizes(zoo()["lstm"], 39, 128)
    tiling = tiling_of(cell, 128, "tf32")
    assert tiling is not None
    assert tiling.split > 1 < tiling.stages
    function, constant = getattr(kernels(cell, interpreted=False), way), of_pass(cell, way, tiling, sizes, "tf32")
    text = compiled(function, constant, "tf32", tiling, 90).asm["ptx"]
    events = {
        "W": r"st\.relaxed\.gpu\.global\.b64",
        "R": r"ld\.volatile\.global\.(?:v2\.)?b64",
        "L": r"redux\.sync\.min",
        "B": r"bar\.sync",
        "J": r"\bbra\b",
    }
    every = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in events.items()))
    order = "".join(str(found.lastgroup) for found in every.finditer(text))
    loop = order[order.index("W") :]
    assert re.fullmatch(r"W+R+BLBLJR*J", loop), loop  # left; read; the least number of all threads; perhaps once more
    assert order.count("W") == len(re.findall(r"mov\.b64 v, \{", text))  # each element with its number


@spills_here
@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize(("name", "precision"), [("lstm", "tf32"), ("rnn", "bf16")])
def test_no_value_of_a_step_changes_its_layout_but_the_vector_that_is_multiplied(
    name: str, precision: str, way: str
) -> None:
    """Else it goes through shared memory, with two barriers each time: 12 a step, and a fifth of its instructions."""
    cell = zoo()[name]
    made = compilation(cell, way, 64, precision)
    tiling = made.tilings[0]
    function, given = (
        getattr(kernels(cell, tiling.reread, interpreted=False), way),
        of_pass(cell, way, tiling, made.sizes, precision),
    )
    program = parse(compiled(function, given, precision, tiling, 90).asm["ptx"])
    step = [program.instructions[n].opcode for n in program.loop]
    assert sum(opcode.startswith("bar.sync") for opcode in step) == 2
    assert not any(opcode.startswith("cp.async") for opcode in step)
    read = [opcode for opcode in step if opcode.startswith("ld.global")]
    assert read
    assert all(".nc." in opcode for opcode in read)


@lru_cache
def recorded() -> list[dict[str, Any]]:
    """What the compiler took for the zoo's kernels, as docs/gpu-kernels.md tells."""
    path = Path(__file__).parents[3] / "benchmarks" / "results" / "gpu-resources.json"
    return [row for row in json.loads(path.read_text("utf-8"))["kernels"] if "refused" not in row]


def test_what_the_compiler_takes_is_within_the_bound_and_what_a_program_may_have() -> None:
    """The backward pass of the mLSTM at H 64 in tf32 takes 8 KiB more than is estimated."""
    assert len(recorded()) > 500
    for row in recorded():
        cell, units = zoo()[row["cell"]], 1 << (row["hidden"] - 1).bit_length()
        found = Tiling(row["rows"], units, row["warps"], row["split"], row["stages"], reread=row.get("reread", ""))
        found = replace(found, cluster=row.get("cluster", False))
        sizes = Sizes(cell, 39, row["hidden"])
        bound = at_most(names_of(cell), sizes, found, row["precision"])
        bound += bytes_left(cell, row["pass"], sizes, found, row["precision"])
        assert row["shared"] <= min(bound, MEMORY[row["capability"]]), row
        assert row["registers"] <= 255


def test_no_batch_compiles_a_kernel_anew() -> None:
    """Triton makes another kernel where a size is 1 or a multiple of 16, unless it is told not to."""
    for kernel in vars(kernels(zoo()["gru"], interpreted=False)).values():
        general = {each.name for each in kernel.params if each.do_not_specialize}
        assert general == {"TILES", "B", "T", "rows"}


def test_backward_has_a_tiling_of_its_own() -> None:
    """Its rows and programs are none of forward's: by forward's it would be launched as it was not compiled."""
    cell, (one, two) = zoo()["lstm"], (Tiling(16, 64, 8), Tiling(16, 64, 8, split=2))
    rows = torch.zeros(1, 40)
    layout = BatchLayout(rows, rows, rows, rows, 40, 1, whole=True, padding=False)
    call = Call(names_of(cell), None, layout, one, "tf32", Sizes(cell, 39, 64), of_backward=two)  # type: ignore[arg-type]
    assert call.backward().constants()["SPLIT"] == 2
    assert call.constants()["SPLIT"] == 1
    assert replace(call, of_backward=None).backward().tiling == one


def test_what_is_tried_first_waits_for_nobody() -> None:
    """Threads that hold matrices, then shared memory; by programs that wait for each other only at last."""
    tried = tilings(names_of(zoo()["lstm"]), Sizes(zoo()["lstm"], 39, 128), "bf16")
    ways = [(each.warps, each.reread, each.stages) for each in tried]
    assert ways[:4] == [(8, "held", 2), (8, "", 2), (8, "held", 1), (8, "", 1)]
    assert (16, "", 2) in ways  # 128 units for twice the threads
    splits = [each.split for each in tried if each.rows == 16]
    assert splits == sorted(splits)
    assert not any(each.reread == "held" for each in tilings(names_of(zoo()["lstm"]), tried_sizes(64), "ieee"))
    few = tilings(names_of(zoo()["ltc"]), Sizes(zoo()["ltc"], 39, 64), "bf16")
    assert {each.stages for each in few} == {1}  # seven stages: nothing is read ahead


def test_threads_hold_quarters_of_matrices_where_one_program_then_has_room_or_reads_less() -> None:
    """Of 16 quarters of 16 KB as few as leave room for the others, or as many as registers hold; none of others,
    nor of few units, whose quarters no thread has alone, nor in precisions that multiply otherwise."""

    def held(cell: str, hidden: int, precision: str, capability: int = 90) -> list[tuple[int, str]]:
        tried = tilings(names_of(zoo()[cell]), Sizes(zoo()[cell], 39, hidden), precision, MEMORY[capability])
        assert all(each.split == 1 for each in tried if each.reread.startswith("held "))
        return [(each.stages, each.reread) for each in tried if each.reread.startswith("held ")]

    assert held("lstm", 128, "tf32") == [(n, f"held {k}") for n in (2, 1) for k in (7, 4, 3)]
    assert held("lstm", 128, "tf32", 80) == [(n, f"held {k}") for n in (2, 1) for k in (8, 7)]
    assert held("gru", 128, "tf32") == [(2, "held 7"), (2, "held 4")]
    assert not held("lstm", 64, "tf32") + held("lstm", 256, "tf32")
    assert not held("lstm", 128, "bf16") + held("lstm", 128, "ieee") + held("mgu", 128, "tf32")
    assert not held("fgr", 128, "tf32")  # 13 matrices


def test_what_is_far_from_registers_is_not_tried_with_fewer_quarters_held(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = list[Tiling]()

    def spilled(each: Tiling) -> int:
        tried.append(each)
        return 300 if each.reread.startswith("held ") else 0

    assert of_bytes(monkeypatch, spilled, hidden=128).split == 2
    assert [(each.stages, each.reread) for each in tried[:-1]] == [(2, "held 7"), (1, "held 7")]


def tried_sizes(hidden: int) -> Sizes:
    return Sizes(zoo()["lstm"], 39, hidden)


@pytest.mark.parametrize(("name", "hidden", "way"), [("normalised", 64, "forward"), ("heads", 64, "backward")])
def test_values_of_several_sizes_spill_next_to_nothing(name: str, hidden: int, way: str) -> None:
    cell = SIZED[name]
    found = resources(cell, way, hidden, "tf32")
    assert found.spilled <= 64
    assert found.shared <= at_most(names_of(cell), Sizes(cell, 39, hidden), found.tiling, "tf32") <= MEMORY[90]


@pytest.mark.parametrize(("precision", "way"), [("tf32", "backward"), ("bf16", "forward")])
def test_states_of_several_elements_a_unit_spill_nothing(precision: str, way: str) -> None:
    found = resources(s4d_cell, way, 64, precision)
    assert (found.spilled, found.tiling.rows, found.tiling.split) == (0, 8, 1)
    assert found.shared <= MEMORY[90]


@pytest.mark.parametrize(
    ("cell", "way"), [(neural_cde_cell, "backward"), (kalman_cell, "forward")], ids=["neural CDE", "Kalman"]
)
def test_matrices_of_vectors_and_products_of_matrices_spill_nothing(cell: Cell, way: str) -> None:
    """Columns that take the layout of their vector, of which each warp had all, spilled 3,976 bytes in another cell."""
    found = resources(cell, way, 64, "tf32")
    assert (found.spilled, found.tiling.rows, found.tiling.split) == (0, 1, 1)
    assert found.shared <= at_most(names_of(cell), Sizes(cell, 39, 64), found.tiling, "tf32") <= MEMORY[80]


@spills_here
@pytest.mark.parametrize(
    ("cell", "way"),
    [(kalman_cell, "forward"), (programmed_cell, "backward"), (mass_conserving_cell, "backward")],
    ids=["Kalman", "fast weights", "mass-conserving LSTM"],
)
def test_matrices_of_128_units_spill_nothing_either(cell: Cell, way: str) -> None:
    """They spilled 1,136, 72 and 32 bytes: addresses of all elements of a matrix, which are the same at every step, in
    two registers each; matrices that stay the same; and old states until the end of a step that all clips have."""
    assert resources(cell, way, 128, "tf32").spilled == 0


def test_a_program_reads_what_it_left_in_memory_behind_a_barrier() -> None:
    """And leaves nothing there before all its threads have read what was: a GPU's threads do not go step by step."""
    cell, sizes, tiling = kalman_cell, Sizes(kalman_cell, 39, 64), tiling_of(kalman_cell, 64, "tf32")
    assert tiling is not None
    function, constant = kernels(cell, interpreted=False).forward, of_pass(cell, "forward", tiling, sizes, "tf32")
    text = compiled(function, constant, "tf32", tiling, 90).asm["ptx"]
    order = re.findall(r"st\.global\.wb|bar\.sync|ld\.global\.ca|cp\.async", text)
    assert {*order} == {"st.global.wb", "bar.sync", "ld.global.ca"}  # nothing is copied ahead
    beside = {pair for pair in pairwise(order) if "bar.sync" not in pair and pair[0] != pair[1]}
    assert not beside


def test_heads_that_fill_no_tile_and_those_that_are_too_large_are_kept_in_blocks() -> None:
    found = {hidden: tiling_of(SIZED["heads"], hidden, "tf32") for hidden in (16, 24, 40, 256)}
    assert {hidden: each.reread for hidden, each in found.items() if each} == {16: "", 24: "chunks", 40: "chunks"}
    one_head = {hidden: tiling_of(programmed_cell, hidden, "tf32") for hidden in (16, 32, 64, 128, 129)}
    assert {hidden: each.rows for hidden, each in one_head.items() if each} == {16: 16, 32: 4, 64: 1, 128: 1}


def test_matrices_of_heads_are_shared_out_to_more_programs_of_fewer_clips() -> None:
    found = {hidden: tiling_of(SIZED["heads"], hidden, "tf32") for hidden in (16, 64, 128, 512)}
    kept = {hidden: (each.rows, each.split) for hidden, each in found.items() if each}
    assert kept == {16: (8, 1), 64: (1, 2), 128: (1, 2)}


def tiling_of(cell: Cell, hidden: int, precision: str, memory: int = MEMORY[90]) -> Tiling | None:
    return tiling(names_of(cell), Sizes(cell, 39, hidden), precision, memory)


def test_more_programs_share_the_units_where_one_has_too_little_memory() -> None:
    lstm = zoo()["lstm"]
    splits = {hidden: tiling_of(lstm, hidden, "tf32").split for hidden in (64, 128, 256)}  # type: ignore[union-attr]
    assert splits == {64: 1, 128: 2, 256: 8}
    assert tiling_of(lstm, 128, "tf32", MEMORY[86]).split > 2  # type: ignore[union-attr]
    assert tiling_of(lstm, 4096, "tf32") is None
    assert all(tiling_of(cell, 100 if cell.multiple == 1 else 64, "bf16") for cell in zoo().values())


@pytest.mark.parametrize("capability", [90, 80])
@pytest.mark.parametrize("precision", ["bf16", "tf32", "ieee"])
def test_every_cell_of_the_zoo_has_a_kernel_of_up_to_256_units(precision: str, capability: int) -> None:
    """A HyperLSTM had none in tf32 of 256 on 9.0, nor of 128 on 8.0: each program had all of its short matrices, and
    its smaller state was rounded up to 16 elements a program."""
    found = {
        (name, hidden): tiling_of(cell, hidden, precision, MEMORY[capability])
        for name, cell in zoo().items()
        for hidden in (64, 128, 256)
    }
    assert all(found.values())
    read = {name for (name, _), each in found.items() if each and each.reread}
    several = (
        {"fgr", "nested-lstm", "mogrifier-lstm", "hyper-lstm"} if precision != "bf16" and capability == 80 else set()
    )
    assert read == several  # matrices that do not fit are read at every step
    large = tiling_of(zoo()["fgr"], 512, precision, MEMORY[capability])
    assert large is not None
    assert large.reread == ("" if (precision, capability) == ("bf16", 90) else "all")


@pytest.mark.parametrize(("capability", "precision"), [(75, "ieee"), (86, "tf32"), (120, "bf16")])
def test_every_cell_has_a_kernel_where_a_program_has_little_shared_memory(precision: str, capability: int) -> None:
    """64 KB on a T4, 99 KB on GPUs of the series RTX 30 to 50; a T4 has 40 multiprocessors, and as many programs wait
    for each other at most."""
    for hidden in (1, 100, 256):
        for name, cell in zoo().items():
            found = tiling_of(cell, -(-hidden // cell.multiple) * cell.multiple, precision, MEMORY[capability])
            assert found is not None, name
            assert found.split <= 16


@spills_here
def test_a_hyper_lstm_of_24_matrices_keeps_nothing_in_memory() -> None:
    """It kept 48 bytes of a thread there, and needed half the clips; 16 are enough."""
    cell, sizes = zoo()["hyper-lstm"], Sizes(zoo()["hyper-lstm"], 39, 64)
    tiling = replace(tilings(names_of(cell), sizes, "tf32")[0], stages=1, reread="")
    assert tiling in tilings(names_of(cell), sizes, "tf32")
    assert tiling.rows == 16
    given = of_pass(cell, "backward", tiling, sizes, "tf32")
    found = taken(kernels(cell, interpreted=False).backward, given, "tf32", tiling, 90)
    assert found is not None
    assert found.spilled == 0
    assert found.shared <= at_most(names_of(cell), sizes, tiling, "tf32")


def test_kernels_that_are_the_same_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Tiling] = []
    of_bytes(monkeypatch, lambda each: tried.append(each) or 60)  # type: ignore[func-returns-value]
    alone = [each for each in tried if each.split == 1]
    assert len({*alone}) == len(alone)
    assert {each.stages for each in alone} == {1, 2}
    few = len(tried)
    tried.clear()
    of_bytes(monkeypatch, lambda each: tried.append(each) or 600)  # type: ignore[func-returns-value]
    assert len(tried) < few  # another limit of registers mends no more than a few bytes


def test_a_sum_over_the_units_of_a_head_is_no_product_with_a_matrix_of_ones() -> None:
    """Triton gave each thread the matrix of a whole head: 12,512 bytes of a thread spilled in rwkv-6 at H 128."""
    text = own_text(zoo()["rwkv-6"])
    assert text.count("head_sum(") == 4
    assert "J_row *" not in text
    assert "d_J_rows" not in text  # nor is the derivative of ones wanted
