# mypy: allow-untyped-defs, allow-untyped-calls
"""What the language takes, what it refuses, and that a refusal says the cell, the line and the remedy."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cello.cells.definition import Cell, cell
from cello.cells.functions import FUNCTIONS, maximum, minimum, sigmoid, tanh, where
from cello.cells.graph import POINTWISE
from cello.cells.signature import Scalar
from cello.compiler.scan import scan
from cello.errors import CellError


@cell
def mixed(x, h, c, W, U, p, b, rate: Scalar):
    """A cell of the tests.

    It uses everything.

    Reference: A. Nobody (2000). Nothing.
    Journal 1.

    Not part of it.
    """
    i = sigmoid(W.i @ x + U.i @ h + p * c + b.i)
    c = where(i > 0.5, i, rate) * c + W.g @ x
    return i * tanh(c), c


def test_a_cell_knows_its_parts() -> None:
    assert (mixed.name, mixed.title, mixed.states, mixed.output) == ("mixed", "A cell of the tests.", ("h", "c"), "h")
    assert mixed.reference == "A. Nobody (2000). Nothing. Journal 1."
    assert mixed.gates == ("i", "g")


def test_parameters_stand_in_the_order_of_the_signature_then_of_first_use() -> None:
    shapes = {"W.i": (5, 3), "W.g": (5, 3), "U.i": (5, 5), "p": (5,), "b.i": (5,), "rate": ()}
    assert list(mixed.parameters(input_size=3, hidden=5).items()) == list(shapes.items())
    assert mixed.parameter_count(input_size=3, hidden=5) == 15 + 15 + 25 + 5 + 5 + 1


def test_values_keep_the_names_of_the_equations() -> None:
    names = {node.name: node.op for node in mixed.graph.nodes if node.op in POINTWISE}
    assert names.pop("i") == "sigmoid"
    assert names.pop("c") == "add"
    assert names.pop("h") == "mul"
    assert set(names) == {None}
    assert all(node.line > 0 for node in mixed.graph.nodes)


def test_equal_expressions_are_computed_once() -> None:
    @cell
    def twice(x, h, W, U):
        return sigmoid(W @ x + U @ h) * h + sigmoid(W @ x + U @ h)

    assert [node.op for node in twice.graph.nodes].count("sigmoid") == 1
    assert [node.op for node in twice.graph.nodes].count("product") == 2


def test_a_helper_function_and_a_loop_over_fixed_numbers_are_welcome() -> None:
    def gate(W, U, x, h):
        return sigmoid(W @ x + U @ h)

    @cell
    def helped(x, h, W, U):
        g = gate(W.g, U.g, x, h)
        for _ in range(2):
            h = tanh(g * h)
        return h

    assert [node.op for node in helped.graph.nodes].count("tanh") == 2


def test_a_delay_line_may_return_an_old_state() -> None:
    @cell
    def delayed(x, h, before, W, U):
        new = tanh(W @ x + U @ before)
        return new, h

    assert delayed.graph.nodes[delayed.graph.outputs[1]].op == "state"


def test_functions_on_numbers_are_their_textbook_values() -> None:
    expected = {
        "sigmoid": 1 / (1 + math.exp(0.7)),
        "tanh": math.tanh(-0.7),
        "relu": 0.0,
        "softplus": math.log1p(math.exp(-0.7)),
        "exp": math.exp(-0.7),
        "sin": -math.sin(0.7),
        "cos": math.cos(0.7),
        "atan": -math.atan(0.7),
        "erf": -math.erf(0.7),
        "floor": -1.0,
        "round": -1.0,
        "sign": -1.0,
        "stop": -0.7,
    }
    for name, value in expected.items():
        assert FUNCTIONS[name](-0.7) == pytest.approx(value, rel=1e-12)
        tensor = FUNCTIONS[name](torch.tensor(-0.7, dtype=torch.float64))
        assert float(tensor) == pytest.approx(value, rel=1e-12)
    assert (minimum(1.0, 2.0), maximum(1.0, 2.0), where(True, 3.0, 4.0)) == (1.0, 2.0, 3.0)
    assert sigmoid(-1000.0) == 0.0


def refused(function: Callable[..., Any]) -> str:
    """The message for an illegal cell, without its place, which is checked here."""
    with pytest.raises(CellError) as caught:
        cell(function)
    message = str(caught.value)
    name = function.__name__.replace("_", "-")
    place = f"cell {name!r} (test_definition.py, line "
    assert message.startswith(place)
    line = int(message[len(place) :].partition(")")[0])
    lines, first = inspect.getsourcelines(function)
    marked = [first + k for k, text in enumerate(lines) if "# here" in text]
    assert line in (marked or [first]), (line, marked, first)
    assert message.endswith(".")
    return message.split("): ", 1)[1]


def test_if_on_a_value_is_refused() -> None:
    def bad(x, h, W):
        n = W @ x + h
        if n > 0:  # here
            return n
        return h

    assert refused(bad) == (
        "`if`, `while`, `and`, `or`, `not`, a < b < c, min() and max() cannot be compiled on the comparison n > 0, "
        "because its value differs from unit to unit. Write where(n > 0, u, v), minimum(a, b) or "
        "maximum(a, b) instead; (a > b) & (c > d), | and ~ for several conditions."
    )


def test_and_or_and_max_are_refused() -> None:
    def bad_and(x, h, W):
        return (W @ x) and h  # here

    def bad_or(x, h, W):
        return h or W @ x  # here

    def bad_max(x, h, W):
        return max(W @ x, h)  # here

    assert "cannot be compiled on (W @ x)" in refused(bad_and)
    assert "cannot be compiled on h, because its value differs from unit to unit. Write where(h > 0, a, b)" in refused(
        bad_or
    )
    assert "minimum(a, b) or maximum(a, b) instead" in refused(bad_max)


def test_functions_of_other_libraries_are_refused() -> None:
    def bad_torch(x, h, W):
        return torch.tanh(W @ x + h)  # here

    def bad_functional(x, h, W):
        return torch.fft.fft(W @ x + h)  # here

    def bad_numpy(x, h, W):
        return np.tanh(W @ x + h)  # here

    def bad_math(x, h, W):
        return math.tanh(W @ x + h)  # here

    def bad_method(x, h, W):
        return (W @ x + h).tanh()  # here

    assert refused(bad_torch) == (
        "torch's tanh() is called on ((W @ x) + h), which only the functions of the cell language can take. "
        "Use cello's own: tanh."
    )
    assert "torch's fft_fft() is called" in refused(bad_functional)
    assert (
        "Use cello's own: sigmoid, tanh, relu, softplus, exp, log, sqrt, abs, sin, cos, atan, erf, floor, round, sign, "
        in refused(bad_functional)
    )
    assert "numpy's tanh() is called on ((W @ x) + h)" in refused(bad_numpy)
    assert "used as a Python number, but it has no value yet. Call cello's functions" in refused(bad_math)
    assert "is not a parameter group. Write tanh(((W @ x) + h)) for the function" in refused(bad_method)


def test_unknown_names_are_refused_with_the_import() -> None:
    def bad_import(x, h, W):
        return relu(W @ x + h)  # noqa: F821  # here

    def bad_name(x, h, W):
        return twist(W @ x + h)  # noqa: F821  # here

    def bad_state(x, h, W):
        return W @ x + h * c  # noqa: F821  # here

    assert refused(bad_import) == "unknown name 'relu'. Import it: from cello.cells.functions import relu."
    assert refused(bad_name).startswith("unknown name 'twist'. States and parameters are arguments of the function.")
    assert "unknown name 'c'. States and parameters are arguments of the function. A cell uses + - * / @" in refused(
        bad_state
    )


def test_a_value_used_before_it_exists_is_refused() -> None:
    def bad(x, h, W, U):
        r = sigmoid(U.r @ n)  # noqa: F821  # here
        n = tanh(W.n @ x + r * h)
        return n * r

    assert "a value is used before it exists" in refused(bad)
    assert refused(bad).endswith("Compute it on an earlier line.")


def test_the_number_of_returned_values_must_fit() -> None:
    def nothing(x, h, W):
        tanh(W @ x + h)  # here

    def too_many(x, h):
        return h, h, h  # here

    def forgotten(x, h, c, W):
        c = c + W @ x  # here
        return tanh(c) * h

    def swapped(x, h, c, W):
        c = c + W @ x  # here
        h = tanh(c) * h
        return c, h

    def group_as_state(x, h, W, b):
        n = tanh(W.n @ x + b * h)
        return n, n  # here

    def number(x, h, W):
        return 1.0  # here

    def dictionary(x, h, W):
        return {"h": W @ x + h}  # here

    assert refused(nothing) == "nothing is returned. End the function with the new states, such as return h."
    assert "3 values are returned, but only 1 arguments follow x" in refused(too_many)
    assert refused(forgotten) == (
        "c is given a new value but not returned, so c counts as a parameter. Return h, c if c is a state, or use "
        "another name for the value."
    )
    assert refused(swapped) == (
        "c is returned where the new h is expected. Return the states in the order of the arguments: return h, c."
    )
    assert "2 values are returned, so W counts as a state, but it is used as a group" in refused(group_as_state)
    assert refused(number) == "the new h is 1.0, a float. Return a value of the equations as the new h."
    assert refused(dictionary) == (
        "a dict is returned. Return the new states themselves, in the order of the arguments, as in return h, c."
    )


def test_shapes_that_conflict_or_cannot_be_are_refused() -> None:
    def wide(x, h, W):
        return tanh(x) + W @ h  # here

    def both(x, h, W):
        n = W @ x
        return n + W * h  # here

    def two_widths(x, h, W):
        return W @ x + W @ h  # here

    def scalar(x, h, W, a: Scalar):
        return W @ x + a @ h  # here

    def frame(x, h):
        return x  # here

    assert refused(wide) == (
        "tanh(x) has D elements, but h has H. Bring the frame to the hidden width by a parameter first: W @ x."
    )
    assert "parameter W is used here as a vector, (H,), but line" in refused(both)
    assert "uses it as a matrix for the frame, (H, D). Use two parameters, such as W.a and W.b." in refused(both)
    assert "used here as a matrix for the hidden vector, (H, H), but line" in refused(two_widths)
    assert refused(scalar) == (
        "parameter a is used here as a matrix for the hidden vector, (H, H), but it is declared as a single number. "
        "Write a * v for a single number, or remove Scalar."
    )
    assert refused(frame).startswith("the new h is the frame, (D,), but a state is (H,) and changes. Return a value")


def test_products_that_are_none_are_refused() -> None:
    def turned(x, h, W):
        return x @ W + h  # here

    def two(x, h, W, U):
        return (W @ x) @ (U @ h)  # here

    def states(x, h, c, W):
        return W @ x + h @ c, c  # here

    def still(x, h, W, U, b):
        return W @ x + h + U @ tanh(b)  # here

    def array(x, h, W):
        return W @ x + h @ np.eye(3)  # here

    def matrices(x, h, W, U):
        return (W @ U) @ h + W @ x  # here

    def narrow(x, h, W, a: Scalar, b: Scalar):
        return W.n @ x + h + W.o @ a  # here

    assert refused(turned) == "x @ W: the vector is to the left of the matrix. Write W @ x."
    assert "neither factor is a parameter. Write (W @ x) * (U @ h) for" in refused(two)
    assert "h @ c: neither factor is a parameter. Write h * c for the product unit by unit" in refused(states)
    assert refused(still) == (
        "U @ tanh(b): neither depends on the frame or on a state. Multiply a parameter with a vector that changes from "
        'step to step, or write b: Size(8), or with Size("H"), for a vector b.'
    )
    assert "a product of h with a ndarray. Declare it in the signature, A: Fixed(lambda i, j: ...) by" in refused(array)
    assert "W.o @ a: a is a single number. Write W.o * a." in refused(narrow)
    assert refused(matrices) == ("W @ U: both are matrices. For a product of matrices write W @ (U @ v).")


def test_changes_in_place_are_refused() -> None:
    def item(x, h, W):
        n = W @ x
        n[0] = h  # here
        return n

    def attribute(x, h, W):
        W.i = h  # here
        return W.i @ x

    def index(x, h, W):
        return W @ x + h[0]  # here

    def over(x, h, W):
        return [W @ x + v for v in h]  # here

    def deleted(x, h, W):
        del W.i  # here
        return W.i @ x + h

    assert "an element of n is set" in refused(item)
    assert "W.i is set, but values never change. Give a new variable a new value." in refused(attribute)
    assert "h[0] is read, but equations act on whole vectors." in refused(index)
    assert "h is read like a list, but equations act on whole vectors. Compute with the vector itself" in refused(over)
    assert "W.i is deleted, but values never change. Leave the line away." in refused(deleted)


def test_adding_in_place_is_a_new_value() -> None:
    @cell
    def added(x, h, W, b):
        n = W @ x
        n += h
        n += b
        return tanh(n)

    assert [node.op for node in added.graph.nodes].count("add") == 2


def test_what_is_not_used_is_refused() -> None:
    def unused_member(x, h, W, U):
        q = U.q @ h  # noqa: F841  # here
        return tanh(W.n @ x + U.n @ h)

    def unused_group(x, h, W, V):
        return tanh(W @ x + h)

    def unused_state(x, h, c, W, U):
        c = W.c @ x
        return tanh(W.h @ x + U @ h), c

    def unused_frame(x, h, U):
        return tanh(U @ h)

    def no_memory(x, h, W):
        return tanh(W @ x)

    def constant(x, h, c, W, b):
        n = tanh(W @ x + h + c)
        return n, tanh(b)  # here

    assert refused(unused_member) == (
        "U.q does not reach a returned value. Use what is computed from it, or remove it."
    )
    assert refused(unused_group).startswith("V, a parameter, does not reach a returned value. Use V in the equations")
    assert refused(unused_state).startswith("c, a state, does not reach a returned value")
    assert refused(unused_frame).startswith("x, the frame, does not reach a returned value")
    assert refused(no_memory).startswith("no returned value depends on h, so the cell has no memory")
    assert "the new c is the same at every step, but a state is (H,) and changes" in refused(constant)


def test_arguments_and_values_that_are_no_equations_are_refused() -> None:
    def default(x, h, W, scale=2.0):
        return tanh(W @ x + h)

    def few(x):
        return x

    def tensor(x, h, W):
        return W @ x + h + torch.ones(3)  # here

    def equal(x, h, W):
        return W @ x + (h == 0)  # here

    def condition(x, h, W):
        return where(h, W @ x, h)  # here

    def called(x, h, W):
        return h(W @ x)  # here

    def power(x, h, W):
        return W @ x + h**0  # here

    def own_fault(x, h, W):
        return W @ x + h + {}["nothing"]  # here

    assert "argument scale=2.0 is not a plain argument" in refused(default)
    assert "1 arguments are too few" in refused(few)
    assert "a Tensor is combined with ((W @ x) + h)" in refused(tensor)
    assert "the comparison h == 0 is used as a value, but only where() takes one." in refused(equal)
    assert "where() needs a comparison of values first, not h. Write where(a > b, u, v)" in refused(condition)
    assert "h is called like a function. Write h @ (W @ x) for a matrix, h * (W @ x) unit by unit." in refused(called)
    assert "h ** 0 is 1. Write the number 1." in refused(power)
    assert "the function raised KeyError: 'nothing'. A cell uses + - * / @, numbers and the functions" in refused(
        own_fault
    )


class Number(float):
    """A matrix of one element."""

    def __matmul__(self, other: float) -> float:
        return self * other


@pytest.mark.filterwarnings("ignore:Bitwise inversion")  # of Python's own numbers, since 3.12
def test_conditions_mean_the_same_of_numbers_of_tensors_and_compiled() -> None:
    @cell
    def own(x, h, U):
        v = h + U @ x
        a = where(~(v > 0) | (v == 2), 1.0, 0.0) + where((v >= 0) & (v != 2), 10.0, 0.0)
        return a + 100 * where(~((v > 0) & ~(v > 1)), 1.0, 0.0)

    given = [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0]
    meant = [101.0, 111.0, 10.0, 10.0, 101.0, 110.0]
    h, x, matrix = torch.tensor(given), torch.zeros(1), torch.zeros(6, 1)
    assert [own(0.0, v, Number(0.0)) for v in given] == meant
    assert own(x, h, matrix).tolist() == meant
    found = scan(own, x[None, None], {"U": matrix}, state=(h[None],), backend="plain")
    assert found.outputs[0, 0].tolist() == meant


def test_a_cell_runs_on_numbers() -> None:
    @cell
    def leak(x, h, w, a: Scalar):
        return a * h + (1 - a) * (w @ x)

    assert isinstance(leak, Cell)

    assert leak(2.0, 1.0, Number(3.0), 0.5) == pytest.approx(0.5 * 1 + 0.5 * 6)
