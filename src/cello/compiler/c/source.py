"""Define what forward and backward share in C: arguments, identifiers, places in memory."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from cello.cells.graph import Shape
from cello.cells.sizes import INPUTS, UNITS
from cello.compiler.c.expression import Body
from cello.compiler.c.sizes import begins, definitions, elements, padded, tile, widths
from cello.compiler.identifiers import comment
from cello.compiler.places import marked, unmarked
from cello.compiler.step_names import StepNames

KERNEL = frozenset("acjnrtxBDEHIPTV")
"""Single letters that mean something else in the kernel."""


@dataclass(frozen=True)
class Field:
    """A member of the kernel's arguments: "long", "longs" or "reals" (pointers), and what it holds.

    ``each`` is "weight", "invariant", "mask", "mask_stride", "first" or "last", or one of these after "d_", where there
    is such a member for every matrix, loop-invariant value, mask (two: clip and frame stride) or state.
    """

    name: str
    kind: str
    what: str
    each: str = ""


def _listed(shape: Shape, *before: str) -> str:
    return f"({', '.join([*before, *shape])})"


def _before(shapes: Sequence[Shape]) -> list[str]:
    """For each of a tile's values of these shapes, the elements of those before it."""
    if len({*shapes}) == 1:
        return [f"{number} * {tile(shapes[0])}" for number in range(len(shapes))]
    return [f"rows * ({before})" if n else f"0 * {tile(shapes[0])}" for n, before in enumerate(begins(shapes))]


