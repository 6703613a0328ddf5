"""Write the backward pass of a kernel in C: all steps of a tile, from the last to the first."""

from __future__ import annotations

from cello.compiler.c.expression import Body
from cello.compiler.c.source import Names, Workspace, head, loop
from cello.compiler.gradient import StageGradient
from cello.compiler.stages import Stage
from cello.compiler.step_names import indented


def backward(names: Names) -> list[str]:
    """``backward_tile``: the steps of one tile, with its group's gradients of matrices and loop-invariant values."""
    return _Backward(names).lines()


class _Backward:
    def __init__(self, names: Names) -> None:
        self.names, self.plan = names, names.plan
        self.graph, self.gradient = self.plan.graph, self.plan.gradient
        self.inside = {k for stage in self.plan.stages for k in (*stage.pointwise, *(s.node for s in stage.sums))}
        self.later = sorted({int(node.value or 0) for node in self.gradient.nodes if node.op == "later"})
        self.sums = [k for stage in self.gradient.stages for k, _ in stage.sums]
        learned = {v for each in self.plan.sums for m, v in each.products if m not in self.plan.constant}
        self.computed = [k for k in self.plan.vectors if k in self.inside - {*self.graph.outputs} and k in learned]
        self.readers = {arg: k for k, node in enumerate(self.graph.nodes) for arg in node.args}
        self.begun: set[str] = set()
        self.filled: set[int] = set()

    def lines(self) -> list[str]:
        plan, of, states = self.plan, self.names.of, self.names.states
        return [
            "/* The derivatives of all steps of one tile; 1 if there is no memory. */",
            "static int backward_tile(const struct arguments *a, long tile, struct offset offset, real *d_packed,",
            "                         real *d_rows) {",
            *head(backward=True),
            "    const long chunk = chunk_of(&c, H);",
            *self._workspace().lines(),
            "    memset(none, 0, V * sizeof(real));",
            *(f"    fill({of[k]}_row, a->invariant_{of[k]}, a->invariant_{of[k]}_stride, H);" for k in plan.invariant),
            *(f"    real *d_{of[k]}_row = d_rows + {n} * P;" for n, k in enumerate(plan.invariant)),
            f"    real *history = a->history + offset.history * {len(states)} * P;",
            f"    real *kept = a->kept + (offset.kept + c.steps * rows) * {len(plan.kept)} * P;",
            "    const struct view d_outputs = {a->d_outputs, a->T * H, H}, d_x = {a->d_x, a->T * D, D};",
            "    const struct view x = {a->x, a->x_clip_stride, a->x_frame_stride};",
            "    (void)x; (void)d_x; (void)d_rows; (void)d_packed; (void)kept;",
            "    load_tile(&c, d_outputs, 0, 0, a->d_outputs ? 0 : c.count, H, d_out);",
            "    long n = 0, slot = 0, counts[MOST_CHUNK];",
            "    for (long t = c.steps - 1; t >= 0; t--) {",
            *indented(self._step()),
            "    }",
            *self._end(),
            "    if (a->d_x) zero_padding(&c, d_x, a->T, D);",
            "    free(workspace);",
            "    return 0;",
            "}",
        ]

    def _workspace(self) -> Workspace:
        of, workspace = self.names.of, Workspace()
        workspace.add("x_slots", "chunk * rows * E")
        workspace.add("d_x_tile", "rows * E")
        workspace.add("d_out", "size")
        workspace.add("none", "V")
        for name in self.names.states:
            workspace.add(f"d_new_{name}", "size")
            workspace.add(f"d_old_{name}", "size")
        for k in self.sums:
            workspace.add(f"d_{of[k]}_slots", "chunk * size")
        for k in self.computed:
            workspace.add(f"{of[k]}_slots", "chunk * size")
        for k in self.later:
            workspace.add(f"d_{of[k]}_part", "size")
        for k in self.plan.masks:
            workspace.add(f"{of[k]}_tile", "size")
        for k in self.plan.invariant:
            workspace.add(f"{of[k]}_row", "P")
        return workspace

    def _step(self) -> list[str]:
        of, states = self.names.of, self.names.states
        count = len(states)
        lines = [
            "    const long later = n;",
            "    while (n < c.count && c.length[n] > t) n++;",
            f"    kept -= {len(self.plan.kept)} * size;",
            "    counts[slot] = n;",
        ]
        for number, name in enumerate(states):
            lines += [
                f"    const real *old_{name} = history + (t * {count} + {number}) * size;",
                f"    const real *new_{name} = old_{name} + {count} * size;",
                f"    (void)old_{name}; (void)new_{name};",
                f"    load_tile(&c, per_clip(a->d_last_{name}, H), t, later, n, H, d_new_{name});",
            ]
        lines.append("    if (a->d_outputs) load_tile(&c, d_outputs, t, 0, n, H, d_out);")
        if self.names.input is not None:
            wanted = " || ".join(f"a->d_weight_{of[k]}" for k in self.names.wide)
            lines += ["    real *x_tile = x_slots + slot * rows * E;"]
            lines += [f"    if ({wanted}) load_tile(&c, x, t, 0, n, D, x_tile);"] if wanted else []
        for k in self.sums:
            lines.append(f"    real *d_{of[k]}_tile = d_{of[k]}_slots + slot * size;")
        for k in self.computed:
            lines.append(f"    real *{of[k]}_tile = {of[k]}_slots + slot * size;")
        lines += self.names.mask_lines("    ")
        for number in reversed(range(len(self.plan.stages))):
            lines += self._stage(number)
        lines += self._through_matrices()
        lines += ["    if (++slot == chunk || t == 0) {", *indented(self._outer()), "        slot = 0;", "    }"]
        for name in states:
            lines.append(
                f"    real *swap_{name} = d_new_{name}; d_new_{name} = d_old_{name}; d_old_{name} = swap_{name};"
            )
        return lines

    def _end(self) -> list[str]:
        """The derivatives of the first states; clips without frames hand on those of their last."""
        lines = []
        for name in self.names.states:
            lines += [
                f"    load_tile(&c, per_clip(a->d_last_{name}, H), 0, n, c.count, H, d_new_{name});",
                f"    store_tile(&c, per_clip(a->d_first_{name}, H), 0, 0, c.count, H, d_new_{name});",
            ]
        return lines

    def _loads(self, k: int) -> str | None:
        """How a value is read; None where it is computed again."""
        node, of, states = self.gradient.nodes[k], self.names.of, self.names.states
        if node.op == "new":
            name = states[int(node.value or 0)]
            tile = f"load(d_new_{name} + at)"
            return f"(load(d_out + at) + {tile})" if node.value == 0 else tile
        if node.op == "later":
            return f"load(d_{of[int(node.value or 0)]}_part + at)"
        if k in self.names.old:
            return f"load(old_{states[self.names.old[k]]} + at)"
        if k in self.plan.masks:
            return f"load({of[k]}_tile + at)"
        if k in self.plan.kept:
            return f"load(kept + {self.plan.kept.index(k)} * size + at)"
        if k in self.graph.outputs:
            return f"load(new_{states[self.graph.outputs.index(k)]} + at)"
        return None

    def _stage(self, number: int) -> list[str]:
        stage, given, of = self.plan.stages[number], self.gradient.stages[number], self.names.of
        own = (*(each.node for each in stage.sums), *stage.pointwise)
        lines = [line for k in own if k in self.plan.vectors for line in self._through(k)]
        stores, rows = [], {}
        for k, at in given.others:
            if k in self.plan.invariant:
                rows[f"d_{of[k]}"] = f"d_{of[k]}_row + j"
                stores.append((f"d_{of[k]} += {{}};", at))
            elif k in self.names.old or k in self.later:
                stores.append((self._add_to(self._tile(k)), at))
        stores += [(f"store(d_{of[k]}_tile + at, {{}});", at) for k, at in given.sums]
        for k in self._vectors_of(stage):
            stores.append((f"store({of[k]}_tile + at, {{}});", k))
        if not stores:
            return lines
        labels = {**of, **{at: f"d_{of[k]}" for k, at in given.sums}}
        body = Body(self.gradient.nodes, labels, self._loads, self.names.rows(), self._comments(given))
        return [*lines, *loop(body, stores, rows)]

    def _comments(self, given: StageGradient) -> dict[int, str]:
        """The equations, and over a derivative that of what it is the derivative of."""
        found = dict(self.names.equations)
        for k, at in given.sums:
            reader = self.readers.get(k, k)
            if at >= len(self.graph.nodes) and reader in self.names.equations:
                found[at] = f"// through {self.names.equations[reader].removeprefix('// ')}"
        return found

    def _vectors_of(self, stage: Stage) -> list[int]:
        """The computed vectors of a stage's products, the first time they are met."""
        met = [v for each in stage.sums for _, v in each.products if v in self.computed and v not in self.filled]
        self.filled.update(met)
        return list(dict.fromkeys(met))

    def _tile(self, k: int) -> str:
        """Where the derivative of an old state or of a value of an earlier stage is accumulated."""
        return f"d_old_{self.names.states[self.names.old[k]]}" if k in self.names.old else f"d_{self.names.of[k]}_part"

    def _add_to(self, tile: str) -> str:
        verb = "accumulate" if tile in self.begun else "store"
        self.begun.add(tile)
        return f"{verb}({tile} + at, {{}});"

    def _through(self, vector: int) -> list[str]:
        """What products hand on to a vector: the derivatives of their sums times their matrices."""
        of, nodes = self.names.of, self.graph.nodes
        frame = nodes[vector].op == "input"
        readers = [
            (each, m) for each in self.plan.sums if each.node in self.sums for m, v in each.products if v == vector
        ]
        terms = [
            f"{{d_{of[each.node]}_tile, a->packed_back + {self.names.place(m, 'wide_back')}, H}}"
            for each, m in readers
            if m not in self.plan.constant
        ]
        means = [(each, m) for each, m in readers if m in self.plan.constant]
        if not readers:
            return []
        tile, lines = "d_x_tile" if frame else self._tile(vector), list[str]()
        if terms:
            start = f"{tile}, V, rows * V" if tile in self.begun else "none, 0, 0"
            given = f"{'E' if frame else 'P'}, terms_{vector}, {len(terms)}, (struct origin){{{start}}}"
            self.begun.add(tile)
            lines += [
                f"    const struct term terms_{vector}[] = {{{', '.join(terms)}}};",
                f"    product(n, rows, {given},",
                f"            {tile});",
            ]
        for each, m in means:
            start = "NULL" if tile in self.begun else "none"
            self.begun.add(tile)
            given = f"d_{of[each.node]}_tile, a->weight_{of[m]}[0], {start}, 0, {tile}"
            lines.append(f"    add_row_sums(n, rows, H, P, {given});")
        return lines

    def _through_matrices(self) -> list[str]:
        """The derivatives of the frame and of the old states, complete."""
        lines = [line for k in self.names.old if k in self.plan.vectors for line in self._through(k)]
        untouched = [name for name in self.names.states if f"d_old_{name}" not in self.begun]
        lines += [f"    memset(d_old_{name}, 0, size * sizeof(real));" for name in untouched]
        frame = self.names.input
        if frame is not None and (through := self._through(frame)):
            inside = [*through, "    store_tile(&c, d_x, t, 0, n, D, d_x_tile);"]
            lines += ["    if (a->d_x) {", *indented(inside), "    }"]
        return lines

    def _outer(self) -> list[str]:
        """The derivatives of the matrices from the last steps."""
        of, states = self.names.of, self.names.states
        count, lines = len(states), []
        for each in self.plan.sums:
            if each.node not in self.sums:
                continue
            for matrix, vector in each.products:
                if matrix in self.plan.constant:
                    continue
                if self.graph.nodes[vector].op == "input":
                    tiles, inputs = "{x_slots, rows * E}", "D"
                elif vector in self.computed:
                    tiles, inputs = f"{{{of[vector]}_slots, size}}", "H"
                else:
                    old = vector in self.names.old
                    number = self.names.old[vector] if old else self.graph.outputs.index(vector)
                    step = "t + slot - 1" if old else "t + slot"
                    tiles, inputs = f"{{history + (({step}) * {count} + {number}) * size, -{count} * size}}", "H"
                lines.append(
                    f"    if (a->d_weight_{of[matrix]}) outer(slot, counts, rows, {inputs}, P, (struct steps){tiles}, "
                    f"(struct steps){{d_{of[each.node]}_slots, size}}, d_packed + {self.names.place(matrix)});"
                    f"    // d_{of[matrix]}"
                )
        return lines
