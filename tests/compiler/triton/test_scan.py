"""A cell rendered for the GPU is the cell: run by Triton's interpreter, at sizes that fill no tile."""

from __future__ import annotations

import re
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.compiler.inputs import Inputs
from cello.compiler.scan import scan
from cello.compiler.triton import launch
from cello.compiler.triton import scan as back_end
from cello.compiler.triton.launch import BatchLayout, Call, Tiling
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import names_of, own_text
from cello.errors import BackendError
from interpreted import assert_within, check
from random_cells import random_cell
from scans import case, everything, wider
from sized_cells import SIZED, Building

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("interpreted")


def numbers() -> Cell:
    """A cell with matrices of one row or column, and products with a sum over units."""
    b = Building()
    x, h = b.x(), b.state("h")
    mean = b("div", b("total", h), b.leaf("size", "H", ""))
    gate = b("sigmoid", b("add", b("product", b.learned("U.g", "1,H"), h), b("product", b.learned("V.g", "1,1"), mean)))
    new = b("tanh", b("add", b.affine("n", ("W", "H,D", x)), b("product", b.learned("V.n", "H,1"), mean)))
    most = b("largest", b("mul", new, new))
    h = b("add", b("mul", b.to("broadcast", gate, "H"), h), b("mul", b.to("broadcast", most, "H"), new))
    last = b("add", gate, b("product", b.learned("V.s", "1,1"), most))
    return b.cell("numbers", {"h": h, "s": last}, "W U V b")


READ_AGAIN = [*(zoo()[name] for name in ("hyper-lstm", "lstm-layer-norm", "gru-original", "mogrifier-lstm")), numbers()]


def repeated() -> Cell:
    """A cell with a sum of two products of one vector, beside two other sums with a product of it."""
    b = Building()
    x, h = b.x(), b.state("h")
    f = b("sigmoid", b.affine("f", ("W", "H,D", x), ("U", "H,H", h)))
    n = b("add", b.affine("n", ("W", "H,D", x), ("U", "H,H", h)), b("product", b.learned("V.n", "H,H"), h))
    o = b("sigmoid", b.affine("o", ("U", "H,H", h)))
    new = b("add", b("mul", f, h), b("mul", o, b("tanh", n)))
    return b.cell("repeated", {"h": new}, "W U V b")


def short(size: str, matrix: bool) -> Cell:
    """A cell with a short vector, its sum and its largest element; beside a state of as many a unit, or none."""
    b = Building()
    x, h = b.x(), b.state("h")
    u = b("tanh", b.affine("u", ("W", f"{size},D", x), ("U", f"{size},H", h)))
    level = b("div", b("total", b("mul", u, u)), b("add", b("largest", b("exp", u)), b.number(1.0)))
    v = b("mul", u, b.to("broadcast", level, size))
    new = b("tanh", b("add", b("product", b.learned("V", f"H,{size}"), v), b("product", b.learned("W.n", "H,D"), x)))
    h = b("add", b("mul", b.number(0.5), h), new)
    states = {"h": h}
    if matrix:
        states["S"] = b("add", b("mul", b.number(0.5), b.state("S", f"H,{size}")), b.to("columns", v, f"H,{size}"))
    return b.cell(f"{size} elements", states, "W U b V")


@pytest.mark.parametrize("cell", zoo().values(), ids=lambda cell: cell.name)
def test_every_cell_with_ragged_clips_and_every_gradient(cell: Cell) -> None:
    hidden = 6 if cell.multiple == 1 else 2 * cell.multiple
    check(cell, (4, 3, 3, hidden), lengths=[2, 0, 3, 1], reverse=len(cell.name) % 2 == 0)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 3, 2, 63), (17, 2, 5, 16), (33, 2, 40, 20)], ids=str)
@pytest.mark.parametrize("name", ["lstm", "gru-original"])
def test_sizes_that_fill_no_tile(name: str, sizes: tuple[int, int, int, int]) -> None:
    check(zoo()[name], sizes)