@dataclass(frozen=True)
class Names(StepNames):
    """A kernel and the C identifiers of its nodes."""

    reserved: ClassVar[frozenset[str]] = KERNEL
    marker: ClassVar[str] = "//"
    bf16: bool = False
    """Whether products are taken of operands in bfloat16."""

    @cached_property
    def inputs(self) -> dict[int, str]:
        """The nodes of the frame and of its parts, and what the kernel calls them."""
        return {k: self.of[k] if "." in str(self.nodes[k].name) else "x" for k in self.plan.inputs}

    def view(self, k: int, of: str = "x") -> str:
        """Where a frame, or a part of it, lies in the tensor x or d_x."""
        begin = self.begin(k)
        return of if begin == "0" else f"part_of({of}, {begin})"

    def begin(self, k: int) -> str:
        """The elements of a frame before this part of it."""
        name = str(self.nodes[k].name).partition(".")[2]
        names = [part for part, _ in self.plan.parts]
        before = self.plan.parts[: names.index(name)] if name else ()
        return " + ".join(elements(text) for _, text in before) or "0"

    @cached_property
    def output(self) -> str:
        """The size of the outputs."""
        return self.nodes[self.plan.graph.outputs[0]].shape[0]

    @cached_property
    def state_shapes(self) -> list[Shape]:
        return [self.nodes[k].shape for k in self.plan.graph.outputs]

    def before_state(self, number: int) -> str:
        """The elements of a step's states in history that come before this one."""
        return _before(self.state_shapes)[number]

    @cached_property
    def history(self) -> str:
        """The elements of all states of one clip."""
        return widths(self.state_shapes)

    @cached_property
    def kept(self) -> str:
        """The elements that are kept at each step of one clip."""
        return widths(self.nodes[k].shape for k in self.plan.kept)

    @cached_property
    def before_kept(self) -> dict[int, str]:
        """For each of a step's kept values the elements of those before it."""
        kept = self.plan.kept
        return dict(zip(kept, _before([self.nodes[k].shape for k in kept]), strict=True))

    def workspace(self) -> Workspace:
        """The memory of a function of the steps; sums over units have many values wait in tiles."""
        return Workspace(apart=any(node.op in ("total", "largest") for node in self.nodes))

    @cached_property
    def packed(self) -> dict[Shape, tuple[str, str, list[int]]]:
        """For each shape of matrices how a packed one's size is called, forward and backward, and those matrices.

        Those that multiply the frame come before the square ones.
        """
        found: dict[Shape, tuple[str, str, list[int]]] = {}
        known: dict[Shape, tuple[str, str]] = {
            (UNITS, INPUTS): ("wide", "wide_back"),
            (UNITS, UNITS): ("square", "square"),
        }
        for k in sorted(self.plan.matrices, key=lambda k: self.nodes[k].shape == (UNITS, UNITS)):
            shape = self._packed_as(k)
            name = f"{elements(shape[0])}by{elements(shape[1])}"
            names = known.get(shape, (f"packed{name}", f"back{name}"))
            if k in self.plan.blocks:
                names = (f"blocks{name}",) * 2
            found.setdefault(shape, (*names, []))[2].append(k)
        return found

    def _packed_as(self, matrix: int) -> Shape:
        """The shape of a matrix; behind one of heads "heads", for one of so few columns is packed in another way."""
        return self.nodes[matrix].shape + (("heads",) if matrix in self.plan.blocks else ())

    def heads(self, matrix: int) -> str | None:
        """The units of a head, of a matrix that multiplies head by head."""
        return elements(self.nodes[matrix].shape[1]) if matrix in self.plan.blocks else None

    def place(self, matrix: int, *, back: bool = False) -> str:
        """Where a packed matrix begins among all."""
        terms: list[str] = []
        for shape, (*names, members) in self.packed.items():
            if shape == self._packed_as(matrix):
                return " + ".join([*terms, f"{members.index(matrix)} * {names[back]}"])
            terms.append(f"{len(members)} * {names[back]}")
        raise KeyError(matrix)

    def all_packed(self, *, back: bool = False) -> str:
        """The elements of all packed matrices."""
        return " + ".join(f"{len(members)} * {names[back]}" for *names, members in self.packed.values()) or "0"

    @cached_property
    def derived(self) -> dict[tuple[int, Shape], str]:
        """The rows in which derivatives of loop-invariant values are added up, and where they begin after the matrices.

        Those of a number have a row for each size of what is added to it.
        """
        found = [(k, shape) for k in self.invariant if self.plan.learns(k) for shape in self.pieces(k)]
        return dict(zip(found, begins([shape for _, shape in found]), strict=True))

    @property
    def invariant(self) -> tuple[int, ...]:
        """The loop-invariant values: those that the kernel is given, then those that it computes of them."""
        return (*self.plan.invariant, *self.plan.computed)

    @cached_property
    def all_derived(self) -> str:
        return widths(shape for _, shape in self.derived)

    def pieces(self, k: int) -> list[Shape]:
        """The shapes of the rows that a loop-invariant value's derivative is added up in."""
        if self.nodes[k].shape:
            return [self.nodes[k].shape]
        gradient = self.plan.gradient
        added = [at for stage in gradient.stages for each, at in stage.others if each == k]
        return list(dict.fromkeys(gradient.nodes[at].shape[:1] for at in added)) or [(UNITS,)]

    @cached_property
    def means(self) -> dict[int, str]:
        """Where the mean of the rows of each centred matrix and of its group begins among all."""
        found: dict[int, str] = {}
        before = "0"
        for group in self.plan.centred:
            found |= dict.fromkeys(group, before)
            before = f"{before} + {elements(self.nodes[group[0]].shape[1])}".removeprefix("0 + ")
        return found

    @cached_property
    def all_means(self) -> str:
        """The elements of the means of all groups."""
        return " + ".join(elements(self.nodes[group[0]].shape[1]) for group in self.plan.centred) or "0"

    @cached_property
    def largest_group(self) -> str:
        """The elements of all matrices of a group, at most."""
        shapes = [(len(group), *map(elements, self.nodes[group[0]].shape)) for group in self.plan.centred]
        found = "0"
        for text in dict.fromkeys(f"{count} * {high} * {low}" for count, high, low in shapes):
            found = text if found == "0" else f"larger({found}, {text})"
        return found

    def wanted(self, matrix: int) -> str:
        """Whether the derivative of a matrix is computed: where it is asked for, or one of its group."""
        asked = [f"a->d_weight_{self.of[k]}" for k in self.plan.group_of.get(matrix, (matrix,))]
        return asked[0] if len(asked) == 1 else f"({' || '.join(asked)})"

    def definitions(self) -> list[str]:
        """The sizes of values and of packed matrices, which every function begins with."""
        texts = [text for node in self.plan.gradient.nodes for text in node.shape]
        texts += [str(node.name) for node in self.nodes if node.op == "size"]
        texts += [text for _, text in self.plan.parts]
        more = definitions(texts)
        packed: dict[str, str] = {}
        for (high, low, *heads), (name, back, _) in self.packed.items():
            if heads:
                packed[name] = f"packed_size(most_rows({elements(high)}, {elements(low)}), {padded(high)})"
                continue
            packed[name] = f"packed_size({elements(low)}, {padded(high)})"
            packed.setdefault(back, f"packed_size({elements(high)}, {padded(low)})")
        matrices = ", ".join(f"{name} = {value}" for name, value in packed.items())
        return [
            "    const long H = a->H, D = a->D, P = round_up(H, V), E = round_up(D, V);",
            *([f"    const long {more};"] if more else []),
            *([f"    const long {matrices};"] if matrices else []),
        ]

    def head(self, *, backward: bool) -> list[str]:
        """What every function of a tile begins with."""
        return [
            *self.definitions(),
            f"    const struct clips c = clips_of(a, tile, {int(backward)});",
            "    const long rows = c.rows, size = rows * P;",
        ]

    def packing(self) -> str:
        """The function that packs a matrix."""
        return "pack_pairs" if self.bf16 else "pack"

    def packed_from(self, matrix: int, *, back: bool = False) -> str:
        """The call that packs a matrix, up to where to."""
        called, weight = self.packing(), f"a->weight_{self.of[matrix]}"
        high, low = map(elements, self.nodes[matrix].shape)
        if matrix in self.plan.blocks:
            return f"pack_heads({weight}, {high}, {low}, {int(back)}"
        how = f"{high}, {low}, {low}, 1" if back else f"{low}, {high}, 1, {low}"
        if matrix not in self.means:
            return f"{called}({weight}, {how}"
        called = called.replace("pack", "pack_centred", 1)
        return f"{called}({weight}, means + {self.means[matrix]}, {int(back)}, {how}"

    def row_lines(self) -> list[str]:
        """Take loop-invariant values into rows of whole vecs."""
        lines = []
        for k in self.plan.invariant:
            shape, name = self.nodes[k].shape, self.of[k]
            if len(shape) == 1:
                lines.append(f"    fill({name}_row, a->invariant_{name}, {elements(shape[0])});")
            elif shape:
                lines.append(f"    fill_heads({name}_row, a->invariant_{name}, H, {elements(shape[1])});")
        return lines + self._computed_lines()

    def _computed_lines(self) -> list[str]:
        """Compute the rows of loop-invariant vectors that are not given."""
        lines = []
        for shape in dict.fromkeys(self.nodes[k].shape for k in self.plan.computed):
            given = {k: self.row(k) for k in self.plan.invariant if self.nodes[k].shape == shape}
            found = [k for k in self.plan.computed if self.nodes[k].shape == shape]
            body = Body(self.nodes, self.of, given.get, {}, {})
            lines += self.over_units(shape, body.write([(f"store({self.of[k]}_row + j, {{}});", k) for k in found]))
        return unmarked(lines)

    def over_units(self, shape: Shape, body: Sequence[str]) -> list[str]:
        """A loop over the vecs of one row."""
        inside = [f"        {line}" for line in body]
        return [f"    for (long j = 0; j < {padded(shape[0])}; j += V) {{", *inside, "    }"]

    def row(self, k: int) -> str:
        """How a loop-invariant number or vector is read."""
        if self.nodes[k].shape:
            return f"load({marked(f'{self.of[k]}_row')} + j)"
        return f"broadcast({marked(f'a->invariant_{self.of[k]}')}[0])"

    def rows(self, shape: Shape) -> dict[int, str]:
        """How values that are the same for all rows are read in a loop over this shape."""
        one = shape if len(shape) == 1 else ()
        return {k: self.row(k) for k in self.invariant if self.nodes[k].shape in ((), one)}

    def mask_lines(self, indent: str = "        ") -> list[str]:
        """Take every mask's rows of this step."""
        lines = []
        for k in self.plan.masks:
            name = self.of[k]
            rows = f"(struct view){{a->mask_{name}, a->mask_{name}_clip_stride, a->mask_{name}_frame_stride}}"
            lines.append(f"{indent}{self.move('load', k, rows, 't, 0, n', f'{name}_tile')}")
        return lines

    def move(self, verb: str, k: int, view: str, when: str, tile: str) -> str:
        """Load or store a tile of node k's shape: from or to a tensor; ``when`` is a step and which rows."""
        shape = self.nodes[k].shape
        if len(shape) == 1:
            return f"{verb}_tile(&c, {view}, {when}, {elements(shape[0])}, {tile});"
        return f"{verb}_heads(&c, {view}, {when}, H, {elements(shape[1])}, {tile});"

    def first(self, old: int) -> str:
        """Whether the derivative of this old state's first value is computed."""
        return f"a->d_first_{self.states[self.old[old]]}"

    @cached_property
    def by_rows(self) -> bool:
        """Whether derivatives of matrices that are products of one row are written where they belong at once."""
        plan, count = self.plan, sum(len(each.products) for each in self.plan.sums)
        return not self.bf16 and not plan.blocks and not plan.centred and count == len(plan.matrices)

    def per_clip(self, kind: str, number: int) -> str:
        """A tensor of one state a clip."""
        return f"per_clip(a->{kind}_{self.states[number]}, {' * '.join(map(elements, self.state_shapes[number]))})"


