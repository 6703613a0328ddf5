"""Download files with resume, and verify them before use."""

from __future__ import annotations

import hashlib
import http
import http.client
import os
import shutil
import time
import urllib.error
from pathlib import Path
from typing import IO

from cello.audio.progress import Progress, paced
from cello.audio.staging import locked
from cello.audio.web import SlowError, ask
from cello.errors import DownloadError

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = 60.0
_MOST_BYTES = 2_500_000_000
"""A little more than the largest archive that is published."""
_ENOUGH_BYTES = 4096
"""What a go must bring to count as one that got further: a byte a go would never end."""
_MOST_GOES = 1000
_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Waits between goes that bring nothing new; after the last one the download gives up."""
_WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})


class _CutOffError(Exception):
    """A connection failure that a retry may solve."""


def download(
    url: str, path: Path, sha256: str, *, most_bytes: int = _MOST_BYTES, progress: Progress | None = None
) -> None:
    """Download ``url`` to ``path``, resuming from ``path.part`` after an interruption.

    ``path`` appears only when its SHA-256 is right; a ``path`` that is there already is checked and not fetched again.
    No more than ``most_bytes`` are fetched. ``progress`` is called a bounded number of times, in bytes.

    Raises:
        DownloadError: the server refuses, keeps cutting off, is too slow or sends too much, the disk is too small, or
            the checksum is wrong.
    """
    if not url.startswith(("http://", "https://")):
        raise DownloadError(
            f"{url!r} is not an http:// or https:// address; to use a local file, give its path as the corpus"
        )
    with locked(path):
        if path.exists():
            _check_present(path, sha256, progress)
            return
        part = path.with_name(f"{path.name}.part")
        _fetch_all(url, part, most_bytes, progress)
        got = _sha256(part, progress)
        if got != sha256:
            rejected = path.with_name(f"{path.name}.rejected")
            part.replace(rejected)
            raise DownloadError(
                f"{url} sent an unexpected file, kept as {rejected}: its SHA-256 is {got}, expected {sha256}. "
                f"Run the same command again, or download the archive by other means and give its path as the corpus"
            )
        part.replace(path)


def _check_present(path: Path, sha256: str, progress: Progress | None) -> None:
    got = _sha256(path, progress)
    if got != sha256:
        raise DownloadError(
            f"{path} exists but is not the expected archive: its SHA-256 is {got}, expected {sha256}. "
            f"Move it away and run the same command again"
        )


def _fetch_all(url: str, part: Path, most_bytes: int, progress: Progress | None) -> None:
    """Bring ``part`` to its full length; goes that bring something new do not count towards giving up."""
    if part.exists() and not part.is_file():  # opening a pipe would wait for its other end
        raise DownloadError(f"{part} is not a regular file, so the download cannot be written to it; move it away")
    furthest = part.stat().st_size if part.exists() else 0
    idle = 0
    for go in range(1, _MOST_GOES + 1):
        try:
            _fetch_some(url, part, most_bytes, progress)
            return
        except _CutOffError as reason:
            reached = part.stat().st_size if part.exists() else 0
            idle = 0 if reached >= furthest + _ENOUGH_BYTES else idle + 1
            furthest = max(furthest, reached)
            if idle > len(_PAUSES_S) or go == _MOST_GOES:
                raise DownloadError(
                    f"the download of {url} was cut off {idle or go} times near byte {furthest:,} "
                    f"({reason}). Check the connection and run the same command again: it resumes from {part}"
                ) from None
            time.sleep(_PAUSES_S[max(0, idle - 1)])


def _fetch_some(url: str, part: Path, most_bytes: int, progress: Progress | None) -> None:
    """One go: ask for what is missing and append it; _CutOffError where it ends early."""
    have = part.stat().st_size if part.exists() else 0
    if have > most_bytes:
        part.unlink()
        have = 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "cello"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        # Twice as much, for all that is sent beside the content: headers and the sizes of chunks.
        with ask(url, headers, 2 * most_bytes + _CHUNK_BYTES, _TIMEOUT_S) as response:
            start, total = _extent(response, have)
            if total > most_bytes:
                raise _too_much(url, total, most_bytes)
            _require_space(part, total - start)
            _append(response, part, start, total, progress, most_bytes)
            if part.stat().st_size > most_bytes:
                part.unlink()
                raise _too_much(url, 0, most_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        _refused(url, error, part, have)
    except SlowError as error:
        raise DownloadError(
            f"the download of {url} is too slow ({error}). Check the connection and run the same command again: "
            f"it resumes from {part}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _CutOffError(_visible(str(error) or type(error).__name__)) from error


def _visible(reason: str) -> str:
    """What a server may have put into an error, with nothing that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in reason)[:200]


def _too_much(url: str, total: int, most_bytes: int) -> DownloadError:
    sent = f"{total:,} bytes" if total else "more"
    return DownloadError(
        f"{url} sends {sent}, but the archive has at most {most_bytes:,}; what was sent is not used. "
        f"Fetch the archive by other means and name the file as the corpus"
    )


def _extent(response: http.client.HTTPResponse, have: int) -> tuple[int, int]:
    """Where the answer's bytes begin in the file, and the file's size (0: not told); 0 from a server without Range."""
    length = response.length or 0
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0, length
    place, _, size = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if not place.startswith(f"{have}-"):
        raise _CutOffError(f"asked for the bytes from {have}, the server sent {place or 'others'}")
    return have, int(size) if _is_number(size) else (have + length if length else 0)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _append(
    response: http.client.HTTPResponse, part: Path, start: int, total: int, progress: Progress | None, most_bytes: int
) -> None:
    """Write what comes, as it comes, up to the length that was told, or one chunk more than ``most_bytes``."""
    step = paced(progress, f"downloading {part.stem}", total)
    done = start
    end = start + response.length if response.length is not None else most_bytes + 1
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        step(done)
        while done < end and (chunk := response.read1(min(_CHUNK_BYTES, end - done))):
            _write(file, chunk, part)
            done += len(chunk)
            step(done)
        os.fsync(file.fileno())
    if total and done < total:
        raise _CutOffError(f"the connection ended after {done:,} of {total:,} bytes")


def _write(file: IO[bytes], chunk: bytes, part: Path) -> None:
    """Write, so that a full disk is not taken for a bad connection."""
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise DownloadError(
            f"cannot write the download to {part}: {error.strerror}; free space and run the same command again: it "
            f"resumes where it stopped"
        ) from None


def _require_space(part: Path, missing: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise DownloadError(
            f"the download needs {missing:,} more bytes in {part.parent}, which has {free:,} free; "
            f"free space or choose another cache folder"
        )


def _refused(url: str, error: urllib.error.HTTPError, part: Path, have: int) -> None:
    """What an answer other than success means; returns only where ``part`` is complete already."""
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
        size = error.headers.get("Content-Range", "").removeprefix("bytes */")
        if size == str(have):
            return
        part.unlink()
        raise _CutOffError(f"{part} had {have:,} bytes, the server's file has {size or 'fewer'}; started again")
    if error.code in _WORTH_RETRYING:
        raise _CutOffError(f"HTTP {error.code} {_visible(error.reason)}")
    raise DownloadError(
        f"{url} answered HTTP {error.code} {_visible(error.reason)}; check the address, or download the archive by "
        f"other means and give its path as the corpus"
    )


def _sha256(path: Path, progress: Progress | None) -> str:
    step = paced(progress, f"checking {path.name.removesuffix('.part')}", path.stat().st_size)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            step(file.tell())
    return digest.hexdigest()
