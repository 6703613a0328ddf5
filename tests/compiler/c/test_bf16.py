"""Products in bfloat16 are those of rounded operands, summed in float32; nothing else of a cell is rounded."""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils._python_dispatch import TorchDispatchMode

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.compiler import reference as meaning
from cello.compiler.c import scan as back_end
from cello.compiler.c.launch import compiled
from cello.compiler.c.text import runtime, source
from cello.compiler.inputs import Inputs, hidden_size, with_fixed
from cello.compiler.scan import scan
from cello.errors import BackendError
from cello.native.bf16 import missing_bf16
from cello.native.build import compiler
from scans import Case
from sized_cells import SIZED

pytestmark = pytest.mark.wants("cc")

CELLS = ("lstm", "lstm-peephole-full", "gru-original")
ROUNDED, EXACT = 2e-4, 2e-2
"""How far results may be, relative to their norm, from the same products of rounded operands, and from float32: an
operand of a product that lies between two bfloat16 numbers, to float32's precision, may be rounded either way."""


class Recording(TorchDispatchMode):
    """Sees every operation, as what records a program does."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return op(*args, **(kwargs or {}))


class RoundedProduct(Function):
    """A matrix times a vector, and the products of its derivatives, of operands rounded to bfloat16."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, vector: Tensor) -> Tensor:
        ctx.save_for_backward(matrix, vector)
        return rounded(matrix) @ rounded(vector)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:
        matrix, vector = map(rounded, ctx.saved_tensors)
        return torch.outer(rounded(upstream), vector), matrix.t() @ rounded(upstream)


def rounded(value: Tensor) -> Tensor:
    return value.bfloat16().to(value.dtype)


@pytest.fixture
def instruction() -> None:
    """Kernels as users have them, where this CPU can."""
    if (reason := missing_bf16()) is not None:
        pytest.skip(f"AVX512-BF16, {reason}")


