"""Write the cells that are exactly one of ONNX's operators as that operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from cello.cells.definition import Cell
from cello.cells.load import load_cell
from cello.compiler.onnx.writer import Array, Writer


@dataclass(frozen=True)
class Operator:
    """An operator of ONNX and how its inputs come from a cell's weights.

    ``gates`` are in the operator's order; a gate that the cell lacks is zero. ``second`` is the group of the second
    bias, ``peepholes`` are the gates with one, in the operator's order.
    """

    op: str
    gates: tuple[str, ...]
    second: str = ""
    peepholes: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


def _linear(*activations: str) -> dict[str, Any]:
    """Activations of which one is linear: 1 · x + 0."""
    return {"activations": list(activations), "activation_alpha": [1.0], "activation_beta": [0.0]}


_GATES = (".i", ".o", ".f", ".g")
_PEEPHOLES = (".i", ".o", ".f")
OPERATORS: dict[str, Operator] = {
    "rnn": Operator("RNN", ("",), attributes={"activations": ["Tanh"]}),
    "rnn-relu": Operator("RNN", ("",), attributes={"activations": ["Relu"]}),
    "gru": Operator("GRU", (".z", ".r", ".n"), "c", attributes={"linear_before_reset": 1}),
    "gru-original": Operator("GRU", (".z", ".r", ".n"), attributes={"linear_before_reset": 0}),
    "lstm": Operator("LSTM", _GATES),
    "lstm-peephole": Operator("LSTM", _GATES, peepholes=_PEEPHOLES),
    "lstm-coupled": Operator("LSTM", _GATES, attributes={"input_forget": 1}),
    "cifg": Operator("LSTM", _GATES, peepholes=_PEEPHOLES, attributes={"input_forget": 1}),
    "niaf": Operator("LSTM", _GATES, peepholes=_PEEPHOLES, attributes=_linear("Sigmoid", "Affine", "Tanh")),
    "noaf": Operator("LSTM", _GATES, peepholes=_PEEPHOLES, attributes=_linear("Sigmoid", "Tanh", "Affine")),
}
"""The zoo's cells whose equations are those of an operator."""


@cache
def _by_fingerprint() -> dict[str, Operator]:
    return {load_cell(name).graph.fingerprint(): operator for name, operator in OPERATORS.items()}


def operator_of(cell: Cell) -> Operator | None:
    """The operator that a cell is exactly, by its equations; None where it is none."""
    return _by_fingerprint().get(cell.graph.fingerprint())


@dataclass(frozen=True, eq=False)
class Given:
    """One direction of a layer that is an operator, as its weights."""

    weights: Mapping[str, Array]
    reverse: bool


def write_operator(
    writer: Writer,
    operator: Operator,
    directions: Sequence[Given],
    x: str,
    lengths: str = "",
    states: Sequence[str] = (),
) -> tuple[str, list[str]]:
    """Outputs (T, n, B, H) and last states (n, B, H) over ``x`` (T, B, D), n directions; first states as the last."""
    inputs = [
        x,
        _matrices(writer, directions, "W", operator.gates),
        _matrices(writer, directions, "U", operator.gates),
        writer.constant(np.stack([_biases(each, operator) for each in directions])),
        lengths,
        *(states or ("",)),
    ]
    if operator.peepholes:
        own = [_stacked(each, "p", operator.peepholes) for each in directions]
        inputs += [""] * (7 - len(inputs)) + [writer.constant(np.stack(own))]
    while not inputs[-1]:
        inputs.pop()
    kind = "bidirectional" if len(directions) == 2 else ("reverse" if directions[0].reverse else "forward")
    attributes = {
        name: value * len(directions) if isinstance(value, list) else value
        for name, value in operator.attributes.items()
    }
    hidden = len(next(iter(directions[0].weights.values())))
    ends = [writer.fresh("last") for _ in range(2 if operator.op == "LSTM" else 1)]
    outputs, *last = writer.write_many(
        operator.op, inputs, [writer.fresh("outputs"), *ends], hidden_size=hidden, direction=kind, **attributes
    )
    return outputs, last


def _stacked(given: Given, group: str, gates: Sequence[str]) -> Array:
    """A group's weights of the gates on top of each other; those of a gate that the cell lacks are zero."""
    found = [given.weights.get(group + gate) for gate in gates]
    like = next(weight for weight in found if weight is not None)
    return np.concatenate([np.zeros_like(like) if weight is None else weight for weight in found])


def _matrices(writer: Writer, directions: Sequence[Given], group: str, gates: Sequence[str]) -> str:
    """A group's matrices (n, gates · H, ·) of n directions."""
    found = [_stacked(each, group, gates) for each in directions]
    if not writer.int8:
        return writer.constant(np.stack(found))
    apart = [writer.reshape(writer.weight(matrix), 1, *matrix.shape) for matrix in found]
    return writer.concat(*apart, axis=0)


def _biases(given: Given, operator: Operator) -> Array:
    first = _stacked(given, "b", operator.gates)
    second = _stacked(given, operator.second, operator.gates) if operator.second else np.zeros_like(first)
    return np.concatenate([first, second])
