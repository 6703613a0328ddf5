"""A cell's function that is none, that fails, or that is another at each call, is refused on its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cello.cells.definition import Cell
from cello.cells.load import load_cell
from cello.compiler.scan import scan
from cello.compiler.text import equations_text
from cello.errors import CellError

Refusal = Callable[[str], str]
NO_FUNCTION = "which is not a function. Write it once, directly above def NAME(x, h, ...)."
NO_RETURN = "Write def NAME(x, h, ...), which returns the new states."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@cell  # here\nclass own:\n    pass", f"@cell decorates a class, {NO_FUNCTION}"),
        ("@cell  # here\n@cell\ndef own(x, h, W):\n    return W @ x + h", f"@cell decorates a Cell, {NO_FUNCTION}"),
        (
            "@cell  # here\n@staticmethod\ndef own(x, h):\n    return h",
            f"@cell decorates a staticmethod, {NO_FUNCTION}",
        ),
        (
            "@cell  # here\ndef own(x, h, W):\n    yield W @ x + h",
            f"the function yields, which an equation cannot. {NO_RETURN}",
        ),
        ("@cell  # here\nasync def own(x, h, W):\n    return W @ x + h", f"which an equation cannot be. {NO_RETURN}"),
        ("@cell  # here\nasync def own(x, h, W):\n    yield W @ x + h", f"which an equation cannot be. {NO_RETURN}"),
        (
            "@cell  # here\ndef own(x, h, *W):\n    return h",
            "argument *W is not a plain argument. Arguments are the frame, the",
        ),
        ("@cell  # here\ndef own(x, h, **W):\n    return h", "argument **W is not a plain argument"),
        ("@cell  # here\ndef own(x, h, *, W):\n    return h", "argument W is not a plain argument"),
        ("@cell  # here\ndef own(x, h, /, W):\n    return h", "argument x is not a plain argument"),
        (
            "@cell  # here\ndef own(x, h, W, a: float):\n    return W @ x + a * h",
            "argument a is annotated float. Write a: S",
        ),
        (
            "@cell  # here\ndef own(x, h: Scalar, W):\n    return W @ x + h",
            "h is a state, but annotated Scalar. Only param",
        ),
        (
            "@cell  # here\ndef own(x: 'Scalar', h, W):\n    return W @ x + h",
            "x is the frame, but annotated Scalar. Only pa",
        ),
    ],
    ids=range(13),
)
def test_what_is_no_plain_function_is_refused(refusal: Refusal, text: str, message: str) -> None:
    assert message in refusal(text)


def test_what_has_no_name_is_refused(own_cell: Callable[[str], Cell]) -> None:
    with pytest.raises(CellError, match=r"cell '<lambda>' \(mine\.py, line 6\): a lambda has no name\. Write def NAME"):
        own_cell("own = cell(lambda x, h, W: W @ x + h)")
    with pytest.raises(
        CellError, match=r"cell \(mine\.py, line 6\): @cell\(\) is called without a function\. Write @cell,"
    ):
        own_cell("@cell()\ndef own(x, h, W):\n    return W @ x + h")
    with pytest.raises(CellError, match=r"cell 'partial' \(mine\.py, line 6\): @cell decorates a partial, which is no"):
        own_cell("own = cell(functools.partial(print, 1))")


LANGUAGE = "A cell uses + - * / @, numbers and the functions sigmoid, tanh, relu"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("exit()", f"the function raised SystemExit: None. {LANGUAGE}"),
        ("assert False", f"the function raised AssertionError. {LANGUAGE}"),
        ("raise ValueError('one\\ntwo')", f"the function raised ValueError: one. {LANGUAGE}"),
        (
            "W = sigmoid(W, h)",
            "a function is called with other arguments than it has: sigmoid() takes 1 positional argument but 2 were "
            "given. Write sigmoid(v).",
        ),
        (
            "W = own(x, h, W)",
            "unknown name 'own'. A cell does not call itself: its past is in its states, and what calls it",
        ),
        (
            "W = (lambda f: f(f))(lambda f: f(f))",
            "the function calls itself without end. Write a loop over fixed numbers, s",
        ),
        (
            "W = k; k = 1",
            "a value is used before it exists (cannot access local variable 'k' where it is not associated",
        ),
    ],
)
def test_a_function_that_fails_is_refused(refusal: Refusal, line: str, message: str) -> None:
    text = refusal(f"@cell\ndef own(x, h, W):\n    {line}  # here\n    return W @ x + h")
    assert text.startswith(message)


def test_a_refusal_cannot_be_swallowed(refusal: Refusal) -> None:
    message = refusal("""
@cell
def own(x, h, W):
    n = W @ x + h
    try:
        n = n if n > 0 else h  # here
    except Exception:
        pass
    return n
