"""Cells whose values have several sizes, built node by node, for the tests of every back end."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from cello.cells.definition import Cell
from cello.cells.graph import MULTIPLYING, GraphBuilder, Shape
from cello.cells.sizes import elements_of


@dataclass
class Building:
    """Writes the graph of a cell; shapes are texts such as "H/2,D"."""

    builder: GraphBuilder = field(default_factory=GraphBuilder)

    def leaf(self, op: str, name: str, shape: str) -> int:
        return self.builder.write(op, name=name, shape=_shape(shape))

    def x(self, shape: str = "D", part: str = "") -> int:
        return self.leaf("input", f"x.{part}" if part else "x", shape)

    def state(self, name: str, shape: str = "H") -> int:
        return self.leaf("state", name, shape)

    def learned(self, name: str, shape: str) -> int:
        return self.leaf("parameter", name, shape)

    def number(self, value: float) -> int:
        return self.builder.write("constant", value=value)

    def __call__(self, op: str, *args: int) -> int:
        return self.builder.write(op, *args)

    def to(self, op: str, arg: int, shape: str, *others: int) -> int:
        return self.builder.write(op, arg, *others, shape=_shape(shape))

    def affine(self, gate: str, *pairs: tuple[str, str, int]) -> int:
        """Matrices, their shapes and what they multiply, and a bias."""
        total = self.learned(f"b.{gate}", pairs[0][1].split(",")[0])
        for group, shape, vector in pairs:
            total = self("add", self("product", self.learned(f"{group}.{gate}", shape), vector), total)
        return total

    def cell(self, name: str, states: dict[str, int], groups: str, parts: tuple[tuple[str, str], ...] = ()) -> Cell:
        graph = self.builder.graph(tuple(states), [*states.values()])
        arguments = ("x", *states, *groups.split())
        return Cell(name=name, doc="", reference="", arguments=arguments, graph=graph, parts=parts)


def _shape(text: str) -> Shape:
    return tuple(text.split(",")) if text else ()


def projected() -> Cell:
    """An LSTM whose output is a projection of half as many elements, with a peephole from it."""
    b = Building()
    x, h, c = b.x(), b.state("h", "H/2"), b.state("c")
    i, f, g, o = (b.affine(gate, ("W", "H,D", x), ("U", "H,H/2", h)) for gate in "ifgo")
    c = b("add", b("mul", b("sigmoid", f), c), b("mul", b("sigmoid", i), b("tanh", g)))
    h = b("product", b.learned("R", "H/2,H"), b("mul", b("sigmoid", o), b("tanh", c)))
    return b.cell("projected", {"h": h, "c": c}, "W U b R")


def low_rank() -> Cell:
    """A gated cell with matrices of rank 5, and a value of D elements multiplied by the frame (as in Mogrifier)."""
    b = Building()
    x, h = b.x(), b.state("h")
    gate = b("sigmoid", b("product", b.learned("Q", "D,H"), h))
    x = b("mul", b("mul", b.number(2.0), gate), x)
    inner = b("add", b("product", b.learned("W.in", "5,D"), x), b("product", b.learned("U.in", "5,H"), h))
    z = b("sigmoid", b("add", b("product", b.learned("W.z", "H,5"), inner), b.learned("b.z", "H")))
    n = b("tanh", b("add", b("product", b.learned("W.n", "H,5"), b("tanh", inner)), b.learned("b.n", "H")))
    h = b("add", b("mul", z, h), b("mul", b("sub", b.number(1.0), z), n))
    return b.cell("low-rank", {"h": h}, "W U b Q")


def normalised() -> Cell:
    """A layer-normalised RNN with a softmax over its units, a learned scalar in several shapes, and one gate in all."""
    b = Building()
    x, h = b.x(), b.state("h")
    u = b("add", b("product", b.learned("W.u", "H,D"), x), b("product", b.learned("U.u", "H,H"), h))
    units = b.leaf("size", "H", "")
    mean = b("div", b("total", u), units)
    d = b("sub", u, b.to("broadcast", mean, "H"))
    scale = b("sqrt", b("add", b("div", b("total", b("mul", d, d)), units), b.number(1e-5)))
    zeta = b.learned("zeta", "")
    v = b("add", b("mul", b("div", d, b.to("broadcast", scale, "H")), b.learned("g", "H")), b.learned("b", "H"))
    e = b("exp", b("sub", v, b.to("broadcast", b("largest", v), "H")))
    share = b("div", e, b.to("broadcast", b("total", e), "H"))
    gate = b(
        "sigmoid", b("add", b("mul", zeta, b("product", b.learned("W.g", "1,D"), x)), b("mul", zeta, b("total", h)))
    )
    new = b("add", b("mul", zeta, share), b("tanh", v))
    spread = b.to("broadcast", gate, "H")
    h = b("add", b("mul", spread, h), b("mul", b("sub", b.number(1.0), spread), new))
    return b.cell("normalised", {"h": h}, "W U g b zeta")


def heads() -> Cell:
    """A matrix memory with two heads: gated outer products, read by a query, and a block-diagonal recurrence."""
    b = Building()
    x, h, S = b.x(), b.state("h"), b.state("S", "H,H/2")
    k, v, q, f = (b.affine(gate, ("W", "H,D", x)) for gate in "kvqf")
    decay = b("sigmoid", b.to("rows", f, "H,H/2"))
    outer = b("mul", b.to("rows", v, "H,H/2"), b.to("columns", b("sigmoid", k), "H,H/2"))
    new = b("add", b("mul", decay, S), outer)
    read = b("row_sum", b("mul", new, b.to("columns", q, "H,H/2")))
    back = b("column_sum", b("mul", S, b.to("rows", h, "H,H/2")))
    own = b("row_sum", b("mul", b.learned("U", "H,H/2"), b.to("columns", h, "H,H/2")))
    h = b("tanh", b("add", b("add", read, own), b("mul", b.number(0.1), back)))
    return b.cell("heads", {"h": h, "S": new}, "W b U")


def columns() -> Cell:
    """A memory of five elements a unit, written by one key for all units, and read both ways (as Mamba's)."""
    b = Building()
    x, h, S = b.x(), b.state("h"), b.state("S", "H,5")
    k, q = (b.affine(gate, ("W", "5,D", x)) for gate in "kq")
    t, v = (b("product", b.learned(f"W.{gate}", "H,D"), x) for gate in "tv")
    rate = b("sigmoid", b.to("rows", t, "H,5"))
    decay = b("exp", b("mul", b("neg", rate), b("exp", b.learned("A", "H,5"))))
    outer = b("mul", b.to("rows", b("tanh", v), "H,5"), b.to("columns", b("sigmoid", k), "H,5"))
    new = b("add", b("mul", decay, S), outer)
    read = b("row_sum", b("mul", new, b.to("columns", q, "H,5")))
    back = b("column_sum", b("mul", S, b.to("rows", h, "H,5")))
    h = b("tanh", b("add", read, b("product", b.learned("U", "H,5"), back)))
    return b.cell("columns", {"h": h, "S": new}, "W b A U")


def gaps() -> Cell:
    """A GRU-D-like cell: the frame is values, a mask and a time gap; the last values seen are a state."""
    b = Building()
    K = "(D-1)/2"
    value, mask, gap = b.x(K, "value"), b.x(K, "mask"), b.x("1", "gap")
    h, last = b.state("h"), b.state("last", K)
    w = b(
        "exp",
        b("neg", b("relu", b("add", b("mul", b.to("broadcast", gap, K), b.learned("w.x", K)), b.learned("b.x", K)))),
    )
    rest = b("sub", b.number(1.0), mask)
    seen = b("add", b("mul", mask, value), b("mul", rest, b("mul", w, last)))
    last = b("add", b("mul", mask, value), b("mul", rest, last))
    fade = b("exp", b("neg", b("relu", b("mul", b.to("broadcast", gap, "H"), b.learned("w.h", "H")))))
    old = b("mul", fade, h)
    z, n = (b.affine(g, ("W", f"H,{K}", seen), ("U", "H,H", old), ("V", f"H,{K}", mask)) for g in "zn")
    z = b("sigmoid", z)
    h = b("add", b("mul", b("sub", b.number(1.0), z), old), b("mul", z, b("tanh", n)))
    return b.cell("gaps", {"h": h, "last": last}, "W U V w b", (("value", K), ("mask", K), ("gap", "1")))


def expanded() -> Cell:
    """An RNN of H units whose new output comes of twice as many; the mean of 8 H / 3 others and 4 heads scale it."""
    b = Building()
    x, h = b.x(), b.state("h")
    wide = b("tanh", b.affine("up", ("W", "2*H,D", x), ("U", "2*H,H", h)))
    gate = b("sigmoid", b.affine("gate", ("W", "8*H/3,D", x)))
    mean = b("div", b("total", gate), b.leaf("size", "8*H/3", ""))
    scale = b("apply", b.learned("E", "H,4"), b("exp", b("apply", b.learned("F", "4,4"), b.learned("a", "4"))))
    h = b("mul", b("add", b("product", b.learned("V", "H,2*H"), wide), h), b.to("broadcast", mean, "H"))
    h = b("mul", h, b("sigmoid", scale))
    return b.cell("expanded", {"h": h}, "W U b V E F a")


def generated() -> Cell:
    """Matrices made of vectors: one (H, D) for the frame's change, a decay of two heads; a read-out of all elements."""
    b = Building()
    x, h, last, S = b.x(), b.state("h"), b.state("last", "D"), b.state("S", "H,H/2")
    wide = b("product", b.learned("V", "H*D,5"), b("tanh", b("product", b.learned("U.in", "5,H"), h)))
    field = b.to("matrix", b("tanh", b("add", wide, b.learned("b", "H*D"))), "H,D")
    change = b("row_sum", b("mul", field, b.to("columns", b("sub", x, last), "H,D")))
    decay = b.to("matrix", b("product", b.learned("W.s", "H*H/2,D"), x), "H,H/2")
    new = b("add", b("mul", b("sigmoid", decay), S), b("mul", b.to("rows", change, "H,H/2"), decay))
    back = b("column_sum", b("mul", field, b.to("rows", b("tanh", h), "H,D")))
    read = b("product", b.learned("U.out", "H,H*H/2"), b.to("flatten", new, "H*H/2"))
    h = b("add", b("mul", b.number(0.5), h), b("tanh", b("mul", b.number(0.05), b("add", read, change))))
    return b.cell("generated", {"h": h, "last": b("add", x, b("mul", b.number(0.1), back)), "S": new}, "W U V b")


def multiplied() -> Cell:
    """Products of matrices that change, of two heads and of one, with learned ones and transposed ones."""
    b = Building()
    x, h, R, S = b.x(), b.state("h"), b.state("R", "H,H/2"), b.state("S", "H,5")
    made = b.to("matrix", b("tanh", b("product", b.learned("W.r", "H*H/2,D"), x)), "H,H/2")
    turned = b("tanh", b("multiply", made, R))
    new = b("add", b("mul", b.number(0.5), R), b("transposed_multiply", b.learned("U.r", "H,H/2"), turned))
    new = b("add", new, made)
    v = b("product", b.learned("W.v", "H,D"), x)
    outer = b("mul", b.to("rows", v, "H,5"), b.to("columns", b("product", b.learned("W.k", "5,D"), x), "H,5"))
    S = b("add", b("mul", b.number(0.5), b("multiply", b("tanh", turned), S)), outer)
    whole = b("tanh", b.to("multiply_transposed", S, "H,H", b("tanh", S)))
    small = b("transposed_multiply", whole, b("tanh", S))
    half = b.to("multiply_transposed", new, "H,H/2", made)
    read = b("row_sum", b("mul", small, b.to("columns", b("product", b.learned("U.q", "5,H"), h), "H,5")))
    h = b("tanh", b("mul", b.number(0.02), b("add", read, b("row_sum", b("mul", half, b.to("columns", v, "H,H/2"))))))
    return b.cell("multiplied", {"h": h, "R": b("tanh", new), "S": b("tanh", S)}, "W U")


SIZED = {
    each.name: each
    for each in (
        *(projected(), low_rank(), normalised(), heads(), columns(), gaps(), expanded(), generated()),
        multiplied(),
    )
}
"""By name; D odd and H a multiple of 2 suits all of them."""


VECTORS, MATRICES = ("H", "D", "5", "H/2", "1", "D-1", "H*H/3"), ("H,H/2", "H,H/3")


@dataclass
class _Random:
    """Writes a cell of values of any size; H is to be a multiple of 6."""

    draw: random.Random
    build: Building = field(default_factory=Building)
    values: list[int] = field(default_factory=list)

    def shape(self, k: int) -> str:
        return ",".join(self.build.builder.nodes[k].shape)

    def learned(self, group: str, shape: str) -> int:
        return self.build.learned(f"{group}.v{len(self.values)}", shape)

    def like(self, k: int) -> int:
        return self.draw.choice([other for other in self.values if self.shape(other) == self.shape(k)])

    def grow(self) -> int:
        k, b = self.draw.choice(self.values[-8:] + self.values), self.build
        shape, one = self.shape(k), self.draw.choice
        kinds = ["unary", "binary", "binary", "scalar", "size", "learned"]
        kinds += ["row_sum", "column_sum"] if "," in shape else ["product", "product", "total", "largest"]
        kinds += {"1": ["broadcast"], "H": ["rows", "columns"], "H*H/3": ["matrix"] * 4}.get(shape, [])
        kinds += ["flatten", "multiply"] * ("," in shape)
        kind = one(kinds)
        if kind == "product":
            new = one(VECTORS)
            p = b("product", self.learned("W", f"{new},{shape}"), k)
            q = b("product", self.learned("U", f"{new},{shape}"), self.like(k))
            return b("add", b("add", p, self.learned("b", new)), q)
        if kind in ("broadcast", "rows", "columns"):
            return b.to(kind, k, one(VECTORS if kind == "broadcast" else MATRICES))
        if kind == "multiply":
            return b("tanh", b.to(one([*MULTIPLYING]), k, shape, self.like(k)))
        if kind in ("matrix", "flatten"):
            return b.to(kind, k, "H,H/3" if kind == "matrix" else elements_of(shape.partition(",")[2]))
        if kind in ("total", "largest", "row_sum", "column_sum"):
            return b("tanh", b.to(kind, k, "1" if kind in ("total", "largest") else "H"))
        if kind == "size":
            return b("div", k, b.leaf("size", one(["H", "D", "H/2"]), ""))
        if kind == "unary":
            return b(one(["tanh", "sigmoid", "relu", "abs", "stop", "softplus", "neg"]), k)
        other = {"scalar": lambda: b.learned("zeta", ""), "learned": lambda: self.learned("p", shape)}.get(kind)
        return b(one(["add", "sub", "mul", "maximum"]), k, other() if other else self.like(k))

    def cell(self, name: str) -> Cell:
        one, b = self.draw.choice, self.build
        shapes = {"h": one(["H", "H", "H/2", "5", "1"]), "c": one(VECTORS), "S": one(MATRICES)}
        states = {state: b.state(state, shape) for state, shape in shapes.items()}
        self.values = [b.x(), *states.values()]
        base = b("product", self.learned("U", "H,H"), b("tanh", b("product", b.learned("W", "H,D"), b.x())))
        self.values.append(base)
        for _ in range(self.draw.randint(8, 40)):
            self.values.append(self.grow())
        last = {state: [k for k in self.values if self.shape(k) == shape][-1] for state, shape in shapes.items()}
        last["S"] = b("mul", last["S"], b.to("rows", base, shapes["S"]))  # so that a parameter has H elements
        return b.cell(name, {state: b("tanh", k) for state, k in last.items()}, "W U b p zeta")


def at_random(seed: int) -> Cell:
    """A cell of values of any size, the same for the same seed; H is to be a multiple of 6, D at least 2."""
    return _Random(random.Random(seed)).cell(f"random-{seed}")
