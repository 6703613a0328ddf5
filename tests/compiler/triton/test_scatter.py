"""What hurts: sums that programs hand each other in parts: an old part for a new one, one left out, digits lost."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.compiler.triton import build, choice, rounds
from cello.compiler.triton import scan as back_end
from cello.compiler.triton.launch import Tiling
from cello.compiler.triton.machine_code import Taken
from cello.compiler.triton.rounds import of_batch
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import buffers_of, meetings, names_of, own_text, runtime_text, scatters
from cello.compiler.triton.tiling import bytes_left, tiling, tilings
from interpreted import check
from scans import case, errors, everything, wider
from sized_cells import Building

pytest.importorskip("triton")

from ptx.launch import SHARES
from ptx.launch import computed as in_steps
from ptx.machine import Order
from ptx.memory import KernelError

pytestmark = pytest.mark.usefixtures("filled_with_nan")
STEPS = 5
"""So many that each place has words of two earlier steps' numbers."""
computed = partial(in_steps, steps=STEPS)
OF_256 = Sizes(zoo()["lstm"], 39, 256)
H100 = rounds.Gpu(90, 227 * 1024, 132, rounds.Multiprocessor(2048, 228 * 1024))


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(("hidden", "split"), [(40, 2), (24, 4)])
@pytest.mark.parametrize(
    "name", ["lstm", "gru-original", "lstm-peephole-full", "nested-lstm", "hyper-lstm", "lstm-layer-norm", "cfc"]
)
def test_programs_add_up_what_all_have_found(
    name: str, hidden: int, split: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For several vectors at once and at later stages, beside vectors that are handed on whole; of 24 units two of
    four programs have none."""
    cell = zoo()[name]
    assert names_of(cell, "scatter").scattered
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(4, 64, 4, split, 1, reread="scatter"))
    torch.set_float32_matmul_precision("high")
    check(cell, (6, 3, 3, hidden), share=2e-5, lengths=[3, 0, 2, 1, 0, 0], reverse=split == 2)


def in_two_sums() -> Cell:
    """Of a matrix in two sums, of which one reads a state of 32 elements too; a third has its own matrix alone."""
    b = Building()
    x, h, s, shared = b.x(), b.state("h"), b.state("s", "32"), b.learned("U.a", "H,H")
    beside = b("add", b("product", shared, h), b("product", b.learned("V", "H,32"), s))
    a = b("tanh", b("add", b("product", b.learned("W.a", "H,D"), x), beside))
    f = b("sigmoid", b("add", b("product", b.learned("W.f", "H,D"), x), b("product", shared, b("tanh", h))))
    g = b("sigmoid", b.affine("g", ("W", "H,D", x), ("U", "H,H", h)))
    h = b("add", b("mul", f, h), b("mul", g, a))
    s = b("tanh", b.affine("s", ("P", "32,D", x), ("Q", "32,32", s)))
    return b.cell("in-two-sums", {"h": h, "s": s}, "W U V P Q b")


@pytest.mark.usefixtures("interpreted")
def test_sums_that_share_a_matrix_are_handed_on_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program has its rows of a matrix, or its columns."""
    cell = in_two_sums()
    assert len(names_of(cell, "scatter").scattered) == 1  # that of U.g
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(4, 64, 4, 2, 1, reread="scatter"))
    torch.set_float32_matmul_precision("high")
    check(cell, (6, 3, 3, 40), share=2e-5, lengths=[3, 0, 2, 1, 0, 0])


@pytest.mark.usefixtures("interpreted")
def test_one_program_has_all_of_its_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(16, 32, 4, 1, 2, reread="scatter"))
    torch.set_float32_matmul_precision("high")
    check(zoo()["lstm"], (3, 3, 3, 20), share=2e-5, lengths=[3, 0, 2])


