"""Choose the tiling of a kernel for a GPU: clips of a program, units, warps, programs that share units."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from cello.cells.definition import Cell
from cello.cells.graph import Shape
from cello.compiler.triton.launch import Tiling, widest
from cello.compiler.triton.names import Names, quarters_held
from cello.compiler.triton.spaces import LEAST, Sizes
from cello.compiler.triton.text import buffers_of, is_exact, names_of, scatters

MEMORY = 227 * 1024
"""Bytes of shared memory that a program may have on compute capability 9.0."""


LEAST_ROWS = 4
"""Clips of a program below which products, of 16 rows, are too much of the same for what fewer clips spare."""
TILE = 1024
"""Elements of a tile of matrices, of which a program has ten and more; up to four times as many where a head alone has
them."""
LARGEST_TILE = 16 * TILE
"""Elements of one clip in a tile above which the 65,536 registers of a program have room for too few."""
CHUNK = 8192
"""Elements of a matrix that is read piece by piece, times the clips of a program, that are there at once."""
MOST_PROGRAMS = 32
"""Programs that share the units of the same clips."""
MOST_HELD = 128
"""Registers of a thread that matrices may take where it holds its part of them."""
MANY_ROWS = 4
"""Vectors that are the same at every step, from which on they take many of a thread's registers: two each."""
MORE_CLIPS = 32
"""Clips that a program may have instead of 16."""
OF_GROUPS = 64
"""Clips from which on four warps of compute capability 9.0 multiply together, with matrices in shared memory."""
MOST_STAGES = 4
"""Stages above which a step is so long that nothing is gained by reading what it needs before it begins."""


@lru_cache(maxsize=1024)
def tiling(names: Names, sizes: Sizes, precision: str, memory: int = MEMORY, *, scatter: bool = False) -> Tiling | None:
    """The tiling for D and H where a program may have so many bytes of shared memory, or None if none fits.

    The batch is no part of it, so that no batch compiles anything anew. ``scatter``: one by which programs hand each
    other sums of what they multiply, None if none share units.
    """
    if scatter:
        found = _tiling_of(names, sizes, precision, memory, "scatter")
        return replace(found, reread="scatter") if found and found.split > 1 and not found.reread else None
    return _tiling_of(names, sizes, precision, memory, "")


