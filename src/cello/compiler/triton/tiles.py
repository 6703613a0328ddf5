"""Write how tiles of values come from memory and go there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cello.compiler.step_names import indented
from cello.compiler.triton.spaces import Space

NOW = re.compile(r"\b(running|time|row)\b")
AHEAD, LATE = "if STAGES > 1:", "if STAGES == 1:"


@dataclass(frozen=True)
class Read:
    """What a step reads: variables, the line that sets them, the constant on which it does, and lines that follow."""

    variables: tuple[str, ...]
    line: str
    only_if: str = ""
    then: tuple[str, ...] = ()

    def late(self, *, ever_ahead: bool = True) -> list[str]:
        """The lines by which it is read where it is needed, where it is not ``ever_ahead``, or not by this tiling."""
        lines = self._under([self.line, *self.then])
        return indented_if(LATE, lines) if ever_ahead else lines

    def _under(self, lines: Sequence[str]) -> list[str]:
        return indented_if(f"if {self.only_if}:", lines) if self.only_if else list(lines)

    def taken(self) -> list[str]:
        """The lines by which it is what was read for this step before."""
        return self._under([*(f"{name} = next_{name}" for name in self.variables), *self.then])

    def ahead(self) -> list[str]:
        """The lines by which it is read for the step that comes next."""
        left, right = self.line.split(" = ", 1)
        names = ", ".join(f"next_{name}" for name in left.split(", "))
        return self._under([f"{names} = " + NOW.sub(r"next_\1", right)])


def indented_if(condition: str, lines: Sequence[str]) -> list[str]:
    """Lines under a condition, if there are any."""
    return [condition, *indented(lines)] if lines else []


def read_ahead(reads: Sequence[Read], step: str, row: str) -> list[str]:
    """What is read for the step that comes next, ``step``, of the frame that is in that ``row``."""
    at = [
        f"next_step = {step}",
        "next_running = next_step < frames",
        "next_time = tl.where(reversed_time != 0, frames - 1 - next_step, next_step)",
        f"next_row = {row} + next_time",
    ]
    return [*at, *(line for each in reads for line in each.ahead())] if reads else []


def ahead_in_step(reads: Sequence[Read], step: str, row: str, *, at_once: bool) -> tuple[list[str], list[str]]:
    """Lines of a step that reads for the next one: those of its begin, where it takes what was read for it before, and
    those that read, if not ``at_once``."""
    taken, ahead = [line for each in reads for line in each.taken()], read_ahead(reads, step, row)
    if at_once:
        return indented_if(AHEAD, [*taken, *ahead]), []
    return indented_if(AHEAD, taken), indented_if(AHEAD, ahead)


def all_steps(inside: Sequence[str], number: str, *, held: bool, stages: str = "1") -> list[str]:
    """The loop over all steps. Triton reads matrices in a ``for`` from shared memory; in a ``while`` it holds them."""
    if held:
        return [f"{number} = 0", f"while {number} < steps:", *indented([*inside, f"{number} += 1"])]
    return [f"for {number} in tl.range(steps, num_stages={stages}):", *indented(inside)]


def steps_of_held(held: Sequence[str], inside: Sequence[str], number: str) -> list[str]:
    """The same loop, and before it the lines that load what threads hold.

    Triton reads a tile from shared memory at every step where it is loaded outside of the ``for`` that is nearest to
    its product, and else once. Loops that end after one turn keep it from reading the tiles late, all at once, for
    which there is no room.
    """
    lines = all_steps(inside, number, held=True)
    for n, load in reversed([*enumerate(held)]):
        lines = [load, f"turn{n} = 0", f"while turn{n} < once:", *indented([*lines, f"turn{n} += 1"])]
    return ["once = tl.minimum(steps, 1)", "for turn in tl.range(once):", *indented(lines)]


def load_tiles(variables: Sequence[str], base: str, inside: str, here: Space, like: str) -> str:
    """The line that reads tiles whose elements lie in turn, each thread those of its own elements.

    ``like`` is a tile that has the layout of products, which these then have too, so that none changes its layout.
    """
    return f"{', '.join(variables)} = load{len(variables)}({base}, {inside}, {_sizes(here, len(variables))}, {like})"


def store_tiles(base: str, inside: str, here: Space, values: Sequence[str]) -> str:
    """The line that writes tiles so."""
    return f"store{len(values)}({base}, {inside}, {', '.join(values)}, {_sizes(here, len(values))})"


def _sizes(here: Space, count: int) -> str:
    return f"{here.part}, {here.elements}, {here.own}, {here.whole}" + (", ALIGNED" if count > 1 else "")


def load_tile(base: str, inside: str, here: Space) -> str:
    """A tile where there are matrices that change, in the layout that memory is read fastest in."""
    load = "load_blocks" if here.head else "load_tile"
    return f"{load}({base}, {inside}, {here.part}, 1, {here.elements}, {here.own}, {here.whole}{here.in_rows})"


def store_tile(base: str, inside: str, here: Space, value: str) -> str:
    """The line that writes it."""
    sizes = f"{here.part}, 1, {here.elements}, {here.own}, {here.whole}{here.in_rows}"
    return f"{'store_blocks' if here.head else 'store_tile'}({base}, {inside}, {value}, {sizes})"


def deinterleave(names: Sequence[str], value: str) -> str:
    """The line that takes them apart again."""
    taken_apart = value if len(names) == 1 else f"deinterleave{len(names)}({value})"
    return f"{', '.join(names)} = {taken_apart}"


def interleave(values: Sequence[str]) -> str:
    """Tiles as one, element by element in turn."""
    return values[0] if len(values) == 1 else f"interleave{len(values)}({', '.join(values)})"
