"""What hurts: a kernel that is wrong and is taken for right, and one that is right and is taken for wrong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.compiler.triton import interpreter, proof
from cello.compiler.triton.cooperative import Multiprocessor
from cello.compiler.triton.launch import Tiling
from cello.compiler.triton.proof import BOUNDS, Asked, Compiling, Pair, Way, errors, proved
from cello.compiler.triton.rounds import Gpu
from cello.compiler.triton.scan import clips_and_tensors
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.verdicts import Verdict
from real_cells.filters import leg_s_cell
from sized_cells import Building

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("interpreted")
GPU = Gpu(90, 227 * 1024, 132, Multiprocessor(2048, 228 * 1024))
LSTM, PRECISIONS = zoo()["lstm"], {"ieee": "highest", "bf16 checked": "medium"}
SHARED = Tiling(4, 32, 4, 2)
"""Two programs share the units of four clips."""


def tried(
    cell: Cell = LSTM,
    hidden: int = 20,
    precision: str = "ieee",
    tiling: Tiling = SHARED,
    trying: Callable[[str], AbstractContextManager[object]] = nullcontext,
    **how: Any,
) -> Verdict:
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    asked = Asked(cell, Sizes(cell, 7, hidden), precision, torch.float32, torch.device("cpu"), keep=True)
    asked = replace(asked, **how)
    pair = Pair(Way(tiling), Way(tiling) if asked.keep else None)
    return proved(asked, pair, GPU, clips_and_tensors, trying)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["lstm", "slstm", "exprnn", "lmu", "lif", "phased-lstm", "rwkv"])
def test_a_kernel_that_rounds_is_right(name: str, precision: str) -> None:
    """With kinks, jumps, matrix exponentials, fixed tensors, states that count frames or begin at infinity too."""
    cell = zoo()[name]
    assert tried(cell, 20 if cell.multiple == 1 else cell.multiple * 4, precision).right


@pytest.mark.parametrize("name", ["mlstm-heads", "gated-delta-net", "rwkv-6"])
def test_so_is_one_of_matrices(name: str) -> None:
    cell = zoo()[name]
    assert tried(cell, 4 * cell.multiple, "bf16 checked", Tiling(4, 16, 4, stages=1)).right


def test_so_is_one_of_tensors_of_bfloat16_with_masks_and_one_without_derivatives() -> None:
    cell = with_noise(zoo()["gru"], zoneout=("h",))
    assert tried(cell, precision="bf16 checked", dtype=torch.bfloat16).right
    assert tried(cell, keep=False).right


def test_so_is_one_whose_true_values_follow_from_digits_that_are_rounded() -> None:
    """A memory of polynomials, whose first steps are large."""
    assert tried(leg_s_cell, 8, "bf16 checked", Tiling(4, 16, 4)).right


def cancelling() -> Cell:
    """An RNN whose output is what is left of two large numbers, which has few digits in float32."""
    b = Building()
    x, h = b.x(), b.state("h")
    new = b("add", b("tanh", b.affine("h", ("W", "H,D", x), ("U", "H,H", h))), b.number(1e4))
    left = b("sub", b("mul", new, new), b.number(1e8))
    return b.cell("cancelling", {"h": b("mul", left, b.number(5e-5))}, "W U b")


def test_so_is_one_of_a_cell_that_float32_itself_computes_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's operations, which would take its place, round as it does."""
    assert tried(cancelling()).right
    right = proof.run_forward

    def wrong(*given: Any, **how: Any) -> Forward:
        found = right(*given, **how)
        found[0].mul_(1.5)
        return found

    monkeypatch.setattr(proof, "run_forward", wrong)
    assert tried(cancelling()).found == "forward"


def test_each_pass_is_run_within_what_tries_it() -> None:
    seen: list[str] = []

    def trying(way: str) -> AbstractContextManager[object]:
        seen.append(way)
        return nullcontext()

    tried(trying=trying)
    assert seen == ["forward", "backward"]


Forward = tuple[Tensor, Tensor, Tensor]


def swapped(values: Tensor) -> None:
    """Each program has the units of the other."""
    half = values.shape[-1] // 2
    values.copy_(torch.cat([values[..., half:], values[..., :half]], -1))


