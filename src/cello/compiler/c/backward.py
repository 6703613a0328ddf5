"""Write the backward pass of a kernel in C: all steps of a tile, from the last to the first."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, partial

from cello.cells.graph import MULTIPLYING, REDUCTIONS, Node
from cello.cells.sizes import ONE
from cello.compiler.c.loops import Loop, Loops, body_of, multiplied
from cello.compiler.c.repeated import Places, words
from cello.compiler.c.sizes import elements, padded, tile, width
from cello.compiler.c.source import Names
from cello.compiler.gradient import StageGradient
from cello.compiler.places import marked, unmarked
from cello.compiler.repeated import Block, found
from cello.compiler.stages import Stage, Sum
from cello.compiler.step_names import indented


def backward(names: Names) -> list[str]:
    """``backward_tile``: the steps of one tile, with its group's gradients of matrices and loop-invariant values."""
    return _Backward(names).lines()


class _Backward:
    def __init__(self, names: Names) -> None:
        self.names, self.plan = names, names.plan
        self.graph, self.gradient = self.plan.graph, self.plan.gradient
        self.nodes: tuple[Node, ...] = self.gradient.nodes
        self.inside = {k for stage in self.plan.stages for k in own_values(stage)}
        self.later = dict.fromkeys(sorted({int(node.value or 0) for node in self.nodes if node.op == "later"}))
        self.sums = dict.fromkeys(k for stage in self.gradient.stages for k, _ in stage.sums)
        inside = self.inside - {*self.graph.outputs}
        multiplied = {v for each in self.plan.sums for m, v in each.products if self.plan.learns(m)}
        self.computed = dict.fromkeys(k for k in self.plan.vectors if k in inside & multiplied)
        self.readers = {arg: k for k, node in enumerate(self.graph.nodes) for arg in node.args}
        self.begun: set[str] = set()
        self.filled: set[int] = set()
        self.frames: set[int] = set()
        self.paired: set[int] = set()
        self.workspace = names.workspace()

    def lines(self) -> list[str]:
        stages = found(self._stages())  # before the workspace, to which it adds
        through, outer = self._through_matrices(), found(self._outer())
        self._fill_workspace()
        places = Places(self.workspace, self._others())
        places.group([*stages, *outer])
        steps = self._all_steps(self._step([*places.write(stages), *through], places.write(outer)))
        return [
            "/* The derivatives of all steps of one tile; 1 if there is no memory. */",
            "static int backward_tile(const struct arguments *a, long tile, struct offset offset, real *d_packed,",
            "                         real *d_rows) {",
            *self.names.head(backward=True),
            "    const long chunk = chunk_of(&c, H);",
            *self.workspace.lines(words(steps)),
            *steps,
            "    if (a->d_x) zero_padding(&c, d_x, a->T, D);",
            "    free(workspace);",
            "    return 0;",
            "}",
        ]

    def _all_steps(self, step: list[str]) -> list[str]:
        """What the tile's memory is filled with, then all steps."""
        names, output = self.names, elements(self.names.output)
        return [
            f"    memset(none, 0, {padded(self.names.output)} * sizeof(real));",
            *names.row_lines(),
            *(f"    real *{self._row(k, shape)} = d_rows + {at};" for (k, shape), at in names.derived.items()),
            f"    real *history = a->history + offset.history * ({names.history});",
            f"    real *kept = a->kept + (offset.kept + c.steps * rows) * ({names.kept});",
            f"    const struct view d_outputs = {{a->d_outputs, a->T * {output}, {output}}}, "
            "d_x = {a->d_x, a->T * D, D};",
            "    const struct view x = {a->x, a->x_clip_stride, a->x_frame_stride};",
            "    (void)x; (void)d_x; (void)d_rows; (void)d_packed; (void)kept;",
            "    const real *d_out[TILE];",
            *self._memory(),
            "    long n = 0, slot = 0, counts[MOST_CHUNK], queued = c.steps;",
            "    for (long t = c.steps - 1; t >= 0; t--) {",
            *indented(step),
            "    }",
            *self._end(),
        ]

    def _memory(self) -> list[str]:
        """What steps read of the memory that nothing has touched for long."""
        names, frames = self.names, any(self._load_frame(k, name) for k, name in self.names.inputs.items())
        return [
            f"    const struct memory memory = {{{{d_outputs, {'x' if frames else '{0}'}}}, "
            f"{{{elements(names.output)}, D}}, "
            f"{{history, a->kept + offset.kept * ({names.kept})}}, "
            f"{{rows * ({names.history}), rows * ({names.kept})}}}};",
            "    struct prefetch_queue queue;",
            "    queue.passed = 0;",
            "    clear_prefetches(&queue);",
        ]

    def _row(self, k: int, shape: tuple[str, ...]) -> str:
        """Where what is added to a loop-invariant value's derivative in this shape is added up."""
        size = "" if len(self.names.pieces(k)) == 1 else f"_{elements(shape[0])}"
        return f"d_{self.names.of[k]}{size}_row"

    def _fill_workspace(self) -> None:
        of, add = self.names.of, self.workspace.add
        for k, name in self.names.inputs.items():
            add(f"{name}_slots", f"chunk * {self._size(k)}")
            add(f"d_{name}_tile", self._size(k))
        add("none", padded(self.names.output))
        for name, k in self.carried.values():
            add(f"d_new_{name}", self._size(k))
            add(f"d_old_{name}", self._size(k))
        for k in self.sums:
            add(f"d_{of[k]}_slots", f"chunk * {self._size(k)}")
        for k in self.computed:
            add(f"{of[k]}_slots", f"chunk * {self._size(k)}")
        for k in self.later:
            if self._part(k).endswith("_part"):
                add(f"d_{of[k]}_part", self._size(k))
        for k in self.plan.masks:
            add(f"{of[k]}_tile", self._size(k))
        for k in self.names.invariant:
            if self.nodes[k].shape:
                add(f"{of[k]}_row", width(self.nodes[k].shape))

    def _size(self, k: int) -> str:
        return tile(self.nodes[k].shape)

    def _others(self) -> dict[str, str]:
        """Where this step's values lie of those that stand in the slots of several steps."""
        names = [f"d_{self.names.of[k]}" for k in self.sums] + [self.names.of[k] for k in self.computed]
        return {
            f"{name}_tile": f"{name}_slots + slot * {self._size(k)}"
            for name, k in zip(names, [*self.sums, *self.computed], strict=True)
        }

    def _step(self, stages: list[str], outer: list[str]) -> list[str]:
        names, used = self.names, words(stages)
        lines = [
            "    const long later = n;",
            "    while (n < c.count && c.length[n] > t) n++;",
            f"    kept -= rows * ({names.kept});",
            "    counts[slot] = n;",
        ]
        for number, (name, k) in enumerate(zip(names.states, self.graph.outputs, strict=True)):
            state = f"(t * rows * ({names.history})) + {names.before_state(number)}"
            lines += [
                f"    real *old_{name} = history + {state};",
                f"    real *new_{name} = old_{name} + rows * ({names.history});",
                f"    (void)old_{name}; (void)new_{name};",
            ]
            if number in self.carried:
                load = names.move("load", k, names.per_clip("d_last", number), "t, later, n", f"d_new_{name}")
                lines.append(f"    {load}")
        units = elements(names.output)
        lines.append(f"    find_rows(&c, d_outputs, t, n, {units}, none, d_out);")
        for k, name in names.inputs.items():
            lines += [f"    real *{name}_tile = {name}_slots + slot * {self._size(k)};", *self._load_frame(k, name)]
        lines += [f"    real *{name} = {at};" for name, at in self._others().items() if name in used]
        if any(k not in names.inputs and self.plan.learns(k) for k in self.products_of):
            lines += [
                "    if (queued >= t) {",
                "        clear_prefetches(&queue);",
                "        if (t && n >= ROWS) queue_step(&queue, &c, &memory, queued = t - 1, n);",
                "    }",
            ]
        lines += [*names.mask_lines("    "), *stages]
        lines += [
            "    if (++slot == chunk || t == 0) {",
            "        if (queued >= t) {",
            "            queued = t;",
            "            clear_prefetches(&queue);",
            "        }",
            "        while (n >= ROWS && queued > 0 && queued > t - chunk && queue.left > 0)",
            "            queue_step(&queue, &c, &memory, --queued, n);",
            *indented(outer),
            "        slot = 0;",
            "    }",
        ]
        for name, _ in self.carried.values():
            lines.append(
                f"    real *swap_{name} = d_new_{name}; d_new_{name} = d_old_{name}; d_old_{name} = swap_{name};"
            )
        return lines

    def _load_frame(self, k: int, name: str) -> list[str]:
        """Take the frame, if something reads it."""
        wanted = [self.names.wanted(m) for each in self.plan.sums for m, v in each.products if v == k]
        if not self.plan.learns(k):
            wanted = [self.names.wanted(m) for _, m, v in self._learned() if v == k]
        load = f"load_tile(&c, {self.names.view(k)}, t, 0, n, {elements(self.nodes[k].shape[0])}, {name}_tile);"
        if k in self.frames:
            return [f"    {load}"]
        return [f"    if ({' || '.join(dict.fromkeys(wanted))}) {load}"] if wanted else []

    def _end(self) -> list[str]:
        """The derivatives of the first states; clips without frames hand on those of their last."""
        lines, move = [], self.names.move
        for n, (name, k) in self.carried.items():
            lines += [
                f"    if (a->d_first_{name}) {{",
                f"        {move('load', k, self.names.per_clip('d_last', n), '0, n, c.count', f'd_new_{name}')}",
                f"        {move('store', k, self.names.per_clip('d_first', n), '0, 0, c.count', f'd_new_{name}')}",
                "    }",
            ]
        return lines

    def _place(self, k: int) -> str | None:
        """Where a value's tile lies; None where it is computed again."""
        node, of, states = self.nodes[k], self.names.of, self.names.states
        if node.op == "new":
            return f"d_new_{states[int(node.value or 0)]}"
        if node.op == "later":
            return self._part(int(node.value or 0))
        if node.op in REDUCTIONS and k >= len(self.graph.nodes):
            return f"_{k}_tile"
        if k in self.names.old:
            return f"old_{states[self.names.old[k]]}"
        if k in self.plan.masks:
            return f"{of[k]}_tile"
        if k in self.names.inputs:
            self.frames.add(k)
            return f"{self.names.inputs[k]}_tile"
        if k in self.names.before_kept:
            return f"kept + {self.names.before_kept[k]}"
        if k in self.graph.outputs:
            return f"new_{states[self.graph.outputs.index(k)]}"
        return None

    def _loads(self, k: int) -> str | None:
        """How a value is read; None where it is computed again."""
        node, place = self.nodes[k], self._place(k)
        if place is None:
            return None
        text = f"load({marked(place)} + at)"
        if node.op != "new" or node.value != 0:
            return text
        return f"(load_within(d_out[r], j, {elements(self.names.output)}) + {text})"

    def _stages(self) -> list[Block]:
        lines: list[list[str]] = []
        vectors = {*self.plan.vectors}
        for stage, given in zip(self.plan.stages[::-1], self.gradient.stages[::-1], strict=True):
            lines += [self._through(k) for k in own_values(stage) if k in vectors]
            lines += self._loops(stage, given)
        return [*map(Block, map(tuple, filter(None, lines)))]

    def _loops(self, stage: Stage, given: StageGradient) -> list[list[str]]:
        loops = self._stores(stage, given)
        products: list[list[str]] = []
        for k in self._reductions([k for loop in loops.of.values() for _, k in loop.stores]):
            node = self.nodes[k]
            self.workspace.add(f"_{k}_tile", self._size(k))
            if node.op in MULTIPLYING:
                products.append([multiplied(self.names, self.workspace, self.nodes, k, self._place)])
                continue
            loops.over(self.nodes[node.args[0]].shape).reduce(node, f"_{k}", f"_{k}_tile")
        labels = {**self.names.of, **{at: f"d_{self.names.of[k]}" for k, at in (*given.sums, *given.reductions)}}
        comments = self._comments(given)

        def place(k: int) -> str:
            return self._place(k) or f"{self.names.of[k]}_tile"

        def loads(k: int, loop: Loop) -> str | None:
            if k in self.names.old and len(self.nodes[k].shape) == 2:
                before = f"old_{self.names.states[self.names.old[k]]} + at - rows * ({self.names.history})"
                loop.soon[f"__builtin_prefetch({before}, 0, 2);"] = None
            return self._loads(k)

        lines = products
        for loop in loops.in_order(back=True):
            body = body_of(self.names, self.nodes, labels, loop, partial(loads, loop=loop), place, comments)
            lines.append(loop.lines(body))
        return lines

    def _stores(self, stage: Stage, given: StageGradient) -> Loops:
        """What a stage's loops write: derivatives, and vectors that later products of them need."""
        of, loops = self.names.of, Loops(self.names, self.workspace)
        for k, at in given.others:
            shape = self.nodes[at].shape
            if k in self.names.invariant:
                self._add_up(loops.over(shape), k, at)
            elif k in self.names.old or k in self.later or k in self.names.inputs:
                loops.store(shape, self._add_to(self._tile(k)), at)
        for k, at in given.sums:
            loops.store(self.nodes[k].shape, f"store({marked(f'd_{of[k]}_tile')} + at, {{}});", at)
        for k, at in given.reductions:
            self.begun.add(self._tile(k))
            loops.store(self.nodes[k].shape, f"store({marked(self._tile(k))} + at, {{}});", at)
        for k in self._vectors_of(stage):
            loops.store(self.nodes[k].shape, f"store({marked(f'{of[k]}_tile')} + at, {{}});", k)
        return loops

    def _add_up(self, loop: Loop, k: int, at: int) -> None:
        """Add what a loop computes to the derivative of a loop-invariant value."""
        if len(self.nodes[k].shape) == 2:
            row = f"{marked(self._row(k, self.nodes[k].shape))} + j * {elements(self.nodes[k].shape[1])} + column * V"
            loop.stores.append((f"accumulate({row}, {{}});", at))
            return
        name = f"d_{self.names.of[k]}"
        loop.sums[name] = f"{marked(self._row(k, loop.shape[:1]))} + j"
        loop.stores.append((f"{name} += {{}};", at))

    def _reductions(self, wanted: list[int]) -> list[int]:
        """The sums over whole vectors and matrices, of derivatives, that the computation of these needs."""
        found: set[int] = set()
        seen: set[int] = set()
        while wanted:
            k = wanted.pop()
            if k in seen:
                continue
            seen.add(k)
            if self.nodes[k].op in REDUCTIONS and k >= len(self.graph.nodes):
                found.add(k)
            elif self._place(k) is not None:
                continue
            wanted += self.nodes[k].args
        return sorted(found)

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
        """Where the derivative of an old state, of the frame or of a value of an earlier stage is accumulated."""
        if k in self.names.inputs:
            return f"d_{self.names.inputs[k]}_tile"
        return f"d_old_{self.names.states[self.names.old[k]]}" if k in self.names.old else self._part(k)

    def _part(self, k: int) -> str:
        """Where later stages add to the derivative of a value: for a sum, where all of it will stand."""
        whole = k in self.sums and self.nodes[k].shape != (ONE,)
        return f"d_{self.names.of[k]}_{'tile' if whole else 'part'}"

    def _add_to(self, tile: str) -> str:
        verb = "accumulate" if tile in self.begun else "store"
        self.begun.add(tile)
        return f"{verb}({marked(tile)} + at, {{}});"

    @cached_property
    def carried(self) -> dict[int, tuple[str, int]]:
        """The states whose derivatives go from step to step: their names and new values, by their numbers."""
        every = enumerate(zip(self.names.states, self.graph.outputs, strict=True))
        return {n: each for n, each in every if self.plan.carries(n)}

    @cached_property
    def products_of(self) -> dict[int, list[tuple[Sum, int]]]:
        """The products of each vector that have a derivative: their sums and matrices."""
        found: dict[int, list[tuple[Sum, int]]] = {}
        for each in self.plan.sums:
            for m, v in each.products if each.node in self.sums else ():
                found.setdefault(v, []).append((each, m))
        return found

    def _through(self, vector: int, when: str = "") -> list[str]:
        """What products hand on to a vector, where it is wanted: the derivatives of their sums times their matrices."""
        nodes, readers = self.graph.nodes, self.products_of.get(vector, [])
        if not readers or not self.plan.learns(vector):
            return []
        tile, units = self._tile(vector), padded(nodes[vector].shape[0])
        there = marked(tile)
        start = f"{there}, V, rows * V" if tile in self.begun else "none, 0, 0"
        self.begun.add(tile)
        terms = [self._term(each.node, m) for each, m in readers]
        lines = [
            f"    const struct term terms_{vector}[] = {{{', '.join(terms)}}};",
            f"    {f'if ({when}) ' if when else ''}product(n, rows, {units}, terms_{vector}, {len(terms)}, "
            f"(struct origin){{{start}}},",
            f"            {there}, &queue);",
        ]
        return [*self._pairs(dict.fromkeys(each.node for each, _ in readers)), *lines]

    def _term(self, k: int, matrix: int) -> str:
        """The derivative of a sum times one of its matrices."""
        tile, units = f"d_{self.names.of[k]}_tile", elements(self.graph.nodes[k].shape[0])
        if self.names.bf16:
            tile, units = f"{tile}_pairs", f"pairs_of({units})"
        heads = f", NULL, NULL, {heads}" if (heads := self.names.heads(matrix)) else ""
        return (
            f"{{{marked(tile)}, {marked(f'a->packed_back + {self.names.place(matrix, back=True)}')}, {units}{heads}}}"
        )

    def _pairs(self, sums: Iterable[int]) -> list[str]:
        """Where products are in bfloat16: the derivatives of sums as pairs, the first time that products need them."""
        lines = []
        for k in sums if self.names.bf16 else ():
            if k not in self.paired:
                self.paired.add(k)
                tile, units = f"d_{self.names.of[k]}_tile", elements(self.graph.nodes[k].shape[0])
                self.workspace.add(f"{tile}_pairs", f"rows * round_up(pairs_of({units}), V)")
                lines.append(f"    pair_columns(n, rows, {units}, {marked(tile)}, {marked(f'{tile}_pairs')});")
        return lines

    def _through_matrices(self) -> list[str]:
        """The derivatives of the frame and of the old states, complete."""
        wanted = {k: f"t || {self.names.first(k)}" for k in self.names.old if k in self.plan.vectors}
        lines = [line for k, when in wanted.items() for line in self._through(k, when)]
        for name, k in self.carried.values():
            if f"d_old_{name}" not in self.begun:
                lines.append(f"    memset(d_old_{name}, 0, {self._size(k)} * sizeof(real));")
        if not any(map(self.plan.learns, self.names.inputs)):
            return unmarked(lines)
        inside = [line for k in self.names.inputs for line in self._through(k)]
        found = [(k, name) for k, name in self.names.inputs.items() if f"d_{name}_tile" in self.begun]
        whole = [name for _, name in found] == ["x"]
        inside += [] if whole else ["    zero_rows(&c, d_x, t, n, D);"]
        for k, name in found:
            rows = f"{self.names.view(k, 'd_x')}, t, 0, n, {elements(self.nodes[k].shape[0])}, d_{name}_tile"
            inside.append(f"    {'store' if whole else 'add'}_tile(&c, {rows});")
        return unmarked([*lines, "    if (a->d_x) {", *indented(inside), "    }"])

    def _outer(self) -> list[Block]:
        """The derivatives of the matrices from the last steps."""
        of, blocks = self.names.of, self._row_pairs()
        for k, matrix, vector in self._learned():
            high, low = self.graph.nodes[k].shape[0], self.graph.nodes[vector].shape[0]
            slots, into = marked(f"d_{of[k]}_slots"), marked(f"d_packed + {self.names.place(matrix)}")
            count, a, b = "slot, counts, rows", self._slots_of(vector), f"{{{slots}, {self._size(k)}}}"
            if self.names.bf16:
                count = "1, &pairs, pairs"
                a, b = f"{{{marked(f'v{vector}_row_pairs')}, 0}}", f"{{{marked(f'd_{of[k]}_row_pairs')}, 0}}"
            heads = self.names.heads(matrix)
            called, K = ("outer_heads", f"{elements(low)}, {heads}") if heads else ("outer", elements(low))
            wanted, tiles = marked(self.names.wanted(matrix)), f"(struct steps){a}, (struct steps){b}"
            call = f"{called}({count}, {K}, {padded(high)}, {tiles}, {into}, &queue);"
            lines = [f"    if ({wanted}) {call}    // d_{of[matrix]}"]
            if self.names.by_rows:
                to = marked(f"a->d_weight_{of[matrix]}")
                one_row = f"    if ({wanted} && one_row(a)) outer_row(rows, {K}, {elements(high)}, {tiles}, {to});"
                lines = [one_row, f"    else {lines[0].lstrip()}"]
            blocks.append(Block(tuple(lines)))
        return blocks

    def _learned(self) -> list[tuple[int, int, int]]:
        """The products, as sum, matrix and vector, whose matrices have a derivative."""
        sums = [each for each in self.plan.sums if each.node in self.sums]
        return [(each.node, m, v) for each in sums for m, v in each.products if self.plan.learns(m)]

    def _row_pairs(self) -> list[Block]:
        """Where products are in bfloat16: what the derivatives of matrices are products of, as pairs of rows."""
        if not self.names.bf16:
            return []
        of, found = self.names.of, dict[str, tuple[int, str, list[str]]]()
        for k, matrix, vector in self._learned():
            slots = f"{{{marked(f'd_{of[k]}_slots')}, {self._size(k)}}}"
            for name, node, steps in ((f"v{vector}", vector, self._slots_of(vector)), (f"d_{of[k]}", k, slots)):
                found.setdefault(name, (node, steps, []))[2].append(marked(self.names.wanted(matrix)))
        blocks = [Block(("    const long pairs = row_pairs(slot, counts);",))]
        for name, (node, steps, wanted) in found.items():
            units, place = self.graph.nodes[node].shape[0], f"{name}_row_pairs"
            self.workspace.add(place, f"pairs_of(chunk * rows) * {padded(units)}")
            line = (
                f"    if ({' || '.join(dict.fromkeys(wanted))}) pair_rows(slot, counts, rows, {elements(units)}, "
                f"(struct steps){steps}, {marked(place)});"
            )
            blocks.append(Block((line,)))
        return blocks

    def _slots_of(self, vector: int) -> str:
        """The tiles of a vector of products at the last steps."""
        if vector in self.names.inputs:
            return f"{{{marked(f'{self.names.inputs[vector]}_slots')}, {self._size(vector)}}}"
        if vector in self.computed:
            return f"{{{marked(f'{self.names.of[vector]}_slots')}, {self._size(vector)}}}"
        old = vector in self.names.old
        number = self.names.old[vector] if old else self.graph.outputs.index(vector)
        step, states = "t + slot - 1" if old else "t + slot", f"rows * ({self.names.history})"
        begin = marked(f"history + ({step}) * {states} + {self.names.before_state(number)}")
        return f"{{{begin}, -{states}}}"


def own_values(stage: Stage) -> tuple[int, ...]:
    """The values of a stage."""
    return (*(each.node for each in stage.sums), *stage.reductions, *stage.pointwise)