class Workspace:
    """Memory of a function's own, taken at once: names and their sizes, one after the other.

    ``groups`` are names of one size that lie side by side, in this order. ``apart`` leaves a vec free after each, for
    loops over many tiles at once: these are powers of two long as a rule, and would share few lines of the cache.
    """

    def __init__(self, *, apart: bool = False) -> None:
        self.apart = " + V" if apart else ""
        self.sizes: dict[str, str] = {}
        self.groups: list[list[str]] = []

    def add(self, name: str, size: str, *, most: bool = False) -> None:
        """Ask for memory; with ``most`` the most of what is asked for in one name."""
        asked = self.sizes.setdefault(name, size)
        if most and size not in asked:
            self.sizes[name] = f"larger({asked}, {size})"

    def lines(self, used: Container[str]) -> list[str]:
        """Take the memory and name its places; of groups only the first and those ``used``."""
        group_of = {name: group for group in self.groups for name in group}
        pointers, total, begin = list[str](), list[str](), "workspace"
        for name, size in self.sizes.items():
            first, *others = group_of.get(name, [name])
            if name != first:
                continue
            total.append(f"{len(others) + 1} * ({size}){self.apart}" if others else f"{size}{self.apart}")
            pointers.append(f"    real *{name} = {begin};")
            pointers += [
                f"    real *{other} = {name} + {n} * ({size});" for n, other in enumerate(others, 1) if other in used
            ]
            begin = f"{name} + {total[-1]}"
        return [
            f"    real *const workspace = alloc_workspace({' + '.join(total) or '0'});",
            "    if (!workspace) return 1;",
            *pointers,
        ]


