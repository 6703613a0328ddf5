"""A cell's kernel as C: forward and backward over all steps, for a tile of the batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

from cello.cells.definition import Cell
from cello.compiler.c_expression import Body, identifiers
from cello.compiler.expression import equations, value_names
from cello.compiler.kernel import Kernel, kernel
from cello.compiler.text import STYLE

LOOP = "        for (long r = 0; r < n; r++) for (long j = 0; j < P; j += V) {"


@lru_cache(maxsize=256)
def source(cell: Cell, dtype: str) -> str:
    """The C of a cell for "float" or "double"."""
    return _Source(cell, dtype).text()


def fields(plan: Kernel) -> tuple[tuple[str, bool], ...]:
    """The names in the kernel's arguments and whether each is a pointer; the C struct and its caller read this."""
    states = range(len(plan.plan.graph.states))
    names = [
        *((name, False) for name in ("H", "P", "B", "T", "keeping", "columns_stride", "packed_size")),
        *((name, True) for name in ("sizes", "columns", "kept", "packed", "packed_back")),
        *((f"frames_{n}", True) for n in range(len(plan.frames))),
        *((f"fixed_{n}", True) for n in range(len(plan.fixed))),
        *((f"{kind}_{n}", True) for kind in ("first", "states", "last") for n in states),
        *((name, True) for name in ("d_outputs", "d_columns", "d_fixed", "d_matrices")),
        *((f"d_frames_{n}", True) for n in range(len(plan.frames))),
        *((f"{kind}_{n}", True) for kind in ("d_last", "d_first") for n in states),
    ]
    return tuple(names)


