"""Write how a vector comes to its products: gathered from the programs that share it, multiplied in slices."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cello.compiler.step_names import indented
from cello.compiler.triton.names import Names
from cello.compiler.triton.spaces import Key, Space, extent


@dataclass(frozen=True)
class Gathered:
    """How every program of some clips comes to all elements of vectors: lines after which each has left its part to the
    others, and for each vector the line that takes it, best right before its products, so that registers hold one."""

    left: list[str]
    taken: dict[str, str]

    @property
    def lines(self) -> list[str]:
        return [*self.left, *self.taken.values()]


LEFT = re.compile(r"store_part\(others \+ (\d+) \* SLOT, .*, (\d+), (?:[^,]*, ){4}SPLIT, PRECISION, (True|False), ")
"""A part of a vector that is left to others: in which slot, how many tiles, and whether it is only multiplied."""
EXACT = re.compile(r"others \+ (\d+) \* SLOT(?=, .* PRECISION, False, CLUSTER, meeting\))")
"""Where one is left or taken that is not only multiplied, whose elements have 64 bits."""
COUNT = re.compile(r"store_part\(.*\* SLOT, .*, (\d+), (?:[^,]*, ){4}SPLIT, PRECISION, (?:True|False), ")
SLOTS = re.compile(r"SLOTS: tl\.constexpr = (\d+)")
TWICE = " * (2 if CLUSTER else 1)"


def all_gather(
    names: Names,
    vectors: Mapping[str, tuple[str, int, Space]],
    slots: Sequence[int],
    multiplied: Container[str] = (),
) -> Gathered:
    """Gather vectors, each a value, its tiles and their space, in slots of the memory that programs share.

    Of those that are only ``multiplied``, what products do not read of an element may be lost.
    """
    left, taken, everyone = list[str](), dict[str, str](), False
    for slot, (name, (value, count, here)) in zip(slots, vectors.items(), strict=True):
        if here.common:
            taken[name] = f"{name} = {value if here.once else f'masked({value}, {count}, {here.elements})'}"
            continue
        place, how = f"others + {slot} * SLOT", f"SPLIT, PRECISION, {name in multiplied and not names.exact}, CLUSTER"
        sizes, all_sizes = f"{here.units}, {here.own}", f"{count}, {here.elements}"
        left.append(f"store_part({place}, {value}, {here.part}, {all_sizes}, {sizes}, ROWS, {how}, meeting)")
        taken[name] = f"{name} = whole({place}, {value}, {all_sizes}, {here.units}, ROWS, {how}, meeting)"
        everyone |= here.part == "part"
    if not left:
        return Gathered(left, taken)
    apart = ["meeting += 1", *left, "meet()"]
    if not everyone:  # several programs have the same part, and nobody would wait for each of them
        free = max(slot + count for slot, (_, count, _) in zip(slots, vectors.values(), strict=True))
        place = f"others + {free} * SLOT"
        how = "SPLIT, PRECISION, False, CLUSTER, meeting)"
        there = f"store_part({place}, tl.full((ROWS, 1), 0.0, tl.float32), part, 1, SPLIT, SPLIT, 1, ROWS, {how}"
        apart = [*apart[:-1], there, "meet()", f"_there = whole({place}, 0.0, 1, SPLIT, SPLIT, ROWS, {how}"]
    others = f"others = meeting_place(workspace, buffers, group, meeting, {names.left}, SLOTS, SLOT, CLUSTER)"
    return Gathered([others, "if SPLIT > 1:", *indented(apart)], taken)


OF_SUMS = "leave_sums("
"""Where a program leaves to each other what it has found of the sums for that one's units of a vector."""


def reduce_scatter(names: Names, shares: Mapping[str, str], first: int) -> list[str]:
    """Lines that add to values what all programs have found for this program's units, each its share of a sum for all
    units; ``first`` sums were left so before."""
    places = {total: f"place_of_{total}" for total in shares}
    memory, how = "SPLIT, SLOTS, SLOT, CLUSTER", "part, ROWS, OWN, SPLIT, CLUSTER, meeting, back)"
    numbered = ((number, places[total]) for number, total in enumerate(shares, first))
    return [
        *(
            f"{place} = place_of_sums(workspace, buffers, group, back, {number}, {names.left}, {names.slots}, {memory})"
            for number, place in numbered
        ),
        "if SPLIT > 1:",
        "    meeting += 1",
        *(f"    {OF_SUMS}{places[total]}, {share}, {how}" for total, share in shares.items()),
        "    meet()",
        *(f"{total} = {total} + sums_of_all({places[total]}, {share}, {how}" for total, share in shares.items()),
    ]


@dataclass(frozen=True)
class Buffers:
    """The slots of vectors that a pass leaves to other programs at once, and of sums; the words of an element in each,
    the vectors that are left in a step, and those of them of which sums are."""

    slots: int
    words: int
    vectors: int
    sums: int