def fields(names: Names) -> tuple[Field, ...]:
    """The kernel's arguments; the C struct and its caller read this.

    Tensors that a caller has side by side stand side by side: x and what a kernel is given; results and what forward
    saves; upstream gradients and derivatives.
    """
    return (*_numbers(names), *_given(names), *_found(names), *_derivatives(names))


def _numbers(names: Names) -> Iterable[Field]:
    yield from (
        Field("B", "long", "clips"),
        Field("T", "long", "frames"),
        Field("D", "long", "elements of a frame"),
        Field("H", "long", "units"),
        Field("reverse", "long", "whether clips run from their last frame to their first"),
        Field("threads", "long", "at most"),
        Field("place", "longs", "(B,) clips by falling length: where they stand in the batch"),
        Field("length", "longs", "(B,) and their lengths"),
        Field("x_clip_stride", "long", "elements from one clip of x to the next"),
        Field("x_frame_stride", "long", "and from one frame to the next"),
    )
    for k in names.plan.masks:
        yield Field(f"mask_{names.of[k]}_clip_stride", "long", "elements from one clip to the next", "mask_stride")
        yield Field(f"mask_{names.of[k]}_frame_stride", "long", "and to the next frame", "mask_stride")
    yield Field("keeping", "long", "whether backward will follow")


def _given(names: Names) -> Iterable[Field]:
    plan, of, nodes = names.plan, names.of, names.nodes
    yield Field("x", "reals", "(B, T, D)")
    for k in plan.matrices:
        yield Field(f"weight_{of[k]}", "reals", _listed(nodes[k].shape), "weight")
    for k in plan.invariant:
        yield Field(f"invariant_{of[k]}", "reals", _listed(nodes[k].shape), "invariant")
    for k in plan.masks:
        yield Field(f"mask_{of[k]}", "reals", f"{_listed(nodes[k].shape, 'B', 'T')}, or the same at each frame", "mask")
    yield from _of_states(names, "first")


def _found(names: Names) -> Iterable[Field]:
    yield Field("outputs", "reals", f"(B, T, {names.output}), {comment(names.plan.graph.states[0])} after every frame")
    yield from _of_states(names, "last")
    yield from (
        Field("packed", "reals", "all matrices as products read them"),
        Field("history", "reals", "the states before and after every step"),
        Field("kept", "reals", "what else backward reads"),
    )


def _of_states(names: Names, kind: str, more: str = "") -> list[Field]:
    every = zip(names.states, names.plan.graph.states, names.state_shapes, strict=True)
    return [
        Field(f"{kind}_{n}", "reals", f"{_listed(shape, 'B')}, {comment(name)}{more}", kind) for n, name, shape in every
    ]


def _derivatives(names: Names) -> Iterable[Field]:
    plan, of, nodes = names.plan, names.of, names.nodes
    yield Field("d_outputs", "reals", f"(B, T, {names.output}), or NULL")
    yield from _of_states(names, "d_last", ", or NULL")
    yield Field("d_x", "reals", "(B, T, D), or NULL")
    for k in plan.matrices:
        yield Field(f"d_weight_{of[k]}", "reals", f"{_listed(nodes[k].shape)}, or NULL", "d_weight")
    for k in plan.invariant:
        what = f"{' and '.join(map(_listed, names.pieces(k)))}, or NULL"
        yield Field(f"d_invariant_{of[k]}", "reals", what, "d_invariant")
    yield from _of_states(names, "d_first", ", or NULL")
    yield from (
        Field("packed_back", "reals", "all matrices as backward's products read them"),
        Field("d_packed", "reals", "their derivatives and those of the loop-invariant values, then some groups' own"),
    )
