"""Write the backward pass of a kernel in Triton: all steps of a tile of clips, from the last to the first."""

from __future__ import annotations

from cello.compiler.gradient import StageGradient
from cello.compiler.step_names import indented
from cello.compiler.triton.expression import Body
from cello.compiler.triton.forward import CONSTANTS, ZERO
from cello.compiler.triton.names import (
    Names,
    all_gather,
    deinterleave,
    interleave,
    load_matrix,
    load_tile,
    mask_arguments,
    offsets,
    prologue,
    store_tile,
)

ARGUMENTS = ("place", "length", "start", "reverse", "weights", "invariants", "last", "saved")
DERIVATIVES = ("d_outputs", "d_last", "d_first", "d_sums", "vectors", "d_invariants", "workspace", "counters")
SIZES = ("TILES", "B", "T", "rows")


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
        self.whole: set[str] = set()

    def lines(self) -> list[str]:
        arguments = (*ARGUMENTS, *DERIVATIVES, *mask_arguments(self.names), *SIZES, *CONSTANTS, "GIVEN: tl.constexpr")
        inside = [*prologue(self.names), *self._begin(), *self._loop(), *self._end()]
        return ["@triton.jit", f"def backward({', '.join(arguments)}):", *indented(inside)]

    def _begin(self) -> list[str]:
        names = self.names
        lines = [load_matrix(names, name, first, count, "H, 1") for name, first, count in self._matrices()]
        for n, name in enumerate(names.states):
            base = f"of_state + {n} * B * H"
            lines += [f"new_{name} = {load_tile(f'last + {base}', 'valid')}"]
            lines += [f"d_new_{name} = {load_tile(f'd_last + {base}', 'valid')}"]
        lines += [f"d_{self.of[k]}_rows = {ZERO}" for k in self.names.summed]
        return lines

    def _matrices(self) -> list[tuple[str, int, int]]:
        """Tiles of matrices: a name, the first matrix and how many valid are."""
        found = dict[str, tuple[int, int]]()
        for v in self.plan.vectors:
            for nodes, matrices in self._groups(v):
                found["_".join(self.of[m] for m in matrices) + "_tile"] = (
                    self.names.square.index(matrices[0]),
                    len(nodes),
                )
        return [(name, first, count) for name, (first, count) in found.items()]

    def _groups(self, vector: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """A vector's products: sums and matrices, a whole pack of sums at once where they lie side by side."""
        names = self.names
        if names.is_frame(vector):
            return []
        rest = [(k, m) for k, m in names.products_of(vector) if any(k in pack for pack in names.sums)]
        found = []
        for pack in names.sums:
            mine = [(k, m) for k, m in rest if k in pack]
            matrices = tuple(m for _, m in mine)
            first = names.square.index(matrices[0]) if matrices else 0
            together = tuple(k for k, _ in mine) == pack and names.square[first : first + len(pack)] == matrices
            if together:
                found.append((pack, matrices))
            else:
                found += [((k,), (m,)) for k, m in mine]
        return found

    def _reads(self) -> list[str]:
        """What a step reads."""
        of, saved = self.of, self.names.saved
        lines = [
            "step = steps - 1 - back",
            "running = step < frames",
            "time = tl.where(reversed_time != 0, frames - 1 - step, step)",
            "row = replicate * rows + begin + time",
        ]
        count = sum(map(len, saved))
        for n, (first, size) in enumerate(offsets(saved)):
            taken = load_tile(f"saved + (row * {count} + {first}) * H", "running", size)
            lines += [f"saved_{n} = {taken}", deinterleave(saved[n], f"saved_{n}")]
        for k in self.plan.masks:
            name = f"mask_{of[k]}"
            base = f"{name} + replicate * {name}_replicate + at * {name}_clip + time * {name}_frame"
            lines.append(f"{of[k]}_now = {load_tile(base, 'running')}")
        state = self.names.states[0]
        lines += [
            f"d_new_{state}_all = d_new_{state}",
            "if GIVEN:",
            f"    d_new_{state}_all += {load_tile('d_outputs + ((replicate * B + at) * T + time) * H', 'running')}",
        ]
        return lines

    def _loop(self) -> list[str]:
        return ["for back in tl.range(steps, num_stages=STAGES):", *indented(self._step())]

    def _step(self) -> list[str]:
        names, states = self.names, self.names.states
        lines = self._reads()
        body = Body(self.gradient.nodes, self._labels(), self._read, names.equations)
        for number in reversed(range(len(self.plan.stages))):
            self._stage(body, number)
        for k in names.old:
            if k in self.plan.vectors:
                self._through(body, k)
        body.assign([(f"{self.of[v]}_vector", v) for v in names.computed])
        lines += [*body.lines, *self._store()]
        for name in states:
            value = f"d_old_{name}" if f"d_old_{name}" in self.begun else "0.0"
            lines.append(f"d_new_{name} = tl.where(running[:, None], {value}, d_new_{name})")
            lines.append(f"new_{name} = tl.where(running[:, None], old_{name}, new_{name})")
        return lines

    def _labels(self) -> dict[int, str]:
        return {**self.of, **{at: f"d_{self.of[k]}" for stage in self.gradient.stages for k, at in stage.sums}}

    def _read(self, k: int) -> str | None:
        """How a value is read; None where it is computed again."""
        node, of, names = self.gradient.nodes[k], self.of, self.names
        if node.op == "new":
            return f"d_new_{names.states[int(node.value or 0)]}" + ("" if node.value else "_all")
        if node.op == "later":
            return f"d_{of[int(node.value or 0)]}_part"
        if k in names.old:
            return f"old_{names.states[names.old[k]]}"
        if k in self.plan.masks:
            return f"{of[k]}_now"
        if k in self.plan.invariant:
            return f"{of[k]}_row"
        if k in self.plan.kept:
            return f"kept_{self.plan.kept.index(k)}"
        if k in self.graph.outputs:
            return f"new_{names.states[self.graph.outputs.index(k)]}"
        return None

    def _stage(self, body: Body, number: int) -> None:
        stage, given = self.plan.stages[number], self.gradient.stages[number]
        for k in (*(each.node for each in stage.sums), *stage.pointwise):
            if k in self.plan.vectors:
                self._through(body, k)
        self._comment(body, given)
        wanted = [(f"d_{self.of[k]}", at) for k, at in given.sums]
        adds: list[tuple[str, str]] = []
        for k, at in given.others:
            if k in self.names.summed:
                adds.append((f"d_{self.of[k]}_rows", f"add_{self.of[k]}"))
            elif k in self.names.old or k in self.later:
                adds.append((self._part(k), f"add_{self.of[k]}"))
            else:
                continue
            wanted.append((f"add_{self.of[k]}", at))
        body.assign(wanted)
        for total, value in adds:
            self._add(body, total, value)

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
        if total.endswith("_rows"):
            body.lines.append(f"{total} += tl.where(running[:, None], {value}, 0.0)")
        else:
            body.lines.append(f"{total} = {total} + {value}" if total in self.begun else f"{total} = {value}")
            self.begun.add(total)

    def _through(self, body: Body, vector: int) -> None:
        """What products hand on to a vector: the derivatives of their sums times their matrices."""
        total, groups = self._part(vector), self._groups(vector)
        if groups and total not in self.begun:
            body.lines.append(f"{total} = {ZERO}")
            self.begun.add(total)
        wanted = {self._whole(nodes): nodes for nodes, _ in groups if self._whole(nodes) not in self.whole}
        if wanted:
            values = {}
            for name, nodes in wanted.items():
                values[name] = interleave([f"d_{self.of[k]}" for k in nodes]), len(nodes)
            slots = [sum(map(len, list(wanted.values())[:n])) for n in range(len(wanted))]
            body.lines += all_gather(self.names, values, slots)
            self.whole.update(wanted)
        for nodes, matrices in groups:
            tile = "_".join(self.of[m] for m in matrices) + "_tile"
            body.lines.append(f"{total} = product({total}, {self._whole(nodes)}, {tile}, PRECISION)")

    def _whole(self, nodes: tuple[int, ...]) -> str:
        """The variable that holds the derivatives of some sums, of all units."""
        return "_".join(f"d_{self.of[k]}" for k in nodes) + "_whole"

    def _store(self) -> list[str]:
        sums, computed = self.names.sums, self.names.computed
        count = sum(map(len, sums))
        lines = [
            store_tile(f"d_sums + (row * {count} + {first}) * H", "running", [f"d_{self.of[k]}" for k in pack])
            for (first, _), pack in zip(offsets(sums), sums, strict=True)
        ]
        lines += [
            store_tile(f"vectors + (row * {len(computed)} + {n}) * H", "running", [f"{self.of[v]}_vector"])
            for n, v in enumerate(computed)
        ]
        return lines

    def _end(self) -> list[str]:
        lines = [
            store_tile(f"d_first + of_state + {n} * B * H", "valid", [f"d_new_{name}"])
            for n, name in enumerate(self.names.states)
        ]
        count = len(self.names.summed)
        for n, k in enumerate(self.names.summed):
            of_tile = f"(group * ROWS + tl.arange(0, ROWS)) * {count} + {n}"
            lines.append(store_tile(f"d_invariants + ({of_tile}) * H", "(clip >= 0)", [f"d_{self.of[k]}_rows"]))
        return lines
