"""Read an untrusted tar archive block by block, with bounded memory.

Python's own :mod:`tarfile` reads extension headers of any size into memory, searches them with expressions that take
quadratic time (CVE-2024-6232), follows chains of them recursively and makes sparse files of any size from a few bytes.
Here a header costs at most ``LARGEST_EXTENSION`` bytes, and time in proportion to them. Formats: V7, ustar, pax
(POSIX.1-2001) and GNU's long names; anything else is a kind of member for the caller to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 512
LARGEST_EXTENSION = 1 << 20
EXTENSIONS_BYTES = 1 << 28
"""All extension headers of an archive together: a thousand bytes for each of a quarter of a million files."""

_EXTENSIONS_IN_A_ROW = 16
_CHUNK_BYTES = 1 << 16
_FILES, _FOLDER, _LONG_NAME, _LONG_LINK, _GLOBAL, _LOCAL = b"\x000" + b"7", b"5", b"L", b"K", b"g", b"xX"
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"S": "a sparse file",
}
_SPARSE = (b"GNU.sparse.", b"SCHILY.realsize")

Fields = dict[bytes, bytes]


class TarError(Exception):
    """An incomplete archive, or one beyond the bounds; its text is only the reason."""


class Member(NamedTuple):
    """One entry; ``refused`` says what it is where it is neither a folder nor an ordinary file."""

    name: str
    is_folder: bool
    size: int
    refused: str = ""


class TarReader:
    """Iterates over the members of an archive, from a function that reads bytes; ``chunks`` reads a member."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._offset = 0  # of the next byte
        self._left = 0  # of the present member's content
        self._padding = 0
        self._extensions = 0

    def __iter__(self) -> Iterator[Member]:
        """The members up to the end mark.

        Raises:
            TarError: a header is damaged, the end is missing, or something follows it.
        """
        while (member := self._next()) is not None:
            yield member
            for _ in self.chunks():
                pass

    def chunks(self) -> Iterator[bytes]:
        """The rest of the current member's content.

        Raises:
            TarError: the archive ends before it does.
        """
        while self._left:
            chunk = self._exactly(min(self._left, _CHUNK_BYTES))
            self._left -= len(chunk)
            yield chunk
        self._exactly(self._padding)
        self._padding = 0

    def _next(self) -> Member | None:
        fields: Fields = {}
        for _ in range(_EXTENSIONS_IN_A_ROW):
            start = self._offset
            header = self._header()
            if header is None:
                self._require_end(start)
                return None
            kind, size = header[156:157], self._number(header[124:136], start)
            if kind in _LOCAL or kind in _GLOBAL:
                self._records(self._extension(size), fields if kind in _LOCAL else None, start)
            elif kind in _LONG_NAME:
                fields[b"path"] = self._extension(size).split(b"\0", 1)[0]
            elif kind in _LONG_LINK:
                self._extension(size)
            else:
                return self._member(header, fields, size, start)
        raise TarError(f"more than {_EXTENSIONS_IN_A_ROW} headers for one member at byte {start:,}")

    def _member(self, header: bytes, fields: Fields, size: int, start: int) -> Member:
        kind, name = header[156:157], fields.get(b"path") or _name(header)
        if b"size" in fields:
            if not fields[b"size"].isdigit() or len(fields[b"size"]) > 18:
                raise TarError(f"damaged header at byte {start:,}")
            size = int(fields[b"size"])
        is_folder = kind == _FOLDER or (kind == b"\0" and name.endswith(b"/"))
        refused = "" if is_folder or kind in _FILES else _KINDS.get(kind, f"a member of kind {kind!r}")
        if any(key.startswith(_SPARSE) for key in fields):
            refused = _KINDS[b"S"]
        if is_folder:
            name, size = name.rstrip(b"/") or name, 0
        self._left, self._padding = size, -size % BLOCK
        return Member(name.decode("utf-8", "surrogateescape"), is_folder, size, refused)

    def _header(self) -> bytes | None:
        """The next header, None at the end mark."""
        start = self._offset
        block = self._read_up_to(BLOCK)
        if len(block) == BLOCK and not block.strip(b"\0"):
            return None
        if not block:
            raise TarError("its end is missing" if start else "empty file")
        if len(block) < BLOCK or not _sound(block):
            raise TarError(f"damaged header at byte {start:,}" if start else "invalid header")
        return block

    def _number(self, field: bytes, start: int) -> int:
        """A number as octal digits or, with the first bit set, in base 256."""
        try:
            number = int.from_bytes(field, "big") - (0x80 << 88) if field[0] & 0x80 else _octal(field)
        except ValueError:
            number = -1
        if not 0 <= number < 1 << 62:
            raise TarError(f"damaged header at byte {start:,}")
        return number

    def _extension(self, size: int) -> bytes:
        self._extensions += size
        if size > LARGEST_EXTENSION:
            raise TarError(f"a header of {size:,} bytes, of which it may have {LARGEST_EXTENSION:,}")
        if self._extensions > EXTENSIONS_BYTES:
            raise TarError(f"its headers have more than {EXTENSIONS_BYTES:,} bytes beside the names")
        content = self._exactly(size)
        self._exactly(-size % BLOCK)
        return content

    def _records(self, content: bytes, fields: Fields | None, start: int) -> None:
        """Note what pax records ("LENGTH KEY=VALUE\\n") say of a member; for all members they may say no such thing."""
        at = 0
        while at < len(content):
            digits, space, _ = content[at : at + 20].partition(b" ")
            if not space or not digits.isdigit() or not (end := int(digits)):
                raise TarError(f"damaged header at byte {start:,}")
            record = content[at : at + end]
            key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
            if len(record) < end or record[-1:] != b"\n" or not equals:
                raise TarError(f"damaged header at byte {start:,}")
            if key in (b"path", b"size") or key.startswith(_SPARSE):
                if fields is None:
                    raise TarError(f"a header for all members with a {key.decode()} at byte {start:,}")
                fields[key] = value
            at += end

    def _require_end(self, start: int) -> None:
        while chunk := self._read_up_to(_CHUNK_BYTES):
            if chunk.strip(b"\0"):
                raise TarError(f"damaged header at byte {start:,}")

    def _exactly(self, size: int) -> bytes:
        content = self._read_up_to(size)
        if len(content) < size:
            raise TarError("its end is missing")
        return content

    def _read_up_to(self, size: int) -> bytes:
        """So many bytes, fewer only at the end of the archive."""
        content = b""
        while len(content) < size and (more := self._read(size - len(content))):
            content = content + more if content else more
        self._offset += len(content)
        return content


def _sound(block: bytes) -> bool:
    """Whether a header's sum is right; some programs added up signed bytes."""
    try:
        told = _octal(block[148:156])
    except ValueError:
        return False
    rest = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(rest)
    return told in (unsigned, unsigned - 256 * sum(byte > 127 for byte in rest))


def _octal(field: bytes) -> int:
    text = field.split(b"\0", 1)[0].strip()
    if text.strip(b"01234567"):
        raise ValueError
    return int(text or b"0", 8)


def _name(header: bytes) -> bytes:
    """The name in a header, after the prefix that ustar has for long ones (star uses less of its field)."""
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] != b"ustar\0":
        return name
    prefix = header[345 : 476 if header[508:512] == b"tar\0" else 500].split(b"\0", 1)[0]
    return prefix + b"/" + name if prefix else name
