"""Define what forward and backward share: variables of nodes, and where a step's values lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeVar

from cello.compiler.stages import Sum
from cello.compiler.step_names import StepNames, indented

RESERVED = frozenset("BTHV")
"""Single letters that mean something else in the kernel."""
Item = TypeVar("Item")


def groups_of(items: Sequence[Item]) -> tuple[tuple[Item, ...], ...]:
    """The items in groups of four, two and one."""
    found, rest = [], list(items)
    for size in (4, 2, 1):
        while len(rest) >= size:
            found.append(tuple(rest[:size]))
            rest = rest[size:]
    return tuple(found)


@dataclass(frozen=True)
class Names(StepNames):
    """A kernel, the variables of its nodes, and how what it reads and writes is packed.

    Tiles that are read or written together are packed: two or four lie element by element in turn, so that they move
    through memory, and between the layouts of products and of rows, as one. ``projected`` are sums with products of the
    frame, which one matrix product computes before the loop; ``sums`` those that have a derivative; ``saved`` what
    backward reads, old states and kept values; ``computed`` the vectors of products that are neither frames nor old
    states. ``square`` are the matrices that multiply inside the loop. Where they are too large for one program, several
    share the units of the same clips: each holds the columns of its own, and they hand each other vectors in memory.
    """

    reserved: ClassVar[frozenset[str]] = RESERVED
    marker: ClassVar[str] = "#"

    @cached_property
    def projected(self) -> tuple[tuple[int, ...], ...]:
        return self._by_stage(lambda each: any(self.is_frame(v) for _, v in each.products))

    @cached_property
    def sums(self) -> tuple[tuple[int, ...], ...]:
        found = {k for stage in self.plan.gradient.stages for k, _ in stage.sums}
        return self._by_stage(lambda each: each.node in found)

    def _by_stage(self, wanted: Callable[[Sum], bool]) -> tuple[tuple[int, ...], ...]:
        stages = ([each.node for each in stage.sums if wanted(each)] for stage in self.plan.stages)
        return tuple(pack for nodes in stages for pack in groups_of(nodes))

    @cached_property
    def saved(self) -> tuple[tuple[str, ...], ...]:
        kept = [f"kept_{n}" for n in range(len(self.plan.kept))]
        return groups_of([*(f"old_{name}" for name in self.states), *kept])

    @cached_property
    def width(self) -> int:
        """How many tiles are saved of every row."""
        return sum(map(len, self.saved))

    @cached_property
    def biases(self) -> dict[int, int]:
        """The loop-invariant values whose derivative is that of one sum, added up over all rows; and the sums."""
        found: dict[int, int] = {}
        places = [(k, at) for stage in self.plan.gradient.stages for k, at in stage.others if k in self.plan.invariant]
        of_sum = {at: k for stage in self.plan.gradient.stages for k, at in stage.sums}
        for k, at in places:
            if at in of_sum and sum(other == k for other, _ in places) == 1:
                found[k] = of_sum[at]
        return found

    @cached_property
    def summed(self) -> tuple[int, ...]:
        """The other loop-invariant values that have a derivative or none: programs add it up themselves."""
        return tuple(k for k in self.plan.invariant if k not in self.biases)

    @property
    def slots(self) -> int:
        """How many tiles programs leave to each other at once, at most."""
        return max(sum(map(len, self.sums)), len(self.plan.vectors), 1)

    @cached_property
    def with_frame(self) -> tuple[int, ...]:
        """The sums with products of the frame, in the order of their packs."""
        return tuple(k for pack in self.projected for k in pack)

    @cached_property
    def square(self) -> tuple[int, ...]:
        """Those of one vector side by side, in the order of the sums."""
        found = (m for v in self.plan.vectors if not self.is_frame(v) for _, m in self.products_of(v))
        return tuple(dict.fromkeys(found))

    def products_of(self, vector: int) -> list[tuple[int, int]]:
        """The sums with a product of a vector, and its matrices."""
        return [(each.node, m) for each in self.plan.sums for m, v in each.products if v == vector]

    def frame_matrices(self, node: int) -> list[int]:
        """The matrices that multiply the frame in a sum."""
        each = next(each for each in self.plan.sums if each.node == node)
        return [m for m, v in each.products if self.is_frame(v)]

    @cached_property
    def computed(self) -> tuple[int, ...]:
        """Vectors whose values backward writes for the matrices' derivatives."""
        live = {k for pack in self.sums for k in pack}
        sums = [each for each in self.plan.sums if each.node in live]
        read = {v for each in sums for m, v in each.products if m not in self.plan.constant}
        return tuple(v for v in self.plan.vectors if v in read and v not in self.old and not self.is_frame(v))

    def is_frame(self, k: int) -> bool:
        return self.nodes[k].op == "input"