""")
    assert "cannot be compiled on the comparison n > 0" in message
    asked = refusal("@cell\ndef own(x, h, W):\n    n = W @ x + h\n    return n if hasattr(n, 'shape') else h  # here")
    assert asked.startswith("n.shape is asked for, but n is a value of the equations. Declare what depends on a size")


CHANGED = "two calls of the function are not the same equations: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "calls = []\n@cell\ndef own(x, h, W):\n    calls.append(0)\n    return W @ x + len(calls) * h  # here",
            f"{CHANGED}2, not 1. Use no random numbers and nothing outside the function that changes; what changes "
            "from step to step is a state, what is learned a parameter.",
        ),
        ("@cell\ndef own(x, h, W):\n    return W @ x + random.random() * h  # here", CHANGED),
        ("@cell\ndef own(x, h, W):\n    return W @ x + np.random.rand() * h  # here", CHANGED),
        (
            "on = []\n@cell\ndef own(x, h, W):\n    n = W @ x + h\n    on.append(0)\n    if len(on) == 2:\n"
            "        n = tanh(n)  # here\n    return n",
            f"{CHANGED}n in only one of them.",
        ),
        (
            "on = []\n@cell\ndef own(x, h, c, W):\n    n = W @ x + h\n    m = n + c\n    on.append(0)\n"
            "    return (n, m) if len(on) == 2 else (m, n)  # here",
            f"{CHANGED}another value is returned.",
        ),
        (
            "kept = []\n@cell\ndef own(x, h, W):\n    kept.append(h)\n    return W @ x + kept[0]  # here",
            "h is a value of another call, of cell 'own'. Take every value from the arguments of the function",
        ),
    ],
    ids=["counter", "random", "numpy", "length", "returned", "kept"],
)
def test_a_function_that_is_another_at_each_call_is_refused(refusal: Refusal, text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_a_wrapped_function_is_refused_on_its_own_line(refusal: Refusal, own_cell: Callable[[str], Cell]) -> None:
    wrapped = """
def plain(f):
    @functools.wraps(f)
    def g(*a):
        return f(*a)
    return g
@cell
@plain
def own(x, h, W):
    n = {}
    return n + h  # here