def buffers(lines: Iterable[str]) -> Buffers:
    """Those of the lines of a pass; none if its programs leave each other nothing."""
    text = [*lines]
    slots = [int(found[1]) for found in map(SLOTS.search, text) if found]
    counts = [int(found[1]) for found in map(COUNT.search, text) if found]
    sums = sum(OF_SUMS in line for line in text)
    words = 2 if any(line.endswith(TWICE) for line in text) else 1
    return Buffers(max(slots, default=0), words, sum(counts) + sums, sums)


def within_cluster(lines: Sequence[str]) -> list[str]:
    """A pass, of which only the end is missing, between the begin of all programs of its cluster and their end.

    Elements of 64 bits lie behind words of 32 bits that are only multiplied: any bits of a sum could be the number that
    such a word is waited for by. What programs leave of sums lies behind both.
    """
    found = [each for each in map(LEFT.search, lines) if each]
    ends = {kind: [int(each[1]) + int(each[2]) for each in found if each[3] == kind] for kind in ("True", "False")}
    words, exact = (max(ends[kind], default=0) for kind in ("True", "False"))
    sums, twice = sum(OF_SUMS in line for line in lines), ""
    if exact and (words or sums):
        lines = [EXACT.sub(rf"others + ({words} + 2 * \1 if CLUSTER else \1) * SLOT", line) for line in lines]
        slots = words + 2 * exact + sums
    else:
        slots, twice = words + exact + sums, TWICE if exact else ""
    if not slots:
        return [*lines]
    begin = [
        f"SLOTS: tl.constexpr = {slots}",
        f"SLOT: tl.constexpr = ROWS * WIDEST{twice}",
        "buffers = join_cluster(SLOTS, SLOT, SPLIT, CLUSTER)",
    ]
    return [*begin, *lines, "leave_cluster(CLUSTER)"]


def exact_products(into: Sequence[str], totals: Iterable[str], whole: str, slices: Iterable[str]) -> str:
    """The line that adds to totals the products of one vector with several matrices, slice by slice."""
    found = f"exact_products(({', '.join(totals)},), {whole}, ({', '.join(slices)},))"
    return f"{', '.join(into)} = {found}{'' if len(into) > 1 else '[0]'}"


def inner_place(names: Names, matrix: int) -> str:
    """Where a matrix that multiplies in the loop begins."""
    pairs = [" * ".join(side.elements for side in names.sides(m)) for m in names.inner]
    first = names.inner.index(matrix)
    return f"weights + replicate * {extent(Counter(pairs))} + {extent(Counter(pairs[:first]))}"


def product_in_parts(names: Names, whole: str, matrix: int, *, transposed: bool) -> str:
    """A vector times a matrix, or times its transpose, that is read piece by piece."""
    given, found, strides = _multiplied(names, matrix, transposed=transposed)
    sizes = f"{given.elements}, {found.elements}, {found.own}, {strides}"
    return f"product_in_parts(scratch, HALF, {whole}, {inner_place(names, matrix)}, {sizes})"


def _multiplied(names: Names, matrix: int, *, transposed: bool) -> tuple[Space, Space, str]:
    """The spaces of the vector that a matrix, or its transpose, multiplies and of the product, and the strides of the
    matrix along both."""
    rows, columns = names.sides(matrix)
    return (rows, columns, f"{columns.elements}, 1") if transposed else (columns, rows, f"1, {columns.elements}")


def load_quarter(names: Names, matrix: int, number: int, *, transposed: bool) -> str:
    """The line that loads some rows of a matrix, or of its transpose, as a tile of its own."""
    given, found, strides = _multiplied(names, matrix, transposed=transposed)
    where = f"{inner_place(names, matrix)}, {found.part}, {strides}, {number}"
    sizes = f"{given.elements}, {found.elements}, {given.units}, {found.own}"
    return f"{names.of[matrix]}_tile{number} = load_quarter({where}, {sizes}, PRECISION)"


def quarters_of(whole: str) -> str:
    """The line that takes a vector apart for its products."""
    return f"{whole.removesuffix('_whole')}_quarters = quarters_of({whole})"


def products_in_quarters(names: Names, totals: Sequence[str], whole: str, matrices: Sequence[int]) -> str:
    """The line that adds to totals the products of one vector with several matrices, quarter by quarter."""
    tiles = (f"({', '.join(f'{names.of[m]}_tile{n}' for n in range(4))})" for m in matrices)
    quarters = f"{whole.removesuffix('_whole')}_quarters"
    found = f"products_in_quarters(({', '.join(totals)},), {quarters}, ({', '.join(tiles)},), PRECISION)"
    return f"{', '.join(totals)} = {found}{'' if len(totals) > 1 else '[0]'}"


def different(groups: Sequence[tuple[Sequence[str], Key]]) -> list[tuple[Sequence[str], Key]]:
    """As many of these as have no variable of an earlier one."""
    found, known = list[tuple[Sequence[str], Key]](), set[str]()
    for variables, what in groups:
        if known & {*variables}:
            break
        known |= {*variables}
        found.append((variables, what))
    return found
