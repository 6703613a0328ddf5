"""What hurts: a scan that makes the CPU wait for the GPU, or that no CUDA graph can hold, found out only where one is.

The kernels themselves, which do neither, are left out; what is computed around them is watched.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captured import Captured
from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.compiler.exponential import on_device
from cello.compiler.inputs import unchecked_lengths
from cello.compiler.operations import TORCH
from cello.compiler.scan import scan
from cello.compiler.triton import scan as back_end
from cello.compiler.triton.build import Kernels

pytest.importorskip("triton")


class Nothing:
    """Stands for a kernel."""

    def __getitem__(self, grid: tuple[int, int]) -> Nothing:
        return self

    def __call__(self, *given: object, **constants: object) -> None: ...


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(back_end, "kernels", lambda *asked, **how: Kernels(Nothing(), Nothing()))
    monkeypatch.setitem(TORCH, "expm", on_device)
    monkeypatch.setattr(back_end, "unknown_values", lambda lengths: True)  # only the GPU knows them


def weights_of(cell: Cell, hidden: int, *replicates: int) -> dict[str, Tensor]:
    shapes = cell.parameters(5, hidden).items()
    return {name: torch.rand((*replicates, *shape)).requires_grad_() for name, shape in shapes}


@pytest.mark.parametrize("cell", zoo().values(), ids=lambda cell: cell.name)
def test_a_scan_and_its_derivatives_wait_for_nothing(cell: Cell) -> None:
    hidden = 8 if cell.multiple == 1 else 2 * cell.multiple
    x, weights, lengths = torch.rand(3, 2, 5), weights_of(cell, hidden), torch.tensor([2, 0, 1])
    x.requires_grad_()

    def call() -> None:
        found = scan(cell, x, weights, lengths=lengths, backend="triton")
        torch.autograd.grad(found.outputs.sum(), [x, *weights.values()], allow_unused=True)

    with unchecked_lengths():
        call()  # which copies what the cell declares, as each step does before it is captured
        with Captured() as watched:
            call()
    assert watched.seen > 20


def test_neither_do_replicates_with_noise() -> None:
    cell = with_noise(zoo()["lstm-layer-norm"], zoneout=("c",), dropout=("h",))
    weights, lengths = weights_of(cell, 8, 2), torch.tensor([[2, 0, 1], [1, 2, 2]])
    masks = {"zoneout_c": torch.rand(2, 3, 2, 8), "dropout_h": torch.rand(2, 3, 1, 8)}

    def one(x: Tensor, weights: dict[str, Tensor], lengths: Tensor, masks: dict[str, Tensor]) -> Tensor:
        return scan(cell, x, weights, lengths=lengths, masks=masks, reverse=True, backend="triton").outputs

    def call() -> None:
        outputs = torch.vmap(one)(torch.rand(2, 3, 2, 5), weights, lengths, masks)
        torch.autograd.grad(outputs.sum(), list(weights.values()), allow_unused=True)

    with unchecked_lengths():
        call()
        with Captured():
            call()
