"""Write a kernel's loops in C: over units and rows, and over the columns of matrices; what they add up on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cello.cells.graph import Node, Shape
from cello.cells.sizes import repeated, share
from cello.compiler.c.expression import Body
from cello.compiler.c.sizes import elements, padded, tile
from cello.compiler.c.source import Names, Workspace
from cello.compiler.places import marked
from cello.compiler.step_names import indented


@dataclass
class Loop:
    """A loop over values of one shape: what it stores, and lines before and after it.

    ``stores`` are statements with a place for a value, and the value's node. ``sums`` are vecs that accumulate over the
    rows, with where they begin and end; ``soon`` asks for what the next step reads of large states.
    """

    names: Names
    workspace: Workspace
    shape: Shape
    stores: list[tuple[str, int]] = field(default_factory=list)
    sums: dict[str, str] = field(default_factory=dict)
    first: dict[str, None] = field(default_factory=dict)
    last: list[str] = field(default_factory=list)
    row_first: list[str] = field(default_factory=list)
    row_last: list[str] = field(default_factory=list)
    inside: bool = False
    soon: dict[str, None] = field(default_factory=dict)

    def reduce(self, node: Node, name: str, place: str) -> None:
        """Add up the node's argument, which this loop computes, into a tile at ``place``."""
        arg, place = node.args[0], marked(place)
        if node.op == "row_sum":
            self.row_first.append(f"vec {name}_total = broadcast(0);")
            self.stores.append((f"{name}_total += {{}};", arg))
            self.row_last.append(f"store({place} + line, {name}_total);")
        elif node.op == "flatten":
            units = self._units(name)
            self.stores.append((f"store({units} + column * V, {{}});", arg))
            self.row_last.append(f"give_units({units}, rows, r, j, H, {elements(self.shape[1])}, {place});")
        elif node.op == "column_sum":
            columns, own = elements(self.shape[1]), repeated(self.shape[1])
            self.workspace.add(f"{name}_columns", f"round_up({columns}, V) * V")
            self.workspace.add(f"{name}_lines", tile((own,)))
            each, lines = marked(f"{name}_columns"), marked(f"{name}_lines")
            self.first[f"zero_lines(n, {elements(own)}, {lines});"] = None
            self.stores.append((f"store({each} + column * V, {{}});", arg))
            self.row_last.append(f"add_columns({each}, {columns}, from, one, H - j, {lines} + r * {padded(own)});")
            self.last.append(f"from_lines(n, rows, {elements(own)}, {lines}, {place});")
        else:
            self.inside = True
            begin, step = ("0", "accumulate({}, {})") if node.op == "total" else ("-INFINITY", "enlarge({}, {})")
            self.first[f"begin_lanes(n, (real){begin}, {place});"] = None
            value = f"select_vec(inside, {{}}, broadcast((real){begin}))"
            self.stores.append((f"{step.format(f'{place} + r * V', value)};", arg))
            self.last.append(f"{'total' if node.op == 'total' else 'largest'}_of_lanes(n, {place});")

    def loads(self, node: Node, name: str, place: str) -> str | None:
        """How an argument's tile at ``place`` is read by ``broadcast``, ``columns`` or ``matrix``."""
        if node.op == "broadcast":
            return f"broadcast(({marked(place)})[r * V])" if " " in place else f"broadcast({marked(place)}[r * V])"
        if node.op == "columns":
            own = repeated(node.shape[1])
            self.workspace.add(f"{name}_lines", tile((own,)))
            lines = marked(f"{name}_lines")
            self.first[f"to_lines(n, rows, {elements(own)}, {marked(place)}, {lines});"] = None
            return f"column_of({lines} + r * {padded(own)} + column, from, one)"
        if node.op == "matrix":
            units = self._units(name)
            line = f"take_units({marked(place)}, rows, r, j, H, {elements(node.shape[1])}, {units});"
            self.row_first += [] if line in self.row_first else [line]
            return f"load({units} + column * V)"
        return None

    def _units(self, name: str) -> str:
        """Memory for the rows of a vec of units, as they lie in a vector of all rows and as they lie in a matrix."""
        columns = elements(self.shape[1])
        self.workspace.add(f"{name}_units", f"V * ({columns} + round_up({columns}, V)) + V")
        return marked(f"{name}_units")

    def lines(self, body: Body) -> list[str]:
        """The loop, with the body of its stores."""
        lines = body.write(self.stores)
        before = [*body.before, *(f"vec {name} = load({place});" for name, place in self.sums.items())]
        after = [f"store({place}, {name});" for name, place in self.sums.items()]
        if self.inside:
            before.append(f"const mask inside = lanes_below({elements(self.shape[0])} - j);")
        inner = ["const long at = j * rows + r * V;", *lines]
        if len(self.shape) == 2:
            columns = elements(self.shape[1])
            head = columns if share(self.shape[1]) else "H"
            before.insert(0, f"const mask from = heads_of(j, H, {head});")
            before.insert(1, f"const long one = one_head(j, H, {head});")
            inner = [
                "const long line = j * rows + r * V;",
                *body.middle,
                *self.row_first,
                f"for (long column = 0; column < {columns}; column++) {{",
                *indented([f"const long at = line * {columns} + column * V;", *self.soon, *lines]),
                "}",
                *self.row_last,
            ]
        over_rows = ["for (long r = 0; r < n; r++) {", *indented(inner), "}"]
        over_units = [
            f"for (long j = 0; j < {padded(self.shape[0])}; j += V) {{",
            *indented([*before, *over_rows, *after]),
            "}",
        ]
        return indented([*self.first, *over_units, *self.last])