@pytest.mark.parametrize("split", [2, 4])
@pytest.mark.parametrize("name", ["lstm", "gru-original", "lstm-peephole-full", "slstm"])
def test_programs_that_share_the_units_of_the_same_clips(
    name: str, split: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(16, 64, 4, split))
    check(zoo()[name], (3, 3, 3, 40), lengths=[1, 3, 2])


@pytest.mark.parametrize(
    "cell",
    [
        *(each for each in SIZED.values() if each.name not in {"generated", "multiplied"}),  # one program has all there
        numbers(),
        short("16", False),
        short("32", True),
    ],
    ids=lambda cell: cell.name,
)
def test_values_of_several_sizes(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    check(cell, (4, 3, 7, 8), lengths=[2, 0, 3, 1], reverse=True)
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(16, 32, 4, 2))
    check(cell, (2, 2, 19, 32), lengths=[1, 2])


def test_products_of_fewer_rows_than_tensor_cores_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(4, 32, 4))
    check(SIZED["projected"], (5, 2, 7, 20), lengths=[2, 0, 1, 2, 2])


@pytest.mark.parametrize("cell", [zoo()["lstm"], zoo()["gru"], repeated()], ids=lambda cell: cell.name)
def test_products_in_slices_of_many_units(cell: Cell) -> None:
    """In IEEE float32 a vector's columns and a matrix's rows are taken apart in the same order: here in four parts."""
    check(cell, (3, 3, 5, 72), share=2e-5, lengths=[3, 1, 2])


@pytest.mark.parametrize("name", ["lstm-layer-norm", "nested-lstm", "fgr"])
def test_half_the_clips_a_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which spares registers: tensor cores multiply 16 rows, so each of 8 twice."""
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(8, 32, 4, 2 if name == "fgr" else 1))
    check(zoo()[name], (10, 3, 5, 20), lengths=[3, 0, 2, 1, 3, 3, 2, 3, 1, 3])


@pytest.mark.parametrize(("hidden", "split"), [(24, 4), (72, 8)])
def test_more_programs_than_a_smaller_vector_has_parts(
    hidden: int, split: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 6 or 18 elements of a state they have one part or two, and of 8 elements each has all."""
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(4, 16 * split, 4, split))
    check(zoo()["hyper-lstm"], (3, 3, 3, hidden), share=2e-5, lengths=[3, 1, 2])


@pytest.mark.parametrize("reread", ["rows", "all"])
@pytest.mark.parametrize(
    "cell", [zoo()["hyper-lstm"], zoo()["lstm-layer-norm"], *READ_AGAIN], ids=lambda cell: cell.name
)
def test_what_stays_the_same_may_be_read_at_every_step(
    cell: Cell, reread: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(16, 32, 4, 2, 1, reread=reread))
    check(cell, (3, 3, 3, 20), share=2e-5, lengths=[3, 0, 2])


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("name", ["lstm-peephole-full", "fgr", "ltc", "rhn"])
def test_threads_may_hold_matrices_and_read_a_step_ahead_or_not(
    name: str, stages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the loop is another, and what a step reads stands elsewhere; a tile may have no frame at all."""
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(4, 32, 4, 2, stages, reread="held"))
    check(zoo()[name], (6, 3, 3, 20), share=2e-5, lengths=[3, 0, 2, 1, 0, 0], reverse=stages == 1)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("name", ["lstm-peephole-full", "mut2", "rhn", "mogrifier-lstm"])
def test_threads_may_hold_some_quarters_of_matrices(name: str, stages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter is every other row of a half: a vector is taken apart so too, and sums begin with what a frame adds."""
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(4, 64, 4, 1, stages, reread="held 5"))
    check(zoo()[name], (6, 3, 3, 44), share=2e-5, lengths=[3, 0, 2, 1, 0, 0], reverse=stages == 1)


