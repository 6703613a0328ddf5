"""Define what forward and backward share in C: arguments, identifiers, places in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from cello.compiler.c.expression import Body
from cello.compiler.identifiers import comment
from cello.compiler.step_names import StepNames

KERNEL = frozenset("acjnrtxBDEHIPTV")
"""Single letters that mean something else in the kernel."""
LOOP = ("    for (long j = 0; j < P; j += V) {", "        for (long r = 0; r < n; r++) {")


EACH = (
    *("weight", "invariant", "invariant_stride", "mask", "mask_stride", "first", "last"),
    *("d_weight", "d_invariant", "d_last", "d_first"),
)
"""What there is one of for every matrix, loop-invariant value, mask (two: clip and frame stride) or state."""


@dataclass(frozen=True)
class Field:
    """A member of the kernel's arguments: "long", "longs" or "reals" (pointers), and what it holds.

    ``each`` is one of ``EACH`` where there is such a member for every matrix, loop-invariant value, mask or state.
    """

    name: str
    kind: str
    what: str
    each: str = ""


@dataclass(frozen=True)
class Names(StepNames):
    """A kernel and the C identifiers of its nodes."""

    reserved: ClassVar[frozenset[str]] = KERNEL
    marker: ClassVar[str] = "//"

    @property
    def input(self) -> int | None:
        """The node of the frame."""
        return next((k for k, node in enumerate(self.nodes) if node.op == "input"), None)

    def square(self, matrix: int) -> bool:
        return self.nodes[matrix].shape == ("H", "H")

    @cached_property
    def wide(self) -> list[int]:
        """The matrices that multiply the frame; packed, they come before the others."""
        return [k for k in self.plan.matrices if not self.square(k)]

    @cached_property
    def squares(self) -> list[int]:
        return [k for k in self.plan.matrices if self.square(k)]

    def place(self, matrix: int, wide: str = "wide", of: str = "") -> str:
        """Where a packed matrix begins among all; ``wide`` names the size of one that multiplies the frame.

        ``of`` is what stands before the names of sizes.
        """
        if not self.square(matrix):
            return f"{self.wide.index(matrix)} * {of}{wide}"
        return f"{len(self.wide)} * {of}{wide} + {self.squares.index(matrix)} * {of}square"

    def fields(self) -> tuple[Field, ...]:
        """The kernel's arguments; the C struct and its caller read this."""
        plan = self.plan
        states = [(part, comment(name)) for part, name in zip(self.states, plan.graph.states, strict=True)]
        weights = [(self.of[k], self.nodes[k]) for k in plan.matrices]
        invariant = [self.of[k] for k in plan.invariant]
        found = [
            Field("B", "long", "clips"),
            Field("T", "long", "frames"),
            Field("D", "long", "elements of a frame"),
            Field("H", "long", "units"),
            Field("keeping", "long", "whether backward will follow"),
            Field("reverse", "long", "whether clips run from their last frame to their first"),
            Field("threads", "long", "at most"),
            Field("place", "longs", "(B,) clips by falling length: where they stand in the batch"),
            Field("length", "longs", "(B,) and their lengths"),
            Field("x", "reals", "(B, T, D)"),
            Field("x_clip_stride", "long", "elements from one clip of x to the next"),
            Field("x_frame_stride", "long", "and from one frame to the next"),
            Field("outputs", "reals", f"(B, T, H), {states[0][1]} after every frame"),
            Field("packed", "reals", "all matrices as products read them"),
            Field("history", "reals", "the states before and after every step"),
            Field("kept", "reals", "what else backward reads"),
            *(Field(f"weight_{name}", "reals", f"({', '.join(node.shape)})", "weight") for name, node in weights),
            *(Field(f"invariant_{name}", "reals", "(H,), or () if its stride is 0", "invariant") for name in invariant),
            *(Field(f"invariant_{name}_stride", "long", "0 or 1", "invariant_stride") for name in invariant),
        ]
        for k in plan.masks:
            found.append(Field(f"mask_{self.of[k]}", "reals", "(B, T, H), or the same at each frame", "mask"))
            found.append(
                Field(f"mask_{self.of[k]}_clip_stride", "long", "elements from one clip to the next", "mask_stride")
            )
            found.append(Field(f"mask_{self.of[k]}_frame_stride", "long", "and to the next frame", "mask_stride"))
        found += [
            Field(f"{kind}_{n}", "reals", f"(B, H), {name}", kind) for kind in ("first", "last") for n, name in states
        ]
        found += [
            Field("d_outputs", "reals", "(B, T, H), or NULL"),
            Field("d_x", "reals", "(B, T, D), or NULL"),
            Field("packed_back", "reals", "all matrices as backward's products read them"),
            Field(
                "d_packed", "reals", "their derivatives and those of the loop-invariant values, then some groups' own"
            ),
            *(
                Field(f"d_weight_{name}", "reals", f"({', '.join(node.shape)}), or NULL", "d_weight")
                for name, node in weights
            ),
            *(Field(f"d_invariant_{name}", "reals", "(H,), or NULL", "d_invariant") for name in invariant),
            *(Field(f"d_last_{n}", "reals", f"(B, H), {name}, or NULL", "d_last") for n, name in states),
            *(Field(f"d_first_{n}", "reals", f"(B, H), {name}", "d_first") for n, name in states),
        ]
        return tuple(found)

    def rows(self) -> dict[int, str]:
        """How values that are the same for all rows are read."""
        return {k: f"load({self.of[k]}_row + j)" for k in self.plan.invariant}

    def mask_lines(self, indent: str = "        ") -> list[str]:
        """Take every mask's rows of this step."""
        lines = []
        for k in self.plan.masks:
            name = self.of[k]
            rows = f"(struct view){{a->mask_{name}, a->mask_{name}_clip_stride, a->mask_{name}_frame_stride}}"
            lines.append(f"{indent}load_tile(&c, {rows}, t, 0, n, H, {name}_tile);")
        return lines


