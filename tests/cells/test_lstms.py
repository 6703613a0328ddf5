"""What hurts: a cell of exponentials or of normalised gates that is not a number once its gates are closed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cello.cells.load import zoo
from cello.compiler.scan import scan
from cello.native.build import compiler

BACKENDS = ("plain", *(["c"] if compiler() is not None else []))


def weights_of(name: str, biases: dict[str, float], dtype: torch.dtype) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    found = {}
    for key, shape in zoo()[name].parameters(4, 8).items():
        value = torch.randn(shape, generator=draw) / 2
        found[key] = (torch.full(shape, biases[key]) if key in biases else value).to(dtype).requires_grad_()
    return found


def everything(name: str, biases: dict[str, float], dtype: torch.dtype, backend: str) -> list[Tensor]:
    """Outputs for two clips of six frames and the gradients of all weights."""
    weights = weights_of(name, biases, dtype)
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    outputs = scan(zoo()[name], x, weights, backend=backend).outputs
    return [outputs.detach(), *torch.autograd.grad(outputs.square().sum(), list(weights.values()))]


def assert_single_is_double(name: str, biases: dict[str, float]) -> None:
    size = max(1.0, *map(abs, biases.values()))  # float32 knows a gate of this size to that part of it
    expected = everything(name, biases, torch.float64, "plain")
    for backend in BACKENDS:
        for found, value in zip(everything(name, biases, torch.float32, backend), expected, strict=True):
            assert found.isfinite().all()
            error = float((found.double() - value).abs().max())
            assert error <= 1e-6 * size * max(1.0, float(value.abs().max())), (backend, biases, error)


@pytest.mark.parametrize("i", [1e4, 30.0, 0.0, -10.0, -80.0, -90.0, -110.0, -750.0, -1e4])
def test_slstm_is_itself_whatever_its_first_input_gates(i: float) -> None:
    assert_single_is_double("slstm", {"b.i": i, "b.f": 3.0})
    assert_single_is_double("slstm", {"b.i": i, "b.f": -abs(i)})


@pytest.mark.parametrize("size", [30.0, 0.0, -80.0, -110.0, -750.0])
def test_minlstm_is_itself_with_both_gates_closed(size: float) -> None:
    assert_single_is_double("minlstm", {"b.i": size, "b.f": size + 1})


@pytest.mark.parametrize("i", [-110.0, -2.0, 5.0])
def test_slstm_is_the_authors_recurrence(i: float) -> None:
    """That of the paper's code: the first stabiliser is the first input gate, both gates are at most 1."""
    weights = weights_of("slstm", {"b.i": i}, torch.float64)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).double()
    h = c = n = m = torch.zeros(8, dtype=torch.float64)
    outputs = []
    for frame in x:
        i_raw, f_raw, g_raw, o_raw = (
            weights[f"W.{gate}"] @ frame + weights[f"U.{gate}"] @ h + weights[f"b.{gate}"] for gate in "ifgo"
        )
        faded = m + torch.nn.functional.logsigmoid(f_raw)
        m = i_raw if bool((n == 0).all()) else torch.maximum(i_raw, faded)
        enter, keep = (i_raw - m).exp().clamp(max=1), (faded - m).exp().clamp(max=1)
        c, n = keep * c + enter * torch.tanh(g_raw), keep * n + enter
        h = torch.sigmoid(o_raw) * c / n
        outputs.append(h)
    expected = torch.stack(outputs)
    for backend in BACKENDS:
        found = scan(zoo()["slstm"], x.unsqueeze(0), weights, backend=backend).outputs[0]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