@pytest.mark.parametrize(("precision", "share"), [("highest", 2e-5), ("medium", 0.03)])
@pytest.mark.parametrize("name", ["gru-original", "rhn"])
def test_quarters_of_matrices_beside_masks_and_digits_of_bfloat16(
    name: str, precision: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks too are read for the next step where threads hold no operands, in cells of several stages."""
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(16, 64, 4, 1, 2, reread="held 5"))
    cell, draw = with_noise(zoo()[name], zoneout=("h",)), torch.Generator().manual_seed(0)
    masks = {"zoneout_h": torch.randint(0, 2, (5, 3, 44), generator=draw).double()}
    torch.set_float32_matmul_precision(precision)
    check(cell, (5, 3, 3, 44), share=share, masks=masks, lengths=[3, 0, 2, 1, 0])


def test_several_sizes_beside_products_of_bfloat16() -> None:
    torch.set_float32_matmul_precision("medium")
    for name in ("projected", "low-rank"):
        check(SIZED[name], (3, 4, 7, 8), share=0.03, lengths=[4, 2, 3])


def test_masks_of_values_of_several_sizes() -> None:
    cell = with_noise(SIZED["projected"], zoneout=("c", "h"))
    draw = torch.Generator().manual_seed(0)
    sizes = {"zoneout_c": 8, "zoneout_h": 4}
    masks = {name: torch.randint(0, 2, (3, 4, size), generator=draw).double() for name, size in sizes.items()}
    check(cell, (3, 4, 7, 8), masks=masks, lengths=[4, 1, 3])


@pytest.mark.parametrize("name", ["lstm", "mut1", "gru-original"])
def test_products_of_bfloat16_with_states_and_sums_of_float32(name: str) -> None:
    torch.set_float32_matmul_precision("medium")
    check(zoo()[name], (3, 4, 3, 20), share=0.03, lengths=[4, 2, 3])


@pytest.mark.parametrize("name", ["clockwork", "phased-lstm"])
def test_counts_of_frames_that_bfloat16_cannot_tell_apart(name: str) -> None:
    """Backward read 320 for 321, and with it another module's turn."""
    torch.set_float32_matmul_precision("medium")
    cell = zoo()[name]
    x, state, weights = case(cell, (3, 4, 3, 16))
    first = (*state[:-1], torch.full_like(state[-1], 319).requires_grad_())
    expected = everything(cell, wider((x, first, weights), torch.float64), "plain")
    found = everything(cell, (x, first, weights), "triton")
    assert_within(found, expected, 0.03)


@pytest.mark.parametrize("name", ["qrnn", "gru"])
def test_factors_near_1_that_bfloat16_cannot_tell_from_it(name: str) -> None:
    """Backward read 0.9961 or 1 for 0.998, at every step."""
    torch.set_float32_matmul_precision("medium")
    cell = zoo()[name]
    x, state, weights = case(cell, (3, 40, 3, 4))
    gate, near = {"qrnn": ("f", 6.2), "gru": ("z", 6.2)}[name]
    for key, weight in weights.items():
        if key.endswith(f".{gate}"):
            weight.data.mul_(0.1) if weight.ndim > 1 else weight.data.fill_(near)
    expected = everything(cell, wider((x, state, weights), torch.float64), "plain")
    found = everything(cell, (x, state, weights), "triton")
    assert_within(found, expected, 0.03)


def test_tensors_of_bfloat16() -> None:
    cell = zoo()["lstm"]
    given_case = wider(case(cell, (3, 4, 3, 20)), torch.bfloat16)
    expected = everything(cell, wider(given_case, torch.float64), "plain")
    found = everything(cell, given_case, "triton")
    assert found["outputs"].dtype is torch.bfloat16
    assert_within(found, expected, 0.05)


def test_padding_that_holds_nan_and_lengths_that_only_the_device_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, lengths = zoo()["gru"], torch.tensor([2, 0, 4])
    x, state, weights = case(cell, (3, 4, 3, 5))
    expected = everything(cell, wider((x, state, weights), torch.float64), "plain", lengths=lengths)
    with torch.no_grad():
        for clip, length in enumerate(lengths.tolist()):
            x[clip, length:] = torch.nan
    assert_within(everything(cell, (x, state, weights), "triton", lengths=lengths), expected, 1e-5)
    kept = back_end._layout
    monkeypatch.setattr(back_end, "_layout", lambda inputs: kept(inputs, packed=False))
    assert_within(everything(cell, (x, state, weights), "triton", lengths=lengths), expected, 1e-5)


def test_zoneout_and_dropout() -> None:
    cell = with_noise(zoo()["lstm"], zoneout=("c",), dropout=("h",))
    draw = torch.Generator().manual_seed(0)
    masks = {
        "zoneout_c": torch.randint(0, 2, (3, 4, 5), generator=draw).double(),
        "dropout_h": torch.randint(0, 2, (3, 1, 5), generator=draw).double(),
    }
    check(cell, (3, 4, 2, 5), masks=masks, lengths=[4, 1, 3])


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 12), reverse=st.booleans())
def test_random_cells(seed: int, size: int, reverse: bool) -> None:
    check(random_cell(seed, size), (3, 3, 2, 3), share=1e-4, lengths=[3, 1, 2], reverse=reverse)


