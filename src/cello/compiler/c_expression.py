"""The insides of a kernel's loops in C: names, expressions on vecs, and the order of their lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from cello.cells.graph import Node
from cello.compiler.expression import ATOM, Row, function, value_names
from cello.compiler.kernel import Kernel

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
    "minimum": function("minimum({}, {})", 2),
    "maximum": function("maximum({}, {})", 2),
    "where": function("where({}, {}, {}, {})", 4),
}
"""How each pointwise operation is written on vecs."""

KERNEL = """
    a begin before columns d_columns d_fixed d_matrices d_products d_products_slots H j kept mine most n next over P r
    room row running running_later slot t T tall tile vectors vectors_slots V
    BYTES CHUNK DOUBLE MANY PANEL ROWS TILE WIDE absolute affine affine_back all anywhere backward block choose clamped
    exponential forward gather hyperbolic integer load logarithm logarithm_of_1_plus mask maximum minimum outer
    outer_block pack panel power_of_2 product real reduced relu root sigmoid softplus store unit vec where
"""
LANGUAGE = """
    abs asm auto break calloc case char const continue default do double else enum exp extern float for free goto if
    inline int linux long log memcpy memset register restrict return short signed sizeof sqrt static struct switch tanh
    typedef typeof union unix unsigned void volatile while
"""
RESERVED = frozenset((KERNEL + LANGUAGE).split())
"""Names that mean something else in the kernel or in C."""
PLACES = re.compile(r"(old|new|swap|d_old|d_new|_)_?\d+$|\w*_tile$|d_")
"""Names the kernel makes up: tiles, derivatives, values without a name."""


def identifiers(plan: Kernel) -> dict[int, str]:
    """A C identifier of its own for each node of the step: the equation's name, a product's factors, or a number."""
    known, found = value_names(plan.plan.graph), dict[int, str]()
    new = {k: f"{s}_new" for s, k in zip(plan.plan.graph.states, plan.plan.graph.outputs, strict=True)}
    taken: set[str] = set()
    for k, node in enumerate(plan.nodes):
        if node.op == "state":
            wanted = f"{node.name}_old"
        elif node.op == "product":
            wanted = "_".join(str(plan.nodes[a].name or f"_{a}") for a in node.args)
        else:
            wanted = new.get(k) or known.get(k) or node.name or f"_{k}"
        wanted = re.sub(r"\W", "_", wanted, flags=re.ASCII)
        if wanted in RESERVED or PLACES.match(wanted) or wanted[0] in "0123456789":
            wanted += "_own"
        while wanted in taken:
            wanted += "_"
        taken.add(wanted)
        found[k] = wanted
    return found


class Body:
    """The inside of a loop over units: stores, and before them what they are computed from."""

    def __init__(self, nodes: Sequence[Node], names: Mapping[int, str], loads: Callable[[int], str | None]) -> None:
        self.nodes, self.names, self.loads = nodes, names, loads
        self.lines: list[str] = []
        self.known: dict[int, str] = {}
        self.count: dict[int, int] = {}

    def write(self, stores: Iterable[tuple[str, int]]) -> list[str]:
        """The lines for stores, each a statement with a place for its value and the value's node."""
        stores = list(stores)
        for _, k in stores:
            self._visit(k)
        for statement, k in stores:
            self.lines.append(statement.format(self._text(k, 0)))
        return [f"            {line}" for line in self.lines]

    def _visit(self, k: int) -> None:
        self.count[k] = self.count.get(k, 0) + 1
        if self.count[k] == 1 and self.loads(k) is None:
            for arg in self.nodes[k].args:
                self._visit(arg)

    def _text(self, k: int, needs: int) -> str:
        if k in self.known:
            return self.known[k]
        node = self.nodes[k]
        if node.op == "constant":
            return f"(real)({node.value!r})"
        loaded = self.loads(k)
        if loaded is None:
            row = ROWS[node.op]
            encloses = row.precedence == ATOM
            parts = [
                f"all({text})" if encloses and self.nodes[a].op == "constant" else text
                for a, need in zip(node.args, row.needs, strict=True)
                for text in [self._text(a, need)]
            ]
            text, precedence = row.template.format(*parts), row.precedence
        else:
            text, precedence = loaded, ATOM
        if self.count[k] == 1 and (node.name is None or loaded is not None):
            return text if precedence >= needs else f"({text})"
        self.known[k] = self.names.get(k, f"_{k}")
        self.lines.append(f"const vec {self.known[k]} = {text};")
        return self.known[k]
