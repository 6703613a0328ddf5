"""Choose the tiling of a kernel for a GPU: clips of a program, units, warps, programs that share units."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from cello.cells.graph import Shape
from cello.compiler.triton.launch import Tiling, widest
from cello.compiler.triton.names import Names
from cello.compiler.triton.pressure import tiles_at_once
from cello.compiler.triton.spaces import LEAST, Sizes

MEMORY = 227 * 1024
"""Bytes of shared memory that a program may have on compute capability 9.0."""


LEAST_ROWS = 4
"""Clips of a program below which products, of 16 rows, are too much of the same for what fewer clips spare."""
TILE = 1024
"""Elements of a tile of matrices, of which a program has ten and more; up to four times as many where a head alone has
them."""
CROWDED, FULL = 80, 140
"""Estimates of a thread's registers above which the 128 of each of 512 threads, and the 255 of 256, run short."""
MOST_PROGRAMS = 32
"""Programs that share the units of the same clips."""
MANY_ROWS = 4
"""Vectors that are the same at every step, from which on they take many of a thread's registers: two each."""
FEW_PRODUCTS, MOST_STAGES = 5, 4
"""Matrices up to which the assembler holds back registers that a thread could have, but for multiply-adds in IEEE
float32, and stages above which a step is so long that nothing is gained by reading what it needs some steps before."""