def test_no_frames_and_no_clips() -> None:
    for sizes in ((0, 3, 2, 4), (2, 0, 2, 4)):
        x, state, weights = case(zoo()["lstm"], sizes)
        result = scan(zoo()["lstm"], x, weights, state=state, backend="triton")
        assert result.outputs.shape == (*sizes[:2], 4)
        torch.testing.assert_close(result.state, state)
        sum(part.sum() for part in (result.outputs, *result.state)).backward()


def test_no_gradient_is_asked_for_and_the_numbers_are_the_same() -> None:
    x, state, weights = case(zoo()["lstm-peephole-full"], (3, 4, 3, 5))
    result = scan(zoo()["lstm-peephole-full"], x, weights, state=state, backend="triton")
    with torch.no_grad():
        alone = scan(zoo()["lstm-peephole-full"], x, weights, state=state, backend="triton")
    torch.testing.assert_close((alone.outputs, alone.state), (result.outputs, result.state), rtol=0, atol=0)


def test_what_the_kernel_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = zoo()["rnn"]
    x, _, weights = wider(case(cell, (1, 2, 2, 2)), torch.float64)
    with pytest.raises(BackendError, match=r"runs float32 and bfloat16, not torch\.float64; convert the tensors"):
        scan(cell, x, weights, backend="triton")
    x, _, weights = case(cell, (1, 2, 2, 2))
    with pytest.raises(BackendError, match="no second derivatives"):
        torch.autograd.grad(scan(cell, x, weights, backend="triton").outputs.sum(), x, create_graph=True)
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: None)
    with pytest.raises(BackendError, match="has no kernel of cell 'rnn' for H=2 units; take fewer units"):
        scan(cell, x, weights, backend="triton")
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(BackendError, match=r"runs on a GPU, not on cpu; move the tensors with \.to\('cuda'\)"):
        scan(cell, x, weights, backend="triton")
    assert scan(cell, x, weights).backend != "triton"


def test_heads_that_no_program_has_room_for_are_refused() -> None:
    x, state, weights = case(SIZED["heads"], (1, 1, 1, 512))
    reason = "for heads of 256 units, whose matrices do not fit; take more heads or fewer units"
    with pytest.raises(BackendError, match=f"has no kernel of cell 'heads' {re.escape(reason)}"):
        scan(SIZED["heads"], x, weights, state=state, backend="triton")


