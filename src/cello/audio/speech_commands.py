"""Fetch Google Speech Commands (Warden 2018, arXiv:1804.03209), verified and unpacked."""

from __future__ import annotations

from pathlib import Path

import msgspec

from cello.audio import archive, download
from cello.audio.progress import Progress
from cello.errors import CorpusError, unknown

MOST_BYTES = 8_000_000_000
"""More than twice what the larger version unpacks to."""


class Release(msgspec.Struct, frozen=True):
    """The URL of a version of the corpus, and the checksum and ``size`` in bytes of its archive."""

    url: str
    sha256: str
    size: int = 2_500_000_000


_PUBLISHED = "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_{}.tar.gz"
VERSIONS: dict[str, Release] = {
    "v0.01": Release(
        url=_PUBLISHED.format("v0.01"),
        sha256="743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        size=1_489_096_277,
    ),
    "v0.02": Release(
        url=_PUBLISHED.format("v0.02"),
        sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        size=2_428_923_189,
    ),
}
TEST_SETS: dict[str, Release] = {
    "v0.02": Release(
        url=_PUBLISHED.format("test_set_v0.02"),
        sha256="cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
        size=112_563_277,
    ),
}
"""The archives of test clips for the 12-class task."""


def folder_name(version: str) -> str:
    """The name of a version's folder in the cache."""
    return f"speech_commands_{version}"


def test_folder_name(version: str) -> str:
    """The name in the cache of a version's test clips for the 12-class task."""
    return f"speech_commands_test_set_{version}"


def fetch(version: str, cache: Path, *, progress: Progress | None = None, url: str | None = None) -> Path:
    """The folder of a version below ``cache``, downloaded and unpacked if needed.

    The archive is kept beside the folder. ``url`` is another place to fetch the very same archive from.

    Raises:
        CorpusError: there is no such version, or its archive cannot be unpacked.
        DownloadError: the archive did not arrive, or is not the published one.
    """
    if version not in VERSIONS:
        raise CorpusError(unknown("version of Speech Commands", version, VERSIONS))
    return _fetch(VERSIONS[version], cache / folder_name(version), progress, url)


def fetch_test(version: str, cache: Path, *, progress: Progress | None = None, url: str | None = None) -> Path:
    """The folder of a version's test clips for the 12-class task; see ``fetch``."""
    if version not in TEST_SETS:
        raise CorpusError(unknown("version of the 12-class test archive", version, TEST_SETS))
    return _fetch(TEST_SETS[version], cache / test_folder_name(version), progress, url)


def _fetch(release: Release, folder: Path, progress: Progress | None, url: str | None) -> Path:
    if not folder.exists():
        packed = folder.with_name(f"{folder.name}.tar.gz")
        download.download(url or release.url, packed, release.sha256, most_bytes=release.size, progress=progress)
        archive.extract(packed, folder, max_bytes=MOST_BYTES, progress=progress)
    return folder


def extract(packed: Path, into: Path, *, progress: Progress | None = None) -> None:
    """Unpack a user's own archive of the corpus as the folder ``into``; see :func:`cello.audio.archive.extract`."""
    archive.extract(packed, into, max_bytes=MOST_BYTES, progress=progress)
