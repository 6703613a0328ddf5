"""Speech Commands from a small archive on this machine: fetched, checked, unpacked once."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cello.audio import speech_commands
from cello.audio.speech_commands import VERSIONS, Release, fetch
from cello.errors import CorpusError, DownloadError

FILES = {
    "./bed/00176480_nohash_0.wav": b"sound",
    "./validation_list.txt": b"",
    "./_background_noise_/pink_noise.wav": b"x",
}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a small archive in the published form is served; v0.02 is made to expect it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "small.tar.gz", "w:gz") as tar:
        for name, content in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served))) as http:
        place = f"http://127.0.0.1:{http.server_address[1]}/small.tar.gz"
        sha256 = hashlib.sha256((served / "small.tar.gz").read_bytes()).hexdigest()
        monkeypatch.setitem(VERSIONS, "v0.02", Release(place, sha256))
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield place
        http.shutdown()
        thread.join()


def test_what_is_expected_is_what_was_published() -> None:
    assert (
        VERSIONS["v0.02"].url
        == "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
    )
    assert VERSIONS["v0.02"].sha256 == "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
    assert (
        VERSIONS["v0.01"].url
        == "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.01.tar.gz"
    )
    assert VERSIONS["v0.01"].sha256 == "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d"


@pytest.mark.usefixtures("url")
def test_the_corpus_is_fetched_and_unpacked(tmp_path: Path) -> None:
    labels: list[str] = []
    folder = fetch("v0.02", tmp_path / "cache", progress=lambda label, *_: labels.append(label))
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        n.removeprefix("./") for n in FILES
    }
    assert {label.split()[0] for label in labels} == {"downloading", "checking", "unpacking"}


@pytest.mark.usefixtures("url")
def test_what_is_there_is_neither_fetched_nor_unpacked_again(tmp_path: Path) -> None:
    folder = fetch("v0.02", tmp_path)
    (folder / "bed" / "00176480_nohash_0.wav").write_bytes(b"mended")
    assert fetch("v0.02", tmp_path, url="http://127.0.0.1:9/nowhere") == folder
    assert (folder / "bed" / "00176480_nohash_0.wav").read_bytes() == b"mended"


def test_a_mirror_must_serve_the_published_archive(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="expected 743935421bb51cc"):
        fetch("v0.01", tmp_path, url=url)
    assert not (tmp_path / "speech_commands_v0.01").exists()


def test_an_unknown_version_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"unknown version of Speech Commands 'v0.2'; did you mean.*v0\.01, v0\.02"):
        fetch("v0.2", tmp_path)


@pytest.mark.usefixtures("url")
def test_a_users_own_archive_is_unpacked(tmp_path: Path) -> None:
    speech_commands.extract(tmp_path / "served" / "small.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "bed").is_dir()