def selective(elements: int) -> Cell:
    """Mamba's selective state space, with so many elements a unit, and a vector of as many as a state of its own."""
    b, N = Building(), str(elements)
    x, y, S, c = b.x(), b.state("y"), b.state("S", f"H,{N}"), b.state("c", N)
    u, t = b("product", b.learned("W.u", "H,D"), x), b("softplus", b.affine("t", ("W", "H,D", x), ("U", "H,H", y)))
    write, read = b("exp", b.affine("B", ("W", f"{N},D", x))), b("add", b.affine("C", ("W", f"{N},D", x)), c)
    decay = b("exp", b("neg", b("mul", b.to("rows", t, f"H,{N}"), b("exp", b.learned("A", f"H,{N}")))))
    new = b("mul", b.to("rows", b("mul", t, u), f"H,{N}"), b.to("columns", write, f"H,{N}"))
    new = b("add", b("mul", decay, S), new)
    y = b("add", b("mul", b.learned("d", "H"), u), b("row_sum", b("mul", new, b.to("columns", read, f"H,{N}"))))
    back = b("column_sum", b("mul", new, b.to("rows", b("tanh", y), f"H,{N}")))
    share = b("div", b("total", write), b("add", b.number(1.0), b("largest", read)))
    c = b("tanh", b("add", b("mul", c, b.to("broadcast", share, N)), back))
    return b.cell(f"selective-{N}", {"y": y, "S": new, "c": c}, "W U b A d")


@pytest.mark.parametrize("elements", [3, 8, 16, 20])
def test_states_of_several_elements_a_unit(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = selective(elements)
    check(cell, (4, 3, 3, 6), share=2e-5, lengths=[2, 0, 3, 1], reverse=elements == 8)
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(2, 32, 4, 2))
    check(cell, (3, 2, 3, 23), share=2e-5, lengths=[1, 2, 2])


def test_states_of_several_elements_a_unit_beside_products_of_bfloat16_and_in_replicates() -> None:
    cell = selective(5)
    x, _, weights = case(cell, (2, 3, 3, 6))
    outputs = torch.vmap(lambda x: scan(cell, x, weights, backend="triton").outputs)(torch.stack([x, -x]))
    torch.testing.assert_close(outputs[1], scan(cell, -x, weights, backend="triton").outputs, rtol=0, atol=0)
    torch.set_float32_matmul_precision("medium")
    check(SIZED["columns"], (3, 3, 3, 8), share=0.08, lengths=[3, 2, 3])  # a derivative where tanh is all but flat


def test_masks_of_states_of_several_elements_a_unit() -> None:
    cell = with_noise(SIZED["columns"], zoneout=("S",))
    masks = {"zoneout_S": torch.randint(0, 2, (3, 4, 8, 5), generator=torch.Generator().manual_seed(0)).double()}
    check(cell, (3, 4, 3, 8), masks=masks, lengths=[4, 1, 3])


def test_states_of_more_elements_a_unit_than_a_program_holds_are_refused() -> None:
    cell = selective(2000)
    x, state, weights = case(cell, (1, 2, 3, 8))
    with pytest.raises(BackendError, match=r"for H=8 units with 2000 elements each; take fewer of either"):
        scan(cell, x, weights, state=state, backend="triton")
    assert scan(cell, x, weights, state=state).backend != "triton"


@pytest.mark.parametrize(
    ("capability", "dtype", "reason"),
    [
        ((7, 0), torch.float32, "needs compute capability 7.5; Tesla T4 has 7.0; move the tensors to a newer GPU"),
        (
            (7, 5),
            torch.bfloat16,
            "needs compute capability 8.0 for bfloat16; Tesla T4 has 7.5; move the tensors to a newer GPU, or convert "
            "them to float32",
        ),
    ],
)
def test_a_gpu_that_is_too_old_is_named(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype, reason: str
) -> None:
    _, state, weights = case(zoo()["rnn"], (1, 2, 2, 2))

    class Old:
        device, is_cuda, is_cpu = torch.device("cuda"), True, False

        def __init__(self) -> None:
            self.dtype = dtype

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    given = Inputs(zoo()["rnn"], Old(), weights, state, {}, None, False)  # type: ignore[arg-type]
    assert back_end.unsupported(given) == reason


def test_places_beyond_31_bits_take_64() -> None:
    def call(batch: int) -> Call:
        small = torch.zeros(1, 1).expand(1, batch)
        layout = BatchLayout(small, small, small, small, batch * 100, 100, whole=True, padding=False)
        cell = zoo()["lstm"]
        return Call(names_of(cell), None, layout, Tiling(16, 64, 8), "tf32", Sizes(cell, 39, 64))  # type: ignore[arg-type]

    assert not call(4096).large
    assert call(1 << 17).large


