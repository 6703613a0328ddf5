"""Choose a kernel's tiling by what the compiler makes of it: the first whose threads keep nothing in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from cello.cells.definition import Cell
from cello.compiler.triton.build import kernels, without_slp
from cello.compiler.triton.clusters import possible
from cello.compiler.triton.launch import Tiling, constants
from cello.compiler.triton.machine_code import NOT_COMPILED, Taken, if_any, release, taken
from cello.compiler.triton.names import quarters_held
from cello.compiler.triton.remembered import Choice, key_of, remember, remembered
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import is_exact, laid_out, names_of, own_text, scatters, waits
from cello.compiler.triton.tiling import at_most, bytes_left, bytes_of, tilings
from cello.errors import BackendError

WORTH = 2
"""How many times fewer bytes of a thread in memory make up for twice the programs."""
MUCH = 64
"""Bytes of a thread in memory that another limit of registers alone does not mend."""
LITTLE = 32
"""Bytes of a thread in memory that cost less than twice as many programs."""
HOPELESS = 300
"""Bytes of a thread in memory that do not become so few where values are read when they are needed."""
NONE = -1
"""The number that is remembered where no tiling of several will do."""
FAR = 256
"""Bytes of a thread in memory that fewer quarters of matrices held do not mend."""
INSTEAD = 3
"""Tilings that are tried on a GPU where the kernel of the one that was chosen is wrong."""
RULES = WORTH, MUCH, LITTLE, HOPELESS, FAR
"""What a choice follows from beside what is compiled: by others nothing that was remembered holds."""
MOST_PROGRAMS = 1 << 16
"""Programs that run at once on a GPU of which nothing is known."""


@lru_cache(maxsize=1024)
def chosen(
    cell: Cell, way: str, sizes: Sizes, precision: str, capability: int, memory: int, at_once: int = MOST_PROGRAMS
) -> tuple[Tiling, Taken | None] | None:
    """The tiling of "forward" or "backward" for a compute capability, and what its kernel takes; None if none fits.

    Programs that share units wait for each other, so never more of them do than the GPU runs ``at_once``.
    The passes share no layout that a tiling decides, so each has its own. It follows from the cell, H and the GPU's
    kind alone, no batch and no measured time, so that every run of a model adds in the same order.

    Raises:
        BackendError: Triton is not installed, or no tiling has as little shared memory as there is.
    """
    every = _every(cell, way, sizes, precision, capability, memory, at_once)
    if not every:
        return None
    given = [of_pass(cell, way, each, sizes, precision) for each in every]
    compiler = release(), without_slp(precision)
    key = key_of(cell, every, given, precision, way, capability, memory, *compiler, RULES)
    known = remembered(key)
    if known is not None and 0 <= known.number < len(every) and known.shared <= memory:
        return every[known.number], Taken(known.registers, known.spilled, known.shared)

    best, least = _least(cell, way, every, _taken_by(cell, way, sizes, precision, capability), memory)
    if least is None or least == NOT_COMPILED:  # nothing is known, so only the bound can tell what fits
        return next((each for each in every if _at_most(cell, way, each, sizes, precision) <= memory), every[0]), None
    if least.shared > memory:
        raise BackendError(
            f"the {way} kernel of cell {cell.name!r} for H={sizes.hidden} needs {least.shared:,} bytes of shared "
            f'memory, and a program has {memory:,} on this GPU; take fewer units, or backend="plain"'
        )
    remember(key, Choice(every.index(best), least.registers, least.spilled, least.shared))
    return best, least


def _every(
    cell: Cell, way: str, sizes: Sizes, precision: str, capability: int, memory: int, at_once: int
) -> list[Tiling]:
    """All tilings, in the order in which they are tried; none if none fits."""
    first, *others = tilings(names_of(cell), sizes, precision, memory, way) or (None,)
    if first is None:
        return []
    some = [first, *(each for each in others if each.split <= max(first.split, at_once))]
    return [one for each in some for one in ways_of_meeting(cell, way, each, sizes, precision, capability, memory)]


def ways(
    cell: Cell, way: str, sizes: Sizes, precision: str, capability: int, memory: int, at_once: int = MOST_PROGRAMS
) -> Iterator[tuple[Tiling, Taken | None]]:
    """The tiling that is chosen, and ``INSTEAD`` others for a GPU on which its kernel is wrong, with what they take:
    first the one whose programs meet in memory rather than as a cluster, then the most unlike ones."""
    best = chosen(cell, way, sizes, precision, capability, memory, at_once)
    if best is not None:
        yield best
        yield from _instead(cell, way, sizes, precision, capability, memory, at_once, best[0])


@lru_cache(maxsize=64)
def _instead(
    cell: Cell, way: str, sizes: Sizes, precision: str, capability: int, memory: int, at_once: int, best: Tiling
) -> tuple[tuple[Tiling, Taken | None], ...]:
    def likeness(one: Tiling) -> tuple[bool, bool, int]:
        same = sum(ours == theirs for ours, theirs in zip(vars(one).values(), vars(best).values(), strict=True))
        return one != replace(best, cluster=False), best.split > 1 and one.split > 1, same

    every = [each for each in _every(cell, way, sizes, precision, capability, memory, at_once) if each != best]
    of, found = _taken_by(cell, way, sizes, precision, capability), list[tuple[Tiling, Taken | None]]()
    for each in sorted(every, key=likeness):
        told = if_any(partial(of, each))
        if (told.shared if told else _at_most(cell, way, each, sizes, precision)) <= memory:
            found.append((each, told))
        if len(found) == INSTEAD:
            break
    return tuple(found)


def ways_of_meeting(
    cell: Cell, way: str, tiling: Tiling, sizes: Sizes, precision: str, capability: int, memory: int
) -> list[Tiling]:
    """A tiling whose programs wait for each other as a cluster, if they can be one, and in memory, if they hand on less
    so than by others."""
    cluster = replace(tiling, cluster=True)
    in_memory = [tiling] if tiling.reread != "scatter" or scatters(cell, way, cluster=False) else []
    if not waits(cell, way, tiling.reread) or not possible(tiling.split, capability):
        return in_memory
    names, left = laid_out(cell, tiling.reread), bytes_left(cell, way, sizes, cluster, precision)
    return [cluster, *in_memory] if bytes_of(names, sizes, tiling, precision) + left <= memory else in_memory


def _at_most(cell: Cell, way: str, tiling: Tiling, sizes: Sizes, precision: str) -> int:
    own = at_most(laid_out(cell, tiling.reread), sizes, tiling, precision)
    return own + bytes_left(cell, way, sizes, tiling, precision)


@lru_cache(maxsize=1024)
def first_that_fits(
    cell: Cell, way: str, every: tuple[Tiling, ...], sizes: Sizes, precision: str, capability: int, memory: int
) -> tuple[Tiling, Taken] | None:
    """The first of these by which threads keep nothing in memory, or the one by which they keep least, if that is next
    to nothing, and what it takes; None if there is none, or it is not told."""
    given = [of_pass(cell, way, each, sizes, precision) for each in every]
    compiler = release(), without_slp(precision)
    key = key_of(cell, every, given, precision, "more clips", way, capability, memory, *compiler, RULES)
    known = remembered(key)
    if known is None:
        known = _of_least(every, _taken_by(cell, way, sizes, precision, capability), memory)
        remember(key, known)
    if not 0 <= known.number < len(every) or known.shared > memory:
        return None
    return every[known.number], Taken(known.registers, known.spilled, known.shared)


def _of_least(every: Sequence[Tiling], of: Callable[[Tiling], Taken | None], memory: int) -> Choice:
    """The first of these that keeps nothing in memory, or the one that keeps least, if it is next to nothing.

    Those that read in a step are not compiled where by all that read a step ahead far too much is kept.
    """
    least = Choice(NONE, 0, HOPELESS, 0)
    for number, each in enumerate(every):
        if each.stages == 1 and any(one.stages > 1 for one in every) and least.spilled >= HOPELESS:
            break
        told = if_any(partial(of, each))
        if told is not None and told.shared <= memory and told.spilled < least.spilled:
            least = Choice(number, told.registers, told.spilled, told.shared)
        if not least.spilled:
            break
    return least if least.spilled <= LITTLE else Choice(NONE, 0, 0, 0)


def _taken_by(cell: Cell, way: str, sizes: Sizes, precision: str, capability: int) -> Callable[[Tiling], Taken | None]:
    def of(tiling: Tiling) -> Taken | None:
        function = getattr(kernels(cell, tiling.reread, interpreted=False, exact=is_exact(precision)), way)
        return taken(function, of_pass(cell, way, tiling, sizes, precision), precision, tiling, capability)

    return of


def _least(
    cell: Cell, way: str, every: Sequence[Tiling], of: Callable[[Tiling], Taken | None], memory: int
) -> tuple[Tiling, Taken | None]:
    """The first that keeps nothing in memory, or the one that keeps least, and what it takes; those that are the same
    kernel as one before are left out, and those that cannot mend as much as that keeps there."""
    best, least = every[0], if_any(partial(of, every[0]))
    same = _same(cell, way, best)
    spilled = dict.fromkeys((same, _some_held(same)), least.spilled if least else 0)
    for tiling in every[1:]:
        if least is None or (least.spilled == 0 and least.shared <= memory):
            break
        same = _same(cell, way, tiling)
        other = replace(same, all_registers=not same.all_registers)
        if same in spilled or spilled.get(other, 0) > MUCH or spilled.get(_some_held(same), 0) > FAR:
            continue
        found = if_any(partial(of, tiling))
        spilled[same] = spilled[_some_held(same)] = found.spilled if found else 0
        more = tiling.split * best.rows > best.split * tiling.rows
        worth = least.spilled // WORTH if more else least.spilled - 1
        if found is not None and found.shared <= memory and (least.shared > memory or found.spilled <= worth):
            best, least = tiling, found
    return best, least


def _same(cell: Cell, way: str, tiling: Tiling) -> Tiling:
    """What stands for all tilings by which a pass is the same machine code: where matrices change, programs that wait
    for each other in a step read nothing ahead; a pass that reads nothing that stays the same reads nothing again."""
    if names_of(cell).matrices and tiling.split > 1 and waits(cell, way, tiling.reread):
        tiling = replace(tiling, stages=1)
    return replace(tiling, reread="") if _text(cell, way, tiling.reread) == _text(cell, way, "") else tiling


def _some_held(tiling: Tiling) -> Tiling:
    """What stands for all tilings that differ in how many quarters of matrices threads hold."""
    return replace(tiling, reread="held some") if quarters_held(tiling.reread) else tiling


def _text(cell: Cell, way: str, reread: str) -> str:
    """A pass as it is compiled."""
    one = own_text(cell, reread)
    begin = one.index(f"def {way}(")
    return one[begin : one.find("@triton.jit", begin)]


def of_pass(cell: Cell, way: str, tiling: Tiling, sizes: Sizes, precision: str) -> dict[str, Any]:
    """What a pass is compiled for where backward follows, and outputs have derivatives."""
    own = {"KEEP" if way == "forward" else "GIVEN": True}
    return {**constants(laid_out(cell, tiling.reread), tiling, sizes, precision, large=False), **own}