@lru_cache(maxsize=1024)
def tiling(names: Names, sizes: Sizes, precision: str, memory: int = MEMORY) -> Tiling | None:
    """The tiling for D and H where a program may have so many bytes of shared memory, or None if none fits.

    The batch is no part of it, so that no batch compiles anything anew.
    """
    units = max(LEAST, 1 << (sizes.hidden - 1).bit_length())
    head = max((sizes.sizes(shape)[1] for shape in names.heads), default=1)
    least, rows = max(LEAST, head), LEAST
    if not names.heads and names.matrices:
        return _of_sized(names, sizes, units, precision, memory)
    found, largest = _tiling(names, units, 1, rows, head), max(TILE, min(4 * TILE, least * head))
    while (
        (units >= 256 and found.own > max(32, head))
        or (head > 1 and found.rows * found.own * head > largest)
        or bytes_of(names, sizes, found, precision) > memory
    ):
        wide = replace(found, stages=1)
        if (
            head == 1
            and found.own == 2 * LEAST
            and bytes_of(names, sizes, wide, precision) <= memory < bytes_of(names, sizes, found, precision)
        ):
            found = wide  # of narrower tiles every warp would compute all
        elif found.own > least:
            found = _tiling(names, units, 2 * found.split, found.rows, head)
        elif head > 1 and found.rows > 1:
            found = _tiling(names, units, found.split, found.rows // 2, head)
        elif head == 1 and found.stages > 1:
            found = wide
        elif head == 1 and found.rows > LEAST_ROWS:
            found = replace(found, rows=found.rows // 2)
        else:
            return None if head > 1 else _reading_matrices(names, sizes, units, precision, memory)
    return found if head > 1 else _with_registers(names, sizes, found, precision, memory)


def _reading_matrices(names: Names, sizes: Sizes, units: int, precision: str, memory: int) -> Tiling | None:
    """That of a cell whose matrices do not fit: they are read at every step, by as many programs as can share them."""
    split = units // LEAST
    found = replace(_tiling(names, units, split, LEAST, 1), stages=1, reread="all")
    while bytes_of(names, sizes, found, precision) > memory and found.rows > LEAST_ROWS:
        found = replace(found, rows=found.rows // 2)
    return found if split <= MOST_PROGRAMS and bytes_of(names, sizes, found, precision) <= memory else None


def tilings(names: Names, sizes: Sizes, precision: str, memory: int = MEMORY) -> tuple[Tiling, ...]:
    """``tiling``, and what to try where its threads keep values in memory, least costly first; none if none fits.

    More registers where the assembler held back, nothing read ahead, more warps or fewer of more registers; then half
    the clips a program, and more programs for the same clips, which wait for each other at every step.
    """
    found = tiling(names, sizes, precision, memory)
    if found is None:
        return ()
    tried = [found, *_at_other_registers(found), *_reading_rows(names, found)]
    head = max((sizes.sizes(shape)[1] for shape in names.heads), default=1)
    if found.rows > 1:
        fewer = replace(found, rows=found.rows // 2)
        further = [*_at_other_registers(fewer), *_reading_rows(names, fewer)]
        tried += [fewer, *further] if found.rows == LEAST else [fewer]
    if found.own > max(LEAST, head):
        more = replace(found, split=2 * found.split, warps=min(8, found.warps))
        tried += [more, *_at_other_registers(more)]
    if found.rows == LEAST:
        least = replace(found, rows=LEAST_ROWS, stages=1)
        tried += [least, *_reading_rows(names, least)]
        if found.own > LEAST:
            tried.append(
                replace(found, rows=found.rows // 2, stages=1, split=2 * found.split, warps=min(8, found.warps))
            )
    return tuple(
        each
        for n, each in enumerate(dict.fromkeys(tried))
        if n == 0 or bytes_of(names, sizes, each, precision) <= memory
    )


def _at_other_registers(found: Tiling) -> list[Tiling]:
    """The same work of a program by more or fewer registers of a thread."""
    other = replace(found, all_registers=not found.all_registers)
    tried = [other, replace(found, stages=1), replace(other, stages=1)] if found.stages > 1 else [other]
    if found.warps != 8:
        tried += [replace(found, warps=8, all_registers=True), replace(found, warps=8, stages=1, all_registers=True)]
    return tried


def _reading_rows(names: Names, found: Tiling) -> list[Tiling]:
    """The same, with what is the same at every step read at each of them, if that is more than a few registers."""
    many = len(names.plan.invariant) >= MANY_ROWS and not found.reread
    return [replace(found, stages=1, reread="rows")] if many else []


def _of_sized(names: Names, sizes: Sizes, units: int, precision: str, memory: int) -> Tiling | None:
    """That of a cell with matrices (H, N): fewer clips a program first, which then wait for no other program."""
    a_unit = max(map(sizes.a_unit, names.matrices))
    for split in (1 << n for n in range(units // LEAST) if LEAST << n <= units):
        rows = LEAST
        while rows > 1 and rows * (units // split) * a_unit > 2 * TILE:
            rows //= 2
        found = replace(_tiling(names, units, split, rows, a_unit), all_registers=True)
        if rows * found.own * a_unit <= 4 * TILE and bytes_of(names, sizes, found, precision) <= memory:
            return found
    return None


def _with_registers(names: Names, sizes: Sizes, found: Tiling, precision: str, memory: int) -> Tiling:
    """The same with as many warps, or programs, as give each thread the registers it needs."""
    if len(names.plan.stages) > MOST_STAGES:
        found = replace(found, stages=1)
    if found.warps == 16 and registers(names, found, precision) > CROWDED:  # which leaves a thread 128
        eight = replace(found, warps=8)
        if registers(names, eight, precision) > FULL:
            eight = replace(_tiling(names, found.units, 2 * found.split, found.rows, 1), stages=found.stages)
        found = eight
    alone = 2 * bytes_of(names, sizes, found, precision) > memory or registers(names, found, precision) > CROWDED
    held_back = alone and len(names.inner) <= FEW_PRODUCTS and precision != "ieee"
    return replace(found, all_registers=held_back)


def registers(names: Names, tiling: Tiling, precision: str) -> float:
    """An estimate of what a thread holds at most: its part of the tiles of a step, and of one operand of a product.

    A product gives a warp 8 columns of 16 rows at least, which are 4 registers a thread; of tiles of 16 columns it
    gives each warp all. An operand is 16 rows of all units, which every warp reads.
    """
    least = 8 if tiling.own <= LEAST else 4
    of_tile = max(least, tiling.rows * tiling.own / (32 * tiling.warps))
    return max(tiles_at_once(names)) * of_tile + tiling.units / (4 if precision == "bf16" else 2)


def _tiling(names: Names, units: int, split: int, rows: int, head: int) -> Tiling:
    own = units // split
    if head > 1:
        return Tiling(rows, units, min(8, max(4, rows * own * head // 256)), split, 2)
    few = own < 32 or (own < 64 and len(names.inner) <= 4)
    return Tiling(rows, units, 4 if few else 8 if own < 128 else 16, split, 3 if own <= 64 else 2)


def bytes_of(names: Names, sizes: Sizes, tiling: Tiling, precision: str) -> int:
    """Shared memory of a program, about: its columns of all matrices, and packed tiles that change their layout.

    Tilings are chosen by it. The compiler may take up to 12 KiB more, and what is compiled is measured.
    """
    saved = sum(_own(names, sizes, tiling, shape) for shape in names.saved_shapes.values())
    read = (saved + 2 * tiling.own) * tiling.rows * 4
    vectors = 4 * tiling.rows * widest(names, tiling, sizes) * 4
    return _of_matrices(names, sizes, tiling, precision) + max((2 if tiling.stages > 1 else 0) * read, vectors)


def at_most(names: Names, sizes: Sizes, tiling: Tiling, precision: str) -> int:
    """Shared memory that the compiler takes for a program, at most.

    That is matrices, two steps of what is read ahead, a pack of whole vectors as an operand, and a pack of the largest
    tiles on its way to another layout.
    """
    saved = sum(_own(names, sizes, tiling, shape) for shape in names.saved_shapes.values())
    read = (saved * (2 if precision == "bf16" else 4) + tiling.own * 4) * tiling.rows if tiling.stages > 1 else 0
    several, largest = max(names.packed), max(_own(names, sizes, tiling, shape) for shape in names.spaces)
    packs = several * tiling.rows * (widest(names, tiling, sizes) + largest) * 4
    return _of_matrices(names, sizes, tiling, precision) + 2 * read + packs


def _of_matrices(names: Names, sizes: Sizes, tiling: Tiling, precision: str) -> int:
    """The bytes of a program's columns of all matrices that multiply in the loop, in the pass that has more."""

    def times(one: str, other: str) -> int:
        return sizes.padded((one,), tiling.units) * _own(names, sizes, tiling, (other,))

    shapes = [names.shape(m) for m in names.inner]
    back = [times(*(shape[::-1] if names.adds_up(m) else shape)) for m, shape in zip(names.inner, shapes, strict=True)]
    sides = [(times(columns, rows), after) for (rows, columns), after in zip(shapes, back, strict=True)]
    one_by_one = 2 * max(map(max, sides), default=0)
    at_once = max(map(sum, zip(*sides, strict=True)), default=0)
    return (one_by_one if tiling.reread == "all" else at_once) * (2 if precision == "bf16" else 4)


def _own(names: Names, sizes: Sizes, tiling: Tiling, shape: Shape) -> int:
    """A program's elements of a value, rounded up."""
    parts = 1 if names.spaces[shape].common else sizes.parts(shape, tiling.units, tiling.split)
    return sizes.padded(shape, tiling.units) // parts
