"""What hurts: a first training step that compiles every kernel twice, to choose its tiling and to launch it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cello.cells.load import zoo
from cello.compiler.scan import scan
from cello.compiler.triton import scan as back_end
from cello.compiler.triton.build import Kernels
from cello.compiler.triton.choice import chosen
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.tiling import MEMORY

triton = pytest.importorskip("triton")


class Driver:
    """Stands for a GPU of compute capability 9.0."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled:
    """A kernel that is compiled by a launch as ever, and then not launched."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int, int]) -> Any:
        return lambda *given, **constants: self.kernel.warmup(*given, grid=grid, **constants)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kernels = back_end.kernels

    def of_a_gpu(cell: Any, reread: str = "", *, interpreted: bool, exact: bool = False) -> Kernels:
        made = kernels(cell, reread, interpreted=False, exact=exact)
        return Kernels(Compiled(made.forward), Compiled(made.backward))

    def of_pass(inputs: Any, way: str, found: Any) -> Any:
        best = chosen(inputs.cell, way, back_end.sizes_of(inputs), "tf32", 90, MEMORY, 132)
        assert best is not None
        return best[0], 132

    monkeypatch.setattr(back_end, "interpreting", lambda: True)
    monkeypatch.setattr(back_end, "precision", lambda x: "tf32")
    monkeypatch.setattr(back_end, "kernels", of_a_gpu)
    monkeypatch.setattr(back_end, "_of_pass", of_pass)
    monkeypatch.setenv("CELLO_CACHE", str(tmp_path / "cello"))
    monkeypatch.setattr(triton.runtime.driver, "_active", Driver())


@pytest.mark.parametrize(("name", "hidden"), [("lstm-peephole", 64), ("gru", 256)])
def test_a_launch_finds_what_was_compiled_to_choose_by(
    name: str, hidden: int, as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the batch; where programs share units too, which are launched cooperatively."""
    made: list[tuple[str, str]] = []
    compiler = triton.compiler.compiler
    options = type(compiler.make_backend(Driver().get_current_target()).parse_options({"enable_fp_fusion": True}))
    of_source, of_options = compiler.ASTSource.hash, options.hash

    def source_hash(self: Any) -> str:
        made.append((self.fn.fn.__name__, of_source(self)))
        return made[-1][1]

    def options_hash(self: Any) -> str:
        made.append(("options", of_options(self)))
        return made[-1][1]

    monkeypatch.setattr(compiler.ASTSource, "hash", source_hash)
    monkeypatch.setattr(options, "hash", options_hash)
    cell = zoo()[name]
    for way in ("forward", "backward"):
        assert chosen(cell, way, Sizes(cell, 39, hidden), "tf32", 90, MEMORY, 132)
    known, before = {*made}, len(made)
    weights = {each: torch.rand(shape).requires_grad_() for each, shape in cell.parameters(39, hidden).items()}
    for batch, steps in ((64, 49), (37, 20)):
        x: Tensor = torch.rand(batch, steps, 39)
        outputs = scan(cell, x, weights, backend="triton").outputs
        torch.autograd.grad(outputs.sum(), list(weights.values()))
    assert len(made) > before
    assert {*made} == known