def multiplied(
    names: Names, workspace: Workspace, nodes: Sequence[Node], k: int, place: Callable[[int], str | None]
) -> str:
    """The call that takes a product of matrices into ``place(k)``; invariant ones are the same in all rows."""
    node = nodes[k]
    blocks, wide = (node, nodes[node.args[0]]) if node.op == "multiply_transposed" else (nodes[node.args[0]], node)
    d, N = elements(blocks.shape[1]), elements(wide.shape[1])
    workspace.add("memory_of_products", f"({d} + {N}) * V + {d} * {N}", most=True)
    given = []
    for arg in node.args:
        same = arg in names.plan.invariant
        tile_at = marked(f"{names.of[arg]}_row" if same else str(place(arg)))
        given.append(f"(struct of_heads){{{tile_at}, {'1, 1' if same else 'rows, 0'}}}")
    return (
        f"    multiply_heads({node.op.upper()}, n, rows, H, {d}, {N}, {', '.join(given)}, {marked(str(place(k)))}, "
        "memory_of_products);"
    )


class Loops:
    """The loops of one stage, one for each shape."""

    def __init__(self, names: Names, workspace: Workspace) -> None:
        self.names, self.workspace = names, workspace
        self.of: dict[Shape, Loop] = {}

    def over(self, shape: Shape) -> Loop:
        """The loop over values of this shape."""
        return self.of.setdefault(shape, Loop(self.names, self.workspace, shape))

    def store(self, shape: Shape, statement: str, k: int) -> None:
        """Store node k, of this shape."""
        self.over(shape).stores.append((statement, k))

    def in_order(self, *, back: bool = False) -> list[Loop]:
        """One number a step first, then vectors, then matrices; backward in the opposite order."""
        found = sorted(self.of.values(), key=lambda loop: (len(loop.shape), loop.shape != ("1",)))
        return found[::-1] if back else found


def body_of(
    names: Names,
    nodes: tuple[Node, ...],
    labels: Mapping[int, str],
    loop: Loop,
    loads: Callable[[int], str | None],
    place: Callable[[int], str],
    comments: Mapping[int, str],
) -> Body:
    """The inside of a loop: ``loads`` reads values of its own shape, ``place`` is the tile of one of another shape."""

    def reads(k: int) -> str | None:
        node, invariant = nodes[k], k in names.invariant
        if not invariant and (found := loads(k)) is not None:
            return found
        if node.op in ("broadcast", "columns", "matrix") and not invariant:
            arg = node.args[0]
            return loop.loads(node, labels.get(arg, f"_{arg}"), place(arg))
        if invariant and len(node.shape) == 2:
            return f"load({marked(f'{names.of[k]}_row')} + j * {elements(node.shape[1])} + column * V)"
        return None

    def once(k: int) -> str | None:
        node = nodes[k]
        if node.op == "rows" and k not in names.invariant and loads(k) is None:
            return f"load({marked(place(node.args[0]))} + line)"
        return None

    return Body(nodes, labels, reads, names.rows(loop.shape), comments, once)
