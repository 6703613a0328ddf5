"""The ``predictions.npz`` of many runs, read fast: zip's directory is followed here, and nothing is unpacked twice."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

Array = NDArray[Any]
_END, _ENTRY, _LOCAL = struct.Struct("<4s4H2IH"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s5H3I2H")
STORED, DEFLATED = 0, 8


class _Member(NamedTuple):
    """Where an array lies in its archive; ``packed`` and ``size`` are bytes, before and after unpacking."""

    method: int
    checksum: int
    packed: int
    size: int
    start: int


class _UnusualError(Exception):
    """An archive that is damaged, or made otherwise than numpy makes it."""


class Predictions:
    """Reads arrays of many archives; one that is byte for byte the one read before is that very object.

    So the targets, which all runs of a study share, are unpacked once.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[bytes, Array]] = {}
        self._headers: dict[bytes, tuple[np.dtype[Any], tuple[int, ...]]] = {}

    def read(self, path: Path | str, names: Sequence[str]) -> dict[str, Array]:
        """The named arrays of an archive, not to be written to.

        Raises:
            OSError, ValueError, EOFError: as ``numpy.load``, which has the last word on an unusual archive.
            KeyError: it has no array of that name.
        """
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123, for thousands of runs a Path takes longer
            archive = file.read()
        try:
            members = _directory(archive)
            return {name: self._array(archive, name, members[f"{name}.npy"]) for name in names}
        except (_UnusualError, KeyError, ValueError, struct.error, zlib.error):
            with np.load(BytesIO(archive), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in names}

    def _array(self, archive: bytes, name: str, member: _Member) -> Array:
        packed = archive[member.start : member.start + member.packed]
        before = self._last.get(name)
        if before is not None and before[0] == packed:
            return before[1]
        array = self._parsed(_unpacked(packed, member))
        self._last[name] = packed, array
        return array

    def _parsed(self, content: bytes) -> Array:
        if content[:8] != npy.magic(1, 0):
            raise _UnusualError
        start = 10 + int.from_bytes(content[8:10], "little")
        header = content[8:start]
        if header not in self._headers:
            shape, by_columns, dtype = npy.read_array_header_1_0(BytesIO(header))
            if by_columns or dtype.hasobject:
                raise _UnusualError
            self._headers[header] = dtype, shape
        dtype, shape = self._headers[header]
        return np.frombuffer(content, dtype, offset=start).reshape(shape)


def _unpacked(packed: bytes, member: _Member) -> bytes:
    content = packed if member.method == STORED else zlib.decompress(packed, -zlib.MAX_WBITS, member.size)
    if len(content) != member.size or zlib.crc32(content) != member.checksum:
        raise _UnusualError
    return content


def _directory(archive: bytes) -> dict[str, _Member]:
    """Each file of a zip archive, from the list at its end (PKWARE's APPNOTE 4.3.12 and 4.3.16)."""
    signature, _, _, _, entries, _, place, comment = _END.unpack(archive[-_END.size :])
    if signature != b"PK\5\6" or comment:
        raise _UnusualError
    members = {}
    for _ in range(entries):
        entry = _ENTRY.unpack_from(archive, place)
        flags, method, checksum, packed, size, name, extra, remark = *entry[3:5], *entry[7:13]
        local = _LOCAL.unpack_from(archive, entry[16])
        start = entry[16] + _LOCAL.size + local[9] + local[10]
        if entry[0] != b"PK\1\2" or local[0] != b"PK\3\4" or flags & 1 or method not in (STORED, DEFLATED):
            raise _UnusualError
        if 0xFFFFFFFF in (packed, size) or start + packed > len(archive):
            raise _UnusualError
        place += _ENTRY.size
        members[archive[place : place + name].decode()] = _Member(method, checksum, packed, size, start)
        place += name + extra + remark
    return members
