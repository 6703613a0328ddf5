"""Write the backward pass of a kernel in Triton: all steps of a tile of clips, from the last to the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cello.cells.graph import Shape
from cello.compiler.gradient import StageGradient
from cello.compiler.step_names import indented
from cello.compiler.triton.expression import Body
from cello.compiler.triton.forward import constants
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
    reduce_scatter,
    within_cluster,
)
from cello.compiler.triton.reads import (
    mask_arguments,
    matrices_again,
    places_again,
    prologue,
    rows_again,
    running,
    step_reads,
)
from cello.compiler.triton.reshape import Reshaping
from cello.compiler.triton.spaces import Space
from cello.compiler.triton.tiles import (
    AHEAD,
    Read,
    ahead_in_step,
    all_steps,
    indented_if,
    interleave,
    read_ahead,
    steps_of_held,
)

ARGUMENTS = ("place", "length", "start", "reverse", "weights", "invariants", "last", "saved")
DERIVATIVES = ("d_outputs", "d_last", "d_first", "d_sums", "vectors", "d_invariants", "workspace")
SIZES = ("TILES", "B", "T", "rows")
ROW = "replicate * rows + begin"
AT_ONCE = 4
"""Vectors that are changed to operands of products between the same barriers, where matrices lie in quarters."""
_Products = dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]]
"""Vectors and matrices of the products of some sums."""


def backward(names: Names) -> list[str]:
    """``backward``: the steps of one tile of one replicate; derivatives of matrices follow from what it writes."""
    return _Backward(names).lines()


class _Backward:
    def __init__(self, names: Names) -> None:
        self.names, self.plan, self.of = names, names.plan, names.of
        self.graph, self.gradient = self.plan.graph, self.plan.gradient
        self.later = {int(node.value or 0) for node in self.gradient.nodes if node.op == "later"}
        self.readers = {arg: k for k, node in enumerate(self.graph.nodes) for arg in node.args}
        self.begun: set[str] = set()
        self.through: set[tuple[int, ...]] = set()
        self.ahead: list[str] = []
        self.left_sums = 0
        self.rows = {names.rows_of(k, shape) for k, shape in names.summed}
        self.in_memory = {
            names.rows_of(k, shape): (self._place_of_rows(k, shape), names.spaces[shape])
            for k, shape in names.summed
            if names.adds_in_memory(shape)
        }
        self.places = {k: at for stage in self.gradient.stages for k, at in stage.sums}
        self.labels = {**self.of, **{at: f"d_{self.of[k]}" for k, at in self.places.items()}}
        self.reshaping = Reshaping(names, self.gradient.nodes, self.labels)
        self.upstream, self.saved = self._upstream(), self._saved()
        self.reads = [self.upstream, *self.saved, *step_reads(names, "d_new")]

    def lines(self) -> list[str]:
        frames = ("x_rows", "d_x_rows") if self.names.frames else ()
        given = (*self.names.arguments(ARGUMENTS), *DERIVATIVES, *frames, *mask_arguments(self.names))
        arguments = (*given, *SIZES, *constants(self.names, "GIVEN"))
        inside = within_cluster([*prologue(self.names), *self._begin(), *self._loop(), *self._end()])
        return ["@triton.jit", f"def backward({', '.join(arguments)}):", *indented(inside)]

    def _begin(self) -> list[str]:
        names = self.names
        lines = [] if names.reread == "all" or names.in_blocks else self._load_matrices()
        for n, name in enumerate(names.states):
            place, here = names.state_place(n), names.spaces[names.state_shapes[n]]
            lines.append(names.read((f"new_{name}",), f"last + {place}", "valid", here))
            lines.append(names.read((f"d_new_{name}",), f"d_last + {place}", "valid", here))
        for k, shape in names.summed:
            total, here = names.rows_of(k, shape), names.spaces[shape]
            added = total in self.in_memory
            lines.append(self._write_rows(k, shape, here.zero) if added else f"{total} = {here.zero}")
        ahead = read_ahead(self.reads, "tl.maximum(steps - 1, 0)", ROW)
        return lines if names.matrices else [*lines, *indented_if(AHEAD, ahead)]

    def _load_matrices(self) -> list[str]:
        """This program's columns of all matrices, those of one vector and of a pack of sums as one."""
        groups = dict.fromkeys(matrices for each in self.names.groups.values() for _, matrices in each)
        wanted = [matrices for matrices in groups if matrices[0] not in self.names.quarters]
        lines = [f"{self._tile(matrices)} = {self._load_matrix(matrices)}" for matrices in wanted]
        if self.names.reread == "rows":  # no more loads at once than there are registers for
            lines = [line for each in lines for line in (each, "tl.debug_barrier()")]
        return [*lines, *self._load_quarters(held=False), *(["tl.debug_barrier()"] if self.names.quarters else [])]

    def _load_quarters(self, *, held: bool) -> list[str]:
        """Those that threads hold, or the others."""
        return [
            load_quarter(self.names, m, n, transposed=True)
            for m, quarters in self.names.quarters.items()
            for n, is_held in enumerate(quarters)
            if is_held == held
        ]

    def _tile(self, matrices: tuple[int, ...]) -> str:
        return "_".join(self.of[m] for m in matrices) + "_tile"

    def _is_scattered(self, matrices: tuple[int, ...]) -> bool:
        """Whether a program multiplies by its own rows of these matrices alone, for all units of a vector."""
        uses = (use for nodes in self.names.scattered for use in self.names.uses[nodes])
        return any(matrices == each for _, each in uses)

    def _is_sliced(self, matrices: tuple[int, ...]) -> bool:
        names = self.names
        return names.in_slices and not names.adds_up(matrices[0]) and not any(s.once for s in names.sides(matrices[0]))

    def _load_matrix(self, matrices: tuple[int, ...]) -> str:
        """One of a single row or column is a row of elements."""
        (rows, columns), place = self.names.sides(matrices[0]), inner_place(self.names, matrices[0])
        if rows.once:
            return f"load_row({place}, {columns.part}, {columns.elements}, {columns.own})"
        if columns.once:
            return f"load_row({place}, 0, {rows.elements}, {rows.units})"
        if self._is_scattered(matrices):
            sizes = f"{len(matrices)}, {rows.elements}, {columns.elements}, {rows.own}, {columns.units}"
            return f"load_rows({place}, {rows.part}, {sizes}, PRECISION)"
        if self.names.adds_up(matrices[0]):
            sizes = f"{len(matrices)}, {rows.elements}, {columns.elements}, {rows.own}, {columns.own}"
            return f"load_rows({place}, {rows.part}, {sizes}, PRECISION)"
        if self._is_sliced(matrices):
            sizes = f"{len(matrices)}, 1, {rows.elements}, {columns.elements}, {rows.units}, {columns.own}"
            return f"load_slices({place}, {columns.part}, {columns.elements}, 1, {sizes})"
        sizes = f"{len(matrices)}, {rows.elements}, {columns.elements}, {rows.units}, {columns.own}"
        return f"load_matrix({place}, {columns.part}, {columns.elements}, 1, {sizes}, PRECISION)"

    def _reads(self) -> list[str]:
        """What a step reads."""
        names = self.names
        lines = [
            "step = steps - 1 - back",
            running(names),
            "time = tl.where(reversed_time != 0, frames - 1 - step, step)",
            f"row = {ROW} + time",
        ]
        if not names.matrices:
            at_once = not names.quarters
            taken, self.ahead = ahead_in_step(self.reads, "tl.maximum(step - 1, 0)", ROW, at_once=at_once)
            lines += taken
        all_of_it, (part,) = f"d_new_{names.states[0]}_all", self.upstream.variables
        lines += [f"{all_of_it} = d_new_{names.states[0]}", *self.upstream.late(ever_ahead=not names.matrices)]
        return [*lines, "if GIVEN:", f"    {all_of_it} += {part}"]

    def _upstream(self) -> Read:
        """How the derivatives of outputs are read, if they are given."""
        names = self.names
        here, variable = names.spaces[names.state_shapes[0]], (f"d_new_{names.states[0]}_here",)
        base = f"d_outputs + ((replicate * B + at) * T + time) * {here.elements}"
        return Read(variable, names.read(variable, base, "running", here, names.like(here, "d_new")), "GIVEN")

    def _saved(self) -> list[Read]:
        """How what forward saved is read, pack by pack."""
        names = self.names
        found = []
        for variables, (first, _, here) in zip(names.saved, names.saved_places, strict=True):
            place = f"saved + (row * {names.saved_width} + {first})"
            line = names.read(variables, place, "running", here, names.like(here, "d_new"))
            found.append(Read(variables, line, then=tuple(filter(None, map(self._function, variables)))))
        return found

    def _function(self, name: str) -> str | None:
        """The line that takes a value from the number that is kept of it, if that is another."""
        if (k := self.names.squashed(name)) is None:
            return None
        return f'{name} = of_kept_in_bf16({name}, saved, "{self.graph.nodes[k].op}")'

    def _loads(self) -> dict[str, list[str]]:
        """The lines by which a variable is read right before its first use, those of a pack by the first of them."""
        found = rows_again(self.names)
        for each in self.reads[1:]:
            found |= dict.fromkeys(each.variables, each.late(ever_ahead=not self.names.matrices))
        return found

    def _loop(self) -> list[str]:
        names = self.names
        if names.quarters:
            return steps_of_held(self._load_quarters(held=True), self._step(), "back")
        return all_steps(self._step(), "back", held=names.all_held, stages="STAGES" if names.matrices else "1")

    def _step(self) -> list[str]:
        names, states = self.names, self.names.states
        lines = self._reads()
        before, again = self._loads(), matrices_again(names)
        body = Body(self.gradient.nodes, self.labels, self._read, names.equations, self.reshaping, before, again)
        for number in reversed(range(len(self.plan.stages))):
            self._stage(body, number)
            self._store(body, number)
        body.lines += self.ahead  # what was read for this step is no longer needed
        self._through(body, [k for k in names.old if k in self.plan.vectors])
        derived = names.derived_frames
        places = names.in_a_row(derived)
        body.lines += [self._side_by_side("d_x_rows", places, k, self._part(k)) for k in derived]
        for name in states:
            body.take(f"old_{name}")
        lines += body.lines
        for name in states:
            value = f"d_old_{name}" if f"d_old_{name}" in self.begun else "0.0"
            lines.append(f"d_new_{name} = tl.where(running[:, None], {value}, d_new_{name})")
            lines.append(f"new_{name} = tl.where(running[:, None], old_{name}, new_{name})")
        return lines

    def _read(self, k: int) -> str | None:
        """How a value is read; None where it is computed again."""
        node, of, names = self.gradient.nodes[k], self.of, self.names
        if node.op == "new":
            return f"d_new_{names.states[int(node.value or 0)]}" + ("" if node.value else "_all")
        if node.op == "later":
            return f"d_{of[int(node.value or 0)]}_part"
        if k in names.old:
            return f"old_{names.states[names.old[k]]}"
        if k in self.plan.masks or k in names.frames:
            return f"{of[k]}_now"
        if node.op == "size":
            return names.size(k)
        if k in self.plan.invariant:
            return f"{of[k]}_row"
        if k in self.plan.kept:
            return f"kept_{self.plan.kept.index(k)}"
        if k in self.graph.outputs:
            return f"new_{names.states[self.graph.outputs.index(k)]}"
        return None

    def _stage(self, body: Body, number: int) -> None:
        stage, given = self.plan.stages[number], self.gradient.stages[number]
        values = (*(each.node for each in stage.sums), *stage.pointwise, *stage.reductions)
        self._through(body, [k for k in values if k in self.plan.vectors])
        self._comment(body, given)
        wanted = [(f"d_{self.of[k]}", at) for k, at in given.sums]
        added: list[tuple[str, str, int]] = []
        for k, at in given.others:
            total = self._total(k, at)
            if total is not None:
                added.append((total, f"add_{total.removeprefix('d_')}", at))
        at_once = [each for each in added if each[0] in self.in_memory]
        adds = [each for each in added if each not in at_once]
        wanted += [(value, at) for _, value, at in (*at_once, *adds)]
        then = {value: self._added_in_memory(total, value) for total, value, _ in at_once}
        body.assign([*wanted, *((f"whole_{self.of[k]}", at) for k, at in given.reductions)], then)
        for total, value, _ in adds:
            self._add(body, total, value)
        body.lines += [f"{self._part(k)} = whole_{self.of[k]}" for k, _ in given.reductions]

    def _added_in_memory(self, total: str, value: str) -> str:
        place, here = self.in_memory[total]
        sizes = f"{here.part}, 1, {here.elements}, {here.own}, {here.whole}{here.in_rows}"
        return f"add_blocks({place}, running, {value}, {sizes})"

    def _total(self, k: int, at: int) -> str | None:
        """Where what is added to the derivative of a value from elsewhere is summed up, if it is."""
        place = k, self.gradient.nodes[at].shape
        if place in self.names.summed:
            return self.names.rows_of(*place)
        return self._part(k) if k in self.names.old or k in self.later or k in self.names.frames else None

    def _comment(self, body: Body, given: StageGradient) -> None:
        """Over a derivative the equation that it is the derivative of."""
        for k, at in given.sums:
            reader = self.readers.get(k, k)
            if at >= len(self.graph.nodes) and reader in self.names.equations:
                body.comments = {**body.comments, at: f"# through {self.names.equations[reader].removeprefix('# ')}"}

    def _part(self, k: int) -> str:
        """Where the derivative of an old state or of a value of an earlier stage is summed up."""
        return f"d_old_{self.names.states[self.names.old[k]]}" if k in self.names.old else f"d_{self.of[k]}_part"

    def _add(self, body: Body, total: str, value: str) -> None:
        if total in self.rows:
            body.lines.append(f"{total} += tl.where(running[:, None], {value}, 0.0)")
        else:
            body.lines.append(f"{total} = {total} + {value}" if total in self.begun else f"{total} = {value}")
            self.begun.add(total)

    def _through(self, body: Body, vectors: Sequence[int]) -> None:
        """What products hand on to vectors: the derivatives of their sums times their matrices.

        All products of the same derivatives follow each other, those for vectors of earlier stages too, so that
        registers hold those of few at a time, and tiles of sums in their place.
        """
        names = self.names
        wanted = dict.fromkeys(nodes for v in vectors for nodes, _ in names.groups[v] if nodes not in self.through)
        self.through.update(wanted)
        products = {nodes: names.uses[nodes] for nodes in wanted}
        for vector in dict.fromkeys(vector for uses in products.values() for vector, _ in uses):
            if (total := self._part(vector)) not in self.begun:
                body.lines.append(f"{total} = {names.space(vector).zero}")
                self.begun.add(total)
        self._scattered(body, {nodes: uses for nodes, uses in products.items() if nodes in names.scattered})
        products = {nodes: uses for nodes, uses in products.items() if nodes not in names.scattered}
        values = self._sums_of_programs(body, products)
        added, asked = [*values], [nodes for nodes, uses in products.items() if self._gathered(nodes, uses)]
        whole = {
            self._whole(nodes): (interleave([f"d_{self.of[k]}" for k in nodes]), len(nodes), names.space(nodes[0]))
            for nodes in asked
        }
        slots = [*range(len(added)), *(len(added) + sum(map(len, asked[:n])) for n in range(len(asked)))]
        multiplied = {self._whole(nodes) for nodes in asked if self._multiplied(nodes, products[nodes])}
        gathered = all_gather(names, values | whole, slots, multiplied)
        body.lines += gathered.left
        self.reshaping.whole.update(whole)
        for shares in added:
            total, own = shares.removesuffix("_shares"), values[shares][2].own
            body.lines += [gathered.taken[shares], f"{total} = {total} + column_total({shares}, {own}, {own})"]
        operands = [nodes for nodes, uses in products.items() if any(m[0] in names.quarters for _, m in uses)]
        for nodes, uses in products.items():
            if nodes in operands[::AT_ONCE]:
                begin = operands.index(nodes)
                for one in map(self._whole, operands[begin : begin + AT_ONCE]):
                    body.lines += filter(None, [gathered.taken.pop(one, None), quarters_of(one)])
            body.lines += filter(None, [gathered.taken.get(self._whole(nodes))])
            self._products_of(body, nodes, uses)

    def _products_of(self, body: Body, nodes: tuple[int, ...], uses: Sequence[tuple[int, tuple[int, ...]]]) -> None:
        """What the derivatives of some sums add to those of vectors."""
        names, derivatives = self.names, self._whole(nodes)
        rest = [(vector, matrices) for vector, matrices in uses if not names.adds_up(matrices[0])]
        in_slices = [((self._part(v),), matrices) for v, matrices in rest if self._is_sliced(matrices)]
        while in_slices:
            now = different(in_slices)
            in_slices, totals = in_slices[len(now) :], [total for (total,), _ in now]
            tiles = [self._tile(matrices) for _, matrices in now]
            body.lines.append(exact_products(totals, totals, derivatives, tiles))
        for vector, matrices in (use for use in rest if not self._is_sliced(use[1])):
            total = self._part(vector)
            if matrices[0] in names.quarters:
                body.lines.append(products_in_quarters(names, [total], derivatives, matrices))
            else:
                body.lines += self._load_again(matrices)
                body.lines.append(f"{total} = {self._product(total, nodes, matrices)}")

    def _multiplied(self, nodes: tuple[int, ...], uses: Sequence[tuple[int, tuple[int, ...]]]) -> bool:
        """Whether the derivatives of some sums are operands of products of tiles, as a whole, and nothing else."""
        places = [self.places[k] for k in nodes if k in self.places]
        sides = [self.names.sides(matrices[0]) for _, matrices in uses]
        return not any(map(self.reshaping.needs_whole, places)) and not any(columns.once for _, columns in sides)

    def _scattered(self, body: Body, products: _Products) -> None:
        """What this program's derivatives of sums add to all units of vectors, each program's handed to it."""
        names, shares = self.names, dict[str, str]()
        for nodes in products:
            sums, value = names.space(nodes[0]), interleave([f"d_{self.of[k]}" for k in nodes])
            own = f"own_elements({value}, {sums.part}, {len(nodes)}, {sums.elements}, {sums.own}, {sums.whole})"
            body.lines.append(f"{self._own(nodes)} = rounded({own}, PRECISION)")
        for nodes, uses in products.items():
            for vector, matrices in uses:
                total, here = self._part(vector), names.space(vector)
                share = f"share_of_{total}"
                if total not in shares:
                    body.lines.append(f"{share} = tl.full((ROWS, {here.units}), 0.0, tl.float32)")
                    shares[total] = share
                tile = self._tile(matrices)
                body.lines.append(f"{share} = product({share}, {self._own(nodes)}, {tile}, PRECISION)")
        if shares:
            body.lines += reduce_scatter(names, shares, self.left_sums)
            self.left_sums += len(shares)

    def _own(self, nodes: tuple[int, ...]) -> str:
        """The variable that holds this program's derivatives of some sums, zero where they count for nothing."""
        return f"own_{self._whole(nodes)}".removesuffix("_whole")

    def _sums_of_programs(self, body: Body, products: _Products) -> dict[str, tuple[str, int, Space]]:
        """What this program's derivatives of sums add to vectors of which each program has all, to be gathered."""
        names, found = self.names, dict[str, tuple[str, int, Space]]()
        for nodes, uses in products.items():
            for vector, matrices in (use for use in uses if names.adds_up(use[1][0])):
                share, here, sums = f"{self._part(vector)}_share", names.space(vector), names.space(nodes[0])
                value = interleave([f"d_{self.of[k]}" for k in nodes])
                own = f"own_elements({value}, {sums.part}, {len(nodes)}, {sums.elements}, {sums.own}, {sums.whole})"
                body.lines += [] if f"{share}s" in found else [f"{share} = {here.zero}"]
                body.lines += self._load_again(matrices)
                body.lines.append(f"{share} = product({share}, {own}, {self._tile(matrices)}, PRECISION)")
                of_all = f"{here.own} * {sums.parts}"
                shares = Space(here.shape, of_all, f"({of_all})", here.own, "True", sums.part)
                found[f"{share}s"] = share, 1, shares
        return found

    def _load_again(self, matrices: tuple[int, ...]) -> list[str]:
        """The line before a product that reads its matrices, if they are read at every step."""
        return [f"{self._tile(matrices)} = {self._load_matrix(matrices)}"] if self.names.reread == "all" else []

    def _gathered(self, nodes: tuple[int, ...], uses: Sequence[tuple[int, tuple[int, ...]]]) -> bool:
        """Whether the derivatives of some sums are asked for as a whole for the first time."""
        names, first = self.names, [matrices[0] for _, matrices in uses]
        several = names.in_blocks or any(not names.sides(m)[0].once and not names.adds_up(m) for m in first)
        return several and self._whole(nodes) not in self.reshaping.whole

    def _product(self, total: str, nodes: tuple[int, ...], matrices: tuple[int, ...]) -> str:
        """A vector's derivative and what the derivatives of these sums add to it."""
        (rows, columns), tile, whole = self.names.sides(matrices[0]), self._tile(matrices), self._whole(nodes)
        if self.names.in_blocks:
            return f"{total} + {product_in_parts(self.names, whole, matrices[0], transposed=True)}"
        if rows.once:
            return f"{total} + d_{self.of[nodes[0]]} * {tile}"
        if columns.once:
            return f"{total} + total_of({whole} * {tile})"
        return f"product({total}, {whole}, {tile}, PRECISION)"

    def _whole(self, nodes: tuple[int, ...]) -> str:
        """The variable that holds the derivatives of some sums, of all units."""
        return "_".join(f"d_{self.of[k]}" for k in nodes) + "_whole"

    def _store(self, body: Body, number: int) -> None:
        """Write the derivatives of a stage's sums and the vectors it computes, so that registers need not hold them."""
        names, stage = self.names, self.plan.stages[number]
        sums = {each.node for each in stage.sums}
        for first, here, pack in (place for k, place in names.sum_places.items() if k in sums):
            values = [f"d_{self.of[k]}" for k in pack]
            body.lines.append(names.write(f"d_sums + (row * {names.sum_width} + {first})", "running", here, values))
        for k in names.computed:
            if k in sums or k in stage.pointwise or k in stage.reductions:
                body.assign([(f"{self.of[k]}_vector", k)])
                body.lines.append(self._side_by_side("vectors", names.vector_places, k, f"{self.of[k]}_vector"))

    def _side_by_side(self, array: str, places: Mapping[int, str], k: int, value: str) -> str:
        """The line that writes one of the values that a row has, each for itself."""
        return self.names.write(f"{array} + ({places[k]})", "running", self.names.space(k), [value])

    def _end(self) -> list[str]:
        names = self.names
        lines = places_again(names) if names.reread == "rows" else []
        for n, name in enumerate(names.states):
            here = names.spaces[names.state_shapes[n]]
            lines.append(names.write(f"d_first + {names.state_place(n)}", "valid", here, [f"d_new_{name}"]))
        for k, shape in names.summed:
            if (total := names.rows_of(k, shape)) not in self.in_memory:
                lines.append(self._write_rows(k, shape, total))
        return lines

    def _write_rows(self, k: int, shape: Shape, value: str) -> str:
        """The line that writes a sum over all steps of this program's clips."""
        return self.names.write(self._place_of_rows(k, shape), "(clip >= 0)", self.names.spaces[shape], [value])

    def _place_of_rows(self, k: int, shape: Shape) -> str:
        names, shapes = self.names, [shape for _, shape in self.names.summed]
        before = names.extent(shapes[: names.summed.index((k, shape))])
        return f"d_invariants + ((group * ROWS + tl.arange(0, ROWS)) * {names.extent(shapes)} + {before})"
