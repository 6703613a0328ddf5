"""Write the forward pass of a kernel in Triton: all steps of a tile of clips."""

from __future__ import annotations

from collections.abc import Sequence

from cello.compiler.stages import Sum
from cello.compiler.step_names import indented
from cello.compiler.triton.expression import Body
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

ARGUMENTS = (
    *("place", "length", "start", "reverse"),
    *("projected", "weights", "invariants", "first", "last", "outputs", "saved"),
    *("workspace", "counters"),
)
ZERO = "tl.full((ROWS, OWN), 0.0, tl.float32)"
SIZES = ("TILES", "B", "T", "rows", "projected_row", "projected_replicate")
CONSTANTS = tuple(
    f"{name}: tl.constexpr" for name in ("H", "UNITS", "OWN", "WHOLE", "SPLIT", "ROWS", "PRECISION", "STAGES", "LARGE")
)


def forward(names: Names) -> list[str]:
    """``forward``: the steps of one tile of one replicate."""
    return _Forward(names).lines()


class _Forward:
    def __init__(self, names: Names) -> None:
        self.names, self.plan, self.of = names, names.plan, names.of
        self.sums = {each.node for each in self.plan.sums}
        self.done: set[int] = set()
        self.whole: set[int] = set()

    def lines(self) -> list[str]:
        arguments = (*ARGUMENTS, *mask_arguments(self.names), *SIZES, *CONSTANTS, "KEEP: tl.constexpr")
        inside = [*prologue(self.names), *self._begin(), *self._loop(), *self._end()]
        return ["@triton.jit", f"def forward({', '.join(arguments)}):", *indented(inside)]

    def _begin(self) -> list[str]:
        names, of = self.names, self.of
        lines = [load_matrix(names, f"{of[m]}_tile", n, 1, "1, H") for n, m in enumerate(names.square)]
        for n, state in enumerate(names.states):
            lines.append(f"old_{state} = {load_tile(f'first + of_state + {n} * B * H', 'valid')}")
        return lines

    def _reads(self) -> list[str]:
        """What a step reads."""
        of, names = self.of, self.names
        lines = [
            "running = step < frames",
            "time = tl.where(reversed_time != 0, frames - 1 - step, step)",
            "row = begin + time",
        ]
        for n, (first, count) in enumerate(offsets(names.projected)):
            base = f"projected + replicate * projected_replicate + row * projected_row + {first} * H"
            lines.append(f"projected_{n} = {load_tile(base, 'running', count)}")
        for k in self.plan.masks:
            name = f"mask_{of[k]}"
            base = f"{name} + replicate * {name}_replicate + at * {name}_clip + time * {name}_frame"
            lines.append(f"{of[k]}_now = {load_tile(base, 'running')}")
        return lines

    def _loop(self) -> list[str]:
        return ["for step in tl.range(steps, num_stages=STAGES):", *indented(self._step())]

    def _step(self) -> list[str]:
        names, of = self.names, self.of
        lines = [*self._reads(), "frame = (replicate * B + at) * T + time"]
        body = Body(self.plan.graph.nodes, of, self._read, names.equations)
        for stage in self.plan.stages:
            self._products(body, stage.sums)
            for each in stage.sums:
                self._finish(body, each)
        body.assign([(f"new_{s}", k) for s, k in zip(names.states, self.plan.graph.outputs, strict=True)])
        body.assign([(f"kept_{n}", k) for n, k in enumerate(self.plan.kept)])
        lines += body.lines
        lines.append(store_tile("outputs + frame * H", "running", [f"new_{names.states[0]}"]))
        lines += ["if KEEP:", *indented(self._keep())]
        lines += [f"old_{s} = tl.where(running[:, None], new_{s}, old_{s})" for s in names.states]
        return lines

    def _read(self, k: int) -> str | None:
        names = self.names
        if k in names.old:
            return f"old_{names.states[names.old[k]]}"
        if k in self.sums:
            return self.of[k]
        if k in self.plan.invariant:
            return f"{self.of[k]}_row"
        return f"{self.of[k]}_now" if k in self.plan.masks else None

    def _products(self, body: Body, sums: Sequence[Sum]) -> None:
        """The products of a stage's sums with old states and values of the step."""
        names, of = self.names, self.of
        inner = {each.node: [(m, v) for m, v in each.products if not names.is_frame(v)] for each in sums}
        vectors = list(dict.fromkeys(v for products in inner.values() for _, v in products))
        body.assign([(f"{of[v]}_vector", v) for v in vectors if v not in names.old])
        new = {f"{of[v]}_whole": (self._vector(v), 1) for v in vectors if v not in self.whole}
        if new:
            body.lines += all_gather(names, new, range(len(new)))
            self.whole.update(vectors)
        for each in sums:
            name = of[each.node]
            body.lines += [names.comment(each), f"{name} = {ZERO}"]
            for m, v in inner[each.node]:
                body.lines.append(f"{name} = product({name}, {of[v]}_whole, {of[m]}_tile, PRECISION)")

    def _vector(self, v: int) -> str:
        names = self.names
        return f"old_{names.states[names.old[v]]}" if v in names.old else f"{self.of[v]}_vector"

    def _finish(self, body: Body, each: Sum) -> None:
        """Add the products of the frame, of a whole pack at once, and what is the same at every step."""
        of, nodes, name = self.of, self.plan.graph.nodes, self.of[each.node]
        for n, pack in enumerate(self.names.projected):
            if each.node in pack and n not in self.done:
                variables = [of[k] for k in pack]
                body.lines.append(deinterleave(variables, f"{interleave(variables)} + projected_{n}"))
                self.done.add(n)
        terms = [repr(nodes[k].value) if nodes[k].op == "constant" else f"{of[k]}_row" for k in each.invariant]
        if terms:
            body.lines.append(f"{name} = {' + '.join([name, *terms])}")

    def _keep(self) -> list[str]:
        count = sum(map(len, self.names.saved))
        base = f"saved + (replicate * rows + row) * {count} * H"
        return [
            store_tile(f"{base} + {first} * H", "running", pack)
            for (first, _), pack in zip(offsets(self.names.saved), self.names.saved, strict=True)
        ]

    def _end(self) -> list[str]:
        return [
            store_tile(f"last + of_state + {n} * B * H", "valid", [f"old_{name}"])
            for n, name in enumerate(self.names.states)
        ]
