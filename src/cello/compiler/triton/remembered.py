"""Remember on disk which tiling of a kernel was chosen, so that another process compiles that one alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from cello.cells.definition import Cell
from cello.compiler.triton.launch import Tiling, options
from cello.compiler.triton.text import is_exact, matrices_text, names_of, own_text, runtime_text
from cello.errors import BackendError
from cello.files import DamagedFileError, decode_json, read_stored, seal_json, write_whole
from cello.native.cache import kernel_folder, make_private

LARGEST = 1 << 12
"""Bytes of the largest file that is read."""


class Choice(msgspec.Struct, frozen=True):
    """Which of the tilings of a kernel, and what it takes."""

    number: int
    registers: int
    spilled: int
    shared: int


def key_of(
    cell: Cell, tilings: Sequence[Tiling], given: Sequence[Mapping[str, Any]], precision: str, *further: object
) -> str:
    """A hash of all that machine code follows from: texts, what each tiling is compiled for and how, and what else."""
    exact = is_exact(precision)
    texts = [own_text(cell, reread, exact=exact) for reread in dict.fromkeys(each.reread for each in tilings)]
    each = [repr((tiling, sorted(one.items()), options(tiling))) for tiling, one in zip(tilings, given, strict=True)]
    in_blocks = any(names_of(cell, each.reread).in_blocks for each in tilings)
    shared = [runtime_text(interpreted=False), *([matrices_text()] if in_blocks else [])]
    whole = "\n".join([*shared, *texts, *each, repr((precision, *further))])
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def remembered(key: str) -> Choice | None:
    """What was chosen; None if nothing was, or the file is not as it was written."""
    try:
        return decode_json(read_stored(_file(key), LARGEST), Choice)
    except (OSError, DamagedFileError, BackendError):
        return None


def remember(key: str, choice: Choice) -> None:
    """Write what was chosen, if there is a folder for it; it is compiled anew otherwise."""
    with suppress(OSError, BackendError):
        file = _file(key)
        make_private(file.parent)
        write_whole(file, seal_json(msgspec.json.encode(choice)))


def _file(key: str) -> Path:
    return kernel_folder() / "tilings" / f"{key}.json"