def test_frames_of_many_features_and_what_programs_leave_to_each_other_count_among_these_places() -> None:
    def call(cell: Cell, tiling: Tiling, batch: int, steps: int, features: int) -> Call:
        small = torch.zeros(1, 1).expand(1, batch)
        layout = BatchLayout(small, small, small, small, batch * steps, steps, whole=True, padding=False)
        return Call(names_of(cell), None, layout, tiling, "tf32", Sizes(cell, features, 16))  # type: ignore[arg-type]

    assert not call(zoo()["qrnn-3"], Tiling(16, 16, 8), 1 << 12, 1 << 10, 39).large
    assert call(zoo()["qrnn-3"], Tiling(16, 16, 8), 1 << 12, 1 << 10, 1024).large  # 2 ** 32 elements of the frames
    shared = Tiling(16, 512, 8, split=8)
    assert not call(zoo()["hyper-lstm"], shared, 1 << 14, 1, 39).large
    assert call(zoo()["hyper-lstm"], shared, 1 << 18, 1, 39).large


def test_kernels_are_launched_on_the_gpu_of_their_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton launches on the current GPU, whose kernel would read another one's memory."""
    current = launch.launched_on(torch.device("cuda", 1))
    assert isinstance(current, torch.cuda.device)
    assert current.idx == 1
    asked: list[torch.device] = []
    monkeypatch.setattr(launch, "launched_on", lambda device: asked.append(device) or nullcontext())
    x, state, weights = case(zoo()["rnn"], (1, 2, 2, 2))
    scan(zoo()["rnn"], x, weights, state=state, backend="triton").outputs.sum().backward()
    assert asked == [torch.device("cpu")] * 2


def test_both_passes_are_compiled_as_their_precision_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch compiles what no other did, and is where a compiler would end the process."""
    asked: list[str] = []
    monkeypatch.setattr(launch, "compiling", lambda precision: asked.append(precision) or nullcontext())
    x, state, weights = case(zoo()["rnn"], (1, 2, 2, 2))
    scan(zoo()["rnn"], x, weights, state=state, backend="triton").outputs.sum().backward()
    assert asked == ["ieee"] * 2


def test_no_more_programs_wait_for_each_other_than_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU of few multiprocessors they would wait forever."""
    x, _, weights = case(zoo()["rnn"], (1, 2, 2, 40))
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(16, 64, 4, 4))
    scan(zoo()["rnn"], x, weights, backend="triton")
    monkeypatch.setattr(back_end, "_at_once", lambda x: 3)
    with pytest.raises(
        BackendError, match="H=40 units on this GPU: 4 programs would wait for each other, and it runs 3"
    ):
        scan(zoo()["rnn"], x, weights, backend="triton")
    assert scan(zoo()["rnn"], x, weights).backend != "triton"


