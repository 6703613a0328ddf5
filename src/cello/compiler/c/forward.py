"""Write the forward pass of a kernel in C: all steps of a tile of clips."""

from __future__ import annotations

from collections.abc import Sequence

from cello.compiler.c.expression import Body
from cello.compiler.c.source import Names, Workspace, head, loop
from cello.compiler.stages import Stage, Sum
from cello.compiler.step_names import indented


def forward(names: Names) -> list[str]:
    """``forward_tile``: the steps of one tile."""
    return _Forward(names).lines()


class _Forward:
    def __init__(self, names: Names) -> None:
        self.names, self.plan = names, names.plan
        self.graph = self.plan.graph
        self.stage_of = {
            k: n for n, stage in enumerate(self.plan.stages) for k in (*stage.pointwise, *(s.node for s in stage.sums))
        }
        self.sums = {each.node for each in self.plan.sums}
        self.tiles = self._tiles()
        self.ahead = self._ahead()

    def _ahead(self) -> dict[int, int]:
        """Of sums with products of the frame, how many those are: they may be taken some steps ahead.

        Only where they come first in all of these, as then no sum is added up in another order.
        """
        found = {}
        for each in self.plan.sums:
            frame = [vector == self.names.input for _, vector in each.products]
            if any(frame[(*frame, False).index(False) :]):
                return {}
            if any(frame):
                found[each.node] = sum(frame)
        return found

    def _tiles(self) -> dict[int, str]:
        """Where the values lie that are read again after their loop."""
        nodes, of = self.graph.nodes, self.names.of
        found = {each.node: f"{of[each.node]}_tile" for each in self.plan.sums}
        found |= {k: f"old_{self.names.states[n]}" for k, n in self.names.old.items()}
        found |= {k: f"{of[k]}_tile" for k in self.plan.masks}
        if self.names.input is not None:
            found[self.names.input] = "x_tile"
        later = {a for k, n in self.stage_of.items() for a in nodes[k].args if self.stage_of.get(a, n) < n}
        for k in sorted(later | {*self.plan.vectors}):
            if k in self.stage_of and k not in found:
                new = [n for n, output in enumerate(self.graph.outputs) if output == k]
                found[k] = f"new_{self.names.states[new[0]]}" if new else f"{of[k]}_tile"
        return found

    def lines(self) -> list[str]:
        plan, of, states = self.plan, self.names.of, self.names.states
        workspace = Workspace()
        workspace.add("x_tile", "(ahead ? ahead : 1) * rows * E")
        workspace.add("scratch_states", f"{2 * len(states)} * size")
        workspace.add("scratch_kept", f"{len(plan.kept)} * size")
        for k, tile in self.tiles.items():
            if k in self.sums:
                workspace.add(f"{of[k]}_start", "P")
            if k in self.ahead:
                workspace.add(f"{of[k]}_ahead", "ahead * size")
            if tile == f"{of[k]}_tile" and tile != "x_tile":
                workspace.add(tile, "size")
        for k in plan.invariant:
            workspace.add(f"{of[k]}_row", "P")
        return [
            "/* All steps of one tile of clips; 1 if there is no memory. */",
            "static int forward_tile(const struct arguments *a, long tile, struct offset offset) {",
            *head(backward=False),
            f"    const long ahead = {'steps_ahead(&c)' if self.ahead else '0'};",
            "    real *panels = once(a) ? a->packed : NULL;",
            *workspace.lines(),
            "    (void)x_tile;",
            *(
                f"    const real *packed_{of[m]} = panels ? NULL : a->packed + {self.names.place(m)};"
                for m in plan.matrices
            ),
            *(f"    fill({of[k]}_row, a->invariant_{of[k]}, a->invariant_{of[k]}_stride, H);" for k in plan.invariant),
            *(line for each in plan.sums for line in self._start(each)),
            f"    real *history = a->keeping ? a->history + offset.history * {len(states)} * P : scratch_states;",
            f"    real *kept = a->keeping ? a->kept + offset.kept * {len(plan.kept)} * P : scratch_kept;",
            "    const struct view outputs = {a->outputs, a->T * H, H};",
            "    const struct view x = {a->x, a->x_clip_stride, a->x_frame_stride};",
            "    long n = running(&c, 0, c.count);",
            *self._begin(),
            "    for (long t = 0; t < c.steps; t++) {",
            *indented(self._step()),
            "    }",
            "    zero_padding(&c, outputs, a->T, H);",
            "    free(workspace);",
            "    return 0;",
            "}",
        ]

    def _start(self, each: Sum) -> list[str]:
        """The row a sum begins with: its biases."""
        of, nodes = self.names.of, self.graph.nodes
        terms = [
            f"broadcast((real)({nodes[k].value!r}))" if nodes[k].op == "constant" else f"load({of[k]}_row + j)"
            for k in each.invariant
        ]
        return [
            "    for (long j = 0; j < P; j += V)",
            f"        store({of[each.node]}_start + j, {' + '.join(terms) or 'broadcast(0)'});",
        ]

    def _begin(self) -> list[str]:
        """The first states; of clips without frames they are the last too."""
        lines = []
        for number, name in enumerate(self.names.states):
            tile = f"history + {number} * size"
            lines.append(f"    load_tile(&c, per_clip(a->first_{name}, H), 0, 0, c.count, H, {tile});")
            lines.append(f"    store_tile(&c, per_clip(a->last_{name}, H), 0, n, c.count, H, {tile});")
        return lines

    def _step(self) -> list[str]:
        states = self.names.states
        lines = [
            f"    real *before = history + (a->keeping ? t : t & 1) * {len(states)} * size;",
            f"    real *after = history + (a->keeping ? t + 1 : ~t & 1) * {len(states)} * size;",
            *(
                f"    real *old_{name} = before + {n} * size, *new_{name} = after + {n} * size;"
                for n, name in enumerate(states)
            ),
            *(f"    (void)old_{n};" for n in states),
        ]
        if self.names.input is not None:
            lines.append("    if (!ahead) load_tile(&c, x, t, 0, n, D, x_tile);")
        lines.append("    const struct way way = {n, rows, H, ahead, ahead ? t % ahead : 0, panels};")
        if self.ahead:
            lines += self._take_ahead()
        lines += self.names.mask_lines("    ")
        for number, stage in enumerate(self.plan.stages):
            lines += self._stage(number, stage)
        lines += [
            "    const long next = running(&c, t + 1, n);",
            *(f"    store_tile(&c, per_clip(a->last_{n}, H), t, next, n, H, new_{n});" for n in states),
        ]
        return [*lines, f"    if (a->keeping) kept += {len(self.plan.kept)} * size;", "    n = next;"]

    def _sum(self, each: Sum) -> list[str]:
        """A sum of products, from its biases or from the products of the frame that were taken ahead."""
        name = self.names.of[each.node]
        products = [(m, v) for m, v in each.products if m not in self.plan.constant]
        means = [(m, v) for m, v in each.products if m in self.plan.constant]
        lines = [f"    {self.names.comment(each)}", *(self._products(each, products) if products else [])]
        for number, (m, v) in enumerate(means):
            begins = f"{name}_start, V" if number == 0 and not products else "NULL, 0"
            factor = f"a->weight_{self.names.of[m]}[0]"
            lines.append(f"    add_row_sums(n, rows, H, P, {self.tiles[v]}, {factor}, {begins}, {name}_tile);")
        return lines

    def _products(self, each: Sum, products: Sequence[tuple[int, int]]) -> list[str]:
        name, k, frames = self.names.of[each.node], each.node, self.ahead.get(each.node, 0)
        taken = f"{name}_ahead" if frames else f"{name}_start"
        return [
            f"    const struct term terms_{k}[] = {{{self._terms(products)}}};",
            f"    add_products(&way, terms_{k}, {len(products)}, {frames}, {name}_start, {taken}, {name}_tile);",
        ]

    def _terms(self, products: Sequence[tuple[int, int]]) -> str:
        names = self.names
        return ", ".join(
            f"{{{self.tiles[v]}, packed_{names.of[m]}, {'H' if names.square(m) else 'D'}, a->weight_{names.of[m]}}}"
            for m, v in products
        )

    def _take_ahead(self) -> list[str]:
        """The products of the next steps' frames."""
        lines = [
            "load_ahead(&c, x, t, ahead, n, D, x_tile);",
            "const long taken = (c.steps - t < ahead ? c.steps - t : ahead) * rows;",
        ]
        for each in self.plan.sums:
            if frames := self.ahead.get(each.node):
                name, terms = self.names.of[each.node], f"frame_{each.node}"
                lines += [
                    f"const struct term {terms}[] = {{{self._terms(each.products[:frames])}}};",
                    f"add_ahead(&way, taken, {terms}, {frames}, {name}_start, {name}_ahead);",
                ]
        return ["    if (ahead && !way.slot) {", *(f"        {line}" for line in lines), "    }"]

    def _stage(self, number: int, stage: Stage) -> list[str]:
        of, lines = self.names.of, list[str]()
        for each in stage.sums:
            lines += self._sum(each)
        stores = self._stores(number, stage)
        if not stores:
            return lines
        mine = {*stage.pointwise}
        body = Body(
            self.graph.nodes,
            of,
            lambda k: None if k in mine or k not in self.tiles else f"load({self.tiles[k]} + at)",
            self.names.rows(),
            self.names.equations,
        )
        return [*lines, *loop(body, stores, {})]

    def _stores(self, number: int, stage: Stage) -> list[tuple[str, int]]:
        """What a stage's loop writes: values read later, what backward needs, new states."""
        plan, last = self.plan, len(self.plan.stages) - 1
        mine = {*stage.pointwise, *(each.node for each in stage.sums)}
        carried = [k for k in stage.pointwise if k in self.tiles and k not in self.graph.outputs]
        stores = [(f"store({self.tiles[k]} + at, {{}});", k) for k in carried]
        for name, k in zip(self.names.states, self.graph.outputs, strict=True):
            if k in mine or (number == last and k not in self.stage_of):
                stores.append((f"store(new_{name} + at, {{}});", k))
                if name == self.names.states[0]:
                    stores.append(("store_part(row_of(&c, &outputs, r, t), j, H, {});", k))
        for place, k in enumerate(plan.kept):
            if k in mine:
                stores.append((f"store(kept + {place} * size + at, {{}});", k))
        return stores
