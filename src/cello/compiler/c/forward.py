"""Write the forward pass of a kernel in C: all steps of a tile of clips."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from cello.cells.graph import MULTIPLYING
from cello.compiler.c.expression import Body
from cello.compiler.c.loops import Loop, Loops, body_of, multiplied
from cello.compiler.c.repeated import Places, words
from cello.compiler.c.sizes import elements, number, padded, tile, width
from cello.compiler.c.source import Names
from cello.compiler.places import marked, unmarked
from cello.compiler.reorder import REPEATING
from cello.compiler.repeated import Block, found
from cello.compiler.stages import Stage, Sum
from cello.compiler.step_names import indented


def forward(names: Names) -> list[str]:
    """``forward_tile``: the steps of one tile."""
    return _Forward(names).lines()


class _Forward:
    def __init__(self, names: Names) -> None:
        self.names, self.plan = names, names.plan
        self.graph, self.nodes = self.plan.graph, self.plan.graph.nodes
        self.stage_of = {
            k: n
            for n, stage in enumerate(self.plan.stages)
            for k in (*stage.pointwise, *stage.reductions, *(s.node for s in stage.sums))
        }
        self.whole = [each.node for each in self.plan.sums]
        self.whole += [k for stage in self.plan.stages for k in stage.reductions]
        self.workspace = names.workspace()
        self.paired: set[int] = set()
        self.tiles = self._tiles()
        self.ahead = self._ahead()

    @cached_property
    def multiplied(self) -> list[int]:
        """The frame, or its parts, that matrices multiply."""
        return [k for k in self.names.inputs if k in self.plan.vectors]

    @cached_property
    def read(self) -> set[int]:
        """What loops read of the frame."""
        steps = [k for stage in self.plan.stages for k in (*stage.pointwise, *stage.reductions)]
        return {*self.graph.outputs, *(a for k in steps for a in self.nodes[k].args)} & {*self.names.inputs}

    @cached_property
    def carried(self) -> dict[int, None]:
        """What later loops read where it is kept for backward."""
        return dict.fromkeys(k for k, place in self.tiles.items() if place == f"{self.names.of[k]}_kept")

    @cached_property
    def reductions_of(self) -> dict[int, list[int]]:
        """The reductions that each stage's loops add up."""
        found: dict[int, list[int]] = {}
        for stage in self.plan.stages:
            for k in (each for each in stage.reductions if self.nodes[each].op not in MULTIPLYING):
                found.setdefault(self.stage_of.get(self.nodes[k].args[0], 0), []).append(k)
        return found

    @cached_property
    def starts(self) -> dict[Sum, str]:
        """The row that each sum begins with; sums of the same biases share one."""
        alike: dict[tuple[str, tuple[int, ...]], str] = {}
        return {
            each: alike.setdefault(
                (self.nodes[each.node].shape[0], each.invariant), f"{self.names.of[each.node]}_start"
            )
            for each in self.plan.sums
        }

    @cached_property
    def own_starts(self) -> list[Sum]:
        """The first sum of each row in ``starts``."""
        first: dict[str, Sum] = {}
        for each, name in self.starts.items():
            first.setdefault(name, each)
        return [*first.values()]

    def _ahead(self) -> dict[int, int]:
        """Of sums with products of the frame, how many those are: they may be taken some steps ahead.

        Only where they come first in all of these, as then no sum is added up in another order.
        """
        found = {}
        for each in self.plan.sums:
            frame = [vector in self.names.inputs for _, vector in each.products]
            if any(frame[(*frame, False).index(False) :]):
                return {}
            if any(frame):
                found[each.node] = sum(frame)
        return found

    def _tiles(self) -> dict[int, str]:
        """Where the values lie that are read again after their loop."""
        nodes, of = self.nodes, self.names.of
        new = {k: f"new_{self.names.states[n]}" for n, k in reversed([*enumerate(self.graph.outputs)])}
        before_kept = self.names.before_kept
        found = {k: f"{of[k]}_{'kept' if k in before_kept else 'tile'}" for k in (s.node for s in self.plan.sums)}
        found |= {k: f"{of[k]}_tile" for stage in self.plan.stages for k in stage.reductions}
        found |= {k: f"old_{self.names.states[n]}" for k, n in self.names.old.items()}
        found |= {k: f"{of[k]}_tile" for k in self.plan.masks}
        found |= {k: f"{name}_tile" for k, name in self.names.inputs.items()}
        steps = [k for stage in self.plan.stages for k in stage.pointwise]
        repeated = {a for k in steps if nodes[k].op in REPEATING for a in nodes[k].args}
        later = {a for k in steps for a in nodes[k].args if self.stage_of.get(a, 99) < self.stage_of[k]}
        later -= {k for k in later if nodes[k].op in REPEATING}  # read from what they repeat
        repeated |= {a for node in nodes if node.op in MULTIPLYING for a in node.args}
        for k in sorted(later | repeated | {*self.plan.vectors}):
            if k in self.stage_of and k not in found:
                kept = f"{of[k]}_kept" if k in before_kept else f"{of[k]}_tile"
                found[k] = new.get(k, kept)
        return found

    def lines(self) -> list[str]:
        parts = found(self._blocks())  # before the workspace, to which it adds
        self._fill_workspace()
        places = Places(self.workspace, self._others())
        places.group(parts)
        steps = self._all_steps(self._step(places.write(parts)))
        return [
            "/* All steps of one tile of clips; 1 if there is no memory. */",
            "static int forward_tile(const struct arguments *a, long tile, struct offset offset) {",
            *self.names.head(backward=False),
            f"    const long ahead = {'steps_ahead(&c)' if self.ahead else '0'};",
            "    real *panels = once(a) ? a->packed : NULL;",
            *(["    const real *means = means_of(a);"] if self.plan.centred else []),
            *self.workspace.lines(words(steps)),
            *steps,
            "    free(workspace);",
            "    return 0;",
            "}",
        ]

    def _all_steps(self, step: list[str]) -> list[str]:
        """What the tile's memory is filled with, then all steps."""
        return [
            *self._packed(),
            *self.names.row_lines(),
            *(line for each in self.own_starts for line in self._start(each)),
            f"    real *history = a->keeping ? a->history + offset.history * ({self.names.history}) : scratch_states;",
            f"    real *kept = a->keeping ? a->kept + offset.kept * ({self.names.kept}) : scratch_kept;",
            f"    const struct view outputs = {{a->outputs, a->T * {elements(self.names.output)}, "
            f"{elements(self.names.output)}}};",
            "    const struct view x = {a->x, a->x_clip_stride, a->x_frame_stride};",
            "    const struct memory memory = {{x, outputs}, "
            f"{{D, {elements(self.names.output)}}}, "
            f"{{a->keeping ? history + rows * ({self.names.history}) : NULL, a->keeping ? kept : NULL}}, "
            f"{{rows * ({self.names.history}), rows * ({self.names.kept})}}}};",
            "    struct prefetch_queue queue;",
            "    queue.passed = 0;",
            "    real *out[TILE];",
            "    long n = running(&c, 0, c.count);",
            *self._begin(),
            "    for (long t = 0; t < c.steps; t++) {",
            *indented(step),
            "    }",
            f"    zero_padding(&c, outputs, a->T, {elements(self.names.output)});",
        ]

    def _fill_workspace(self) -> None:
        add, of, begin = self.workspace.add, self.names.of, {each.node for each in self.own_starts}
        for k, name in self.names.inputs.items():
            if k in self.multiplied:
                add(f"{name}_tile", f"(ahead ? ahead : 1) * {tile(self.nodes[k].shape)}")
            if k in self.read:
                add(f"{name}_frame", tile(self.nodes[k].shape))
        add("scratch_states", f"2 * rows * ({self.names.history})")
        add("scratch_kept", f"rows * ({self.names.kept})")
        for k, place in self.tiles.items():
            shape = self.nodes[k].shape
            if k in begin:
                add(f"{of[k]}_start", padded(shape[0]))
            if k in self.ahead:
                add(f"{of[k]}_ahead", f"ahead * {tile(shape)}")
            if place == f"{of[k]}_tile" and k not in self.names.inputs:
                add(place, tile(shape))
        for k in self.names.invariant:
            if self.nodes[k].shape:
                add(f"{of[k]}_row", width(self.nodes[k].shape))

    def _packed(self) -> list[str]:
        return [
            f"    real *packed_{self.names.of[m]} = panels ? NULL : a->packed + {self.names.place(m)};"
            for m in self.plan.matrices
        ]

    def _start(self, each: Sum) -> list[str]:
        """The row a sum begins with: its biases."""
        numbers = {k: number(self.nodes[k]) for k in each.invariant}
        terms = [f"broadcast({numbers[k]})" if numbers[k] else self.names.row(k) for k in each.invariant]
        return unmarked(
            [
                f"    for (long j = 0; j < {padded(self.nodes[each.node].shape[0])}; j += V)",
                f"        store({self.starts[each]} + j, {' + '.join(terms) or 'broadcast(0)'});",
            ]
        )

    def _begin(self) -> list[str]:
        """The first states; of clips without frames they are the last too."""
        lines = []
        for n, k in enumerate(self.graph.outputs):
            place, move = f"history + {self.names.before_state(n)}", self.names.move
            lines.append(f"    {move('load', k, self.names.per_clip('first', n), '0, 0, c.count', place)}")
            lines.append(f"    {move('store', k, self.names.per_clip('last', n), '0, n, c.count', place)}")
        return lines

    def _blocks(self) -> list[Block]:
        """The step's sums and loops."""
        lines = []
        for n, stage in enumerate(self.plan.stages):
            products = [k for k in stage.reductions if self.nodes[k].op in MULTIPLYING]
            lines += [*map(self._sum, stage.sums), *map(self._multiply, products), *self._loops(n, stage)]
        return [*map(Block, map(tuple, lines))]

    def _others(self) -> dict[str, str]:
        """Where the values lie that are kept for backward."""
        return {self.tiles[k]: f"kept + {self.names.before_kept[k]}" for k in self.carried}

    def _step(self, blocks: Sequence[str]) -> list[str]:
        names, states, used = self.names, self.names.states, words(blocks)
        at = [names.before_state(n) for n in range(len(states))]
        lines = [
            f"    real *before = history + (a->keeping ? t : t & 1) * rows * ({names.history});",
            f"    real *after = history + (a->keeping ? t + 1 : ~t & 1) * rows * ({names.history});",
            *(
                f"    real *old_{name} = before + {at[n]}, *new_{name} = after + {at[n]};"
                for n, name in enumerate(states)
            ),
            *(f"    (void)old_{n};" for n in states),
            *(f"    real *{name} = {at};" for name, at in self._others().items() if name in used),
        ]
        lines += [f"    if (!ahead) {line}" for k in self.multiplied for line in unmarked(self._take_frame(k))]
        lines += [f"    {self._load_frame(k, f'{names.inputs[k]}_frame')}" for k in names.inputs if k in self.read]
        lines += [
            "    for (long r = 0; r < n; r++) out[r] = row_of(&c, &outputs, r, t);",
            "    const long next = running(&c, t + 1, n);",
            "    clear_prefetches(&queue);",
            "    if (next >= ROWS) queue_step(&queue, &c, &memory, t + 1, next);",
            "    const struct way way = {n, rows, ahead, ahead ? t % ahead : 0, panels, &queue};",
        ]
        if self.ahead:
            lines += self._take_ahead()
        lines += [*names.mask_lines("    "), *blocks]
        for n, k in enumerate(self.graph.outputs):
            lines.append(f"    {names.move('store', k, names.per_clip('last', n), 't, next, n', f'new_{states[n]}')}")
        return [*lines, f"    if (a->keeping) kept += rows * ({names.kept});", "    n = next;"]

    def _load_frame(self, k: int, place: str) -> str:
        return f"load_tile(&c, {self.names.view(k)}, t, 0, n, {elements(self.nodes[k].shape[0])}, {place});"

    def _take_frame(self, k: int) -> list[str]:
        """Load what matrices multiply of a step's frame."""
        place = self.tiles[k]
        return [self._load_frame(k, place), *self._pairs(k, "n", "rows", "(ahead ? ahead : 1) * rows")]

    def _pairs(self, k: int, n: str = "n", rows: str = "rows", most: str = "rows") -> list[str]:
        """Where products are in bfloat16: n rows of a vector as pairs, in a tile of so many rows, at most ``most``."""
        if not self.names.bf16:
            return []
        self.paired.add(k)
        units, place = elements(self.nodes[k].shape[0]), self.tiles[k]
        self.workspace.add(f"{place}_pairs", f"{most} * round_up(pairs_of({units}), V)")
        return [f"pair_columns({n}, {rows}, {units}, {marked(place)}, {marked(f'{place}_pairs')});"]

    def _sum(self, each: Sum) -> list[str]:
        """A sum of products, from its biases or from the products of the frame that were taken ahead."""
        name = self.names.of[each.node]
        k, frames, start = each.node, self.ahead.get(each.node, 0), self.starts[each]
        units = elements(self.nodes[k].shape[0])
        origins = ", ".join(map(marked, [start, f"{name}_ahead" if frames else start, self.tiles[k]]))
        unpaired = dict.fromkeys(v for _, v in each.products if v not in self.paired)
        return [
            f"    {self.names.comment(each)}",
            *(f"    {line}" for v in unpaired for line in self._pairs(v)),
            f"    const struct term terms_{k}[] = {{{self._terms(each.products)}}};",
            f"    add_products(&way, {units}, terms_{k}, {len(each.products)}, {frames}, {origins});",
        ]

    def _terms(self, products: Sequence[tuple[int, int]]) -> str:
        of, terms = self.names.of, list[str]()
        for m, v in products:
            units, packed = elements(self.nodes[v].shape[0]), marked(f"packed_{of[m]}")
            mean = f", {marked(f'means + {self.names.means[m]}')}" if m in self.names.means else ""
            mean = f", NULL, {heads}" if (heads := self.names.heads(m)) else mean
            if self.names.bf16:
                terms.append(f"{{{marked(f'{self.tiles[v]}_pairs')}, {packed}, pairs_of({units})}}")
            else:
                terms.append(f"{{{marked(self.tiles[v])}, {packed}, {units}, {marked(f'a->weight_{of[m]}')}{mean}}}")
        return ", ".join(terms)

    def _take_ahead(self) -> list[str]:
        """The products of the next steps' frames."""
        lines = [
            f"load_ahead(&c, {self.names.view(k)}, t, ahead, n, {elements(self.nodes[k].shape[0])}, {self.tiles[k]});"
            for k in self.multiplied
        ]
        lines.append("const long taken = (c.steps - t < ahead ? c.steps - t : ahead) * rows;")
        most = "(ahead ? ahead : 1) * rows"
        lines += [line for k in self.multiplied for line in self._pairs(k, "taken", "ahead * rows", most)]
        for each in self.plan.sums:
            if frames := self.ahead.get(each.node):
                name, terms = self.names.of[each.node], f"frame_{each.node}"
                units = elements(self.nodes[each.node].shape[0])
                lines += [
                    f"const struct term {terms}[] = {{{self._terms(each.products[:frames])}}};",
                    f"add_ahead(&way, {units}, taken, {terms}, {frames}, {self.starts[each]}, {name}_ahead);",
                ]
        return ["    if (ahead && !way.slot) {", *(f"        {line}" for line in unmarked(lines)), "    }"]

    def _multiply(self, k: int) -> list[str]:
        """A product of matrices, in a tile of its own."""
        shown = [f"    {self.names.equations[k]}"] if k in self.names.equations else []
        return [*shown, multiplied(self.names, self.workspace, self.nodes, k, self.tiles.get)]

    def _loops(self, number: int, stage: Stage) -> list[list[str]]:
        """A stage's loops; what later stages need of whole vectors is added up in the loop that computes these."""
        loops = Loops(self.names, self.workspace)
        self._stores(number, stage, loops)
        for k in self.reductions_of.get(number, ()):
            shape = self.nodes[self.nodes[k].args[0]].shape
            loops.over(shape).reduce(self.nodes[k], self.names.of[k], self.tiles[k])
        return [loop.lines(self._body(stage, loop)) for loop in loops.in_order()]

    def _body(self, stage: Stage, loop: Loop) -> Body:
        mine = {k for k in stage.pointwise if self.nodes[k].shape == loop.shape}

        def place(k: int) -> str:
            return f"{self.names.inputs[k]}_frame" if k in self.names.inputs else self.tiles[k]

        def loads(k: int) -> str | None:
            return None if k in mine or k not in self.tiles else f"load({marked(place(k))} + at)"

        return body_of(self.names, self.nodes, self.names.of, loop, loads, place, self.names.equations)

    def _stores(self, number: int, stage: Stage, loops: Loops) -> None:
        """What a stage's loops write: values read later, what backward needs, new states."""
        kept, last, nodes = self.names.before_kept, len(self.plan.stages) - 1, self.nodes
        mine = {*stage.pointwise, *stage.reductions, *(each.node for each in stage.sums)}
        for k in stage.pointwise:
            if k in self.tiles and k not in self.graph.outputs and k not in kept:
                loops.store(nodes[k].shape, f"store({marked(self.tiles[k])} + at, {{}});", k)
        for name, k in zip(self.names.states, self.graph.outputs, strict=True):
            if k in mine or (number == last and k not in self.stage_of):
                loops.store(nodes[k].shape, f"store({marked(f'new_{name}')} + at, {{}});", k)
                if name == self.names.states[0]:
                    units = elements(self.names.output)
                    loops.store(nodes[k].shape, f"store_part(out[r], j, {units}, {{}});", k)
        for k in sorted((mine & kept.keys()) - {each.node for each in stage.sums}):
            place = f"{self.names.of[k]}_kept" if k in self.carried else f"kept + {kept[k]}"
            loops.store(nodes[k].shape, f"store({marked(place)} + at, {{}});", k)
