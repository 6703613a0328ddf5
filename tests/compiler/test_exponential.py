"""What hurts: a derivative of the matrix exponential that is wrong for large, tiny or unfinished matrices, or slow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captured import Captured
from cello.compiler.exponential import matrix_exponential, on_device


def drawn(
    norm: float, dtype: torch.dtype = torch.float64, *, skew: bool = False, size: int = 20
) -> tuple[Tensor, Tensor]:
    """A matrix of this 1-norm, and an upstream gradient."""
    draw = torch.Generator().manual_seed(3)
    matrix, upstream = (torch.randn(size, size, generator=draw, dtype=torch.float64) for _ in range(2))
    matrix = matrix - matrix.t() if skew else matrix
    matrix = matrix * (norm / torch.linalg.matrix_norm(matrix, 1))
    return matrix.to(dtype).requires_grad_(), upstream.to(dtype)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-13), (torch.float32, 3e-6)])
@pytest.mark.parametrize("norm", [0.0, 1e-30, 0.28, 1.3, 15.0, 60.0])
@pytest.mark.parametrize("skew", [False, True])
def test_the_derivative_is_torchs(norm: float, dtype: torch.dtype, close: float, skew: bool) -> None:
    matrix, upstream = drawn(norm, dtype, skew=skew)
    value = matrix_exponential(matrix)
    assert value.equal(torch.matrix_exp(matrix.double()).to(dtype))
    (found,) = torch.autograd.grad(value, matrix, upstream)
    exact = matrix.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(torch.matrix_exp(exact), exact, upstream.double())
    bound = close * max(1.0, norm) if not skew else 4 * close
    assert (found - expected).abs().max() <= bound * expected.abs().max()


def test_second_derivatives_are_there() -> None:
    matrix, _ = drawn(2.0, size=4)
    assert torch.autograd.gradgradcheck(matrix_exponential, matrix)


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")
def test_transforms_of_torch_func_and_forward_mode_go_through() -> None:
    matrix, upstream = drawn(2.0)
    (expected,) = torch.autograd.grad(matrix_exponential(matrix), matrix, upstream)
    found = torch.func.grad(lambda a: (matrix_exponential(a) * upstream).sum())(matrix.detach())
    assert torch.allclose(found, expected)
    _, change = torch.func.jvp(matrix_exponential, (matrix.detach(),), (upstream,))
    (along,) = torch.func.vjp(matrix_exponential, matrix.detach())[1](upstream)
    assert torch.allclose((change * upstream).sum(), (along * upstream).sum())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(number: float) -> None:
    matrix, upstream = drawn(2.0)
    with torch.no_grad():
        matrix[0, 0] = number
    (found,) = torch.autograd.grad(matrix_exponential(matrix), matrix, upstream)
    assert not found.isfinite().all()


def test_frames_of_a_matrix_without_elements() -> None:
    matrix = torch.zeros(0, 0, requires_grad=True)
    assert torch.autograd.grad(matrix_exponential(matrix).sum(), matrix)[0].shape == (0, 0)


@pytest.mark.parametrize("norm", [0.0, 1e-30, 0.28, 0.3, 15.0, 300.0])
@pytest.mark.parametrize("skew", [False, True])
def test_on_a_device_it_is_torchs_and_a_graph_can_hold_it(norm: float, skew: bool) -> None:
    matrix, upstream = drawn(norm, skew=skew)
    expected = torch.matrix_exp(matrix)
    (slope,) = torch.autograd.grad(expected, matrix, upstream)
    with Captured():
        value = on_device(matrix)
        (found,) = torch.autograd.grad(value, matrix, upstream)
    close = 1e-13 * max(1.0, norm)
    assert (value - expected).abs().max() <= close * expected.abs().max()
    assert (found - slope).abs().max() <= 4 * close * slope.abs().max()
    several = torch.vmap(on_device)(torch.stack([matrix, 0.5 * matrix]))
    assert torch.allclose(several[0], expected, rtol=1e-10, atol=0)


def test_on_a_device_what_is_too_large_or_not_finite_is_nan() -> None:
    for matrix in (drawn(2e4, skew=True)[0], torch.full((2, 2), torch.inf, dtype=torch.float64)):
        assert on_device(matrix).isnan().all()
    assert on_device(torch.zeros(0, 0, dtype=torch.float64)).shape == (0, 0)
