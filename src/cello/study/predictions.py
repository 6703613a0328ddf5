"""Read the ``predictions.npz`` of many runs fast: equal arrays are unpacked once."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cello.files import DamagedFileError, read_stored

Array = NDArray[Any]
_END, _ENTRY, _LOCAL = struct.Struct("<4s4H2IH"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s5H3I2H")
STORED, DEFLATED = 0, 8
NUMBERS, PROBABILITIES = ("target", "prediction"), ("target_probability", "prediction_probability")
MOST_CLIPS = 10_000_000
"""Test clips that predictions may be of, far above any corpus: what a foreign file demands of memory has a bound."""
MOST_ARRAYS, WIDEST, HEADER = 8, 8, 65_536
"""Arrays of an archive, bytes of a number, bytes of an array's header: as many as there may be."""


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
        self._headers: dict[bytes, tuple[np.dtype[Any], tuple[int, ...], bool]] = {}

    def read(self, path: Path | str, names: Sequence[str] = (), clips: int = MOST_CLIPS) -> dict[str, Array]:
        """The named arrays of an archive, or all, not to be written to, none larger than so many clips need.

        Raises:
            OSError: there is no such file, or it cannot be read.
            DamagedFileError: it is no archive of numbers, not whole, larger than that, or lacks one of the arrays.
        """
        largest = min(clips, MOST_CLIPS) * WIDEST + HEADER
        archive = read_stored(path, MOST_ARRAYS * (largest + HEADER))
        try:
            members = _directory(archive)
        except (_UnusualError, struct.error, UnicodeDecodeError):
            members = _unusual_directory(archive)
        if len(members) > MOST_ARRAYS:
            raise DamagedFileError(f"it holds {len(members)} files, more than the {MOST_ARRAYS} arrays that may be")
        wanted = names or [name.removesuffix(".npy") for name in members]
        return {name: self._array(archive, name, members, largest) for name in wanted}

    def _array(self, archive: bytes, name: str, members: dict[str, _Member], largest: int) -> Array:
        member = members.get(f"{name}.npy")
        if member is None:
            raise DamagedFileError(f"it holds no {name!r}")
        if member.size > largest:
            raise DamagedFileError(f"its {name!r} has {member.size} bytes, more than the {largest} for all test clips")
        packed = archive[member.start : member.start + member.packed]
        before = self._last.get(name)
        if before is not None and before[0] == packed:
            return before[1]
        try:
            array = self._parsed(_unpacked(packed, member))
        except (ValueError, TypeError, OverflowError, RecursionError, MemoryError, SyntaxError, zlib.error) as error:
            raise DamagedFileError(f"its {name!r} is not what was written ({error})") from error
        self._last[name] = packed, array
        return array

    def _parsed(self, content: bytes) -> Array:
        """The array of an ``.npy`` file; only the bytes that are there count, whatever its header says of its shape."""
        if content[:8] != npy.magic(1, 0):
            raise ValueError("no array of NumPy's first format")
        start = 10 + int.from_bytes(content[8:10], "little")
        header = content[8:start]
        if header not in self._headers:
            shape, by_columns, dtype = npy.read_array_header_1_0(BytesIO(header))
            if dtype.kind not in "biuf":
                raise ValueError(f"{dtype} in place of numbers")
            self._headers[header] = dtype, shape, by_columns
        dtype, shape, by_columns = self._headers[header]
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content) - start:
            raise ValueError(f"its header says {shape}, it holds {len(content) - start} bytes")
        return np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if by_columns else "C")


def checked(arrays: dict[str, Array], labels: int) -> dict[str, Array]:
    """The arrays of a run, if they can be what it says of test clips.

    Raises:
        DamagedFileError: they are of different clips, name no label, or are no probabilities.
    """
    if len({array.shape for array in arrays.values()}) > 1 or any(array.ndim != 1 for array in arrays.values()):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise DamagedFileError(f"its arrays are not of the same clips ({shapes})")
    for name, array in arrays.items():
        if name in NUMBERS and (array.dtype.kind not in "iu" or not _within(array, labels - 1)):
            raise DamagedFileError(f"its {name!r} names labels that are none of the {labels}")
        if name in PROBABILITIES and (array.dtype.kind != "f" or not _within(array, 1)):
            raise DamagedFileError(f"its {name!r} holds what is no probability")
    return arrays


def _within(array: Array, largest: int) -> bool:
    return not array.size or bool(array.min() >= 0 and array.max() <= largest)  # NaN is neither


def _unpacked(packed: bytes, member: _Member) -> bytes:
    """A member's bytes; of a stream that goes on beyond the size that is stated, no more than that is unpacked."""
    if member.method == STORED:
        content = packed
    else:
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size + 1)
    if len(content) != member.size or zlib.crc32(content) != member.checksum:
        raise ValueError("its checksum does not match")
    return content


def _unusual_directory(archive: bytes) -> dict[str, _Member]:
    """The same for an archive that numpy did not make, as the standard library reads it."""
    try:
        with zipfile.ZipFile(BytesIO(archive)) as unusual:
            found = unusual.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error, EOFError) as error:
        raise DamagedFileError(f"no archive of arrays ({error})") from error
    members = {}
    for entry in found:
        if entry.flag_bits & 1 or entry.compress_type not in (STORED, DEFLATED):
            raise DamagedFileError(f"its {entry.filename!r} is packed otherwise than NumPy packs")
        local = archive[entry.header_offset : entry.header_offset + _LOCAL.size]
        if len(local) < _LOCAL.size or local[:4] != b"PK\3\4":
            raise DamagedFileError("no archive of arrays (its directory does not match it)")
        lengths = _LOCAL.unpack(local)
        start = entry.header_offset + _LOCAL.size + lengths[9] + lengths[10]
        members[entry.filename] = _Member(entry.compress_type, entry.CRC, entry.compress_size, entry.file_size, start)
    return members


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