def test_vmap_makes_replicates_of_one_launch_each_the_same_as_alone() -> None:
    cell, replicates = zoo()["gru-original"], 3
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(replicates, 4, 5, 3, generator=draw)
    stacked = {
        name: torch.randn(replicates, *shape, generator=draw).mul(0.4).requires_grad_()
        for name, shape in cell.parameters(3, 6).items()
    }

    def one(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        return scan(cell, x, weights, backend="triton", reverse=True).outputs

    outputs = torch.vmap(one)(x, stacked)
    gradients = torch.autograd.grad(outputs.cos().sum(), list(stacked.values()))
    for r in range(replicates):
        alone = {name: value[r].detach().requires_grad_() for name, value in stacked.items()}
        expected = one(x[r], alone)
        torch.testing.assert_close(outputs[r], expected, rtol=0, atol=0)
        for found, value in zip(
            gradients, torch.autograd.grad(expected.cos().sum(), list(alone.values())), strict=True
        ):
            torch.testing.assert_close(found[r], value, rtol=1e-5, atol=1e-6)


def normalised(share: str) -> Cell:
    """Layer normalisation of W x and U h together, of so many values, and of a product of what follows by itself."""
    b = Building()
    x, h, z = b.x(), b.state("h"), b.state("z", share)

    def less_mean(*products: int) -> list[int]:
        whole = products[0] if not products[1:] else b("mul", b("add", *products), b.number(0.5))
        mean = b("div", b("total", whole), b.leaf("size", share, ""))
        return [b("sub", product, b.to("broadcast", mean, share)) for product in products]

    first = b("product", b.learned("W.a", f"{share},D"), x), b("product", b.learned("W.b", f"{share},D"), x)
    one, two = less_mean(*first)
    (three,) = less_mean(b("product", b.learned("U.z", f"{share},H"), h))
    z = b("add", b("mul", b.number(0.5), z), b("tanh", b("add", b("add", one, b.learned("b.z", share)), three)))
    z = b("mul", z, b("sigmoid", two))
    h = b("tanh", b("add", b("product", b.learned("V.h", f"H,{share}"), z), b.learned("b.h", "H")))
    return b.cell("normalised-half", {"h": h, "z": z}, "W U V b")


CENTRED = [zoo()["lstm-layer-norm"], zoo()["gru-layer-norm"], normalised("H/2")]


@pytest.mark.parametrize("cell", CENTRED, ids=lambda cell: cell.name)
def test_products_less_their_mean_in_programs_that_share_units(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names_of(cell).plan.centred
    check(cell, (3, 3, 5, 22), lengths=[3, 0, 2])
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(16, 64, 4, 2))
    check(cell, (3, 3, 3, 42), lengths=[1, 3, 2], reverse=True)


@pytest.mark.parametrize("cell", CENTRED, ids=lambda cell: cell.name)
def test_matrices_of_one_large_number_are_centred_before_they_are_rounded(cell: Cell) -> None:
    """To bfloat16, 64 and a weight of less than 0.25 are 64."""
    torch.set_float32_matmul_precision("medium")
    x, state, weights = case(cell, (3, 3, 5, 22))
    with torch.no_grad():
        for group in names_of(cell).plan.centred:
            for m in group:
                weights[str(names_of(cell).nodes[m].name)] += 64
    expected = everything(cell, wider((x, state, weights), torch.float64), "plain")
    assert_within(everything(cell, (x, state, weights), "triton"), expected, 0.06)


@pytest.mark.parametrize("learned", ["W.f", "U.i"])
def test_one_matrix_of_a_group_learns_as_it_does_among_all(learned: str) -> None:
    cell = zoo()["lstm-layer-norm"]
    x, state, weights = case(cell, (3, 4, 5, 11))
    gradients = []
    for backend, dtype in (("plain", torch.float64), ("triton", torch.float32)):
        given = {name: value.detach().to(dtype).requires_grad_(name == learned) for name, value in weights.items()}
        first = tuple(part.detach().to(dtype) for part in state)
        outputs = scan(cell, x.detach().to(dtype), given, state=first, backend=backend).outputs
        gradients.append(torch.autograd.grad(outputs.cos().sum(), given[learned])[0])
    assert_within({"d": gradients[1]}, {"d": gradients[0]}, 1e-5)


def test_replicates_have_matrices_centred_each_by_its_own_mean() -> None:
    cell = zoo()["gru-layer-norm"]
    x, _, weights = case(cell, (2, 3, 5, 6))
    both = {name: torch.stack([value.detach(), value.detach().flip(0) + 1]) for name, value in weights.items()}
    outputs = torch.vmap(lambda given: scan(cell, x, given, backend="triton").outputs)(both)
    for r in range(2):
        alone = scan(cell, x, {name: value[r] for name, value in both.items()}, backend="triton").outputs
        torch.testing.assert_close(outputs[r], alone, rtol=1e-6, atol=1e-6)


def test_no_step_computes_the_mean_of_such_products() -> None:
    """Sums over units are left of squares, and of the memory and its squares: each once forward and once back."""
    text = own_text(zoo()["lstm-layer-norm"])
    assert text.count("total_of_parts(") == 8
    assert "J_tile" not in text
