"""Write a cell as plain text: its equations, or the nodes of its graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from cello.cells.definition import Cell
from cello.cells.graph import LEAVES, Shape
from cello.compiler.declared import DeclaredStyle, declared_lines, sizes
from cello.compiler.expression import ATOM, Row, Style, equations, function

ROWS: dict[str, Row] = {
    "add": Row("{} + {}", 1, (1, 1)),
    "sub": Row("{} - {}", 1, (1, 2)),
    "product": Row("{} @ {}", 2, (9, 9)),
    "mul": Row("{} * {}", 3, (3, 4)),
    "div": Row("{} / {}", 3, (3, 4)),
    "neg": Row("-{}", 3, (4,)),
    "sigmoid": function("sigmoid({})"),
    "tanh": function("tanh({})"),
    "relu": function("relu({})"),
    "softplus": function("softplus({})"),
    "exp": function("exp({})"),
    "log": function("log({})"),
    "sqrt": function("sqrt({})"),
    "abs": function("abs({})"),
    "sin": function("sin({})"),
    "cos": function("cos({})"),
    "atan": function("atan({})"),
    "erf": function("erf({})"),
    "floor": function("floor({})"),
    "round": function("round({})"),
    "sign": function("sign({})"),
    "stop": function("stop({})"),
    "mod": function("mod({}, {})", 2),
    "minimum": function("minimum({}, {})", 2),
    "maximum": function("maximum({}, {})", 2),
    "where": function("where({} > {}, {}, {})", 4),
    "power": Row("{} ** {}", 4, (ATOM, ATOM)),
    "apply": Row("{} @ {}", 2, (9, 9)),
    "transpose": Row("{}.T", ATOM, (ATOM,)),
    "inverse": function("inverse({})"),
    "total": Row("{}.sum()", ATOM, (ATOM,)),
    "largest": Row("{}.max()", ATOM, (ATOM,)),
    "rows": function("rows({})"),
    "columns": function("columns({})"),
    "outer": function("outer({}, {})", 2),
    "row_sum": function("row_sum({})"),
    "column_sum": function("column_sum({})"),
    "matrix": function("matrix({}, {shape})"),
    "flatten": function("flatten({})"),
    "multiply": Row("{} @ {}", 2, (9, 9)),
    "multiply_transposed": Row("{} @ {}.T", 2, (9, ATOM)),
    "transposed_multiply": Row("{}.T @ {}", 2, (ATOM, 9)),
    "turned_product": Row("{}.T @ {}", 2, (ATOM, 9)),
    "expm": function("expm({})"),
    "radius": function("spectral_radius({})"),
    "uniform": function("uniform({}, {})", 2),
    "normal": function("normal({}, {})", 2),
}


def _leaf(kind: str, name: str) -> str:
    return {"input": f"{name}[t]", "state": f"{name}[t-1]"}.get(kind, name)


STYLE = Style(
    rows=ROWS,
    leaf=_leaf,
    new_state=lambda name: f"{name}[t]",
    value=lambda name: name,
    constant=lambda value: f"{value:g}" if float(f"{value:g}") == value else repr(value),
)


DECLARED = DeclaredStyle(
    formulas=STYLE,
    infinite=("log(0)", "inf"),
    element=lambda name, indices: name + ("", "[i]", "[i, j]")[indices],
    first=lambda state: f"{state}[0]",
    unbounded=lambda name: f"r[{name}]",
    parameter=lambda name: name,
)


def equations_text(cell: Cell) -> str:
    """The equations of one step, one a line; x[t] is the frame, h[t-1] the state before, h[t] the state after.

    After them what the cell declares: fixed tensors by their elements, A[i, j] = ...; states before the first frame,
    m[0] = ...; values at which learning begins, tau := ...; and those kept within bounds, as of an unbounded r[tau].
    Last the sizes that are not H, h : H/2.

    >>> from cello.cells.load import load_cell
    >>> print(equations_text(load_cell("rnn")))
    h[t] = tanh(W @ x[t] + U @ h[t-1] + b)
    """
    lines = [(left, "=", right) for left, right in equations(cell.graph, STYLE)]
    lines += [(left, ":=" if begins else "=", right) for left, right, begins in declared_lines(cell, DECLARED)]
    lines += [(name, ":", shape_text(shape)) for _, name, shape in sizes(cell)]
    width = max(len(left) for left, _, _ in lines)
    return "\n".join(f"{left:{width}s} {sign} {right}" for left, sign, right in lines)


def graph_text(cell: Cell) -> str:
    """The nodes of the graph, one a line: position, name, operation with its arguments' positions, shape."""
    rows = [
        (str(k), node.name or "", _operation(node.op, node.args, node.value), shape_text(node.shape))
        for k, node in enumerate(cell.graph.nodes)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{k:>{widths[0]}}  {name:{widths[1]}}  {op:{widths[2]}}  {shape}" for k, name, op, shape in rows]
    new = ", ".join(f"{state} = {k}" for state, k in zip(cell.states, cell.graph.outputs, strict=True))
    return "\n".join([*lines, f"new states: {new}"])


def _operation(op: str, args: tuple[int, ...], value: float | None) -> str:
    if op in LEAVES:
        return op if value is None else f"{op} {value:g}"
    return f"{op}({', '.join(map(str, args))})"


def shapes_text(cell: Cell) -> str:
    """The shapes of states, parameters and fixed tensors, one line each: (H, D) for a matrix, () for a single number.

    >>> from cello.cells.load import load_cell
    >>> print(shapes_text(load_cell("rnn")))
    states     h (H,)
    parameters W (H, D) · U (H, H) · b (H,)
    """
    fixed = cell.fixed()
    groups = (
        ("parts", [(f"{cell.arguments[0]}.{part}", (text,)) for part, text in cell.parts]),
        ("states", list(zip(cell.states, cell.state_shapes, strict=True))),
        ("parameters", [(str(node.name), node.shape) for node in cell.parameter_nodes()]),
        ("fixed", [(str(node.name), node.shape) for node in cell.graph.parameters() if node.name in fixed]),
    )
    return "\n".join(f"{title:10s} {_named(named)}" for title, named in groups if named)


def _named(named: Sequence[tuple[str, Shape]]) -> str:
    """Names and shapes; neighbours of one shape and one group are told together."""
    together = groupby(named, key=lambda each: (each[0].partition(".")[0], each[1]))
    return " · ".join(f"{' '.join(name for name, _ in same)} {_tuple(shape)}" for (_, shape), same in together)


def _tuple(shape: Shape) -> str:
    return f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(shape)})"


def shape_text(shape: Shape) -> str:
    """H×D for a matrix, H for a vector, 1 for a single number."""
    return "×".join(shape) or "1"