@pytest.mark.parametrize(
    ("name", "hidden", "precision", "tiling", "clips", "order"),
    [
        ("lstm", 64, "medium", Tiling(16, 64, 4, 4, 2), 18, Order(reverse=True)),
        ("lstm", 24, "high", Tiling(8, 32, 4, 2, 1), 5, Order(slow=1)),
        ("gru-original", 40, "high", Tiling(16, 64, 4, 4, 1), 3, Order()),
        ("lstm-layer-norm", 32, "medium", Tiling(16, 32, 4, 2, 1), 3, Order(slow=0)),
    ],
    ids=["rounds of tiles", "fewer words than threads look for", "two stages", "beside sums over units"],
)
def test_clusters_compute_the_derivatives(
    name: str, hidden: int, precision: str, tiling: Tiling, clips: int, order: Order
) -> None:
    cell, cluster = zoo()[name], replace(tiling, reread="scatter", cluster=True)
    found, ran = computed(cell, hidden, precision, cluster, clips, order=order)
    inputs, lengths = case(cell, (clips, STEPS, 7, hidden)), ([STEPS, 0, 2] * 6)[:clips]
    expected = everything(cell, wider(inputs, torch.float64), "plain", lengths=lengths, reverse=True)
    for key, error in errors(found, expected).items():
        assert error <= SHARES[precision], f"{key}: {error:.1e}"
    assert [one.program.cluster for one in ran] == [tiling.split] * 2


def test_what_is_added_up_has_the_same_bits_in_any_order_of_warps_and_programs() -> None:
    cell, tiling = zoo()["lstm"], Tiling(16, 32, 4, 2, 1, reread="scatter", cluster=True)
    found, *others = (
        computed(cell, 32, "high", tiling, 5, order=order)[0] for order in (Order(), Order(reverse=True), Order(slow=0))
    )
    for other in others:
        for key, value in other.items():
            assert torch.equal(found[key], value), key


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_a_cluster_adds_up_the_same_bits_as_programs_that_meet_in_memory(precision: str) -> None:
    """As a check on a GPU has it: where each thread has elements of its own, and adds up what all programs found."""
    cell, tiling = zoo()["lstm"], Tiling(16, 128, 4, 4, 1, reread="scatter")
    assert tiling.rows * tiling.own >= 4 * 32 * tiling.warps
    in_memory, _ = computed(cell, 100, precision, tiling, 5)
    found, _ = computed(cell, 100, precision, replace(tiling, cluster=True), 5)
    for key, value in in_memory.items():
        assert torch.equal(found[key], value), key


