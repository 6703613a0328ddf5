"""Write what a cell declares in its signature, for targets that print formulas: first values, bounds, fixed tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cello.cells.definition import Cell
from cello.cells.graph import Shape
from cello.cells.values import FIRST, FIXED, STATE, VALUE_LEAVES, Declared
from cello.compiler.expression import Style, inline


@dataclass(frozen=True)
class DeclaredStyle:
    """How a target writes declared values: ``infinite`` are how it writes log 0 and infinity.

    ``element(name, indices)`` is an element of a tensor, ``first(state)`` a state before the first step, and
    ``unbounded(name)`` the parameter that a value within bounds is computed from.
    """

    formulas: Style
    infinite: tuple[str, str]
    element: Callable[[str, int], str]
    first: Callable[[str], str]
    unbounded: Callable[[str], str]
    parameter: Callable[[str], str]


Line = tuple[str, str, bool]
"""Left side, right side, and whether the value is only where learning begins."""


def declared_lines(cell: Cell, style: DeclaredStyle) -> list[Line]:
    """What a cell declares, in the order of its signature."""
    place = {name: k for k, name in enumerate(cell.arguments)}
    ordered = sorted(cell.declared, key=lambda one: place[one.name.split(".")[0]])
    return [line for one in ordered for line in _lines(one, style)]


def sizes(cell: Cell) -> list[tuple[str, str, Shape]]:
    """Parts of the frame, and states and parameters of other sizes than H: "input", ..., their names and shapes.

    A matrix of H rows is left out: its columns follow from what it multiplies.
    """
    frame = cell.arguments[0]
    found: list[tuple[str, str, Shape]] = [("input", f"{frame}.{part}", (text,)) for part, text in cell.parts]
    found += [("state", name, shape) for name, shape in zip(cell.states, cell.state_shapes, strict=True)]
    found += [("parameter", str(node.name), node.shape) for node in cell.graph.parameters()]
    nodes = cell.graph.nodes
    matrices = {nodes[node.args[0]].name for node in nodes if node.op == "product"}
    plain = {name for _, name, shape in found if shape[:1] in ((), ("H",)) and (len(shape) < 2 or name in matrices)}
    return [each for each in found if each[0] == "input" or each[1] not in plain]


def _lines(one: Declared, style: DeclaredStyle) -> list[Line]:
    found: list[Line] = []
    if one.bounded:
        r = style.unbounded(one.name)
        soft, gate = (style.formulas.rows[op].template for op in ("softplus", "sigmoid"))
        low, high = (None if end is None else style.formulas.constant(end) for end in (one.low, one.high))
        if low is not None and high is not None:
            width = style.formulas.constant((one.high or 0.0) - (one.low or 0.0))
            right = style.formulas.rows["mul"].template.format(width, gate.format(r))
            right = f"{low} + {right}" if one.low else right
        elif low is not None:
            right = f"{low} + {soft.format(r)}" if one.low else soft.format(r)
        else:
            right = f"{high} - {soft.format(r)}"
        found.append((style.parameter(one.name), right, False))
    if one.nodes:
        found.append((_left(one, style), _value(one, style), one.kind not in (FIXED, STATE)))
    return found


def _left(one: Declared, style: DeclaredStyle) -> str:
    if one.kind == FIXED:
        return style.element(one.name, len(one.shape))
    if one.kind == STATE or one.name.endswith(FIRST):
        return style.first(one.name.removesuffix(FIRST))
    indexed = any(node.op == "index" for node in one.nodes)
    return style.element(one.name, len(one.shape)) if indexed else style.parameter(one.name)


def _value(one: Declared, style: DeclaredStyle) -> str:
    nodes = [
        replace(node, op="parameter") if node.op in VALUE_LEAVES and node.op != "constant" else node
        for node in one.nodes
    ]
    text = inline(nodes, style.formulas)
    for written, shown in zip((f"-{style.infinite[0]}", style.infinite[0]), style.infinite[1:] * 2, strict=True):
        sign = "" if written.startswith("-") else "-"
        text = sign + shown if text == written else text
    return text
