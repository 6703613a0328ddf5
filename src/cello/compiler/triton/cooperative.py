"""Launch programs that wait for each other so that all of a launch run at the same time, whatever else the GPU does.

Programs that share the units of the same clips wait for each other at every step. Launched plainly while kernels of
other streams run, each kernel could be there in part and wait for ever. A cooperative launch begins when all of its
programs have a place, or is refused; so a grid of more than that becomes several launches.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from cello.compiler.triton import clusters
from cello.errors import BackendError

VARIABLE = "CELLO_COOPERATIVE_LAUNCH"
"""The environment variable that, as 0, has them launched plainly, all at once."""
TOO_MANY, NOT_SUPPORTED = "too many blocks in cooperative launch", "operation not supported"
"""What CUDA says where it has no such launch of so many programs, or none at all."""
OPTION = "launch_cooperative_grid"
"""Triton's, since 3.3."""
REGISTERS, WARPS_BESIDE = 1 << 14, 4
"""Those of each of four parts of a multiprocessor of compute capability 7.5 to 12.1, to which warps are dealt out."""
RESERVED, GRANULE = 1024, 128
"""Bytes of shared memory that each program takes beside its own (from 8.0 on), and to whose multiple that is rounded
up."""


class CrowdedError(BackendError):
    """There is no room for all programs of a cooperative launch at the same time."""


class Multiprocessor(NamedTuple):
    """Threads and bytes of shared memory that all programs on it have together."""

    threads: int
    shared: int


class Part(NamedTuple):
    """What one launch computes: so many replicates, and of each of them so many tiles of clips, from which on."""

    replicate: int
    replicates: int
    tile: int
    tiles: int

    @property
    def of_replicates(self) -> slice:
        return slice(self.replicate, self.replicate + self.replicates)


def cooperative(split: int, *, waits: bool, cluster: bool = False) -> bool:
    """Whether programs, of which so many share clips and may wait for each other, are to be launched cooperatively;
    those of a cluster run at the same time by themselves."""
    return waits and split > 1 and not cluster and os.environ.get(VARIABLE) != "0"


def launch_options(split: int, *, waits: bool, cluster: bool = False) -> dict[str, bool]:
    """How Triton is to launch them."""
    return {OPTION: True} if cooperative(split, waits=waits, cluster=cluster) else {}


def programs_beside(registers: int, shared: int, warps: int, there: Multiprocessor) -> int:
    """How many programs a multiprocessor runs at once, of threads with so many registers and so much shared memory."""
    of_warp = -(-registers * 32 // 256) * 256
    by_registers = REGISTERS // of_warp * WARPS_BESIDE // warps
    by_memory = there.shared // (-(-(shared + RESERVED) // GRANULE) * GRANULE)
    return max(1, min(by_registers, by_memory, there.threads // (32 * warps)))


def parts(replicates: int, tiles: int, split: int, at_once: int | None) -> list[Part]:
    """The launches of all tiles of all replicates, of which as many programs run ``at_once``, all if None.

    >>> parts(3, 2, 8, 32)
    [Part(replicate=0, replicates=2, tile=0, tiles=2), Part(replicate=2, replicates=1, tile=0, tiles=2)]
    """
    if at_once is None or replicates * tiles * split <= at_once:
        return [Part(0, replicates, 0, tiles)]
    teams = max(1, at_once // split)
    if tiles <= teams:
        each = teams // tiles
        return [Part(r, min(each, replicates - r), 0, tiles) for r in range(0, replicates, each)]
    firsts = range(0, tiles, teams)
    return [Part(r, 1, t, min(teams, tiles - t)) for r in range(replicates) for t in firsts]


def aligned(part: Tensor) -> Tensor:
    """The same at an address that kernels are compiled for, a multiple of 16 bytes; only read, it may be a copy."""
    return part if part.data_ptr() % 16 == 0 else part.clone()


def of_whole_tiles(values: Tensor, rows: int) -> Tensor:
    """(R, B) values of clips with the last of them repeated until ``rows`` divides their number.

    A launch of a part cannot know where the clips end; it computes the last one several times.
    """
    missing = -values.shape[1] % rows
    return torch.cat([values, values[:, -1:].expand(-1, missing)], 1) if missing else values


@contextmanager
def told_if_refused(what: str, programs: int, split: int, *, waits: bool, cluster: bool = False) -> Iterator[None]:
    """Say what cannot be launched, and what to do, where the driver refuses a cooperative launch, or clusters.

    Raises:
        CrowdedError: it has no room for so many programs.
        BackendError: it has no such launches.
    """
    try:
        yield
    except RuntimeError as error:
        if cluster and (said := next((each for each in clusters.REFUSED if each in str(error)), None)):
            raise BackendError(
                f"the GPU's driver refuses to launch the {what} in clusters of {split} programs ({said}). Set "
                f"{clusters.VARIABLE}=0, which has them wait for each other in the GPU's memory"
            ) from error
        said = next((reason for reason in (TOO_MANY, NOT_SUPPORTED) if reason in str(error)), None)
        if said is None or not cooperative(split, waits=waits, cluster=cluster):
            raise
        raise (CrowdedError if said == TOO_MANY else BackendError)(
            f"the GPU's driver refuses a cooperative launch of the {what}, {programs} programs of which {split} each "
            f'wait for each other ({said}). Take fewer units or backend="plain", or set {VARIABLE}=0, which launches '
            "them plainly: then run no other kernels on that GPU at the same time"
        ) from error