def _tiling_of(names: Names, sizes: Sizes, precision: str, memory: int, reread: str) -> Tiling | None:
    units = max(LEAST, 1 << (sizes.hidden - 1).bit_length())
    head = max((sizes.sizes(shape)[1] for shape in names.heads), default=1)
    least, rows = max(LEAST, head), LEAST
    if names.in_blocks or any(sizes.sizes(shape)[1] != sizes.a_unit(shape) for shape in names.heads):
        return _of_blocks(names, sizes, units)
    if not names.heads and names.matrices:
        return _of_sized(names, sizes, units, precision, memory) or _of_blocks(names, sizes, units)

    def of(one: Tiling) -> int:
        return bytes_of(names, sizes, replace(one, reread=reread), precision)

    found, largest = _tiling(names, units, 1, rows, head), max(TILE, min(4 * TILE, least * head))
    while (
        (units >= 256 and found.own > max(32, head))
        or (head > 1 and found.rows * found.own * head > largest)
        or of(found) > memory
    ):
        wide = replace(found, stages=1)
        if head == 1 and found.own == 2 * LEAST and of(wide) <= memory < of(found):
            found = wide  # of narrower tiles every warp would compute all
        elif found.own > least:
            found = _tiling(names, units, 2 * found.split, found.rows, head)
        elif head > 1 and found.rows > 1:
            found = _tiling(names, units, found.split, found.rows // 2, head)
        elif head == 1 and found.stages > 1:
            found = wide
        elif head == 1 and found.rows > LEAST_ROWS:
            found = replace(found, rows=found.rows // 2)
        elif head > 1:
            return _of_blocks(names, sizes, units)
        else:
            return _reading_matrices(names, sizes, units, precision, memory)
    return found if head > 1 else _with_registers(names, found, precision)


def _reading_matrices(names: Names, sizes: Sizes, units: int, precision: str, memory: int) -> Tiling | None:
    """That of a cell whose matrices do not fit: they are read at every step, by as many programs as can share them."""
    split = units // LEAST
    found = replace(_tiling(names, units, split, LEAST, 1), stages=1, reread="all")
    while bytes_of(names, sizes, found, precision) > memory and found.rows > LEAST_ROWS:
        found = replace(found, rows=found.rows // 2)
    return found if split <= MOST_PROGRAMS and bytes_of(names, sizes, found, precision) <= memory else None


def tilings(
    names: Names, sizes: Sizes, precision: str, memory: int = MEMORY, way: str = "forward"
) -> tuple[Tiling, ...]:
    """``tiling`` of "forward" or "backward", and what to try where its threads keep values in memory, least costly
    first; none if none fits.

    Before it one program whose threads hold quarters of matrices, where that is less costly, or programs that hand each
    other sums of what they multiply, where those are fewer vectors. After it more registers
    where the assembler held back, nothing read ahead, more warps or fewer of more registers; then half the clips a
    program, and more programs for the same clips, which wait for each other at every step; at last, where a program has
    16 units already, few clips whose derivatives are multiplied by two gates' matrices at once.
    """
    found = tiling(names, sizes, precision, memory)
    if found is None:
        return ()
    if found.reread == "chunks" or names.in_blocks:
        return _tried_of_blocks(names, found)
    changing = bool(names.matrices)
    tried = _of_matrices_that_change(names, sizes, found) if changing else _of_vectors(names, sizes, found, precision)
    if not changing:
        quarters = _in_quarters(names, sizes, found, precision, memory)
        scattered = [] if quarters else _handing_on_sums(names, sizes, found, precision, memory, way)
        tried = [*quarters, *scattered, *tried]
    return tuple(
        each
        for n, each in enumerate(dict.fromkeys(tried))
        if n == 0 or bytes_of(names, sizes, each, precision) <= memory
    )


def _of_vectors(names: Names, sizes: Sizes, found: Tiling, precision: str) -> list[Tiling]:
    """Where all values are vectors: threads that hold matrices, or read them from shared memory; what a step reads is
    asked for by the step before, or by itself; more warps, fewer clips, and more programs."""

    def each_way(one: Tiling) -> list[Tiling]:
        words = _of_matrices(names, sizes, one, precision) / 4 / (32 * one.warps)
        held = [replace(one, reread="held")] if precision != "ieee" and words <= MOST_HELD and not one.reread else []
        ways = [*held, one]
        return [*ways, *(replace(each, stages=1) for each in ways), *_reading_rows(names, one)]

    fewer = [replace(found, rows=rows) for rows in (found.rows // 2, found.rows // 4) if rows >= LEAST_ROWS]
    tried = each_way(found)
    if found.own >= 128:
        tried += each_way(replace(found, warps=16))
    tried += [replace(each, all_registers=not each.all_registers) for each in tried[:4]]
    tried += [way for each in fewer[:1] for way in each_way(each)]
    if found.own > LEAST:
        more = _tiling(names, found.units, 2 * found.split, found.rows, 1)
        tried += each_way(replace(more, stages=found.stages, reread=found.reread))
    tried += [way for each in fewer[1:] for way in each_way(each)[-2:]]
    if found.own > LEAST:
        few = fewer if precision == "ieee" else fewer[:1]
        tried += [replace(each, split=2 * found.split, stages=1, warps=min(8, each.warps)) for each in few]
    elif precision != "ieee":  # a program has no fewer units, but may multiply fewer derivatives at once
        tried += [replace(each, stages=1, reread="packs") for each in fewer[-1:]]
    return tried


def of_more_clips(
    names: Names, sizes: Sizes, way: str, given: Tiling, precision: str, memory: int = MEMORY, *, groups: bool = False
) -> tuple[tuple[Tiling, ...], ...]:
    """What "forward" or "backward" may be divided by instead where the tiling that is ``given`` has more programs than
    run at once: more clips, as many or half the programs for them. Of each what to try, least costly first.

    64 clips only where four warps multiply together, in ``groups``: what others have instead is not known here.
    """
    first = tiling(names, sizes, precision, memory)
    if first is None or names.matrices or {given.reread, first.reread} & {"all", "chunks"}:
        return ()
    splits = sorted({given.split, first.split, max(1, first.split // 2)})
    ways = [(rows, split) for rows in ([OF_GROUPS] if groups else []) + [MORE_CLIPS, LEAST] for split in splits]
    further = [way for way in ways if way != (given.rows, given.split)]
    tried = (_by_clips(names, sizes, way, replace(first, rows=r, split=s), precision) for r, s in further)
    return tuple(each for each in tried if each and _least_bytes(names, sizes, way, each[-1], precision) <= memory)


def _by_clips(names: Names, sizes: Sizes, way: str, one: Tiling, precision: str) -> tuple[Tiling, ...]:
    """What to try for so many clips and programs: threads that hold matrices, shared memory, more warps, several
    products as one; each with what a step reads asked for before or in it."""
    one = replace(one, warps=8 if one.own > LEAST else 4, all_registers=True, reread="")
    words = _of_matrices(names, sizes, one, precision) / 4 / (32 * one.warps)
    handed_on = one.split > 1 and scatters(sizes.cell, way, cluster=True) and not is_exact(precision)
    tried = [replace(one, reread="scatter")] if handed_on else []
    tried += [replace(one, reread="held")] if words <= MOST_HELD / 2 and one.rows < OF_GROUPS else []
    tried += [one, *([replace(one, warps=16)] if one.own >= 128 else []), replace(one, reread="packs")]
    tried = [each for each in tried if _shared_out(names, sizes, way, each)]
    ahead = [] if len(names.plan.stages) > MOST_STAGES else [replace(each, stages=2) for each in tried]
    return (*ahead, *(replace(each, stages=1) for each in tried))


def _least_bytes(names: Names, sizes: Sizes, way: str, tiling: Tiling, precision: str) -> int:
    """Shared memory of a program of a pass, at least: matrices, and one operand."""
    several = max((len(nodes) for groups in names.groups.values() for nodes, _ in groups), default=1)
    of_one = (
        tiling.own if way == "backward" and scatters(sizes.cell, way, cluster=True) else widest(names, tiling, sizes)
    )
    elements = (min(2, several) if way == "backward" else 1) * tiling.rows * of_one
    return _of_matrices(names, sizes, tiling, precision) + elements * (2 if precision == "bf16" else 4)


def _shared_out(names: Names, sizes: Sizes, way: str, tiling: Tiling) -> bool:
    """Whether the warps of a program share out the columns of its products: where there is one, or more columns than
    clips, or those of all units."""
    names, forward = replace(names, reread=tiling.reread), way == "forward"
    if names.scattered:
        return True
    vectors = [v for v in names.plan.vectors if not names.is_frame(v)]
    if forward:
        groups = [tuple(m for _, m in pack) for v in vectors for pack in names.sliced(v)]
        groups += [(m,) for m in names.inner if not any(m in group for group in groups)]
    else:
        groups = list(dict.fromkeys(matrices for v in vectors for _, matrices in names.groups[v]))
    several = [(names.sides(group[0]), len(group)) for group in groups]
    several = [(sides, count) for sides, count in several if not any(side.once for side in sides)]
    columns = [(sides[0], count) if forward else (sides[1], 1) for sides, count in several]
    return len(several) < 2 or all(_own(names, sizes, tiling, one.shape) * n > tiling.rows for one, n in columns)


def _in_quarters(names: Names, sizes: Sizes, found: Tiling, precision: str, memory: int) -> list[Tiling]:
    """Where matrices of H by H in tf32 are too many for registers: threads hold some quarters of them, and the others
    are read from shared memory. One program then has room for what two would share, and waits for none; and one that
    has room anyway reads less. A program has a quarter of a vector's elements in registers alone where a warp has
    several products of 8 columns."""
    one = _tiling(names, found.units, 1, found.rows, 1)
    a_quarter = found.units * found.units  # bytes
    most = MOST_HELD * 4 * 32 * one.warps // a_quarter
    too_many = 4 * len(names.square) > most and not found.reread
    if precision != "tf32" or not too_many or found.split > 2 or one.own < 2 * 8 * one.warps:
        return []
    ways = [replace(one, reread=f"held {n}") for n in range(1, most + 1)]
    fits = [n for n, way in enumerate(ways, 1) if bytes_of(names, sizes, way, precision) <= memory]
    if not fits:
        return []
    least = fits[0]
    wanted = {most - 1, least, least + 1} if found.split > 1 else {most - 1, most // 2, least}
    held = [ways[n - 1] for n in sorted(wanted & {*fits}, reverse=True) if n >= most // 2 or found.split > 1]
    return [*held, *(replace(each, stages=1) for each in held if found.split > 1)]


def _handing_on_sums(names: Names, sizes: Sizes, found: Tiling, precision: str, memory: int, way: str) -> list[Tiling]:
    """Where programs share units anyway: by handing on sums of what they multiply, if those are fewer vectors."""
    if found.split == 1 or is_exact(precision) or not scatters(sizes.cell, way, cluster=True):
        return []
    first = tiling(names, sizes, precision, memory, scatter=True)
    if first is None:
        return []
    fewer = [replace(first, rows=first.rows // 2, stages=1)] if first.rows > LEAST_ROWS else []
    return [first, replace(first, stages=1), *fewer]


def _of_matrices_that_change(names: Names, sizes: Sizes, found: Tiling) -> list[Tiling]:
    """Where some are matrices."""
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
    return tried


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


def _of_blocks(names: Names, sizes: Sizes, units: int) -> Tiling | None:
    """That of a cell that makes matrices of vectors or multiplies them, or has heads of odd sizes or too many elements:
    one clip a program, or as many as keep tiles small."""
    most = max(sizes.padded(shape, units) for shape in names.spaces)
    if most > LARGEST_TILE:
        return None
    rows = LEAST
    while rows > 1 and rows * most > 4 * TILE:
        rows //= 2
    reread = "" if names.in_blocks else "chunks"
    return Tiling(rows, units, 4 if rows * most <= TILE else 8, 1, 1, all_registers=True, reread=reread)


def _tried_of_blocks(names: Names, found: Tiling) -> tuple[Tiling, ...]:
    """That and what to try beside it: what stays the same read at every step and derivatives added up in memory, twice
    the warps, half the clips, or a quarter."""
    tried = [found]
    if not found.reread:
        tried.append(replace(found, reread="rows"))
    if found.warps < 16:
        tried += [replace(each, warps=2 * each.warps) for each in tried]
    fewer = [replace(each, rows=found.rows // n) for n in (2, 4) if found.rows >= n for each in tried[:2]]
    return (*tried, *fewer)


def _with_registers(names: Names, found: Tiling, precision: str) -> Tiling:
    """The same with nothing read ahead where a step is so long that it need not be; the assembler, told that it may use
    all registers, keeps more in memory of multiply-adds in IEEE float32."""
    stages = 1 if len(names.plan.stages) > MOST_STAGES else found.stages
    return replace(found, stages=stages, all_registers=precision != "ieee")


def _tiling(names: Names, units: int, split: int, rows: int, head: int) -> Tiling:
    own = units // split
    if head > 1:
        return Tiling(rows, units, min(8, max(4, rows * own * head // 256)), split, 2)
    if names.matrices:
        few = own < 32 or (own < 64 and len(names.inner) <= 4)
        return Tiling(rows, units, 4 if few else 8 if own < 128 else 16, split, 3 if own <= 64 else 2)
    return Tiling(rows, units, min(8, own // 8), split, 2, all_registers=True)  # a product gives a warp 8 columns


def bytes_of(names: Names, sizes: Sizes, tiling: Tiling, precision: str) -> int:
    """Shared memory of a program, about: its columns of all matrices, and packed tiles that change their layout.

    Tilings are chosen by it. The compiler may take up to 12 KiB more, and what is compiled is measured.
    """
    if names.in_blocks:
        return _of_largest(names, sizes, tiling)
    if not names.matrices:
        vectors = 1 if quarters_held(tiling.reread) or names.taken_apart else max(names.packed)
        several = min(vectors, 2 if tiling.reread == "packs" else 4)
        elements = tiling.own if tiling.reread == "scatter" else widest(names, tiling, sizes)
        operands = several * tiling.rows * elements * (2 if precision == "bf16" else 4)
        return _of_matrices(names, sizes, tiling, precision) + operands
    saved = sum(_own(names, sizes, tiling, shape) for shape in names.saved_shapes.values())
    read = (saved + 2 * tiling.own) * tiling.rows * 4
    vectors = 4 * tiling.rows * widest(names, tiling, sizes) * 4
    return _of_matrices(names, sizes, tiling, precision) + max((2 if tiling.stages > 1 else 0) * read, vectors)


def bytes_left(cell: Cell, way: str, sizes: Sizes, tiling: Tiling, precision: str) -> int:
    """Shared memory in which a program of a cluster is left vectors by the others, those of two meetings."""
    names, left = names_of(cell), buffers_of(cell, way, tiling.reread, exact=is_exact(precision))
    return 8 * left.slots * left.words * tiling.rows * widest(names, tiling, sizes) if tiling.cluster else 0


def at_most(names: Names, sizes: Sizes, tiling: Tiling, precision: str) -> int:
    """Shared memory that the compiler takes for a program, at most.

    That is matrices, two steps of what is read ahead where some change, a pack of whole vectors as an operand, and a
    pack of the largest tiles on its way to another layout.
    """
    if names.in_blocks:
        return _of_largest(names, sizes, tiling)
    saved = sum(_own(names, sizes, tiling, shape) for shape in names.saved_shapes.values())
    ahead = tiling.stages > 1 and bool(names.matrices)
    halved = precision == "bf16" and not names.digits.all
    read = (saved * (2 if halved else 4) + tiling.own * 4) * tiling.rows if ahead else 0
    several = min(max(names.packed), 2 if tiling.reread == "packs" else 4)
    largest = max(_own(names, sizes, tiling, shape) for shape in names.spaces)
    packs = several * tiling.rows * (widest(names, tiling, sizes) + largest) * 4
    return _of_matrices(names, sizes, tiling, precision) + 2 * read + packs


def _of_largest(names: Names, sizes: Sizes, tiling: Tiling) -> int:
    """The bytes of two of the largest tiles on their way to another layout, where no matrix stays in shared memory."""
    return 8 * max(CHUNK, tiling.rows * max(_own(names, sizes, tiling, shape) for shape in names.spaces))


def _of_matrices(names: Names, sizes: Sizes, tiling: Tiling, precision: str) -> int:
    """The bytes of a program's columns of all matrices that multiply in the loop, in the pass that has more."""

    def times(one: str, other: str) -> int:
        return sizes.padded((one,), tiling.units) * _own(names, sizes, tiling, (other,))

    shapes = [names.shape(m) for m in names.inner]
    back = [times(*(shape[::-1] if names.adds_up(m) else shape)) for m, shape in zip(names.inner, shapes, strict=True)]
    sides = [(times(columns, rows), after) for (rows, columns), after in zip(shapes, back, strict=True)]
    one_by_one = 2 * max(map(max, sides), default=0)
    held = quarters_held(tiling.reread) * tiling.units * tiling.own // 4
    at_once = max(map(sum, zip(*sides, strict=True)), default=0) - held
    return (one_by_one if tiling.reread == "all" else at_once) * (2 if precision == "bf16" else 4)


def _own(names: Names, sizes: Sizes, tiling: Tiling, shape: Shape) -> int:
    """A program's elements of a value, rounded up."""
    parts = 1 if names.spaces[shape].common else sizes.parts(shape, tiling.units, tiling.split)
    return sizes.padded(shape, tiling.units) // parts
