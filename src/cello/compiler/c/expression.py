"""Write the bodies of a kernel's loops in C: expressions on vecs, and their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from cello.cells.graph import Node
from cello.compiler.c.sizes import number
from cello.compiler.expression import ATOM, DEEPEST, Row, function

ROWS: dict[str, Row] = {
    "add": Row("{} + {}", 1, (1, 1)),
    "sub": Row("{} - {}", 1, (1, 2)),
    "mul": Row("{} * {}", 3, (3, 4)),
    "div": Row("{} / {}", 3, (3, 4)),
    "neg": Row("-{}", 3, (4,)),
    "sigmoid": function("sigmoid({})"),
    "tanh": function("hyperbolic({})"),
    "relu": function("relu({})"),
    "softplus": function("softplus({})"),
    "exp": function("exponential({})"),
    "log": function("logarithm({})"),
    "sqrt": function("root({})"),
    "abs": function("absolute({})"),
    "sin": function("sine({})"),
    "cos": function("cosine({})"),
    "atan": function("arctangent({})"),
    "erf": function("error_function({})"),
    "floor": function("round_down({})"),
    "round": function("round_even({})"),
    "sign": function("sign_of({})"),
    "stop": Row("{}", ATOM, (ATOM,)),
    "mod": function("modulo({}, {})", 2),
    "minimum": function("minimum({}, {})", 2),
    "maximum": function("maximum({}, {})", 2),
    "where": function("where({}, {}, {}, {})", 4),
}
"""How each pointwise operation is written on vecs."""


NEVER_NEGATIVE = frozenset(["sigmoid", "softplus", "relu", "exp", "sqrt", "abs"])


def sign(nodes: Sequence[Node], k: int, deepest: int = 8) -> int:
    """-1 of a value that is never positive whatever the numbers are, 1 of one that is never negative; 0: not known."""
    node = nodes[k]
    if node.value is not None and node.op == "constant":
        return 1 if node.value >= 0 else -1
    if node.op in NEVER_NEGATIVE:
        return 1
    if not deepest or node.op not in ("neg", "mul", "div"):
        return 0
    found = 1 if node.op != "neg" else -1
    for arg in node.args:
        found *= sign(nodes, arg, deepest - 1)
    return found


class Body:
    """The inside of a loop over rows: stores, and before them what they are computed from.

    ``loads(k)`` is how the kernel reads node k, None where it is computed here; ``rows`` are the nodes that are the
    same for all rows, with what reads them: those used are declared in ``before``, the lines ahead of the loop. What
    is computed here stands under its comment, if it has one. Of a matrix, ``once`` are the nodes that are the same in
    all of a row's columns: those used are declared in ``middle``, ahead of the loop over columns.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        names: Mapping[int, str],
        loads: Callable[[int], str | None],
        rows: Mapping[int, str],
        comments: Mapping[int, str],
        once: Callable[[int], str | None] = lambda k: None,
    ) -> None:
        self.nodes, self.names, self.loads, self.rows, self.comments = nodes, names, loads, rows, comments
        self.once = once
        self.before: list[str] = []
        self.middle: list[str] = []
        self.lines: list[str] = []
        self.known: dict[int, str] = {}
        self.count: dict[int, int] = {}
        self.depth: dict[int, int] = {}
        self.squares: dict[int, tuple[int, int, int]] = {}

    def write(self, stores: Iterable[tuple[str, int]]) -> list[str]:
        """The lines for stores, each a statement with a place for its value and the value's node."""
        stores = list(stores)
        for _, k in stores:
            self._visit(k)
        self.squares = self._squares()
        for statement, k in stores:
            self.lines.append(statement.format(self._text(k, 0)))
        return self.lines

    def _visit(self, k: int) -> None:
        self.count[k] = self.count.get(k, 0) + 1
        if self.count[k] == 1 and k not in self.rows and self.loads(k) is None and self.once(k) is None:
            for arg in self.nodes[k].args:
                self._visit(arg)

    def _squares(self) -> dict[int, tuple[int, int, int]]:
        """Where exp(v), exp(2 v) and 1 - exp(2 v) are computed here, and v is never positive: their nodes, by each."""
        own = [k for k in self.count if k not in self.rows and self.loads(k) is None and self.once(k) is None]
        exponentials = {self.nodes[k].args[0]: k for k in own if self.nodes[k].op == "exp"}
        of_exponentials = {k: self.nodes[k].args[0] for k in exponentials.values()}
        found: dict[int, tuple[int, int, int]] = {}
        for less in (k for k in own if self.nodes[k].op == "sub"):
            one, square = self.nodes[less].args
            if not self._is(one, 1) or square not in of_exponentials:
                continue
            twice = self.nodes[of_exponentials[square]]
            factors = (twice.args, twice.args[::-1]) if twice.op == "mul" else ()
            v = next((b for a, b in factors if self._is(a, 2)), -1)
            if v in exponentials and sign(self.nodes, v) < 0:
                each = exponentials[v], square, less
                found |= dict.fromkeys(each, each)
        return found

    def _is(self, k: int, value: float) -> bool:
        return self.nodes[k].op == "constant" and self.nodes[k].value == value

    def _with_square(self, first: int, square: int, less: int) -> None:
        """Compute exp(v), exp(2 v) and 1 - exp(2 v) together."""
        own, v = (first, square, less), self._text(self.nodes[first].args[0], 0)
        self.known |= {k: self.names.get(k, f"_{k}") for k in own}
        self.depth |= dict.fromkeys(own, 0)
        self.lines += [self.comments[k] for k in own if k in self.comments]
        a, b, c = (self.known[k] for k in own)
        self.lines += [f"vec {b}, {c};", f"const vec {a} = exponential_and_square({v}, &{b}, &{c});"]

    def _text(self, k: int, needs: int) -> str:
        if k in self.squares and k not in self.known:
            self._with_square(*self.squares[k])
        if k in self.known:
            return self.known[k]
        node = self.nodes[k]
        if (plain := number(node)) is not None:
            return plain
        if (repeated := self.once(k)) is not None:
            self.known[k] = self.names.get(k, f"_{k}")
            self.middle.append(f"const vec {self.known[k]} = {repeated};")
            return self.known[k]
        if k in self.rows:
            self.known[k] = self.names[k]
            self.before.append(f"const vec {self.known[k]} = {self.rows[k]};")
            return self.known[k]
        loaded = self.loads(k)
        if loaded is None:
            row = ROWS[node.op]
            encloses = row.precedence == ATOM
            parts = [
                f"broadcast({text})" if encloses and number(self.nodes[a]) is not None else text
                for a, need in zip(node.args, row.needs, strict=True)
                for text in [self._text(a, need)]
            ]
            text, precedence = row.template.format(*parts), row.precedence
        else:
            text, precedence = loaded, ATOM
        self.depth[k] = 1 + max((self.depth.get(a, 0) for a in node.args), default=0) if loaded is None else 0
        if self.count[k] == 1 and (node.name is None or loaded is not None) and self.depth[k] < DEEPEST:
            return text if precedence >= needs else f"({text})"
        self.depth[k] = 0
        self.known[k] = self.names.get(k, f"_{k}")
        if loaded is None and k in self.comments:
            self.lines.append(self.comments[k])
        self.lines.append(f"const vec {self.known[k]} = {text};")
        return self.known[k]