class _Source:
    def __init__(self, cell: Cell, dtype: str) -> None:
        self.cell, self.dtype, self.plan = cell, dtype, kernel(cell)
        self.graph, self.stages = self.plan.plan.graph, self.plan.plan.stages
        self.names = identifiers(self.plan)
        self.products = [k for stage in self.stages for k in stage.products]
        self.states = range(len(self.graph.states))
        self.old = {k: n for n in self.states if (k := self.plan.state(n)) is not None}

    def text(self) -> str:
        runtime = resources.files("cello.compiler").joinpath("runtime.h").read_text(encoding="utf-8")
        step = [f"   {left} = {right}" for left, right in equations(self.graph, STYLE)]
        wide = "int64_t" if self.dtype == "double" else "int32_t"
        members = [f"    {self._type(name, pointer)}{name};" for name, pointer in fields(self.plan)]
        parts = [
            [f"/* {self.cell.name}: {self.cell.title}", "", *step, ""],
            ["   B clips, at step t the first n of them run; H units in rows of P numbers. Written by Cello. */", ""],
            ["#include <stdint.h>", f"typedef {self.dtype} real;", f"typedef {wide} integer;"],
            [f"#define DOUBLE {int(self.dtype == 'double')}", "", runtime],
            ["struct arguments {", *members, "};", ""],
            [*self._forward(), "", *self._backward(), ""],
        ]
        return "\n".join(line for part in parts for line in part)

    def _type(self, name: str, pointer: bool) -> str:
        return "long " if not pointer else "const long *" if name == "sizes" else "real *"

    def _scratch(self, names: Sequence[str], function: str, slots: Sequence[tuple[str, int]] = ()) -> list[str]:
        """Room for tiles (TILE, P): one for each name, and CHUNK times ``count`` for each of the slots."""
        total = " + ".join([str(len(names)), *(f"CHUNK * {count}" for _, count in slots)])
        lines = [
            f"int {function}(const struct arguments *a, long tile) {{",
            "    const long H = a->H, P = a->P, T = a->T, begin = tile * TILE, tall = TILE * P;",
            "    const long mine = a->B - begin < TILE ? a->B - begin : TILE;",
            "    real *room = NULL;",
            f"    if (posix_memalign((void **)&room, 64, ({total}) * tall * sizeof(real))) return 1;",
            f"    memset(room, 0, ({total}) * tall * sizeof(real));",
            *(f"    real *{name} = room + {number} * tall;" for number, name in enumerate(names)),
        ]
        place = str(len(names))
        for name, count in slots:
            lines.append(f"    real *{name}_slots = room + ({place}) * tall;")
            place += f" + CHUNK * {count}"
        return lines

    def _outside(self, k: int) -> str | None:
        """Where a value that the kernel is given lies."""
        plan = self.plan
        if k in plan.columns:
            return f"load(columns + r * a->columns_stride + {plan.columns.index(k)} * P + j)"
        if k in plan.frames:
            return f"load(a->frames_{plan.frames.index(k)} + (row + r) * P + j)"
        if k in plan.fixed and plan.nodes[k].op != "constant":
            return f"load(a->fixed_{plan.fixed.index(k)} + j)"
        return None

    def _forward(self) -> list[str]:
        plan, names = self.plan, self.names
        carried = [names[k] for k in plan.carried]
        tiles = [*(f"old_{n}" for n in self.states), *(f"new_{n}" for n in self.states)]
        tiles += [f"{names[k]}_tile" for k in self.products] + [f"{name}_tile" for name in carried]
        lines = [
            "/* all steps of clips tile * TILE and on; 1 if there is no memory */",
            *self._scratch(tiles, "forward"),
        ]
        lines.append("    long row = begin;    /* the tile's first row of this step, among all steps' */")
        lines += [f"    memcpy(old_{n}, a->first_{n} + begin * P, mine * P * sizeof(real));" for n in self.states]
        lines += self._without_frames("last", "first")
        lines += [
            "    for (long t = 0; t < T; row += a->sizes[t++]) {",
            "        const long n = a->sizes[t] - begin < mine ? a->sizes[t] - begin : mine;",
            "        if (n <= 0) break;",
            "        const real *columns = a->columns + row * a->columns_stride;",
            f"        real *kept = a->kept + (a->keeping ? row : begin) * {max(1, len(plan.kept))} * P;",
        ]
        for number in range(len(self.stages)):
            lines += self._forward_stage(number)
        for n in self.states:
            own = "row" if n == 0 else "(a->keeping ? row : begin)"
            lines.append(f"        memcpy(a->states_{n} + {own} * P, new_{n}, n * P * sizeof(real));")
        lines += [
            "        const long next = t + 1 < T ? a->sizes[t + 1] - begin : 0;",
            "        for (long r = next > 0 ? next : 0; r < n; r++) {",
        ]
        for n in self.states:
            lines.append(f"            memcpy(a->last_{n} + (begin + r) * P, new_{n} + r * P, P * sizeof(real));")
        lines.append("        }")
        for n in self.states:
            lines.append(f"        real *swap_{n} = old_{n}; old_{n} = new_{n}; new_{n} = swap_{n};")
        return [*lines, "    }", "    free(room);", "    return 0;", "}"]

    def _without_frames(self, to: str, source: str) -> list[str]:
        """Clips without frames end as they begin, and so do their derivatives."""
        lines = ["    const long most = a->sizes[0] - begin < mine ? a->sizes[0] - begin : mine;"]
        lines.append("    const long running = most > 0 ? most : 0, over = begin + running;")
        for n in self.states:
            size = "(mine - running) * P * sizeof(real)"
            lines.append(f"    memcpy(a->{to}_{n} + over * P, a->{source}_{n} + over * P, {size});")
        return lines

    def _vector_tile(self, k: int) -> str:
        """The tile in which forward holds a value of this step or an old state."""
        if k in self.old:
            return f"old_{self.old[k]}"
        if k in self.graph.outputs and k not in self.products:
            return f"new_{self.graph.outputs.index(k)}"
        return f"{self.names[k]}_tile"

    def _comments(self, pointwise: Sequence[int]) -> list[str]:
        """The equations of the named values among these."""
        lines = equations(self.graph, STYLE)
        mine = {value_names(self.graph).get(k) for k in pointwise}
        mine |= {f"{s}[t]" for s, k in zip(self.graph.states, self.graph.outputs, strict=True) if k in pointwise}
        return [f"            // {left} = {right}" for left, right in lines if left in mine]

    def _forward_stage(self, number: int) -> list[str]:
        stage, plan, names = self.stages[number], self.plan, self.names
        lines = []
        for k in stage.products:
            matrix, vector = plan.nodes[k].args
            where = f"a->packed + {plan.matrices.index(matrix)} * a->packed_size"
            lines.append(
                f"        product(n, H, P, {self._vector_tile(vector)}, P, {where}, NULL, 0, {names[k]}_tile, P);"
            )
        if not stage.pointwise and number + 1 < len(self.stages):
            return lines
        mine = {*stage.pointwise}

        def loads(k: int) -> str | None:
            if k in mine:
                return None
            given = self._outside(k)
            in_a_tile = k in self.products or k in plan.carried or k in self.old or k in self.graph.outputs
            return f"load({self._vector_tile(k)} + r * P + j)" if given is None and in_a_tile else given

        stores = [(f"store({names[k]}_tile + r * P + j, {{}});", k) for k in stage.pointwise if k in plan.carried]
        for k in (*stage.pointwise, *stage.products):
            if k in plan.kept:
                place = f"(r * {len(plan.kept)} + {plan.kept.index(k)}) * P + j"
                stores.append((f"store(kept + {place}, {{}});", k))
        last, inside = number + 1 == len(self.stages), {k for each in self.stages for k in each.pointwise}
        for n, k in enumerate(self.graph.outputs):
            if k in mine or (last and k not in inside):
                stores.append((f"store(new_{n} + r * P + j, {{}});", k))
        body = Body(plan.nodes, names, loads).write(stores)
        return [*lines, LOOP, *self._comments(stage.pointwise), *body, "        }"]

    def _backward(self) -> list[str]:
        plan, names = self.plan, self.names
        later = sorted({int(n.value or 0) for n in plan.gradient.nodes if n.op == "later"})
        tiles = [*(f"d_new_{n}" for n in self.states), *(f"d_old_{n}" for n in self.states)]
        tiles += [f"d_{names[k]}_tile" for k in later]
        slots = [("d_products", len(self.products)), ("vectors", len(plan.vectors))]
        lines = [
            "/* the derivatives of all steps, from the last to the first */",
            *self._scratch(tiles, "backward", slots),
        ]
        lines += [
            f"    real *d_fixed = a->d_fixed + tile * {len(plan.fixed)} * P;",
            f"    real *d_matrices = a->d_matrices + tile * {len(plan.matrices)} * P * P;",
            "    long row = begin, before = begin, slot = 0;    /* the first rows of this step and the last */",
            "    for (long t = 0; t < T; t++) row += a->sizes[t];",
            *self._without_frames("d_first", "d_last"),
            "    long running_later = 0;",
            "    for (long t = T - 1; t >= 0; t--) {",
            "        row -= a->sizes[t];",
            "        const long n = a->sizes[t] - begin < mine ? a->sizes[t] - begin : mine;",
            "        if (n <= 0) continue;",
            "        before = t > 0 ? row - a->sizes[t - 1] : begin;",
            f"        real *d_products = d_products_slots + slot * {len(self.products)} * tall;",
            f"        real *vectors = vectors_slots + slot * {len(plan.vectors)} * tall;",
            "        const real *columns = a->columns + row * a->columns_stride;",
            f"        const real *kept = a->kept + row * {max(1, len(plan.kept))} * P;",
            f"        real *d_columns = a->d_columns + row * {len(plan.columns)} * P;",
            "        (void)columns; (void)kept; (void)d_columns; (void)before; (void)d_products; (void)vectors;",
        ]
        for n in self.states:
            lines.append(
                f"        const real *old_{n} = t > 0 ? a->states_{n} + before * P : a->first_{n} + begin * P;"
            )
            lines.append(f"        (void)old_{n};")
            lines.append(
                f"        memcpy(d_new_{n} + running_later * P, a->d_last_{n} + (begin + running_later) * P, "
                f"(n - running_later) * P * sizeof(real));"
            )
        lines.append("        running_later = n;")
        self.touched: set[str] = set()
        self.filled: set[int] = set()
        for number in reversed(range(len(self.stages))):
            lines += self._backward_stage(number)
        for n in self.states:
            if f"d_old_{n}" not in self.touched:
                lines.append(f"        memset(d_old_{n}, 0, n * P * sizeof(real));")
            lines.append(f"        real *swap_{n} = d_new_{n}; d_new_{n} = d_old_{n}; d_old_{n} = swap_{n};")
        lines += [
            "        if (++slot == CHUNK || t == 0) {",
            *self._outer(),
            "            slot = 0;",
            "        }",
            "    }",
        ]
        for n in self.states:
            lines.append(
                f"    if (running > 0) memcpy(a->d_first_{n} + begin * P, d_new_{n}, running * P * sizeof(real));"
            )
        return [*lines, "    free(room);", "    return 0;", "}"]

    def _outer(self) -> list[str]:
        plan = self.plan
        lines = []
        for number, k in enumerate(self.products):
            matrix, vector = plan.nodes[k].args
            a = f"d_products_slots + {number} * tall, P, {len(self.products)} * tall"
            b = f"vectors_slots + {plan.vectors.index(vector)} * tall, P, {len(plan.vectors)} * tall"
            out = f"d_matrices + {plan.matrices.index(matrix)} * P * P"
            lines.append(f"            outer(slot, TILE, P, P, {a}, {b}, {out});    // d_{self.names[k]}")
        return lines

    def _backward_loads(self, k: int) -> str | None:
        plan, node = self.plan, self.plan.gradient.nodes[k]
        if node.op == "new":
            number = int(node.value or 0)
            tile = f"load(d_new_{number} + r * P + j)"
            return f"(load(a->d_outputs + (row + r) * P + j) + {tile})" if number == 0 else tile
        if node.op == "later":
            return f"load(d_{self.names[int(node.value or 0)]}_tile + r * P + j)"
        if k in plan.kept:
            return f"load(kept + (r * {len(plan.kept)} + {plan.kept.index(k)}) * P + j)"
        if k in self.old:
            return f"load(old_{self.old[k]} + r * P + j)"
        if self._outside(k) is not None:
            return self._outside(k)
        if k in self.graph.outputs:
            return f"load(a->states_{self.graph.outputs.index(k)} + (row + r) * P + j)"
        return None

    def _backward_stage(self, number: int) -> list[str]:
        stage, plan, names = self.stages[number], self.plan, self.names
        gives = plan.gradient.stages[number]
        stores: list[tuple[str, int]] = []
        for k, at in gives.others:
            stores.append((self._into(k), at))
        for k, at in gives.products:
            stores.append((f"store(d_products + {self.products.index(k)} * tall + r * P + j, {{}});", at))
        for k in stage.products:
            vector = plan.nodes[k].args[1]
            if vector not in self.filled:
                self.filled.add(vector)
                stores.append((f"store(vectors + {plan.vectors.index(vector)} * tall + r * P + j, {{}});", vector))
        labels = {**names, **{at: f"d_{names[k]}" for k, at in (*gives.others, *gives.products)}}
        body = Body(plan.gradient.nodes, labels, self._backward_loads).write(stores)
        lines = [LOOP, *self._comments(stage.pointwise), *body, "        }"] if stores else []
        for k, _ in gives.products:
            matrix, vector = plan.nodes[k].args
            tile = f"d_old_{self.old[vector]}" if vector in self.old else f"d_{names[vector]}_tile"
            lines.append(
                f"        product(n, H, P, d_products + {self.products.index(k)} * tall, P, "
                f"a->packed_back + {plan.matrices.index(matrix)} * a->packed_size, "
                f"{tile if tile in self.touched else 'NULL'}, P, {tile}, P);"
            )
            self.touched.add(tile)
        return lines

    def _into(self, k: int) -> str:
        """The statement that adds to the derivative of a node outside a stage, or begins it."""
        plan = self.plan
        if k in plan.fixed:
            return f"gather(d_fixed + {plan.fixed.index(k)} * P + j, {{}});"
        if k in plan.columns:
            place = f"d_columns + (r * {len(plan.columns)} + {plan.columns.index(k)}) * P + j"
        elif k in plan.frames:
            place = f"a->d_frames_{plan.frames.index(k)} + (row + r) * P + j"
        elif k in self.old:
            place = f"d_old_{self.old[k]} + r * P + j"
        else:
            place = f"d_{self.names[k]}_tile + r * P + j"
        key = place.removesuffix(" + r * P + j")
        verb = "gather" if key in self.touched else "store"
        self.touched.add(key)
        return f"{verb}({place}, {{}});"