def test_in_memory_sums_are_handed_on_too() -> None:
    """On GPUs without clusters, at two stages of a step."""
    cell, tiling = zoo()["gru-original"], Tiling(16, 64, 4, 4, 1, reread="scatter")
    found, ran = computed(cell, 64, "high", tiling, 5, order=Order(slow=1), capability=80)
    inputs = case(cell, (5, STEPS, 7, 64))
    expected = everything(cell, wider(inputs, torch.float64), "plain", lengths=[STEPS, 0, 2, STEPS, 0], reverse=True)
    for key, error in errors(found, expected).items():
        assert error <= SHARES["high"], f"{key}: {error:.1e}"
    assert [one.program.cluster for one in ran] == [1, 1]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("back % 2 * SLOTS + (SLOTS - 1", "(SLOTS - 1"),
        ("(back // 2 + 1) % 2", "1"),
        ("(back // 2 + 1) % 2", "back % 2"),
    ],
    ids=["one place for all steps", "one number", "a number that words of nobody have"],
)
def test_an_old_word_that_passes_for_a_new_one_is_noticed(
    right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = runtime_text(interpreted=False)
    assert text.count(right) == 1
    monkeypatch.setattr(build, "runtime_text", lambda *, interpreted: text.replace(right, wrong))
    for made in (build._runtime, build.kernels):
        made.cache_clear()
    try:
        with pytest.raises(KernelError, match=r"overwrites in shared memory what nobody has read yet|for ever"):
            computed(zoo()["lstm"], 32, "high", Tiling(16, 32, 4, 2, 2, True, "scatter", True), 5, order=Order(slow=0))
    finally:
        for made in (build._runtime, build.kernels):
            made.cache_clear()


def test_what_is_left_has_a_place_of_its_own() -> None:
    """Or an element of another vector could have the number that a sum is waited for by."""
    for name in ("gru-original", "lstm-layer-norm", "nested-lstm"):
        left = buffers_of(zoo()[name], "backward", "scatter")
        text = own_text(zoo()[name], "scatter").partition("def backward")[2]
        numbers = [text.count(f"place_of_sums(workspace, buffers, group, back, {n}, ") for n in range(left.sums + 1)]
        assert numbers == [1] * left.sums + [0]
        of_vectors = buffers_of(zoo()[name], "backward").slots
        assert left.sums < left.slots <= of_vectors + left.sums or left.sums == left.slots


def test_sums_are_handed_on_where_they_are_fewer_and_backward_alone() -> None:
    """Of a MinimalRNN two for one; of a layer-normalised LMU's three kinds more; and never in IEEE float32."""
    better = {name for name, cell in zoo().items() if scatters(cell, "backward", cluster=True)}
    assert {"lstm", "gru", "gru-original", "slstm", "nested-lstm", "lem"} <= better
    assert not better & {"rnn", "minimalrnn", "cornn", "lmu", "mut1", "fgr", "lstm-peephole-full", "gru-heads"}
    assert not any(scatters(cell, "forward", cluster=True) for cell in zoo().values())
    assert {each: buffers_of(zoo()["lstm"], "backward", each).vectors for each in ("", "scatter")} == {
        "": 4,
        "scatter": 1,
    }
    assert meetings(zoo()["gru-original"], "backward", "scatter") == 2
    assert not names_of(zoo()["lstm"], "scatter", exact=True).scattered
    names = names_of(zoo()["lstm"])
    for way, precision, first in (("backward", "tf32", "scatter"), ("forward", "tf32", ""), ("backward", "ieee", "")):
        tried = tilings(names, OF_256, precision, H100.memory, way)
        assert (tried[0].reread, tried[0].split) == (first, 8)
        assert any(each.reread == "scatter" for each in tried) == bool(first)
    few = tilings(names, Sizes(zoo()["lstm"], 39, 128), "tf32", H100.memory, "backward")
    assert not any(each.reread == "scatter" for each in few)  # one program has room: it hands nothing on
    assert tiling(names, Sizes(zoo()["lstm"], 39, 64), "tf32", scatter=True) is None


def test_in_memory_sums_are_handed_on_where_they_are_less_than_half_as_many() -> None:
    """There each is written for one program, and what is handed on whole is written once for all."""
    for name, in_memory in (("lstm", True), ("gru", True), ("ugrnn", False)):
        cell, one = zoo()[name], Tiling(16, 256, 4, 8, 2, reread="scatter")
        assert scatters(cell, "backward", cluster=True)
        assert scatters(cell, "backward", cluster=False) == in_memory
        for capability, ways in ((90, [True, False]), (80, [False])):
            sizes = Sizes(cell, 39, 256)
            found = choice.ways_of_meeting(cell, "backward", one, sizes, "bf16", capability, H100.memory)
            assert [each.cluster for each in found] == [each for each in ways if each or in_memory]


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_an_lstm_of_256_units_is_a_cluster_that_spills_nothing_of_few_clips_and_of_many(precision: str) -> None:
    """In tf32 buffers had no room but of 4 clips a program, and 1,024 clips came in four rounds."""
    cell = zoo()["lstm"]
    few = choice.chosen(cell, "backward", OF_256, precision, 90, H100.memory, 132)
    assert few is not None
    assert few[1] is not None
    assert (few[0].rows, few[0].split, few[0].reread, few[0].cluster) == (16, 8, "scatter", True)
    assert bytes_left(cell, "backward", OF_256, few[0], precision) == 2 * 16 * 256 * 4
    many = of_batch(cell, "backward", OF_256, precision, H100, (1, 1024), few)
    split = {"bf16": 4, "tf32": 8}[precision]
    assert (many[0].rows, many[0].split, many[0].reread, many[0].cluster) == (32, split, "scatter", True)
    for taken in (few[1], many[1]):
        assert isinstance(taken, Taken)
        assert (taken.spilled, taken.shared <= H100.memory) == (0, True)


def test_the_model_counts_what_programs_hand_on_and_read() -> None:
    """An LSTM's programs leave a quarter of the words, and each warp reads a part of the derivatives, not all."""
    cell, whole = zoo()["lstm"], Tiling(16, 256, 4, 8, 2, cluster=True)
    busy = {
        reread: rounds._of_a_program(cell, "backward", OF_256, "bf16", replace(whole, reread=reread))
        for reread in ("", "scatter")
    }
    words = 3 * 16 * 256 * rounds.OF_A_WORD / rounds.SENT_IN_A_CYCLE
    read = 2 * 4 * 16 * (1024 - 128) / rounds.SHARED_IN_A_CYCLE
    assert busy[""][0] - busy["scatter"][0] == pytest.approx(words + read)
    assert busy[""][1] == busy["scatter"][1]
