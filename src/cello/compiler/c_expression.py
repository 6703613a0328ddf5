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
    a absolute after all anywhere arguments ASK_FOR at backward backward_group backward_tile before begin block
    block_height BYTES c CALLS choose CHUNK clamped clips clips_of counts D d_out d_x DOUBLE E exponential fill
    first_tile forward forward_group forward_tile gather give group GROUPS groups_of H history hyperbolic in_threads
    integer j kept LANE_BY_LANE later load load_some logarithm logarithm_of_1_plus mask maximum minimum MOST_ROWS n
    next none nothing_beyond once outer outer_block outputs P pack packed_size PANEL per_clip power_of_2 product r
    real reduced relu room room_for room_of root row_of rows ROWS running sigmoid size sizes sizes_of slot softplus
    square steps steps_before store store_some T t tail take tall term TILE tile tile_of tiles_of total_rows unkept
    unpack V vec vec_length where whole wide WIDE wide_back work work_on
"""
LANGUAGE = """
    abs asm auto break calloc case char const continue default do double else enum exp extern float for free goto if
    inline int linux long log memcpy memset register restrict return short signed sizeof sqrt static struct switch tanh
    typedef typeof union unix unsigned void volatile while
"""
RESERVED = frozenset((KERNEL + LANGUAGE).split())
"""Names that mean something else in the kernel or in C."""
PLACES = re.compile(r"(old|new|swap|d_old|d_new|terms|_)_?\d+$|\w*_(tile|slots|start|row|part)$|(d|old|new|swap)_")
"""Names the kernel makes up: tiles, derivatives, values without a name."""


def identifiers(plan: Kernel) -> dict[int, str]:
    """A C identifier of its own for each node of the step: an equation's name, a named value's sum, or a number."""
    graph, known, found = plan.graph, value_names(plan.graph), dict[int, str]()
    new = {k: f"{s}_next" for s, k in zip(graph.states, graph.outputs, strict=True)}
    readers: dict[int, list[int]] = {}
    for k, node in enumerate(graph.nodes):
        for arg in node.args:
            readers.setdefault(arg, []).append(k)
    sums = {each.node for each in plan.sums}
    taken: set[str] = set()
    for k, node in enumerate(graph.nodes):
        wanted = new.get(k) or known.get(k) or node.name or f"_{k}"
        if k in sums and wanted.startswith("_") and len(readers.get(k, [])) == 1:
            reader = readers[k][0]
            name = new.get(reader) or known.get(reader) or graph.nodes[reader].name
            wanted = f"{name}_sum" if name else wanted
        wanted = re.sub(r"\W", "_", wanted, flags=re.ASCII)
        if wanted in RESERVED or (PLACES.match(wanted) and wanted != f"_{k}") or wanted[0] in "0123456789":
            wanted += "_own"
        while wanted in taken:
            wanted += "_"
        taken.add(wanted)
        found[k] = wanted
    return found


class Body:
    """The inside of a loop over rows: stores, and before them what they are computed from.

    ``loads(k)`` is how the kernel reads node k, None where it is computed here; ``rows`` are the nodes that are the
    same for all rows, with what reads them: those used are declared in ``before``, the lines ahead of the loop. What
    is computed here stands under its comment, if it has one.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        names: Mapping[int, str],
        loads: Callable[[int], str | None],
        rows: Mapping[int, str],
        comments: Mapping[int, str],
    ) -> None:
        self.nodes, self.names, self.loads, self.rows, self.comments = nodes, names, loads, rows, comments
        self.before: list[str] = []
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
        return self.lines

    def _visit(self, k: int) -> None:
        self.count[k] = self.count.get(k, 0) + 1
        if self.count[k] == 1 and k not in self.rows and self.loads(k) is None:
            for arg in self.nodes[k].args:
                self._visit(arg)

    def _text(self, k: int, needs: int) -> str:
        if k in self.known:
            return self.known[k]
        node = self.nodes[k]
        if node.op == "constant":
            return f"(real)({node.value!r})"
        if k in self.rows:
            self.known[k] = self.names[k]
            self.before.append(f"const vec {self.known[k]} = {self.rows[k]};")
            return self.known[k]
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
        if loaded is None and k in self.comments:
            self.lines.append(self.comments[k])
        self.lines.append(f"const vec {self.known[k]} = {text};")
        return self.known[k]
