"""Write the forward pass of a kernel in Triton: all steps of a tile of clips."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from cello.compiler.stages import Sum
from cello.compiler.step_names import indented
from cello.compiler.triton.expression import Body
from cello.compiler.triton.names import Names
from cello.compiler.triton.products import (
    all_gather,
    different,
    exact_products,
    inner_place,
    load_quarter,
    product_in_parts,
    products_in_quarters,
    quarters_of,
    within_cluster,
)
from cello.compiler.triton.reads import mask_arguments, matrices_again, prologue, rows_again, running, step_reads
from cello.compiler.triton.reshape import Reshaping
from cello.compiler.triton.schedule import ordered
from cello.compiler.triton.spaces import is_short
from cello.compiler.triton.tiles import (
    AHEAD,
    Read,
    ahead_in_step,
    all_steps,
    deinterleave,
    indented_if,
    interleave,
    read_ahead,
    steps_of_held,
)

ARGUMENTS = (
    *("place", "length", "start", "reverse"),
    *("projected", "weights", "invariants", "first", "last", "outputs", "saved"),
    "workspace",
)
SIZES = ("TILES", "B", "T", "rows", "projected_row", "projected_replicate")
CONSTANTS = ("SPLIT", "CLUSTER", "ROWS", "PRECISION", "STAGES", "LARGE")
"""Those of every kernel; where tiles lie side by side also whether they do at multiples of 4, ALIGNED, and SAVED, the
elements from one row that backward reads to the next."""


def constants(names: Names, *further: str) -> list[str]:
    """The parameters that the kernel is compiled for."""
    packed = () if names.matrices else ("ALIGNED", "SAVED")
    return [f"{name}: tl.constexpr" for name in (*names.constants, *CONSTANTS, *packed, *further)]


def forward(names: Names) -> list[str]:
    """``forward``: the steps of one tile of one replicate."""
    return _Forward(names).lines()


class _Forward:
    def __init__(self, names: Names) -> None:
        self.names, self.plan, self.of = names, names.plan, names.of
        self.place = {each.node: n for n, each in enumerate(self.plan.sums)}
        self.done: set[int] = set()
        self.projected = self._projected()
        self.reads = [*self.projected, *step_reads(names, "old")]
        self.unsaved = [*zip(names.saved_places, names.saved, map(self._values, names.saved), strict=True)]
        self.begun: set[int] = set()
        self.multiplied: set[int] = set()
        self.reshaping = Reshaping(names, self.plan.graph.nodes, self.of)

    def lines(self) -> list[str]:
        frames = ("x_rows",) if self.names.frames else ()
        given = (*self.names.arguments(ARGUMENTS), *frames, *mask_arguments(self.names))
        arguments = (*given, *SIZES, *constants(self.names, "KEEP"))
        inside = within_cluster([*prologue(self.names), *self._begin(), *self._loop(), *self._end()])
        return ["@triton.jit", f"def forward({', '.join(arguments)}):", *indented(inside)]

    def _begin(self) -> list[str]:
        names = self.names
        lines = [] if names.reread == "all" or names.in_blocks else self._load_matrices()
        for n, state in enumerate(names.states):
            here = names.spaces[names.state_shapes[n]]
            lines.append(names.read((f"old_{state}",), f"first + {names.state_place(n)}", "valid", here))
        ahead = read_ahead(self.reads, "0", "begin")
        return lines if names.matrices else [*lines, *indented_if(AHEAD, ahead)]

    def _load_matrices(self) -> list[str]:
        """This program's columns of all matrices; those that are multiplied in slices, or as one, pack by pack."""
        names = self.names
        packs = dict.fromkeys(tuple(m for _, m in pack) for v in names.plan.vectors for pack in names.sliced(v))
        rest = [m for m in names.inner if m not in names.quarters and not any(m in matrices for matrices in packs)]
        return [
            *map(self._load_slices, packs),
            *map(self._load_matrix, rest),
            *self._load_quarters(held=False),
            *(["tl.debug_barrier()"] if self.names.quarters else []),
        ]

    def _load_quarters(self, *, held: bool) -> list[str]:
        """Those that threads hold, or the others."""
        return [
            load_quarter(self.names, m, n, transposed=False)
            for m, quarters in self.names.quarters.items()
            for n, is_held in enumerate(quarters)
            if is_held == held
        ]

    def _load_slices(self, matrices: tuple[int, ...]) -> str:
        (rows, columns), place = self.names.sides(matrices[0]), inner_place(self.names, matrices[0])
        sizes = f"{len(matrices)}, {columns.elements}, {rows.elements}, {columns.units}, {rows.own}"
        if not self.names.in_slices:
            return f"{self._slices(matrices)} = load_beside({place}, {rows.part}, {sizes}, PRECISION)"
        sizes = f"1, {sizes}"
        return f"{self._slices(matrices)} = load_slices({place}, {rows.part}, 1, {columns.elements}, {sizes})"

    def _slices(self, matrices: Iterable[int]) -> str:
        return "_".join(self.of[m] for m in matrices) + ("_slices" if self.names.in_slices else "_tile")

    def _load_matrix(self, m: int) -> str:
        """This program's columns of a matrix; one of a single row or column is a row of elements."""
        (rows, columns), place = self.names.sides(m), inner_place(self.names, m)
        if rows.once:
            return f"{self.of[m]}_tile = load_row({place}, 0, {columns.elements}, {columns.units})"
        if columns.once:
            return f"{self.of[m]}_tile = load_row({place}, {rows.part}, {rows.elements}, {rows.own})"
        sizes = f"1, {columns.elements}, {rows.elements}, {columns.units}, {rows.own}"
        return f"{self.of[m]}_tile = load_matrix({place}, {rows.part}, 1, {columns.elements}, {sizes}, PRECISION)"

    def _projected(self) -> list[Read]:
        """How the products of the frame are read, pack by pack."""
        names, base = self.names, "projected + replicate * projected_replicate + row * projected_row + "
        places = zip(names.projected, names.places(names.projected, names.shape), strict=True)
        variables = [tuple(f"{self.of[k]}_x" for k in pack) for pack in names.projected]
        return [
            Read(each, names.read(each, base + first, "running", here, names.like(here, "old")))
            for each, (_, (first, _, here)) in zip(variables, places, strict=True)
        ]

    def _loop(self) -> list[str]:
        names = self.names
        if names.quarters:
            return steps_of_held(self._load_quarters(held=True), self._step(), "step")
        return all_steps(self._step(), "step", held=names.all_held, stages="STAGES" if names.matrices else "1")

    def _step(self) -> list[str]:
        names, of = self.names, self.of
        output = names.spaces[names.state_shapes[0]]
        lines = [
            running(names),
            "time = tl.where(reversed_time != 0, frames - 1 - step, step)",
            "row = begin + time",
            "frame = (replicate * B + at) * T + time",
        ]
        taken, ahead = list[str](), list[str]()
        if not names.matrices:
            taken, ahead = ahead_in_step(self.reads, "step + 1", "begin", at_once=not names.quarters)
        lines += taken
        before = rows_again(names)
        for read in self.reads:
            before |= dict.fromkeys(read.variables, read.late(ever_ahead=not names.matrices))
        body = Body(
            self.plan.graph.nodes, of, self._read, names.equations, self.reshaping, before, matrices_again(names)
        )
        there = set[int]()
        for stage in self.plan.stages:
            self._products(body, stage.sums)
            if stage is self.plan.stages[-1]:
                body.lines += ahead  # threads have no operands of products then
            for each in stage.sums:
                self._finish(body, each)
            there |= {each.node for each in stage.sums}
            self._keep(body, there)
        body.assign([(f"new_{s}", k) for s, k in zip(names.states, self.plan.graph.outputs, strict=True)])
        self._keep(body, None)
        lines += ordered(body.lines, self._late()) if names.reads_rows or names.in_blocks else body.lines
        lines.append(names.write(f"outputs + frame * {output.elements}", "running", output, [f"new_{names.states[0]}"]))
        lines += [f"old_{s} = tl.where(running[:, None], new_{s}, old_{s})" for s in names.states]
        return lines

    def _late(self) -> set[str]:
        """What is read anew, and sums of products with short vectors, which are few registers until then."""
        rows = {f"{self.of[k]}_row" for k in self.plan.invariant} if self.names.reads_rows else set()
        of_short = [each for each in self.plan.sums if each.products and all(map(self._is_short, each.products))]
        return rows | {self.of[each.node] for each in of_short}

    def _is_short(self, product: tuple[int, int]) -> bool:
        _, vector = product
        return not self.names.is_frame(vector) and is_short(self.names.shape(vector))

    def _read(self, k: int) -> str | None:
        names = self.names
        if k in names.old:
            return f"old_{names.states[names.old[k]]}"
        if k in self.place:
            return self.of[k]
        if k in self.plan.invariant:
            return f"{self.of[k]}_row"
        if self.plan.graph.nodes[k].op == "size":
            return names.size(k)
        return f"{self.of[k]}_now" if k in self.plan.masks or k in names.frames else None

    def _products(self, body: Body, sums: Sequence[Sum]) -> None:
        """All products with the vectors of a stage's sums, those of later stages' sums too: registers then hold a tile
        of such a sum, and not the vector, of which each thread has far more."""
        names, of = self.names, self.of
        wanted = dict.fromkeys(v for each in sums for _, v in each.products if not names.is_frame(v))
        vectors = [v for v in wanted if v not in self.multiplied]
        body.assign([(f"{of[v]}_vector", v) for v in vectors if v not in names.old])
        new = {f"{of[v]}_whole": (self._vector(v), 1, names.space(v)) for v in vectors}
        new = {name: value for name, value in new.items() if name not in self.reshaping.whole}
        multiplied = {f"{of[v]}_whole" for v in vectors if self._multiplied(v)}
        gathered = all_gather(names, new, range(len(new)), multiplied)
        body.lines += gathered.left
        self.reshaping.whole.update(new)
        others = sorted({self.place[node] for v in vectors for node, _ in names.products_of(v)})
        for each in dict.fromkeys([*sums, *(self.plan.sums[n] for n in others)]):
            if each.node not in self.begun:
                body.lines += [names.comment(each), f"{of[each.node]} = {self._first(body, each.node)}"]
                self.begun.add(each.node)
        for vector in vectors:
            body.lines += filter(None, [gathered.taken.get(f"{of[vector]}_whole")])
            packs = names.sliced(vector)
            in_packs = self._products_in_slices if names.in_slices else self._products_as_one
            body.lines += in_packs(vector, packs)
            body.lines += self._products_in_quarters(vector)
            there = {pair for pack in packs for pair in pack}
            rest = (pair for pair in names.products_of(vector) if pair not in there and pair[1] not in names.quarters)
            for node, m in rest:
                body.lines += [self._load_matrix(m)] if names.reread == "all" else []
                body.lines.append(f"{of[node]} = {self._product(of[node], m, vector)}")
        self.multiplied.update(vectors)

    def _multiplied(self, vector: int) -> bool:
        """Whether a vector is an operand of products of tiles, as a whole, and nothing else."""
        sides = [self.names.sides(m) for _, m in self.names.products_of(vector)]
        return not self.reshaping.needs_whole(vector) and not any(rows.once for rows, _ in sides)

    def _first(self, body: Body, node: int) -> str:
        """What products are added to: that of the frame, if quarters of matrices follow, of which no other product is
        of a tile of its own."""
        number = next((n for n, pack in enumerate(self.names.projected) if node in pack), None)
        if number is None or not self.names.quarters:
            return self.names.space(node).zero
        variables = self.projected[number].variables
        self.done.add(number)
        for variable in variables:
            body.take(variable)
        return variables[self.names.projected[number].index(node)]

    def _products_in_slices(self, vector: int, packs: Sequence[tuple[tuple[int, int], ...]]) -> list[str]:
        """Lines of the products of a vector's slices with all matrices, pack by pack those of the same slice."""
        of, lines, rest = self.of, list[str](), [*packs]
        while rest:
            now = different([(tuple(of[k] for k, _ in pack), pack) for pack in rest])
            rest = rest[len(now) :]
            packed = ["_".join(sums) + ("_pack" if len(sums) > 1 else "") for sums, _ in now]
            totals, matrices = (
                (interleave(sums) for sums, _ in now),
                (self._slices(m for _, m in pack) for _, pack in now),
            )
            lines.append(exact_products(packed, totals, f"{of[vector]}_whole", matrices))
            lines += [deinterleave(sums, name) for (sums, _), name in zip(now, packed, strict=True) if len(sums) > 1]
        return lines

    def _products_as_one(self, vector: int, packs: Sequence[tuple[tuple[int, int], ...]]) -> list[str]:
        """Lines of the products of a vector with several matrices, pack by pack."""
        lines = []
        for pack in packs:
            sums, matrices = ", ".join(self.of[k] for k, _ in pack), self._slices(m for _, m in pack)
            given = f"{sums}, {self.of[vector]}_whole, {matrices}, PRECISION"
            lines.append(f"{sums} = products{len(pack)}({given})")
        return lines

    def _products_in_quarters(self, vector: int) -> list[str]:
        """Lines of the products of a vector with all matrices whose quarters are tiles of their own."""
        of, whole = self.of, f"{self.of[vector]}_whole"
        rest = [((of[k],), m) for k, m in self.names.products_of(vector) if m in self.names.quarters]
        lines = [quarters_of(whole)] if rest else []
        while rest:
            now = different(rest)
            rest = rest[len(now) :]
            lines.append(products_in_quarters(self.names, [sums[0] for sums, _ in now], whole, [m for _, m in now]))
        return lines

    def _product(self, name: str, m: int, v: int) -> str:
        """A sum and what a product adds to it."""
        (rows, columns), whole, tile = self.names.sides(m), f"{self.of[v]}_whole", f"{self.of[m]}_tile"
        if self.names.in_blocks:
            return f"{name} + {product_in_parts(self.names, whole, m, transposed=False)}"
        if rows.once:
            return f"{name} + total_of({whole} * {tile})"
        if columns.once:
            return f"{name} + {whole} * {tile}"
        kind = "short_product" if is_short(columns.shape) else "product"
        return f"{kind}({name}, {whole}, {tile}, PRECISION)"

    def _vector(self, v: int) -> str:
        names = self.names
        return f"old_{names.states[names.old[v]]}" if v in names.old else f"{self.of[v]}_vector"

    def _finish(self, body: Body, each: Sum) -> None:
        """Add the products of the frame, of a whole pack at once, and what is the same at every step."""
        of, nodes, name = self.of, self.plan.graph.nodes, self.of[each.node]
        for n, pack in enumerate(self.names.projected):
            if each.node in pack and n not in self.done:
                for k, variable in zip(pack, self.projected[n].variables, strict=True):
                    body.take(variable)
                    body.lines.append(f"{of[k]} = {of[k]} + {variable}")
                self.done.add(n)
        terms = [repr(nodes[k].value) if nodes[k].op == "constant" else f"{of[k]}_row" for k in each.invariant]
        for term in terms:
            body.take(term)
        if terms:
            body.lines.append(f"{name} = {' + '.join([name, *terms])}")

    def _keep(self, body: Body, there: Container[int] | None) -> None:
        """Store what backward reads as soon as it is there, that registers need not hold it: the packs whose values are
        among these sums or have been computed; None: the rest."""
        row, left = f"(replicate * rows + row) * {self.names.saved_width}", []
        for place, pack, values in self.unsaved:
            if there is None or all(k in there or k in body.known for _, k in values):
                first, _, here = place
                there_as = {name: body.known[k] for name, k in values if self.names.in_blocks and k in body.known}
                body.assign([(name, k) for name, k in values if name not in there_as])
                stored = [there_as.get(name) or self._stored(body, name) for name in pack]
                store = self.names.write(f"saved + {row} + {first}", "running", here, stored)
                body.lines += ["if KEEP:", *indented([store])]
            else:
                left.append((place, pack, values))
        self.unsaved = left

    def _stored(self, body: Body, name: str) -> str:
        """What is stored of a value."""
        if (k := self.names.squashed(name)) is None:
            return name
        node, argument = self.plan.graph.nodes[k], name
        if node.op == "exp":
            argument = f"{name}_of"
            body.assign([(argument, node.args[0])])
        return f'kept_in_bf16({name}, {argument}, saved, "{node.op}")'

    def _values(self, pack: Sequence[str]) -> list[tuple[str, int]]:
        """Those of a pack that are computed, old states are not; and their nodes."""
        olds = {f"old_{name}" for name in self.names.states}
        return [(name, self.plan.kept[int(name.removeprefix("kept_"))]) for name in pack if name not in olds]

    def _end(self) -> list[str]:
        names = self.names
        return [
            names.write(f"last + {names.state_place(n)}", "valid", names.spaces[names.state_shapes[n]], [f"old_{name}"])
            for n, name in enumerate(names.states)
        ]
