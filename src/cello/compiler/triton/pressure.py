"""Estimate how many registers a thread of a kernel needs: the tiles that a step holds at once, read from its text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from cello.compiler.triton.backward import backward
from cello.compiler.triton.forward import forward
from cello.compiler.triton.names import Names
from cello.compiler.triton.schedule import parts

MAKES_TILES = re.compile(r"load_tile|load_row|tl\.full|deinterleave")
STEP = "for "
LAST = "tl.where(running[:, None]"


@lru_cache(maxsize=256)
def tiles_at_once(names: Names) -> tuple[float, float]:
    """How many tiles a step of forward and of backward holds at once, at most; one row for all clips is half a tile."""
    return _most(forward(names)), _most(backward(names))


def _most(text: Iterable[str]) -> float:
    lines = [line.strip() for line in text if not line.lstrip().startswith(("#", "@", "def"))]
    begin = next(n for n, line in enumerate(lines) if line.startswith(STEP))
    end = max(n for n, line in enumerate(lines) if LAST in line) + 1
    before, step = [*map(parts, lines[:begin])], [*map(parts, lines[begin + 1 : end])]
    tiles = _tiles([*zip(before, lines[:begin], strict=True), *zip(step, lines[begin + 1 : end], strict=True)])
    read = {name for _, used in step for name in used}
    carried = {name for set_, _ in before for name in set_} & tiles & read
    alive, most = set(carried), 0.0
    for set_, used in reversed(step):
        alive = (alive - (set_ - carried)) | (used & tiles)
        most = max(most, sum(0.5 if name.endswith("_row") else 1.0 for name in alive))
    return most


def _tiles(lines: Iterable[tuple[tuple[set[str], set[str]], str]]) -> set[str]:
    """The variables that are tiles of values, no matrices, which lie in shared memory."""
    tiles = set[str]()
    for (set_, used), line in lines:
        if MAKES_TILES.search(line) or used & tiles:
            tiles |= {name for name in set_ if not name.endswith("_tile")}
    return tiles
