"""What hurts: dozens of small operations around a kernel, each of which a GPU takes longer to start than to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cello.cells.load import zoo
from cello.compiler.inputs import Inputs
from cello.compiler.triton.build import Kernels
from cello.compiler.triton.scan import LAYOUT, ScanFunction, prepared
from scans import case

pytest.importorskip("triton")
VIEWS = frozenset(
    [
        "view",
        "_unsafe_view",
        "transpose",
        "expand",
        "unsqueeze",
        "slice",
        "select",
        "split",
        "t",
        "detach",
        "alias",
        "as_strided",
        "permute",
        "squeeze",
        "split_with_sizes",
        "unbind",
        "empty",
        "new_empty",
        "empty_like",
    ]
)


class Counted(TorchDispatchMode):
    """Keeps the names of operations that compute or copy something."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.names += [] if name in VIEWS else [name]
        return func(*args, **(kwargs or {}))


class Nothing:
    """A kernel that computes nothing."""

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return lambda *arguments, **constants: None


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(("name", "forward", "backward"), [("lstm", 3, 8), ("gru", 4, 11), ("rnn", 2, 8)])
def test_few_small_operations_stand_beside_a_kernel(name: str, forward: int, backward: int) -> None:
    """The derivatives of an LSTM's weights were 33: zeros that are written afterwards, and a copy for each matrix."""
    x, state, weights = case(zoo()[name], (4, 3, 5, 16))
    call, *tensors = prepared(Inputs(zoo()[name], x, weights, state, {}, None, False))
    values = [each.detach() for each in tensors]
    leaves = [each.requires_grad_() for each in values[LAYOUT + 1 : LAYOUT + 4]]
    call = replace(call, kernels=Kernels(Nothing(), Nothing()))
    with Counted() as there:
        outputs = ScanFunction.apply(call, *values)[0]  # type: ignore[no-untyped-call]
    like = torch.ones_like(outputs)
    with Counted() as back:
        torch.autograd.grad(outputs, leaves, like, allow_unused=True)
    assert len(there.names) <= forward, there.names
    assert len(back.names) <= backward, back.names
