"""Write a cell as a LaTeX block."""

from __future__ import annotations

from cello.cells.definition import Cell
from cello.cells.graph import Shape
from cello.cells.sizes import columns_of
from cello.compiler.declared import DeclaredStyle, declared_lines, sizes
from cello.compiler.expression import ATOM, Row, Style, equations, function

ROWS: dict[str, Row] = {
    "add": Row("{} + {}", 1, (1, 1)),
    "sub": Row("{} - {}", 1, (1, 2)),
    "product": Row("{} {}", 2, (9, 9)),
    "mul": Row(r"{} \odot {}", 3, (3, 4)),
    "scaled": Row(r"{}\,{}", 3, (3, 4)),
    "div": function(r"\frac{{{}}}{{{}}}", 2),
    "neg": Row("-{}", 1, (4,)),
    "sigmoid": function(r"\sigma({})"),
    "tanh": function(r"\tanh({})"),
    "relu": function(r"\operatorname{{ReLU}}({})"),
    "softplus": function(r"\operatorname{{softplus}}({})"),
    "exp": function(r"\exp({})"),
    "log": function(r"\log({})"),
    "sqrt": function(r"\sqrt{{{}}}"),
    "abs": function(r"\lvert {} \rvert"),
    "sin": function(r"\sin({})"),
    "cos": function(r"\cos({})"),
    "atan": function(r"\arctan({})"),
    "erf": function(r"\operatorname{{erf}}({})"),
    "floor": function(r"\lfloor {} \rfloor"),
    "round": function(r"\operatorname{{round}}({})"),
    "sign": function(r"\operatorname{{sign}}({})"),
    "stop": function(r"\operatorname{{stop}}({})"),
    "mod": function(r"\operatorname{{mod}}({}, {})", 2),
    "minimum": function(r"\min({}, {})", 2),
    "maximum": function(r"\max({}, {})", 2),
    "apply": Row("{} {}", 2, (9, 9)),
    "transpose": Row(r"{}^{{\top}}", ATOM, (ATOM,)),
    "inverse": Row("{}^{{-1}}", ATOM, (ATOM,)),
    "total": function(r"\operatorname{{sum}}({})"),
    "largest": function(r"\operatorname{{max}}({})"),
    "rows": Row(r"{} \mathbf{{1}}^{{\top}}", 2, (ATOM,)),
    "columns": Row(r"\mathbf{{1}} {}^{{\top}}", 2, (ATOM,)),
    "outer": Row(r"{} {}^{{\top}}", 2, (ATOM, ATOM)),
    "row_sum": function(r"\operatorname{{rowsum}}({})"),
    "column_sum": function(r"\operatorname{{colsum}}({})"),
    "matrix": function(r"\operatorname{{mat}}_{{{shape}}}({})"),
    "flatten": function(r"\operatorname{{vec}}({})"),
    "multiply": Row("{} {}", 2, (9, 9)),
    "multiply_transposed": Row(r"{} {}^{{\top}}", 2, (9, ATOM)),
    "transposed_multiply": Row(r"{}^{{\top}} {}", 2, (ATOM, 9)),
    "turned_product": Row(r"{}^{{\top}} {}", 2, (ATOM, 9)),
    "expm": function(r"\operatorname{{expm}}({})"),
    "power": Row(r"{}^{{{}}}", 4, (ATOM, 0)),
    "radius": function(r"\operatorname{{radius}}({})"),
    "uniform": function(r"\mathcal{{U}}({}, {})", 2),
    "normal": function(r"\mathcal{{N}}({}, {}^2)", 2),
    "where": Row(r"\begin{{cases}} {2} & {0} > {1} \\ {3} & \text{{otherwise}} \end{{cases}}", 0, (0, 0, 0, 0)),
}

GREEK = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi
omega"""


def symbol(name: str, *below: str) -> str:
    """A name as mathematics: Greek letters and single letters in italics, words upright, the rest as subscripts.

    >>> symbol("zeta"), symbol("gate", "t"), symbol("R", "if")
    ('\\\\zeta', '\\\\mathrm{gate}_{t}', 'R_{\\\\mathrm{if}}')
    """
    head, *more = name.rstrip("_").split("_") if name.strip("_") else [name]
    parts = ",".join(_letters(part) for part in (*more, *below) if part)
    return _letters(head) + (f"_{{{parts}}}" if parts else "")


def _letters(word: str) -> str:
    if word.rstrip("0123456789") in GREEK.split():
        return "\\" + word.rstrip("0123456789")
    return word if len(word) == 1 or not word.isalpha() else rf"\mathrm{{{word}}}"


def _leaf(kind: str, name: str) -> str:
    if kind == "size":
        return _size(name)
    if kind == "input" and "." in name:
        frame, _, part = name.partition(".")
        return symbol(frame, *part.split("_"), "t")
    if kind == "parameter":
        group, _, member = name.partition(".")
        return symbol(group, *member.split("_"))
    return symbol(name, "t" if kind == "input" else "t-1")


def _size(text: str) -> str:
    """A size; a share is rounded down."""
    if (columns := columns_of(text)) is not None:
        inner = f"({columns})" if "-" in columns and "/" not in columns else _size(columns)
        return rf"H \cdot {inner}"
    return rf"\lfloor {text} \rfloor" if "/" in text else text


def _shape(shape: Shape) -> str:
    return r" \times ".join(map(_size, shape))


def _constant(value: float) -> str:
    mantissa, _, exponent = f"{value:.12g}".partition("e")
    return mantissa if not exponent else rf"{mantissa} \cdot 10^{{{int(exponent)}}}"


STYLE = Style(
    rows=ROWS,
    leaf=_leaf,
    new_state=lambda name: symbol(name, "t"),
    value=lambda name: symbol(name, "t"),
    constant=_constant,
    shape=_shape,
    parentheses="({})",
)


def _element(name: str, indices: int) -> str:
    own = _leaf("parameter", name)
    return own if not indices else rf"({own})_{{{'ij'[:indices]}}}"


DECLARED = DeclaredStyle(
    formulas=STYLE,
    infinite=(r"\log(0)", r"\infty"),
    element=_element,
    first=lambda state: symbol(state, "0"),
    unbounded=lambda name: f"r_{{{_leaf('parameter', name)}}}",
    parameter=lambda name: _leaf("parameter", name),
)


def latex(cell: Cell) -> str:
    r"""An ``aligned`` block with one line an equation, for use in any display environment.

    After the equations stand fixed tensors by their elements, states before the first frame, parameters within bounds
    by the unbounded r that they are computed from, and, with an arrow, the values at which learning begins; at the end
    the spaces of values of other sizes than H.

    >>> from cello.cells.load import load_cell
    >>> print(latex(load_cell("rnn")))
    \begin{aligned}
    h_{t} &= \tanh(W x_{t} + U h_{t-1} + b)
    \end{aligned}
    """
    lines = [f"{left} &= {right}" for left, right in equations(cell.graph, STYLE)]
    for left, right, begins in declared_lines(cell, DECLARED):
        lines.append(rf"{left} &\leftarrow {right}" if begins else f"{left} &= {right}")
    for kind, name, shape in sizes(cell):
        left = symbol(name, "t") if kind == "state" else _leaf(kind, name)
        lines.append(rf"{left} &\in \mathbf{{R}}^{{{_shape(shape)}}}")
    whole = " \\\\\n".join(lines)
    return f"\\begin{{aligned}}\n{whole}\n\\end{{aligned}}"
