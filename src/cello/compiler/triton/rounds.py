"""Choose how many clips a program has by how many rounds of programs a call makes on a GPU."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

from cello.cells.definition import Cell
from cello.cells.graph import Shape
from cello.compiler.triton.choice import first_that_fits, ways_of_meeting
from cello.compiler.triton.cooperative import Multiprocessor, parts, programs_beside
from cello.compiler.triton.launch import Tiling
from cello.compiler.triton.machine_code import Taken
from cello.compiler.triton.names import Names
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import buffers_of, laid_out, meetings, names_of
from cello.compiler.triton.tiling import OF_GROUPS, of_more_clips

ALONE, MEETING, OF_CLUSTER = 500, 2000, 600
"""Cycles of a step that pass whatever a program computes: its own latencies, and those of elements that go from one
program to another, through memory or within a cluster."""
MULTIPLIED = {"bf16": 1300, "tf32": 650}
"""Products of numbers in a cycle of a multiprocessor, by instructions of single warps of its tensor cores."""
OF_GROUPS_MORE = 1.6
"""How many times that by instructions of four warps, each of which reads a quarter of the vectors."""
WITH_GROUPS = (90,)
"""Compute capabilities that have these, and whose compiled kernels can be run without a GPU."""
SHARED_IN_A_CYCLE = 128
"""Bytes of shared memory that its warps read in a cycle: each all of a vector, and its columns of matrices."""
OF_A_STEP, OF_A_VALUE = 12.0, {"forward": 2.2, "backward": 3.2}
"""Instructions of a thread for each element of a tile, and for each value that is computed, read or written of it."""
IN_A_CYCLE = 4 * 32
"""Instructions of threads in a cycle of a multiprocessor."""
BYTES_LEFT, OF_A_WORD = 8, 4
"""Those of an element that one program leaves to another in memory, and of a word of a cluster's. An element of a sum
is left to one program alone, which costs as much once more."""
BYTES_IN_A_CYCLE, SENT_IN_A_CYCLE = 24, 12
"""Bytes of these that a multiprocessor reads in a cycle, if all read at the same time; and that others send it in a
cluster."""
WORTH = 0.95
"""The share of the time that another tiling has to stay below to be worth compiling."""


class Gpu(NamedTuple):
    """The kind of a GPU: compute capability, bytes of shared memory that a program may have, multiprocessors, and what
    each of them has."""

    capability: int
    memory: int
    multiprocessors: int
    each: Multiprocessor

    def beside(self, tiling: Tiling, taken: Taken | None) -> int:
        """Programs that a multiprocessor runs at the same time; one if nothing is known of them."""
        if taken is None:
            return 1
        return programs_beside(taken.registers, taken.shared, tiling.warps, self.each)


@lru_cache(maxsize=1024)
def of_batch(
    cell: Cell,
    way: str,
    sizes: Sizes,
    precision: str,
    gpu: Gpu,
    clips: tuple[int, int],
    given: tuple[Tiling, Taken | None],
) -> tuple[Tiling, Taken | None]:
    """The tiling of "forward" or "backward" for so many replicates of so many clips, and what its kernel takes: the one
    that is ``given``, or of those with more clips a program, or fewer programs for them, the one of least time.
    Of as many clips and programs, clusters are tried before those that wait for each other in memory, and first those
    that hand on sums of what they multiply.

    Nothing is compiled where all programs run at once, nor what would not be faster by the model. In IEEE float32 there
    is nothing to gain: a thread multiplies for one clip at a time. The choice follows from these numbers alone, so that
    the same call gives the same bits.
    """
    names = laid_out(cell, given[0].reread)

    def cycles(tiling: Tiling, taken: Taken | None) -> float:
        return _cycles(cell, way, sizes, precision, tiling, gpu.multiprocessors, gpu.beside(tiling, taken), clips)

    if precision not in MULTIPLIED or _rounds(given[0], gpu.multiprocessors * gpu.beside(*given), clips) == 1:
        return given
    most = WORTH * cycles(*given)
    in_groups = gpu.capability in WITH_GROUPS
    others = of_more_clips(names, sizes, way, given[0], precision, gpu.memory, groups=in_groups)
    groups = list[tuple[Tiling, ...]]()
    for group in (each for each in others if each[0].split <= gpu.multiprocessors):
        met = [one for each in group for one in ways_of_meeting(cell, way, each, sizes, precision, *gpu[:2])]
        faster = (one for one in met if cycles(one, None) < most)
        groups.append(tuple(sorted(faster, key=lambda one: (not one.cluster, one.reread != "scatter"))))
    for group in sorted(filter(None, groups), key=lambda group: min(cycles(one, None) for one in group)):
        found = first_that_fits(cell, way, group, sizes, precision, gpu.capability, gpu.memory)
        if found is not None and cycles(*found) < most:
            return found
    return given


def _rounds(tiling: Tiling, at_once: int, clips: tuple[int, int]) -> int:
    """How often after each other as many programs run as run at once."""
    replicates, batch = clips
    tiles = -(-batch // tiling.rows)
    if tiling.split > 1 and not tiling.cluster:
        return len(parts(replicates, tiles, tiling.split, at_once))
    if tiling.cluster:
        return -(-replicates * tiles // max(1, at_once // tiling.split))
    return -(-replicates * tiles // at_once)


def _cycles(
    cell: Cell,
    way: str,
    sizes: Sizes,
    precision: str,
    tiling: Tiling,
    multiprocessors: int,
    beside: int,
    clips: tuple[int, int],
) -> float:
    """About the cycles of a step, of all rounds."""
    rounds = _rounds(tiling, multiprocessors * beside, clips)
    programs = clips[0] * -(-clips[1] // tiling.rows) * tiling.split
    beside = min(beside, -(-programs // (rounds * multiprocessors)))
    busy, waiting = _of_a_program(cell, way, sizes, precision, tiling)
    return rounds * max(waiting + busy, beside * busy)


def _of_a_program(cell: Cell, way: str, sizes: Sizes, precision: str, tiling: Tiling) -> tuple[float, float]:
    """About the cycles of a step that a program keeps a multiprocessor busy for, and those that it waits."""
    names, size = names_of(cell, tiling.reread), 2 if precision == "bf16" else 4
    matrices = sum(prod(sizes.sizes(names.shape(m))) for m in names.inner) / tiling.split
    held = sum(prod(sizes.sizes(names.shape(m))) * sum(each) / 4 for m, each in names.quarters.items()) / tiling.split
    gathered, own = (tiling.rows * sizes.total(each) for each in _multiplied(names, way))
    operands = gathered + own / tiling.split
    values = 2 * len(names.plan.sums) + sum(len(s.pointwise) + len(s.reductions) for s in names.plan.stages)
    values += len(names.saved_shapes) + 1
    busy = tiling.rows * tiling.own * (OF_A_STEP + OF_A_VALUE[way] * values) / IN_A_CYCLE
    in_groups = tiling.rows >= OF_GROUPS
    busy += tiling.rows * matrices / MULTIPLIED[precision] / (OF_GROUPS_MORE if in_groups else 1)
    readers = tiling.warps / (4 if in_groups else 1)
    busy += size * (readers * operands + (0 if names.all_held else matrices - held)) / SHARED_IN_A_CYCLE
    if tiling.split == 1:
        return busy, ALONE
    met = meetings(cell, way, tiling.reread)
    left = buffers_of(cell, way, tiling.reread)
    sums = tiling.rows * sizes.hidden * left.sums
    if tiling.cluster:
        words = gathered * left.words + sums
        return busy + words * OF_A_WORD / SENT_IN_A_CYCLE, ALONE + OF_CLUSTER * met
    return busy + (gathered + 2 * sums) * BYTES_LEFT / BYTES_IN_A_CYCLE, ALONE + MEETING * met


def _multiplied(names: Names, way: str) -> tuple[list[Shape], list[Shape]]:
    """The vectors that are multiplied in a step: of forward, and derivatives of sums of backward; those that programs
    hand to each other, and those of which each multiplies its own elements."""
    if way == "forward":
        return [names.shape(v) for v in names.plan.vectors if not names.is_frame(v)], []
    every = {nodes for each in names.groups.values() for nodes, _ in each}
    gathered = [names.shape(k) for nodes in every - names.scattered for k in nodes]
    return gathered, [names.shape(k) for nodes in names.scattered for k in nodes]