class Workspace:
    """Memory of a function's own, taken at scratch_states: names and their sizes, one after the other."""

    def __init__(self) -> None:
        self.sizes: list[tuple[str, str]] = []

    def add(self, name: str, size: str) -> None:
        self.sizes.append((name, size))

    def lines(self) -> list[str]:
        total = " + ".join(size for _, size in self.sizes) or "0"
        lines = [
            f"    real *const workspace = alloc_workspace({total});",
            "    if (!workspace) return 1;",
        ]
        place = "workspace"
        for name, size in self.sizes:
            lines.append(f"    real *{name} = {place};")
            place = f"{name} + {size}"
        return lines


def loop(body: Body, stores: Sequence[tuple[str, int]], sums: Mapping[str, str]) -> list[str]:
    """A loop over units and rows; ``sums`` are vecs that accumulate over the rows, with where they begin and end."""
    lines = body.write(stores)
    before = [*body.before, *(f"vec {name} = load({place});" for name, place in sums.items())]
    after = [f"        store({place}, {name});" for name, place in sums.items()]
    return [
        LOOP[0],
        *(f"        {line}" for line in before),
        LOOP[1],
        "            const long at = j * rows + r * V;",
        *(f"            {line}" for line in lines),
        "        }",
        *after,
        "    }",
    ]


def head(*, backward: bool) -> list[str]:
    """What every function of a tile begins with."""
    return [
        "    const long H = a->H, D = a->D, P = round_up(H, V), E = round_up(D, V);",
        "    const long wide = packed_size(D, P), square = packed_size(H, P), wide_back = packed_size(H, E);",
        f"    const struct clips c = clips_of(a, tile, {int(backward)});",
        "    const long rows = c.rows, size = rows * P;",
        "    (void)wide; (void)square; (void)wide_back;",
    ]
