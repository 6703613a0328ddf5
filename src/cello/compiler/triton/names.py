"""Define what forward and backward share: variables of nodes, and where a step's values lie in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from cello.cells.graph import MULTIPLYING, Shape
from cello.compiler.digits import Digits, digits
from cello.compiler.stages import Sum
from cello.compiler.step_names import StepNames
from cello.compiler.triton.spaces import (
    ONCE,
    VECTOR,
    Key,
    Space,
    block_space,
    extent,
    groups_of,
    is_short,
    is_sized,
    space,
)
from cello.compiler.triton.tiles import load_tile, load_tiles, store_tile, store_tiles

RESERVED = frozenset("BTHV")
"""Single letters that mean something else in the kernel."""


def quarters_held(reread: str) -> int:
    """How many quarters of matrices threads hold by a :attr:`Names.reread`; 0 where matrices are not in quarters."""
    return int(reread.removeprefix("held ")) if reread.startswith("held ") else 0


@dataclass(frozen=True)
class Names(StepNames):
    """A kernel, the variables of its nodes, and how what it reads and writes is packed.

    Tiles of one shape that are read or written together are packed: two or four lie element by element in turn, so
    that they move through memory, and between the layouts of products and of rows, as one. ``projected`` are sums with
    products of the frame, which one matrix product computes before the loop; ``sums`` those that have a derivative;
    ``saved`` what backward reads, old states and kept values; ``computed`` the vectors of products that are neither
    frames nor old states. ``inner`` are the matrices that multiply inside the loop. Where they are too large for one
    program, several share the units of the same clips: each holds the columns of its own, and they hand each other
    vectors in memory, or within a cluster in shared memory.
    """

    reread: str = ""
    """What is the same at every step, and read at each of them nevertheless: "" matrices from shared memory alone,
    "rows" vectors too, which take registers, "all" both, matrices even from the GPU's memory, "held" nothing, for each
    thread has its part of matrices in registers too, "held 4" vectors, and matrices but for four quarters of them that
    threads hold, "chunks" matrices chunk by chunk, as :attr:`in_blocks` says, "packs" as by "", for many clips: forward
    multiplies with up to four matrices as with one of all their columns, backward with no more than two sums'
    derivatives at once, for which there are registers where there are not for four, "scatter" as by "", but backward
    multiplies each program's own derivatives of sums, and programs hand each other what they have found for the
    vectors, as :attr:`scattered` says."""
    exact: bool = False
    """Whether products are in IEEE float32: multiply-adds of single threads, which hold all their operands."""
    reserved: ClassVar[frozenset[str]] = RESERVED
    marker: ClassVar[str] = "#"

    def shape(self, k: int) -> Shape:
        return self.nodes[k].shape

    @cached_property
    def spaces(self) -> dict[Shape, Space]:
        """Those of all values of a step; the numbers that sizes are used as are among them."""
        plan = self.plan
        steps = [k for stage in plan.stages for k in (*stage.pointwise, *stage.reductions)]
        sizes = [(str(self.nodes[k].name),) for k, node in enumerate(self.nodes) if node.op == "size"]
        vectors = [v for v in plan.vectors if not self.is_frame(v)]
        values = [*self.old, *(each.node for each in plan.sums), *vectors, *steps, *plan.graph.outputs]
        values += [*plan.invariant, *plan.masks, *self.frames]
        shapes = dict.fromkeys([VECTOR, ONCE, *map(self.shape, values), *sizes])
        if self.in_blocks:
            return {shape: block_space(shape, n - 1) for n, shape in enumerate(shapes) if shape}
        common = {shape[1:] for shape in shapes if is_sized(shape)}
        return {shape: space(shape, n - 1, common=shape in common) for n, shape in enumerate(shapes) if shape}

    @cached_property
    def in_blocks(self) -> bool:
        """Whether one program has all of some clips, heads may be of any size, and products are sums of float32, of
        matrices that are read piece by piece: where the step makes matrices of vectors, vectors of matrices or products
        of them, or it is asked for."""
        made = any(node.op in ("matrix", "flatten", *MULTIPLYING) for node in self.nodes)
        return made or self.reread == "chunks"

    @property
    def reads_rows(self) -> bool:
        """Whether vectors that are the same at every step are read at each of them."""
        return self.reread in ("rows", "all") or quarters_held(self.reread) > 0

    @property
    def heads(self) -> tuple[Shape, ...]:
        """The shapes of matrices of heads."""
        return tuple(shape for shape in self.matrices if not is_sized(shape))

    @property
    def matrices(self) -> tuple[Shape, ...]:
        """The shapes of all matrices that change: of heads, and of several elements a unit."""
        return tuple(shape for shape in self.spaces if len(shape) == 2)

    def space(self, k: int) -> Space:
        return self.spaces[self.shape(k)]

    def sides(self, matrix: int) -> tuple[Space, Space]:
        """Those of the rows of a matrix and of its columns."""
        rows, columns = self.shape(matrix)
        return self.spaces[(rows,)], self.spaces[(columns,)]

    @cached_property
    def constants(self) -> tuple[str, ...]:
        """The kernel's constants that say how large its tiles are, and where parts of a frame begin."""
        of_blocks = ("HALF",) if self.in_blocks else ()
        of_frames = ("FRAME", *self.begins.values()) if self.frames else ()
        return (*(name for each in self.spaces.values() for name in each.constants()), "WIDEST", *of_blocks, *of_frames)

    @cached_property
    def begins(self) -> dict[int, str]:
        """Where the parts of the frame begin that are used element by element."""
        return {k: f"BEGIN{n}" for n, k in enumerate(self.frames)}

    @cached_property
    def frames(self) -> tuple[int, ...]:
        """The frame, or parts of it, that are used element by element, or are a new state."""
        steps = [k for stage in self.plan.stages for k in (*stage.pointwise, *stage.reductions)]
        read = [*(a for k in steps for a in self.nodes[k].args), *self.plan.graph.outputs]
        return tuple(dict.fromkeys(filter(self.is_frame, read)))

    @cached_property
    def derived_frames(self) -> tuple[int, ...]:
        """Those that have a derivative."""
        found = {k for stage in self.plan.gradient.stages for k, _ in stage.others}
        return tuple(k for k in self.frames if k in found)

    @cached_property
    def projected(self) -> tuple[tuple[int, ...], ...]:
        return self._by_stage(lambda each: any(self.is_frame(v) for _, v in each.products))

    @cached_property
    def sums(self) -> tuple[tuple[int, ...], ...]:
        found = {k for stage in self.plan.gradient.stages for k, _ in stage.sums}
        return self._by_stage(lambda each: each.node in found)

    @cached_property
    def sums_in_order(self) -> tuple[int, ...]:
        """Those in the order of their packs."""
        return tuple(k for pack in self.sums for k in pack)

    def _by_stage(self, wanted: Callable[[Sum], bool]) -> tuple[tuple[int, ...], ...]:
        stages = ([each.node for each in stage.sums if wanted(each)] for stage in self.plan.stages)
        return tuple(pack for nodes in stages for pack in groups_of(nodes, self.shape, self.packed))

    @cached_property
    def saved(self) -> tuple[tuple[str, ...], ...]:
        return groups_of([*self.saved_shapes], self.saved_shapes.__getitem__, self.packed)

    @property
    def all_held(self) -> bool:
        """Whether threads hold all matrices."""
        return self.reread == "held"

    @cached_property
    def quarters(self) -> dict[int, tuple[bool, ...]]:
        """The matrices whose quarters are tiles of their own, some of which threads hold: whether they do. First they
        hold a quarter of each matrix, so that between products with these others are read from shared memory."""
        count = quarters_held(self.reread)
        if not count:
            return {}
        return {m: tuple(n * len(self.square) + k < count for n in range(4)) for k, m in enumerate(self.square)}

    @cached_property
    def square(self) -> tuple[int, ...]:
        """Those of ``inner`` with H rows and columns."""
        return tuple(m for m in self.inner if self.shape(m) == (*VECTOR, *VECTOR))

    def like(self, here: Space, prefix: str) -> str:
        """A state whose tile has the layout of products, by that prefix; there may be none of that shape."""
        found = zip(self.states, self.state_shapes, strict=True)
        return next((f"{prefix}_{name}" for name, shape in found if shape == here.shape), "0.0")

    def read(self, variables: Sequence[str], base: str, inside: str, here: Space, like: str = "0.0") -> str:
        """The line that reads tiles which lie side by side, or of which there is one where there are matrices."""
        if self.matrices:
            return f"{variables[0]} = {load_tile(base, inside, here)}"
        return load_tiles(variables, base, inside, here, like)

    def write(self, base: str, inside: str, here: Space, values: Sequence[str]) -> str:
        """The line that writes them."""
        if self.matrices:
            return store_tile(base, inside, here, values[0])
        return store_tiles(base, inside, here, values)

    @property
    def packed(self) -> tuple[int, ...]:
        """How many tiles are packed together; one where there are matrices, whose layouts are many already."""
        return (1,) if self.matrices else (4, 2, 1)

    @cached_property
    def digits(self) -> Digits:
        """What of the kept values and states bfloat16 would round too far."""
        return digits(self.plan)

    def squashed(self, name: str) -> int | None:
        """The node of a kept value if in bfloat16 it is kept as a number that has more of its digits."""
        kept = self.plan.kept[int(name.removeprefix("kept_"))] if name.startswith("kept_") else None
        return kept if kept in self.digits.squashed else None

    def arguments(self, names: Sequence[str]) -> list[str]:
        """Parameters of a pass; that of saved values says so where they are float32 whatever the precision is."""
        return ["saved_float32" if self.digits.all and name == "saved" else name for name in names]

    @cached_property
    def saved_shapes(self) -> dict[str, Shape]:
        old = {f"old_{name}": shape for name, shape in zip(self.states, self.state_shapes, strict=True)}
        return {**old, **{f"kept_{n}": self.shape(k) for n, k in enumerate(self.plan.kept)}}

    @cached_property
    def state_shapes(self) -> tuple[Shape, ...]:
        return tuple(map(self.shape, self.plan.graph.outputs))

    @cached_property
    def biases(self) -> dict[int, int]:
        """The loop-invariant values whose derivative is that of one sum, added up over all rows; and the sums."""
        found: dict[int, int] = {}
        places = [(k, at) for stage in self.plan.gradient.stages for k, at in stage.others if k in self.plan.invariant]
        of_sum = {at: k for stage in self.plan.gradient.stages for k, at in stage.sums}
        for k, at in places:
            if at in of_sum and sum(other == k for other, _ in places) == 1:
                found[k] = of_sum[at]
        return found

    @cached_property
    def summed(self) -> tuple[tuple[int, Shape], ...]:
        """The other loop-invariant values that have a derivative, which programs add up themselves: once for each shape
        in which something is added to it."""
        nodes = self.plan.gradient.nodes
        places = [(k, nodes[at].shape) for stage in self.plan.gradient.stages for k, at in stage.others]
        derived = {*self.plan.invariant} - self.biases.keys() - self.plan.ones  # ones are never learned
        found = {place for place in places if place[0] in derived}
        return tuple(sorted(found))

    @property
    def few_registers(self) -> bool:
        """Whether there are too few for matrices in blocks: none is held but states and what is computed."""
        return self.in_blocks and self.reads_rows

    def adds_in_memory(self, shape: Shape) -> bool:
        """Whether such a derivative is added up in memory, matrices of each clip in blocks where registers are few."""
        return self.few_registers and len(shape) == 2

    def rows_of(self, k: int, shape: Shape) -> str:
        """The variable in which such a derivative is added up."""
        return f"d_{self.of[k]}_rows" + ("" if self.shape(k) else f"_{self.spaces[shape].elements}")

    @cached_property
    def slots(self) -> int:
        """How many tiles programs leave to each other at once, at most."""
        # a pack counts beside its own sums, where both are gathered
        gathered = {nodes for groups in self.groups.values() for nodes, _ in groups}
        added = sum(any(self.adds_up(matrices[0]) for _, matrices in groups) for groups in self.groups.values())
        few = any(here.has_parts for here in self.spaces.values())  # programs then also say that they are there
        return max(sum(map(len, gathered)), len(self.sums_in_order), len(self.plan.vectors), 1) + added + few

    @property
    def left(self) -> str:
        """The same and what they leave each other of sums, where each program has room for what all of them found."""
        return f"({self.slots} + {self.sums_left} * SPLIT)" if self.sums_left else f"{self.slots}"

    @cached_property
    def sums_left(self) -> int:
        """How many vectors there are at most whose derivatives programs hand each other in parts."""
        return sum(len(self.uses[nodes]) for nodes in self.scattered)

    @cached_property
    def with_frame(self) -> tuple[int, ...]:
        """The sums with products of the frame, in the order of their packs."""
        return tuple(k for pack in self.projected for k in pack)

    @cached_property
    def inner(self) -> tuple[int, ...]:
        """Those of one vector side by side, in the order of the sums."""
        found = (m for v in self.plan.vectors if not self.is_frame(v) for _, m in self.products_of(v))
        return tuple(dict.fromkeys(found))

    def adds_up(self, matrix: int) -> bool:
        """Whether backward has its own rows of a matrix, not its own columns, since each program has all of the vector:
        programs then add up what each of them has found."""
        rows, columns = self.sides(matrix)
        return columns.common and not columns.once and not rows.common

    @cached_property
    def scattered(self) -> frozenset[tuple[int, ...]]:
        """The sums whose derivatives no program hands to others: it multiplies them by its own rows of their matrices,
        and each program adds up what all have found for its own units of the vectors.

        Of an LSTM that is one vector of H to hand on instead of four. All have H elements, which programs share. Sums
        that share a matrix are all among them or none is: a program has either its rows or its columns.
        """
        if self.reread != "scatter" or self.exact or self.matrices:
            return frozenset()
        matrices, of_units = {nodes: {each for _, each in uses} for nodes, uses in self.uses.items()}, {*self.square}
        found = {nodes for nodes, every in matrices.items() if all({*each} <= of_units for each in every)}
        while mixed := {n for n in found for other in matrices.keys() - found if matrices[n] & matrices[other]}:
            found -= mixed
        return frozenset(found)

    def products_of(self, vector: int) -> list[tuple[int, int]]:
        """The sums with a product of a vector, and its matrices."""
        return self._products.get(vector, [])

    @cached_property
    def _products(self) -> dict[int, list[tuple[int, int]]]:
        found: dict[int, list[tuple[int, int]]] = {}
        for each in self.plan.sums:
            for m, v in each.products:
                found.setdefault(v, []).append((each.node, m))
        return found

    @cached_property
    def groups(self) -> dict[int, list[tuple[tuple[int, ...], tuple[int, ...]]]]:
        """Each vector's products: sums and matrices, a pack of sums at once where they are multiplied together."""
        return {vector: [] if self.is_frame(vector) else self._grouped(vector) for vector in self.plan.vectors}

    def _grouped(self, vector: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        found = []
        for pack, mine in self._of_packs(vector):
            if pack in self.together:
                found += [(half, tuple(m for k, m in mine if k in half)) for half in self._halves(pack)]
            else:
                found += [((k,), (m,)) for k, m in mine]
        return found

    def _halves(self, pack: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """A pack, or the pairs that it is multiplied by."""
        return (pack[:2], pack[2:]) if self.reread == "packs" and len(pack) > 2 else (pack,)

    def _of_packs(self, vector: int) -> list[tuple[tuple[int, ...], list[tuple[int, int]]]]:
        """A vector's products with a derivative, pack by pack of their sums."""
        rest = [(k, m) for k, m in self.products_of(vector) if k in self.pack_of]
        packs = [self.sums[n] for n in sorted({self.pack_of[k] for k, _ in rest})]
        return [(pack, [(k, m) for k, m in rest if k in pack]) for pack in packs]

    @cached_property
    def together(self) -> frozenset[tuple[int, ...]]:
        """The packs of sums whose derivatives are multiplied as one, by matrices side by side of every vector, but for
        matrices that are read at every step, or in quarters, which want room one by one. Were some multiplied alone as
        well, programs would hand each other the same twice."""
        return frozenset(pack for pack, as_one in self._packs.items() if all(as_one) and self.reread != "all")

    @property
    def taken_apart(self) -> bool:
        """Whether there is a pack of which only some vectors' matrices lie side by side."""
        return any(len({*as_one}) > 1 for as_one in self._packs.values())

    @cached_property
    def _packs(self) -> dict[tuple[int, ...], list[bool]]:
        """Those whose derivatives are multiplied, and whether they could be as one, by each vector."""
        found = dict[tuple[int, ...], list[bool]]()
        for vector in (v for v in self.plan.vectors if not self.is_frame(v)):
            for pack, mine in self._of_packs(vector):
                found.setdefault(pack, []).append(self._as_one(pack, mine))
        return found

    def _as_one(self, pack: tuple[int, ...], products: Sequence[tuple[int, int]]) -> bool:
        matrices = tuple(m for _, m in products)
        first = self.inner.index(matrices[0])
        adjacent = self.inner[first : first + len(pack)] == matrices and tuple(k for k, _ in products) == pack
        one_by_one = matrices[0] in self.quarters or any(side.once for side in self.sides(matrices[0]))
        return adjacent and not one_by_one

    @cached_property
    def uses(self) -> dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]]:
        """The same by the sums: the vectors of their products, and the matrices."""
        found: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
        for vector, groups in self.groups.items():
            for nodes, matrices in groups:
                found.setdefault(nodes, []).append((vector, matrices))
        return found

    @cached_property
    def pack_of(self) -> dict[int, int]:
        """The number of the pack that each sum is in."""
        return {k: n for n, pack in enumerate(self.sums) for k in pack}

    @property
    def in_slices(self) -> bool:
        """Whether matrices are kept in slices of their rows, which are multiplied one after the other; those that are
        read at every step are one tile, and those that some threads hold quarters of are in these."""
        return self.exact and self.reread != "all" and not self.in_blocks and not self.quarters

    def sliced(self, vector: int) -> list[tuple[tuple[int, int], ...]]:
        """The products of a vector that are computed in slices, or with several matrices as one: sums and matrices, in
        packs of those side by side."""
        computed = (self.in_slices or self.reread == "packs") and not self.is_frame(vector)
        rest = [pair for pair in self.products_of(vector) if computed and self._is_tile(pair[1])]
        found: list[tuple[tuple[int, int], ...]] = []
        while rest:
            pack = next(pack for n in self.packed if (pack := tuple(rest[:n])) and self._side_by_side(pack, n))
            found, rest = [*found, pack], rest[len(pack) :]
        return [pack for pack in found if self.in_slices or pack[1:]]

    def _is_tile(self, matrix: int) -> bool:
        """Whether it has several rows and columns, and no few columns."""
        rows, columns = self.sides(matrix)
        return not (rows.once or columns.once or is_short(columns.shape))

    def _side_by_side(self, pack: Sequence[tuple[int, int]], count: int) -> bool:
        """Whether so many products are of different sums, and of matrices of one shape, one after another in memory."""
        matrices = tuple(m for _, m in pack)
        first = self.inner.index(matrices[0])
        there = self.inner[first : first + count] == matrices
        return there and len({k for k, _ in pack}) == count and len({*map(self.shape, matrices)}) == 1

    def frame_matrices(self, node: int) -> list[tuple[int, int]]:
        """The matrices that multiply the frame, or parts of it, in a sum; and these."""
        each = next(each for each in self.plan.sums if each.node == node)
        return [(m, v) for m, v in each.products if self.is_frame(v)]

    @cached_property
    def computed(self) -> tuple[int, ...]:
        """Vectors whose values backward writes for the matrices' derivatives."""
        sums = [each for each in self.plan.sums if each.node in self.sums_in_order]
        read = {v for each in sums for m, v in each.products if m not in self.plan.constant}
        return tuple(v for v in self.plan.vectors if v in read and v not in self.old and not self.is_frame(v))

    def is_frame(self, k: int) -> bool:
        return self.nodes[k].op == "input"

    def extent(self, shapes: Sequence[Shape]) -> str:
        """The elements of values side by side, as a factor."""
        return extent(Counter(map(self._elements, shapes)))

    def _elements(self, shape: Shape) -> str:
        return self.spaces[shape].elements if shape else "1"

    def places(
        self, groups: Sequence[Sequence[Key]], shape: Callable[[Key], Shape]
    ) -> Iterator[tuple[str, int, Space]]:
        """Of each pack where it begins among all elements, how many tiles it has, and their space."""
        before = Counter[str]()
        for group in groups:
            yield extent(before), len(group), self.spaces[shape(group[0])]
            before.update(self._elements(shape(each)) for each in group)

    @cached_property
    def saved_places(self) -> list[tuple[str, int, Space]]:
        """Those of the packs that backward reads."""
        return [*self.places(self.saved, self.saved_shapes.__getitem__)]

    @cached_property
    def saved_width(self) -> str:
        """The elements from one row that backward reads to the next."""
        return self.extent([*self.saved_shapes.values()]) if self.matrices else "SAVED"

    @cached_property
    def sum_places(self) -> dict[int, tuple[str, Space, tuple[int, ...]]]:
        """For each pack's first sum where the pack begins among the derivatives of sums, its space, and all of it."""
        places = zip(self.places(self.sums, self.shape), self.sums, strict=True)
        return {pack[0]: (first, here, pack) for (first, _, here), pack in places}

    @cached_property
    def sum_width(self) -> str:
        return self.extent([self.shape(k) for k in self.sums_in_order])

    def in_a_row(self, values: Sequence[int]) -> dict[int, str]:
        """Where each of these values, of which a row has one after another, is in the row of a number ``row``."""
        width, places = self.extent([self.shape(k) for k in values]), self.places([(k,) for k in values], self.shape)
        return {k: f"row * {width} + {first}" for k, (first, _, _) in zip(values, places, strict=True)}

    @cached_property
    def vector_places(self) -> dict[int, str]:
        """Those of the vectors that backward writes."""
        return self.in_a_row(self.computed)

    def state_place(self, number: int) -> str:
        """Where a state of each clip lies among first states, last states and their derivatives."""
        here = self.spaces[self.state_shapes[number]]
        return f"of_state_{here.elements} + B * {self.extent(self.state_shapes[:number])}"

    def size(self, k: int) -> str:
        """A size that is used as a number."""
        return f"({self.spaces[(str(self.nodes[k].name),)].elements} * 1.0)"
