"""What hurts: a cell of several sizes that torch cannot compile, differentiate twice or run by unknown lengths."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.noise import with_noise
from cello.compiler.scan import scan, step
from cello.errors import ModelError
from scans import Case
from sized_cells import SIZED, Building

each_sized = pytest.mark.parametrize("name", SIZED)


def sized_case(cell: Cell, dtype: torch.dtype = torch.float64, inputs: int = 7, hidden: int = 6) -> Case:
    """Frames, first states and weights, four clips of five frames."""
    torch.manual_seed(0)
    x = torch.randn(4, 5, inputs, dtype=dtype).requires_grad_()
    shapes = cell.parameters(inputs, hidden)
    weights = {name: (torch.randn(shape, dtype=dtype) / 2).requires_grad_() for name, shape in shapes.items()}
    states = [torch.randn(4, *sizes, dtype=dtype) / 2 for sizes in cell.state_sizes(inputs, hidden)]
    return x, tuple(state.requires_grad_() for state in states), weights


def masks_of(cell: Cell, batch: int = 4, steps: int = 5) -> dict[str, Tensor]:
    """Zoneout of every state, of its own shape."""
    sizes = zip(cell.states, cell.state_sizes(7, 6), strict=True)
    torch.manual_seed(1)
    return {f"zoneout_{name}": torch.rand(batch, steps, *own, dtype=torch.float64).round() for name, own in sizes}


@each_sized
def test_derivatives_of_several_sizes_can_be_differentiated_again(name: str) -> None:
    cell = SIZED[name]
    x, _, weights = sized_case(cell)
    names, few = [*weights], x[:2, :2].detach().requires_grad_()

    def outputs(x: Tensor, *values: Tensor) -> Tensor:
        return scan(cell, x, dict(zip(names, values, strict=True)), lengths=[2, 1], backend="plain").outputs

    assert torch.autograd.gradcheck(outputs, (few, *weights.values()), fast_mode=True)
    assert torch.autograd.gradgradcheck(outputs, (few, *weights.values()), fast_mode=True)


@each_sized
def test_gradients_of_each_clip_by_torch_func_are_those_of_the_batch(name: str) -> None:
    cell, lengths = SIZED[name], [5, 0, 3, 1]
    x, _, weights = sized_case(cell)

    def of_one(clip: Tensor, length: Tensor) -> dict[str, Tensor]:
        def loss(values: dict[str, Tensor]) -> Tensor:
            return scan(cell, clip[None], values, lengths=length[None]).outputs.sum()

        return torch.func.grad(loss)({key: value.detach() for key, value in weights.items()})

    found = torch.vmap(of_one)(x.detach(), torch.tensor(lengths))
    whole = scan(cell, x, weights, lengths=lengths, backend="plain").outputs.sum()
    for key, grad in zip(weights, torch.autograd.grad(whole, list(weights.values())), strict=True):
        torch.testing.assert_close(found[key].sum(0), grad, msg=f"{name}: {key}")


@each_sized
@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_that_are_not_known_yet_give_what_known_ones_do(name: str, reverse: bool) -> None:
    cell = with_noise(SIZED[name], SIZED[name].states)
    x, _, weights = sized_case(SIZED[name])
    fixed = {key: value.detach() for key, value in weights.items()}
    masks, lengths = masks_of(SIZED[name]), torch.tensor([5, 0, 3, 1])

    def run(x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        result = scan(cell, x, fixed, masks=masks, lengths=lengths, reverse=reverse, backend="plain")
        return (result.outputs, *result.state)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(run, (x.detach(), torch.tensor([5, 5, 5, 5])), check_trace=False)
    torch.testing.assert_close(traced(x.detach(), lengths), run(x.detach(), lengths))


@pytest.mark.filterwarnings("ignore:.*lru_cache.*:UserWarning")
@pytest.mark.parametrize("name", ["projected", "heads"])
def test_torch_compile_takes_several_sizes_in_one_graph(name: str) -> None:
    cell = SIZED[name]
    x, _, weights = sized_case(cell)
    names = [*weights]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return scan(cell, x, dict(zip(names, values, strict=True)), backend="plain").outputs

    compiled = torch.compile(run, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, *weights.values()), run(x, *weights.values()))


@each_sized
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near_single(name: str, dtype: torch.dtype) -> None:
    cell = SIZED[name]
    x, _, weights = sized_case(cell, torch.float32)
    exact = scan(cell, x, weights, backend="plain").outputs
    half = scan(cell, x.to(dtype), {key: value.to(dtype) for key, value in weights.items()}, backend="plain").outputs
    assert half.dtype is dtype
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.05)


@each_sized
def test_steps_of_several_sizes_are_the_scan_and_nothing_gives_empty_outputs(name: str) -> None:
    cell = SIZED[name]
    x, state, weights = sized_case(cell)
    expected = scan(cell, x, weights, state=state, backend="plain").state
    for t in range(x.shape[1]):
        state = step(cell, x[:, t], state, weights)
    torch.testing.assert_close(state, expected)
    size = cell.output_size(7, 6)
    for few in (x[:0], x[:, :0]):
        assert scan(cell, few, weights, backend="plain").outputs.shape == (*few.shape[:2], size)


def test_a_root_of_a_size_is_a_number() -> None:
    b = Building()
    x, h = b.x(), b.state("h")
    scale = b("sqrt", b.leaf("size", "H", ""))
    total = b("div", b("product", b.learned("U", "H,H"), h), scale)
    cell = b.cell("scaled", {"h": b("tanh", b("add", b("product", b.learned("W", "H,D"), x), total))}, "W U")
    x_, _, weights = sized_case(cell)
    found = scan(cell, x_, weights, backend="plain").outputs[:, 1]
    before = scan(cell, x_[:, :1], weights, backend="plain").state[0]
    torch.testing.assert_close(found, torch.tanh(x_[:, 1] @ weights["W"].T + before @ weights["U"].T / 6**0.5))


def test_sizes_that_a_cell_cannot_have_are_refused_with_the_nearest() -> None:
    for name, inputs, hidden, message in (
        ("heads", 7, 5, "H=5 does not fit cell 'heads', which divides its units into 2 equal parts; use 4 or 6"),
        (
            "gaps",
            8,
            6,
            r"D=8 does not fit .* value \(\(D-1\)/2\), mask \(\(D-1\)/2\), gap \(1\); give frames of 7 or 9",
        ),
    ):
        cell = SIZED[name]
        weights = {key: torch.zeros(shape) for key, shape in cell.parameters(inputs, hidden).items()}
        with pytest.raises(ModelError, match=message):
            scan(cell, torch.zeros(1, 2, inputs), weights)