"""
    assert refusal(wrapped.format("tanh(x)")).startswith("n has D elements, but h has H. Bring the frame to the hidden")
    assert equations_text(own_cell(wrapped.format("W @ x"))) == "n    = W @ x[t]\nh[t] = n + h[t-1]"


OUTPUTS = [
    ("h = tanh(W @ x + U @ h)\n    y = V @ h\n    return y, h  # here", "(x, y, h, W, U, V)"),
    ("h = tanh(W @ x + U @ h)\n    y = V @ h\n    return h, y  # here", "(x, h, y, W, U, V)"),
    ("h = tanh(W @ x + U @ h) + V\n    return sigmoid(h), h  # here", "(x, y, h, W, U, V)"),
    ("y = tanh(W @ x + U @ h) + V\n    return y, y  # here", "(x, y, y_2, h, W, U, V)"),
    ("h = tanh(W.h @ x + U @ h)\n    y = V @ h\n    return y, h  # here", "(x, y, h, W, U, V)"),
]


@pytest.mark.parametrize(("lines", "signature"), OUTPUTS, ids=range(len(OUTPUTS)))
def test_an_output_that_is_not_fed_back_gets_the_signature_to_write(
    refusal: Callable[[str], str], lines: str, signature: str
) -> None:
    kind = "a group of parameters" if "W.h" in lines else "a matrix"
    assert refusal(f"@cell\ndef own(x, h, W, U, V):\n    {lines}") == (
        f"2 values are returned, so W counts as a state, but it is used as {kind}. Every returned value has an "
        f"argument, an output that is not fed back too: def own{signature}."
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("return n.mean(0) + h", "mean() is given arguments, but a value has one dimension. Write n.mean(), over all"),
        ("return n + h.mean(dim=-1)", "mean() is given arguments, but a value has one dimension. Write h.mean(), over"),
        ("return n.detach() + h", "n.detach is asked for, but n is a value of the equations. Write stop(n): the value"),
        ("return n + h.detach()", "h.detach is called, but h is an argument, which has no methods. Write stop(h): the"),
        ("return n * W.tanh() + h", "W.tanh is called, but W is an argument, which has no methods. Write tanh(W) for"),
        ("return n + h.T * h", "h.T is asked for, but h is a state, which is a vector, (H,). Write u * v for a product "
         "unit by unit, W @ h with a parameter W."),
        ("return n.clamp(0, 1) + h", "n.clamp is asked for, but n is a value of the equations. Write minimum(maximum("),
        ("return n.softmax(0) + h", "n.softmax is asked for, but n is a value of the equations. Write softmax(n), w"),
        ("return n.unsqueeze(0) + h", "n.unsqueeze is asked for, but n is a value of the equations. Leave it away: a"),
    ],
    ids=range(9),
)  # fmt: skip
def test_a_tensors_method_gets_what_to_write_instead(refusal: Callable[[str], str], line: str, message: str) -> None:
    assert refusal(f"@cell\ndef own(x, h, W, U):\n    n = W @ x + U @ h\n    {line}  # here").startswith(message)


def test_the_mean_over_units_is_what_the_message_says(own_cell: Callable[[str], Cell]) -> None:
    own = own_cell(
        "from cello import Fixed\n@cell\ndef own(x, h, W, J: Fixed(lambda H: 1 / H)):\n    return J @ (W @ x) + 0 * h"
    )
    x, weight = torch.randn(2, 3, 4), torch.randn(5, 4)
    mean = (x @ weight.T).mean(2, keepdim=True).expand(2, 3, 5)
    torch.testing.assert_close(scan(own, x, {"W": weight}).outputs, mean)


@pytest.mark.filterwarnings("always:cell .* do no more than one matrix")
@pytest.mark.parametrize("line", ["return tanh(V @ (W @ x) + h)", "n = W @ x\n    return tanh(V @ n + h)"])
def test_two_matrices_in_a_row_are_no_low_rank_in_silence(own_cell: Callable[[str], Cell], line: str) -> None:
    with pytest.warns(UserWarning, match="do no more than one matrix") as caught:
        own_cell(f"@cell\ndef own(x, h, W, V):\n    {line}")
    number = 9 if "n =" in line else 8
    assert str(caught[0].message) == (
        f"cell 'own' (mine.py, line {number}): V (H, H) multiplies what W (H, D) gives, so both do no more than one "
        f"matrix. Write one, or give what is between them a size of its own: W: Size(16)."
    )
    assert (Path(caught[0].filename).name, caught[0].lineno) == ("mine.py", number)


@pytest.mark.filterwarnings("error")
def test_other_products_of_products_are_quiet(own_cell: Callable[[str], Cell]) -> None:
    own_cell("@cell\ndef own(x, h, W, V):\n    n = W @ x\n    return tanh(V @ n + n + V @ tanh(n)) * h")
    assert load_cell("minimalrnn").name == "minimalrnn"


def test_a_variable_that_reaches_nothing_is_named_with_its_line(own_cell: Callable[[str], Cell]) -> None:
    lines = ["i = sigmoid(W @ x + U @ h)", "f = 1 - i", "return h + i * x.mean()"]
    with pytest.warns(UserWarning, match="reaches no returned value") as caught:
        own_cell("@cell\ndef own(x, h, W, U):\n    " + "\n    ".join(lines))
    assert [str(one.message) for one in caught] == [
        "cell 'own' (mine.py, line 9): f is computed, but reaches no returned value. "
        "Use f in the equations, or remove it."
    ]
    assert (Path(caught[0].filename).name, caught[0].lineno) == ("mine.py", 9)


def test_a_state_that_never_changes_is_named_with_its_line(own_cell: Callable[[str], Cell]) -> None:
    with pytest.warns(UserWarning, match="is returned as it came") as caught:
        own_cell("@cell\ndef own(x, h, h1, W, U):\n    n = tanh(W @ x + U @ h + h1)\n    return n, h1")
    assert [str(one.message) for one in caught] == [
        "cell 'own' (mine.py, line 9): h1 is returned as it came, so it stays at its first value. "
        "Return its new value, or make it a parameter."
    ]
    assert (Path(caught[0].filename).name, caught[0].lineno) == ("mine.py", 9)


@pytest.mark.filterwarnings("error")
def test_states_that_move_up_are_quiet(own_cell: Callable[[str], Cell]) -> None:
    own_cell("@cell\ndef own(x, h, h1, h2, W, U):\n    n = tanh(W @ x + U @ h + h2)\n    return n, h, h1")


def test_a_method_is_no_cell(refusal: Callable[[str], str]) -> None:
    assert refusal("class Mine:\n    @cell  # here\n    def own(self, x, h, W):\n        return W @ x + h") == (
        "the first argument is self, of a method. Write a function outside of a class, def NAME(x, h, ...)."
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "lines",
    [
        ["f = 1 - sigmoid(U @ h)", "f = W @ x + f", "return tanh(f)"],
        [
            "for _ in range(3):",
            "    k = U @ h",
            "    h = tanh(W @ x + k)",
            "    g = 0.5 * h",
            "    h = h + g",
            "return h",
        ],
        [
            "for _ in range(3):",
            "    h = tanh(W @ x + U @ h)",
            "    half = 0.5 * h",
            "    h = h + half",
            "return h - half",
        ],
        ["i = tanh(W @ x + U @ h)", "_unused = 1 - i", "return i"],
        ["for k in range(3):", "    h, g = tanh(W @ x + U @ h), 0.5 * h", "return h"],
    ],
    ids=["named twice", "in a loop", "after a loop", "said to be unused", "beside what is used"],
)
def test_variables_of_which_something_is_used_are_quiet(own_cell: Callable[[str], Cell], lines: list[str]) -> None:
    own_cell("@cell\ndef own(x, h, W, U):\n    " + "\n    ".join(lines))
