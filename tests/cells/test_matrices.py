"""Matrices that are made of parameters: what hurts is a product with another matrix than the equations say, or an error
that does not help."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cello.cells.annotations import Size
from cello.cells.definition import Cell, cell
from cello.cells.fold import fold, folded_weights
from cello.cells.functions import exp, expm, inverse, sigmoid, tanh
from cello.cells.signature import Fixed, Scalar
from cello.compiler.render import render
from cello.compiler.scan import scan
from cello.models.layer import Layer


@cell
def made(  # type: ignore[no-untyped-def]
    x,
    h,
    W,
    U,
    V,
    M: Fixed(lambda i, j: i + j),
    g: Scalar,
    q: Size("H"),  # type: ignore[valid-type]
):
    A = V - V.T - 0.1 * g
    n = tanh(A @ h + (2 * W) @ x + (0.1 * M * U.f) @ h + exp(-U.g.T) @ h)
    return tanh(expm(A) @ n + inverse(3 * exp(U.f) + M) @ h) * sigmoid((A + U.q) @ exp(U.q @ q))


def eager(x: torch.Tensor, w: dict[str, torch.Tensor], lengths: list[int]) -> torch.Tensor:
    h, outputs = x.new_zeros(len(x), len(w["V"])), []
    index = torch.arange(h.shape[1], dtype=x.dtype)
    mask = index[:, None] + index
    a = w["V"] - w["V"].T - 0.1 * w["g"]
    scale = torch.sigmoid((a + w["U.q"]) @ (w["U.q"] @ w["q"]).exp())
    for t in range(x.shape[1]):
        n = torch.tanh(h @ a.T + 2 * x[:, t] @ w["W"].T + 0.1 * h @ (mask * w["U.f"]).T + h @ torch.exp(-w["U.g"].T).T)
        new = torch.tanh(n @ torch.matrix_exp(a).T + torch.linalg.solve(3 * w["U.f"].exp() + mask, h.T).T) * scale
        inside = (torch.tensor(lengths) > t).unsqueeze(1)
        h = torch.where(inside, new, h)
        outputs.append(torch.where(inside, new, 0.0))
    return torch.stack(outputs, 1)


def weights(hidden: int = 5) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = made.parameters(3, hidden).items()
    return {
        name: (0.5 * torch.randn(shape, generator=draw, dtype=torch.float64)).requires_grad_() for name, shape in shapes
    }


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("backend", ["plain", pytest.param("c", marks=pytest.mark.wants("cc"))])
def test_outputs_and_all_gradients_are_those_of_an_eager_loop(backend: str) -> None:
    w, lengths = weights(), [6, 0, 2, 6]
    x = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    leaves = [x, *w.values()]
    found = []
    for outputs in (scan(made, x, w, lengths=lengths, backend=backend).outputs, eager(x, w, lengths)):
        slope = torch.linspace(-1, 2, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
        found.append([outputs, *torch.autograd.grad((outputs * slope).sum(), leaves)])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-11)


def test_trained_forms_hold_the_matrices_themselves() -> None:
    folded, computed = fold(made)
    assert [name for name, _ in computed] == ["A", "M_2", "M_3", "M_4", "M_5", "M_6", "M_8"]
    assert not any(node.op in ("transpose", "expm", "inverse", "apply") for node in folded.graph.nodes)
    assert folded.arguments == ("x", "h", "A", "M_2", "M_3", "M_4", "M_5", "M_6", "M_8")
    own = {name: value.detach().numpy() for name, value in weights().items()} | made.fixed_values(3, 5)
    found = folded_weights(made, own)
    np.testing.assert_allclose(found["A"], own["V"] - own["V"].T - 0.1 * own["g"], rtol=1e-6)
    x = torch.randn(2, 4, 3)
    given = {name: torch.from_numpy(value) for name, value in found.items()}
    expected = scan(made, x, {name: value.detach().float() for name, value in weights().items()}).outputs
    torch.testing.assert_close(scan(folded, x, given).outputs, expected)


def test_a_cell_without_such_matrices_is_itself_and_forms_show_them() -> None:
    @cell
    def own(x, h, W, U):  # type: ignore[no-untyped-def]
        return tanh(W @ x + U @ h)

    assert fold(own) == (own, ())
    assert "A       = V - V.T - 0.1 * g" in render(made, "equations")
    assert r"A &= V - V^{\top} - 0.1\,g" in render(made, "latex")
    assert "dot(A, h, j)" in render(made, "js")


@pytest.mark.usefixtures("compiled_quickly")
def test_a_layer_learns_through_its_matrices() -> None:
    layer = Layer("exprnn", 3, 8)
    matrix = layer.layers[0][0].A  # type: ignore[index]
    layer(torch.randn(2, 5, 3))[0].square().sum().backward()
    assert isinstance(matrix.grad, torch.Tensor)
    assert float(matrix.grad.abs().sum()) > 0


HEAD = (
    "from cello import exp, expm, inverse\n@cell\ndef own(x, h, W, U, V, p: Scalar):\n    n = tanh(W @ x + U @ h) * p\n"
)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("return n + n.T", "the transpose of n is taken, but n changes from step to step: it is a vector. Write "
         "u * v for a product unit by unit, W @ n with a parameter W."),
        ("return n + expm(V) * h", "the expm of V is taken, but no vector is multiplied by it. Multiply a hidden vec"),
        ("return n + expm(V) @ x", "(expm(V) @ x) has D elements, but h has H. Bring the frame to the hidden width"),
        ("return n + (V - V.T) @ x", "((V - (...)) @ x) has D elements, but h has H. Bring the frame to the hi"),
        ("return n + (V * n) @ h", "(V * n) @ h: neither factor is a parameter. Write (V * n) * h for the product"),
        ("return n + (2 * p) @ h", "(2 * p) @ h: (2 * p) is a single number. Write (2 * p) * h."),
        ("return n + (U * V) @ x", "parameter U is used here as a matrix for the frame, (H, D), but line"),
        ("return n + (V + U @ h) @ h", "(V + (U @ h)) @ h: neither factor is a parameter."),
        ("return exp(V) @ h + exp(V)", "add is taken of the matrix exp(V), beside a vector or for one. Multi"),
        ("return n + (U @ V) @ h", "U @ V: both are matrices. For a product of matrices write U @ (V @ v)."),
        ("return n + (U @ U.T) @ h", "U @ U.T: both are matrices. For a product of matrices write U @ (U.T @ v)."),
        ("return n + U @ V @ h", "U @ V: both are matrices. For a product of matrices write U @ (V @ v)."),
        ("return n + h @ V.T", "h @ V.T: the vector is to the left of the matrix. Write V @ h."),
        ("return n + U @ V", "U @ V: V counts as a parameter, because it is not returned. Return h, V if V is a state, "
         "or write V: Size(8) for a vector."),
        ("return n + U @ V.mean()", "U @ V.mean(): neither depends on the frame or on a state. Take sums, means and"),
        ("return n + U @ p", "U @ p: p is a single number. Write U * p."),
        ("return n + n @ (2 * V)", "n @ (2 * V): neither factor is a parameter."),
    ],
    ids=range(17),
)  # fmt: skip
def test_what_is_no_matrix_is_refused_with_what_to_write(
    refusal: Callable[[str], str], line: str, message: str
) -> None:
    assert refusal(f"{HEAD}    {line}  # here").startswith(message)


def test_a_member_called_t_stays_a_parameter(own_cell: Callable[[str], Cell]) -> None:
    own = own_cell(
        "@cell\ndef own(x, h, W, U):\n    t = sigmoid(W.T @ x + U.T @ h)\n    return t * tanh(W.H @ x) + (1 - t) * h\n"
    )
    assert list(own.parameters(3, 4)) == ["W.T", "W.H", "U.T"]


DECLARED = ("Fixed(lambda i, j: where(i > j, 1, j))", "Learned(lambda i, j: where(i > j, 1, j))", 'Size("H")')


@pytest.mark.parametrize("annotation", DECLARED)
def test_the_only_member_t_of_what_is_declared_is_its_transpose(
    own_cell: Callable[[str], Cell], annotation: str
) -> None:
    head = "from cello import Fixed, Learned, Size\n@cell\n"
    alone = own_cell(f"{head}def own(x, h, A: {annotation}, W):\n    return tanh(W @ x + A.T @ h)\n")
    beside = own_cell(f"{head}def own(x, h, A: {annotation}, W):\n    return tanh(W @ x + A.T @ h) + 0 * (A @ h)\n")
    x, h, W, A = (torch.randn(shape, dtype=torch.float64) for shape in ((3,), (4,), (4, 3), (4, 4)))
    found = []
    for each in (alone, beside):
        own = each.fixed_values(3, 4)
        given = {"W": W, **({} if own else {"A": A})}
        assert [*each.parameters(3, 4)] == [name for name in ("A", "W") if name in given]
        found.append(scan(each, x[None, None], given, state=(h[None],), backend="plain").outputs)
        A = torch.from_numpy(own["A"]) if own else A
    torch.testing.assert_close(found[0][0, 0], torch.tanh(W @ x + A.T @ h))
    torch.testing.assert_close(found[0], found[1])