def mask_arguments(names: Names) -> list[str]:
    """The parameters that masks are given by: where they lie, and elements to the next replicate, clip and frame."""
    found = []
    for k in names.plan.masks:
        name = names.of[k]
        found += [f"mask_{name}", f"mask_{name}_replicate", f"mask_{name}_clip", f"mask_{name}_frame"]
    return found


def prologue(names: Names) -> list[str]:
    """What both passes begin with: which clips, which units, and what is the same at every step."""
    plan, of = names.plan, names.of
    lines = [
        "tile, part = program(SPLIT)",
        "replicate = tl.program_id(1)",
        "if LARGE:",
        "    replicate = replicate.to(tl.int64)",
        "clip = tile * ROWS + tl.arange(0, ROWS)",
        "valid = clip < B",
        "frames = tl.load(length + replicate * B + clip, mask=valid, other=0)",
        "at = tl.load(place + replicate * B + clip, mask=valid, other=0)",
        "begin = tl.load(start + replicate * B + clip, mask=valid, other=0)",
        "if LARGE:",
        "    at, begin = at.to(tl.int64), begin.to(tl.int64)",
        "reversed_time = tl.load(reverse + replicate)",
        "steps = tl.load(length + replicate * B + tile * ROWS)  # of the longest clip, which stands first",
        "unit = part * OWN + tl.arange(0, OWN)",
        f"of_state = (replicate * {len(names.states)} * B + at) * H",
        "group = replicate * TILES + tile",
        "barriers = 0",
    ]
    for n, k in enumerate(plan.invariant):
        row = f"invariants + (replicate * {len(plan.invariant)} + {n}) * H + unit"
        lines.append(f"{of[k]}_row = tl.load({row}, mask=unit < H, other=0.0).to(tl.float32)[None, :]")
    return lines


def load_matrix(names: Names, name: str, first: int, count: int, strides: str) -> str:
    """The line that takes matrices that multiply in the loop; ``strides`` are of rows and of columns."""
    place = f"weights + (replicate * {len(names.square)} + {first}) * H * H"
    return f"{name} = load_matrix({place}, part, {strides}, {count}, H, UNITS, OWN, PRECISION)"


def all_gather(names: Names, vectors: Mapping[str, tuple[str, int]], slots: Sequence[int]) -> list[str]:
    """Lines after which every program of some clips has all units of these vectors, each a value and its tiles."""
    places, apart = {}, []
    for slot, (name, (_, count)) in zip(slots, vectors.items(), strict=True):
        places[name] = f"workspace + ((group * 2 + barriers % 2) * {names.slots} + {slot}) * ROWS * UNITS", count
    alone = [f"{name} = masked({value}, {count}, H)" for name, (value, count) in vectors.items()]
    for name, (value, count) in vectors.items():
        apart.append(f"store_part({places[name][0]}, {value}, part, {count}, H, UNITS, OWN, ROWS)")
    apart.append("group_barrier(counters + group, (barriers + 1) * SPLIT)")
    apart += [f"{name} = load_whole({place}, {count}, UNITS, ROWS)" for name, (place, count) in places.items()]
    apart.append("barriers += 1")
    return ["if SPLIT > 1:", *indented(apart), "else:", *indented(alone)]


def load_tile(base: str, here: str, count: int = 1) -> str:
    """Packed tiles of which each row lies in one piece."""
    return f"load_tile({base}, {here}, part, {count}, H, OWN, WHOLE)"


def store_tile(base: str, here: str, values: Sequence[str]) -> str:
    """The line that writes packed tiles, each row in one piece."""
    return f"store_tile({base}, {here}, {interleave(values)}, part, {len(values)}, H, OWN, WHOLE)"


def interleave(values: Sequence[str]) -> str:
    """Tiles as one, element by element in turn."""
    return values[0] if len(values) == 1 else f"interleave{len(values)}({', '.join(values)})"


def deinterleave(names: Sequence[str], value: str) -> str:
    """The line that takes them apart again."""
    taken_apart = value if len(names) == 1 else f"deinterleave{len(names)}({value})"
    return f"{', '.join(names)} = {taken_apart}"


def offsets(groups: Sequence[Sequence[object]]) -> list[tuple[int, int]]:
    """Of each pack, where it begins among all items, and how many it has."""
    found, begin = [], 0
    for group in groups:
        found.append((begin, len(group)))
        begin += len(group)
    return found
