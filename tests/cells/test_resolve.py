"""What a name stands for is settled from all of its uses: contradictions are refused, harmless doubles are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cello.cells.definition import Cell
from cello.compiler.text import equations_text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "return W @ x + W.U @ h",
            "parameter W is used both by itself and as a group, with W.U (line 8). Give each use its member, such as "
            "W.a and W.b.",
        ),
        ("return W.n @ x + h + W", "parameter W is used both by itself and as a group, with W.n (line 8)."),
    ],
)
def test_a_parameter_is_a_value_or_a_group(refusal: Callable[[str], str], line: str, message: str) -> None:
    assert refusal(f"@cell\ndef own(x, h, W):\n    {line}  # here").startswith(message)


@pytest.mark.parametrize(
    "lines",
    [
        "c = tanh(W @ x + U @ h) * c\n    h = c",
        "h = c = tanh(W @ x + U @ h) * c",
        "h = tanh(W @ x + U @ h) * c\n    c = h",
    ],
)
def test_two_states_may_have_the_same_new_value(own_cell: Callable[[str], Cell], lines: str) -> None:
    cell = own_cell(f"@cell\ndef own(x, h, c, W, U):\n    {lines}\n    return h, c")
    assert cell.graph.outputs[0] == cell.graph.outputs[1]
    assert "tanh(W @ x[t] + U @ h[t-1]) * c[t-1]" in equations_text(cell)


def test_swapped_states_are_refused_though_one_is_held_twice(refusal: Callable[[str], str]) -> None:
    message = refusal("@cell\ndef own(x, h, c, W):\n    c = W @ x + c  # here\n    h = c * h\n    return c, h")
    assert message.startswith("c is returned where the new h is expected. Return the states in the order of the arg")


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (
            "x, dt, h, W, U, b):\n    h = exp(-relu(W.d @ dt + b.d)) * h\n    return tanh(W.h @ x + U.h @ h + b.h)",
            "dt",
        ),
        ("x, dt, h, W, U):\n    h = tanh(W.h @ x + U @ h + W.d @ dt)\n    return h", "dt"),
        ("x, gap, h, W, U):\n    return tanh(W @ x + U @ h) * gap", "gap"),
        ("x, now, h, W, U):\n    return tanh(W @ x + U @ h) * now", "now"),
        ("x, dt: Scalar, h, W, U):\n    return tanh(W @ x + U @ (h * dt) + U @ h)", "dt"),
        ("x, m, h, c, W, U):\n    c = sigmoid(W.c @ x) * c * m\n    h = tanh(U @ h + c)\n    return h, c", "m"),
        ("x, m, h, c, W, U):\n    c = sigmoid(W.c @ x) * c * m\n    return tanh(U @ h + c), c", "m"),
        ("x, m, dt, h, W, U):\n    h = tanh(W.x @ x + U @ h + W.m @ m) * dt\n    return h", "m, dt"),
        ("x, h, dt, W, U):\n    return tanh(W.h @ x + U @ h + W.d @ dt)", "dt"),
        ("frame, mask, s, W, U):\n    s = tanh(W @ frame + U @ s) * mask\n    return s", "mask"),
    ],
    ids=range(10),
)
def test_a_second_input_is_named_and_where_it_belongs(
    refusal: Callable[[str], str], function: str, inputs: str
) -> None:
    message = refusal(f"@cell  # here\ndef own({function}")
    frame = function.partition(",")[0]
    given = [f'"{one}"' if one in ("m", "mask") else f"{one}=1" for one in inputs.split(", ")]
    parts = ", ".join(given)
    kind = "are further inputs" if "," in inputs else "is a second input"
    assert message == (
        f"{inputs} {kind}: a cell takes one input, {frame}, and the arguments after it are its states and parameters. "
        f"Append {inputs} to the frames, as parts of {frame}, such as {frame}: "
        f'Parts("value", {parts}), or return a new value for what is a state.'
    )


def test_a_forgotten_state_is_no_second_input(refusal: Callable[[str], str]) -> None:
    lstm = "@cell\ndef own(x, h, c, W, U):\n    c = W @ x + c  # here\n    return U @ h + c"
    assert refusal(lstm).startswith("c is given a new value but not returned, so c counts as a parameter.")
