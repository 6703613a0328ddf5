"""Write the forward pass of a kernel in Triton: all steps of a tile of clips."""

from __future__ import annotations

from collections.abc import Sequence

from cello.compiler.stages import Sum
from cello.compiler.triton.expression import Body
from cello.compiler.triton.names import (
    Names,
    head,
    indented,
    load,
    mask_arguments,
    matrix,
    packed,
    places,
    scratch,
    store,
    streamed_products,
    unpacked,
)

ARGUMENTS = (
    *("place", "length", "start", "reverse"),
    *("before", "weights", "invariants", "first", "last", "outputs", "saved", "scratch"),
)
ZERO = "tl.full((ROWS, UNITS), 0.0, tl.float32)"
SIZES = ("B", "T", "rows", "before_row", "before_replicate")
CONSTANTS = ("H: tl.constexpr", "UNITS: tl.constexpr", "ROWS: tl.constexpr", "PRECISION: tl.constexpr", "DEPTH: tl.constexpr", "STAGES: tl.constexpr", "LARGE: tl.constexpr")


def forward(names: Names) -> list[str]:
    """``forward``: the steps of one tile of one replicate."""
    return _Forward(names).lines()


class _Forward:
    def __init__(self, names: Names) -> None:
        self.names, self.plan, self.of = names, names.plan, names.of
        self.sums = {each.node for each in self.plan.sums}
        self.done: set[int] = set()

    def lines(self) -> list[str]:
        arguments = (*ARGUMENTS, *mask_arguments(self.names), *SIZES, *CONSTANTS, "KEEP: tl.constexpr")
        inside = [*head(self.names), *self._begin(), *self._loop(), *self._end()]
        return ["@triton.jit", f"def forward({', '.join(arguments)}):", *indented(inside)]

    def _begin(self) -> list[str]:
        names, of = self.names, self.of
        lines = scratch(names) or [matrix(names, f"{of[m]}_tile", n, 1, "1, H") for n, m in enumerate(names.square)]
        lines += [
            f"old_{s} = {load(f'first + of_state + {n} * B * H', 'there')}" for n, s in enumerate(names.states)
        ]
        return [*lines, *(self._ahead("0") if names.streamed else [])]

    def _ahead(self, step: str) -> list[str]:
        """Ask for what a step reads, long before it is needed."""
        of, names = self.of, self.names
        lines = [
            f"going = {step} < frames",
            f"time = tl.where(backwards != 0, frames - 1 - ({step}), {step})",
        ]
        for n, (first, count) in enumerate(places(names.before)):
            row = f"before + replicate * before_replicate + (begin + time) * before_row + {first} * H"
            lines.append(f"before_{n}_ahead = {load(row, 'going', count)}")
        for k in self.plan.masks:
            name = f"mask_{of[k]}"
            base = f"{name} + replicate * {name}_replicate + at * {name}_clip + time * {name}_frame"
            lines.append(f"{of[k]}_ahead = {load(base, 'going')}")
        return lines

    def _loop(self) -> list[str]:
        if self.names.streamed:
            return ["for step in range(steps):", *indented(self._step())]
        return ["for step in tl.range(steps, num_stages=STAGES):", *indented(self._step())]

    def _step(self) -> list[str]:
        names, of = self.names, self.of
        taken = [f"before_{n}" for n in range(len(names.before))] + [of[k] for k in self.plan.masks]
        lines = [*([] if names.streamed else self._ahead("step")), *(f"{name}_now = {name}_ahead" for name in taken)]
        lines += ["running, row = going, begin + time", "frame = (replicate * B + at) * T + time"]
        lines += self._ahead("step + 1") if names.streamed else []
        body = Body(self.plan.graph.nodes, of, self._read, names.equations)
        for stage in self.plan.stages:
            self._products(body, stage.sums)
            for each in stage.sums:
                self._finish(body, each)
        body.assign([(f"new_{s}", k) for s, k in zip(names.states, self.plan.graph.outputs, strict=True)])
        body.assign([(f"kept_{n}", k) for n, k in enumerate(self.plan.kept)])
        lines += body.lines
        lines.append(store("outputs + frame * H", "running", [f"new_{names.states[0]}"]))
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
        products = []
        for each in sums:
            name = of[each.node]
            inner = [(m, v) for m, v in each.products if not names.is_frame(v)]
            body.assign([(f"{of[v]}_vector", v) for _, v in inner if v not in names.old])
            body.lines += [names.comment(each), f"{name} = {ZERO}"]
            for m, v in inner:
                vector = f"old_{names.states[names.old[v]]}" if v in names.old else f"{of[v]}_vector"
                products.append((name, vector, m))
                if not names.streamed:
                    body.lines.append(f"{name} = product({name}, {vector}, {of[m]}_tile, 1, H, PRECISION)")
        if names.streamed and products:
            body.lines += streamed_products(names, products, "1, H")

    def _finish(self, body: Body, each: Sum) -> None:
        """Add the products of the frame, of a whole pack at once, and what is the same at every step."""
        of, nodes, name = self.of, self.plan.graph.nodes, self.of[each.node]
        for n, pack in enumerate(self.names.before):
            if each.node in pack and n not in self.done:
                variables = [of[k] for k in pack]
                body.lines.append(unpacked(variables, f"{packed(variables)} + before_{n}_now"))
                self.done.add(n)
        terms = [repr(nodes[k].value) if nodes[k].op == "constant" else f"{of[k]}_row" for k in each.invariant]
        if terms:
            body.lines.append(f"{name} = {' + '.join([name, *terms])}")

    def _keep(self) -> list[str]:
        count = sum(map(len, self.names.saved))
        base = f"saved + (replicate * rows + row) * {count} * H"
        return [
            store(f"{base} + {first} * H", "running", pack)
            for (first, _), pack in zip(places(self.names.saved), self.names.saved, strict=True)
        ]

    def _end(self) -> list[str]:
        return [
            store(f"last + of_state + {n} * B * H", "there", [f"old_{name}"])
            for n, name in enumerate(self.names.states)
        ]