@pytest.fixture(params=["instruction", "emulated"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels with the instruction, where this CPU has it, and of the same layout without."""
    if request.param == "instruction":
        request.getfixturevalue("instruction")
        yield
        return
    request.getfixturevalue("compiled_quickly")  # no user has these
    monkeypatch.setattr(back_end, "missing_bf16", lambda: None)
    monkeypatch.setenv("CC", f"{shlex.join(compiler() or ())} -DCELLO_EMULATED_BF16")
    compiled.cache_clear()
    yield
    compiled.cache_clear()


def case(cell: Cell, sizes: tuple[int, int, int, int]) -> Case:
    """Frames, first states and weights for B, T, D, H, in float32."""
    batch, steps, inputs, hidden = sizes
    draw = torch.Generator().manual_seed(0)

    def leaf(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=draw) * scale).requires_grad_()

    state = tuple(leaf(batch, *each, scale=0.5) for each in cell.state_sizes(inputs, hidden))
    shapes = cell.parameters(inputs, hidden).items()
    return leaf(batch, steps, inputs), state, {name: leaf(*shape, scale=hidden**-0.5) for name, shape in shapes}


def results(given: Case, outputs: Tensor, last: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Outputs, last states and all gradients, by name."""
    x, state, weights = given
    leaves = {"x": x, **{f"first {n}": part for n, part in enumerate(state)}, **weights}
    slope = torch.linspace(-1, 2, outputs.numel()).view_as(outputs)
    loss = (outputs * slope).sum() + sum((part**2).sum() for part in last)
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    found = {"outputs": outputs, **{f"last {n}": part for n, part in enumerate(last)}}
    return found | {f"d {name}": grad for name, grad in zip(leaves, grads, strict=True) if grad is not None}


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], most: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.isfinite(found[name]).all(), name
        difference = (found[name] - value).detach()
        error = float(difference.norm() / value.detach().norm().clamp(min=1e-6))
        assert error <= most, f"{name}: {error}"


def by_rounded_operands(
    monkeypatch: pytest.MonkeyPatch, cell: Cell, given: Case, lengths: list[int], *, reverse: bool
) -> dict[str, Tensor]:
    """Clip by clip and node by node."""
    x, state, weights = given
    whole = with_fixed(cell, x, hidden_size(cell, weights), weights)
    with monkeypatch.context() as patched:
        patched.setitem(meaning.TORCH, "product", RoundedProduct.apply)
        outputs, last = meaning.reference(Inputs(cell, x, whole, state, {}, torch.tensor(lengths), reverse))
    return results(given, outputs, last)


def check(cell: Cell, given: Case, lengths: list[int], monkeypatch: pytest.MonkeyPatch, *, reverse: bool) -> None:
    """Near the products of rounded operands, farther from float32's."""

    def run(**more: Any) -> dict[str, Tensor]:
        x, state, weights = given
        got = scan(cell, x, weights, state=state, lengths=lengths, reverse=reverse, **more)
        return results(given, got.outputs, got.state)

    found, exact = run(backend="c", precision="bf16"), run(backend="plain")
    assert_near(found, by_rounded_operands(monkeypatch, cell, given, lengths, reverse=reverse), ROUNDED)
    assert_near(found, exact, EXACT)
    assert max(float((found[name] - exact[name]).detach().abs().max()) for name in found) > ROUNDED


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("name", CELLS)
def test_products_are_those_of_rounded_operands_and_nothing_else_is_rounded(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "lstm":
        request.getfixturevalue("compiled_quickly")
    cell = zoo()[name]
    check(cell, case(cell, (5, 4, 7, 65)), [4, 0, 3, 1, 4], monkeypatch, reverse=False)
    check(cell, case(cell, (3, 2, 40, 39)), [1, 2, 0], monkeypatch, reverse=True)


@pytest.mark.usefixtures("instruction", "compiled_quickly")
@pytest.mark.parametrize("name", ["projected", "gaps", "generated", "multiplied"])
def test_values_of_several_sizes_are_multiplied_in_pairs_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = SIZED[name]
    check(cell, case(cell, (3, 3, 7, 20)), [3, 2, 0], monkeypatch, reverse=False)


@pytest.mark.usefixtures("instruction")
def test_more_clips_than_a_tile_and_more_steps_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = zoo()["lstm"]
    check(cell, case(cell, (35, 6, 3, 17)), [6 - clip % 7 for clip in range(35)], monkeypatch, reverse=False)


@pytest.mark.usefixtures("instruction")
def test_a_clip_alone_is_the_clip_among_others_to_the_bit() -> None:
    cell = zoo()["lstm"]
    for steps in (1, 2, 37):
        x, state, weights = case(cell, (17, steps, 39, 33))
        with torch.no_grad():
            whole = scan(cell, x, weights, state=state, precision="bf16")
            assert whole.backend == "c"
            for count in (1, 2, 3, 8):
                part = scan(cell, x[:count], weights, state=[each[:count] for each in state], precision="bf16")
                assert torch.equal(part.outputs, whole.outputs[:count]), (steps, count)


@pytest.mark.usefixtures("instruction", "compiled_quickly")
def test_a_recorded_scan_keeps_its_precision() -> None:
    cell = zoo()["rnn"]
    x, state, weights = case(cell, (3, 4, 5, 17))
    with torch.no_grad():
        expected = scan(cell, x, weights, state=state, precision="bf16").outputs
        with Recording():
            assert torch.equal(scan(cell, x, weights, state=state, precision="bf16").outputs, expected)
        assert not torch.equal(scan(cell, x, weights, state=state).outputs, expected)


def test_kernels_in_float32_have_nothing_of_it() -> None:
    for name in CELLS:
        text = source(zoo()[name], "float")
        assert "pair" not in text
        assert "bf16" not in text
    assert "bf16" not in runtime("float")
    assert len(re.findall(r"= add_product\(", runtime("float", bf16=True))) == 2


def test_without_the_instruction_a_scan_says_what_the_processor_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = zoo()["rnn"]
    x, _, weights = case(cell, (2, 3, 4, 5))
    monkeypatch.setattr(back_end, "missing_bf16", lambda: "which this CPU (Example 7) does not have")
    needs = "needs AVX512-BF16 for products in bf16, which this CPU (Example 7) does not have; leave precision out"
    for backend, told in (
        ("c", f'backend="c" {needs}'),
        ("auto", f'precision="bf16" needs backend="c", which {needs}'),
        ("plain", 'backend="plain" has no products in bf16; leave precision out'),
        ("triton", 'backend="triton" has no products in bf16; leave precision out'),
    ):
        with pytest.raises(BackendError, match=f"^{re.escape(told)}$"):
            scan(cell, x, weights, backend=backend, precision="bf16")


def test_a_precision_or_a_dtype_that_there_is_none_of_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = zoo()["rnn"]
    x, _, weights = case(cell, (2, 3, 4, 5))
    with pytest.raises(BackendError, match=r"^unknown precision 'half'. Known: bf16, float32\.$"):
        scan(cell, x, weights, precision="half")
    monkeypatch.setattr(back_end, "missing_bf16", lambda: None)
    with pytest.raises(
        BackendError, match=r"takes products in bf16 of float32 tensors, not of torch\.float64; convert"
    ):
        scan(cell, x.double(), {name: value.double() for name, value in weights.items()}, precision="bf16")


@pytest.mark.usefixtures("compiled_quickly")
def test_a_compiler_that_does_not_know_the_instruction_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the compiler is told to leave out an instruction of x86-64")
    monkeypatch.setattr(back_end, "missing_bf16", lambda: None)
    monkeypatch.setenv("CC", f"{shlex.join(compiler() or ())} -mno-avx512bf16")
    cell = zoo()["rnn"]
    x, _, weights = case(cell, (2, 3, 4, 5))
    with pytest.raises(BackendError, match=r"-mno-avx512bf16 does not compile AVX512-BF16 for this CPU\. Use GCC 10, "):
        scan(cell, x, weights, precision="bf16")
