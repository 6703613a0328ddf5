"""Downloads from a server on this machine that cuts off, ignores Range, refuses, or sends something else."""

from __future__ import annotations

import hashlib
import io
import shutil
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import pytest

from cello.audio import download as module
from cello.audio import web
from cello.audio.download import download
from cello.errors import CorpusError, DownloadError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What the server does, and the requests it got."""

    url: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    lengths: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    wrong_range: bool = False
    asked: list[str | None] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        if start >= len(self.content) > 0 and start:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            shown = 0 if self.wrong_range else start
            handler.send_header("Content-Range", f"bytes {shown}-{len(self.content) - 1}/{len(self.content)}")
        if self.lengths:
            handler.send_header("Content-Length", str(len(self.content) - start))
        handler.end_headers()
        cut = self.cuts.pop(0) if self.cuts else len(self.content)
        handler.wfile.write(self.content[start : start + cut])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "_PAUSES_S", (0.0, 0.0, 0.0))
    plan = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            plan.answer(self)

        def log_message(self, *_: object) -> None:
            """Nothing: the test's output is not the place for it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        plan.url = f"http://127.0.0.1:{http.server_address[1]}/archive.tar.gz"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield plan
        http.shutdown()
        thread.join()


def test_a_file_arrives_whole_and_nothing_else_stays(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "a.tar.gz"
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert {p.name for p in target.parent.iterdir()} == {"a.tar.gz", ".a.tar.gz.lock"}


def test_a_cut_off_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 1000, 500_000]
    download(server.url, tmp_path / "a", SHA256)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=301000-", "bytes=801000-"]


def test_a_part_from_an_earlier_command_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT[:700_000])
    download(server.url, tmp_path / "a", SHA256)
    assert server.asked == ["bytes=700000-"]
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_is_complete_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "a", SHA256)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_started_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT + b"more")
    download(server.url, tmp_path / "a", SHA256)
    assert server.asked == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_server_that_ignores_ranges_starts_from_the_beginning(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cuts = [400_000]
    download(server.url, tmp_path / "a", SHA256)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-"]


def test_a_server_that_tells_no_length_is_believed_only_by_the_checksum(server: Server, tmp_path: Path) -> None:
    server.lengths = False
    download(server.url, tmp_path / "a", SHA256)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_another_range_than_asked_for_is_not_appended(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    server.wrong_range = True
    with pytest.raises(DownloadError, match="asked for the bytes from 1000, the server sent 0-"):
        download(server.url, tmp_path / "a", SHA256)
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:1000]


def test_a_connection_that_keeps_cutting_off_says_how_to_go_on(server: Server, tmp_path: Path) -> None:
    server.cuts = [5000, *[0] * 50]
    with pytest.raises(
        DownloadError,
        match=r"cut off 4 times near byte 5,000 .*again: it resumes from .*a\.part",
    ):
        download(server.url, tmp_path / "a", SHA256)
    assert len(server.asked) == 5
    server.cuts = []
    download(server.url, tmp_path / "a", SHA256)
    assert server.asked[-1] == "bytes=5000-"
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_is_not_there_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "_PAUSES_S", (0.0,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match=r"cut off 2 times .*refused.*Check the connection"):
        download(f"http://127.0.0.1:{port}/a", tmp_path / "a", SHA256)


def test_a_wrong_checksum_is_never_trusted_and_the_next_command_starts_afresh(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>log in to the network first</html>"
    got = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(
        DownloadError, match=rf"kept as .*a\.rejected: its SHA-256 is {got}, expected {SHA256}.*Run the same command"
    ):
        download(server.url, tmp_path / "a", SHA256)
    assert {p.name for p in tmp_path.iterdir()} == {"a.rejected", ".a.lock"}
    server.content = CONTENT
    download(server.url, tmp_path / "a", SHA256)
    assert server.asked == [None, None]


def test_a_file_of_the_users_own_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"a exists but is not the expected archive.* Move it away"):
        download(server.url, tmp_path / "a", SHA256)
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert server.asked == []


def test_a_right_file_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    download(server.url, tmp_path / "a", SHA256)
    assert server.asked == []


def test_a_refusal_is_told_at_once(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(DownloadError, match="answered HTTP 404 Not Found; check the address"):
        download(server.url, tmp_path / "a", SHA256)
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    download(server.url, tmp_path / "a", SHA256)
    assert len(server.asked) == 3


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int = 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage())
    with pytest.raises(DownloadError, match=r"needs 1,024,000 more bytes in .* which has 1,000 free; free space"):
        download(server.url, tmp_path / "a", SHA256)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CorpusError, match=r"cannot write .*choose another folder"):
        download("http://127.0.0.1:9/a", tmp_path / "taken" / "a", SHA256)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "archive.tar.gz"])
def test_only_web_addresses_are_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="is not an http:// or https:// address"):
        download(url, tmp_path / "a", SHA256)