FAULTS: dict[str, tuple[str, Callable[[Forward], object]]] = {
    "swapped programs": ("forward", lambda given: swapped(given[0])),
    "a tile of zeros": ("forward", lambda given: given[0][:, 4:].zero_()),
    "a last state of another frame": ("forward", lambda given: given[1][1].mul_(0.5)),
    "a unit of one program": ("forward", lambda given: given[0][..., 3].mul_(2)),
    "NaN in one element": ("forward", lambda given: given[0].view(-1)[70:71].fill_(torch.nan)),
    "wrong values for backward": ("backward", lambda given: given[2].mul_(0.8)),
    "no values for backward": ("backward", lambda given: given[2].fill_(torch.nan)),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_forward_pass_that_is_wrong_is_found(fault: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, (found, change) = proof.run_forward, FAULTS[fault]

    def wrong(*given: Any, **how: Any) -> Forward:
        values = right(*given, **how)
        change(values)
        return values

    monkeypatch.setattr(proof, "run_forward", wrong)
    assert tried(precision=precision).found == found


def wrong_backward(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Have each program give derivatives of the other's units; what is added to, once a batch."""
    right, batches = proof.run_backward, list[str]()

    def wrong(*given: Any, **how: Any) -> Any:
        batches.append(name)
        values = right(*given, **how)
        swapped(getattr(values, name))
        return values

    monkeypatch.setattr(proof, "run_backward", wrong)
    return batches


@pytest.mark.parametrize("name", ["frames", "wide", "inner", "invariant", "first"])
def test_a_backward_pass_that_is_wrong_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = wrong_backward(monkeypatch, name)
    assert tried(precision="bf16 checked").found == "backward"
    assert len(batches) == 1


def test_one_of_a_cell_with_kinks_is_where_it_is_wrong_in_each_of_several_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches = wrong_backward(monkeypatch, "inner")
    assert tried(zoo()["slstm"], precision="bf16 checked").found == "backward"
    assert len(batches) == proof.BATCHES


def test_one_that_jumps_on_one_batch_alone_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where rounding brings the unit that decides to the other side of a kink."""
    right, batches = proof.run_backward, list[int]()

    def wrong(*given: Any, **how: Any) -> Any:
        values = right(*given, **how)
        batches.append(0)
        if len(batches) == 1:
            values.inner.mul_(2)
        return values

    monkeypatch.setattr(proof, "run_backward", wrong)
    assert tried(zoo()["ligru"], precision="bf16 checked").right
    assert len(batches) == 2


def test_what_is_allowed_follows_from_the_operations_of_a_cell() -> None:
    def of(name: str, precision: str) -> tuple[tuple[float, float], bool]:
        return proof.bounds_of(zoo()[name], precision)

    assert of("lstm", "tf32") == (BOUNDS["tf32"], True)
    assert of("slstm", "tf32") == ((BOUNDS["tf32"][0], proof.OF_KINKS), False)
    assert of("lif", "bf16") == ((proof.OF_JUMPS, proof.OF_JUMPS), False)
    assert of("lif", "ieee") == (BOUNDS["ieee"], False)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_programs_that_do_not_wait_for_each_other_are_found(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter._Turns, "meet", lambda self: None)
    assert tried(precision=precision).found == "forward"


def test_what_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = {"outputs": torch.ones(2, 5, 3), "derivatives of U": torch.ones(2, 3, 3)}
    first = torch.tensor([[True] * 4 + [False]] * 2)

    def told(name: str, value: float) -> Verdict:
        return proof.compared({**ones, name: ones[name] * value}, ones, first, BOUNDS["tf32"])

    assert told("outputs", 1.01).right
    assert told("outputs", 1.03) == Verdict(
        "forward",
        "gives wrong numbers",
        "outputs differ from float64 by 0.03 of their root mean square, where 0.02 is allowed",
    )
    assert told("derivatives of U", 1.5) == Verdict(
        "backward",
        "gives wrong numbers",
        "derivatives of U differ from float64 by 0.5 of their root mean square, where 0.06 is allowed",
    )
    assert told("derivatives of U", torch.inf).why == "derivatives of U are not finite"
    found = {"outputs": ones["outputs"].clone(), "derivatives of U": ones["derivatives of U"] + torch.nan}
    found["outputs"][:, 4] = 0  # a tile of few clips
    assert errors(found, ones, first) == {"outputs": 1.0, "derivatives of U": torch.inf}


def test_derivatives_that_cancel_are_no_fault_and_infinite_states_are_none() -> None:
    first = torch.tensor([[True, False]] * 2)
    true = {"last m": torch.full((2, 2, 3), -torch.inf), "derivatives of b": torch.zeros(2, 3)}
    true["derivatives of U"] = torch.ones(2, 3, 3)
    found = {**true, "derivatives of b": torch.full((2, 3), 1e-6)}
    assert max(errors(found, true, first).values()) < BOUNDS["ieee"][1]


def test_a_kernel_is_compiled_before_it_is_tried() -> None:
    asked: list[object] = []

    class Kernel:
        def warmup(self, *given: object, grid: tuple[int, int], **constants: object) -> None:
            asked.append((given, grid, constants))

    assert Compiling(Kernel())[2, 3](1, KEEP=True) is None  # type: ignore[func-returns-value]
    assert asked == [((1,), (2, 3), {"KEEP": True})]
