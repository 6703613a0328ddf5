"""What hurts: a mark that torch.compile no longer looks at, a second of torch's compiler at every start, a first epoch
whose time is that of imports."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
from torch import Tensor

from cello.cells.load import load_cell
from cello.compiler.scan import scan
from cello.compiler.tracing import cached, constant_result
from cello.errors import ModelError


def test_the_mark_is_the_one_that_torch_sets() -> None:
    def ours() -> int:
        return 1

    def theirs() -> int:
        return 1

    torch.compiler.assume_constant_result(theirs)  # type: ignore[no-untyped-call]
    assert constant_result(ours) is ours
    assert vars(ours) == vars(theirs) != {}


def test_a_process_that_trains_does_not_load_torchs_compiler_nor_anything_in_its_first_step() -> None:
    code = (
        "import sys, torch, cello.training.run, cello.execution.worker, cello.trained.model\n"
        "from cello.models.loss import backward\n"
        "from cello.training.config import OptimiserConfig\n"
        "from cello.training.optimiser import make_optimiser\n"
        "weight = torch.nn.Parameter(torch.ones(3))\n"
        "optimiser = make_optimiser(OptimiserConfig(), [weight])\n"
        "weight.grad = torch.ones(3)\n"
        "optimiser.step()\n"
        "optimiser.load_state_dict(optimiser.state_dict())\n"
        "before = set(sys.modules)\n"
        "backward(2 * weight, torch.ones(3))\n"
        "print({'torch._dynamo', 'sympy'} & set(sys.modules), sorted(set(sys.modules) - before)[:3])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set() []\n"


def test_torch_compile_records_what_is_cached_without_a_warning() -> None:
    called = []

    @cached(maxsize=4)
    def doubled(value: int) -> int:
        called.append(value)
        return 2 * value

    assert (doubled(2), doubled(2), called) == (4, 4, [2])

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return x * doubled(int(x.shape[0]))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.compile(scaled, backend="eager")(torch.ones(3)).tolist() == [6, 6, 6]


@pytest.mark.filterwarnings("ignore")  # torch.jit.trace is deprecated, and warns of what it keeps
@pytest.mark.parametrize("name", ["lstm", "exprnn"])
def test_learned_weights_that_a_trace_would_keep_are_refused_before_torch_ends_the_process(name: str) -> None:
    cell, x = load_cell(name), torch.randn(2, 5, 3)
    weights = {key: torch.randn(shape).requires_grad_() for key, shape in cell.parameters(3, 4).items()}

    def closed(x: Tensor) -> Tensor:
        return scan(cell, x, weights, backend="plain").outputs

    def given(x: Tensor, *values: Tensor) -> Tensor:
        return scan(cell, x, dict(zip(weights, values, strict=True)), backend="plain").outputs

    with pytest.raises(ModelError, match=rf"cell '{name}': torch.jit.trace cannot keep \S+ as a constant, .* or give"):
        torch.jit.trace(closed, (x,), check_trace=False)
    traced = torch.jit.trace(given, (x, *weights.values()), check_trace=False)
    torch.testing.assert_close(traced(x, *weights.values()), closed(x))
    weights = {key: value.detach() for key, value in weights.items()}
    torch.testing.assert_close(torch.jit.trace(closed, (x,), check_trace=False)(x), closed(x))