def test_progress_counts_bytes_and_is_told_a_bounded_number_of_times(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_BYTES", 512)
    calls: list[tuple[str, int, int]] = []
    download(server.url, tmp_path / "a", SHA256, progress=lambda *call: calls.append(call))
    fetched = [call for call in calls if call[0] == "downloading a"]
    assert len(fetched) <= 102
    assert fetched[0][1:] == (0, len(CONTENT))
    assert fetched[-1][1:] == (len(CONTENT), len(CONTENT))
    assert calls[-1][0] == "checking a"


class Raw(NamedTuple):
    """A server that sends the chunks given, one after another, for each connection."""

    url: str
    connections: list[bytes]


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Raw]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.3)
    asked: list[bytes] = []
    stopped = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, suppress(OSError):
                    asked.append(connection.recv(4096))
                    for chunk in request.param():
                        if stopped.is_set():
                            return
                        connection.sendall(chunk)

    thread = threading.Thread(target=serve)
    thread.start()
    yield Raw(f"http://127.0.0.1:{listening.getsockname()[1]}/a", asked)
    stopped.set()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def dripping(start: bytes, chunk: bytes) -> Callable[[], Iterator[bytes]]:
    """One chunk every 50 ms, for ever."""

    def chunks() -> Iterator[bytes]:
        yield start
        while True:
            time.sleep(0.05)
            yield chunk

    return chunks


def flooding(start: bytes, chunk: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: chain([start], repeat(chunk * (100_000 // len(chunk))))


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        dripping(OK + b"Content-Length: 1000000\r\n\r\n", b"x"),
        dripping(OK + b"\r\n", b"x"),
        dripping(b"", b"H"),
        dripping(OK, b"X-Header: more\r\n"),
        dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    indirect=True,
)
def test_a_server_that_drips_is_not_waited_for(raw: Raw, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"is too slow \(the server sent .* bytes in .* again: it resumes"):
        download(raw.url, tmp_path / "a", SHA256)


@pytest.mark.parametrize(
    "raw",
    [
        flooding(OK + b"\r\n", b"x"),
        flooding(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"a\r\n0123456789\r\n"),
        flooding(OK + b"Content-Length: 5000000\r\n\r\n", b"x"),
    ],
    indirect=True,
)
def test_a_server_that_sends_without_end_is_stopped_and_nothing_is_kept(raw: Raw, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"sends (more|5,000,000 bytes), but the archive has at most 1,000,000;"):
        download(raw.url, tmp_path / "a", SHA256, most_bytes=1_000_000)
    assert not list(tmp_path.glob("a*"))


@pytest.mark.parametrize(
    "raw",
    [
        flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        flooding(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"Trailer: x\r\n"),
        flooding(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 60_000 + b"\r\nx\r\n"),
    ],
    indirect=True,
)
def test_what_is_sent_beside_the_content_is_bounded_too(raw: Raw, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"cut off 3 times .*the server sends more than the limit|is too slow"):
        download(raw.url, tmp_path / "a", SHA256, most_bytes=100_000)


def redirected(target: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter([b"HTTP/1.1 302 Found\r\nLocation: " + target + b"\r\nContent-Length: 0\r\n\r\n"])


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (redirected(b"ftp://127.0.0.1/a"), "redirects to 'ftp://127.0.0.1/a', which is less secure; download the"),
        (redirected(b"file:///etc/passwd"), "redirects to 'file:///etc/passwd', which is less secure"),
        (redirected(b"data:text/plain,hello"), "redirects to 'data:text/plain,hello', which is less secure"),
        (redirected(b"/again"), "redirects more than 10 times"),
        (redirected(b"http://[::1"), "is not a valid web address .*Invalid IPv6 URL"),
    ],
    indirect=["raw"],
)
def test_a_redirect_leads_to_the_web_alone(raw: Raw, why: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=why):
        download(raw.url, tmp_path / "a", SHA256)


def test_a_secure_address_leads_to_no_other() -> None:
    request = urllib.request.Request("https://example.org/a")
    headers = Message()
    headers["location"] = "http://example.org/a"
    with pytest.raises(DownloadError, match=r"redirects to 'http:.*, which is less secure"):
        web._Redirects().http_error_302(request, io.BytesIO(), 302, "Found", headers)


def test_a_byte_a_connection_does_not_count_as_getting_further(server: Server, tmp_path: Path) -> None:
    server.cuts = [1] * 100
    with pytest.raises(DownloadError, match="cut off 4 times near byte 4 "):
        download(server.url, tmp_path / "a", SHA256)


def test_a_part_that_is_too_long_is_begun_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"x" * (len(CONTENT) + 1))
    download(server.url, tmp_path / "a", SHA256, most_bytes=len(CONTENT))
    assert server.asked == [None]


@pytest.mark.parametrize("url", ["http://[::1", "http://a b/", "http:///x", "http://127.0.0.1:99999/"])
def test_what_is_no_address_is_said(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES_S", ())
    with pytest.raises(DownloadError, match=r"is not a valid web address|cut off 1 times"):
        download(url, tmp_path / "a", SHA256)


@pytest.mark.parametrize("raw", [lambda: iter([b"SSH-2.0 \x1b[31m\r\n"])], indirect=True)
def test_what_a_server_says_does_not_reach_the_terminal_raw(raw: Raw, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as raised:
        download(raw.url, tmp_path / "a", SHA256)
    assert "SSH-2.0 ?[31m" in str(raised.value)
