"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file under a temporary name and rename it, so that no crash leaves half of one; what stood there goes.

    Raises:
        OSError: the folder cannot be written or the disk is full; what stood there before still does.
    """
    with whole(path) as temporary, temporary.open("wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The temporary name for a file that is to be written; at the end it is on the disk and renamed.

    Raises:
        OSError: as ``write_whole``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
