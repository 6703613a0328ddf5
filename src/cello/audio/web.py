"""Fetch a file from a web server with bounds on time, size and redirects."""

from __future__ import annotations

import http.client
import io
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.message import Message
from functools import partial
from typing import IO, Any

from cello.errors import DownloadError

SLOWEST_BYTES_S = 1000.0
"""What a server must send on average, looked at whenever its timeout has passed."""
MOST_REDIRECTS = 10


class SlowError(OSError):
    """The server sends data too slowly."""


class _Watched(io.RawIOBase):
    """The stream from a server, bounded in size and by a minimum rate."""

    def __init__(self, raw: io.RawIOBase, most_bytes: int, timeout_s: float) -> None:
        self.raw = raw
        self.left = most_bytes
        self.timeout_s = timeout_s
        self.since = time.monotonic()
        self.arrived = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        got = self.raw.readinto(buffer)
        self.arrived += got or 0
        self.left -= got or 0
        if self.left < 0:
            raise http.client.HTTPException("the server sends more than the limit")
        passed = time.monotonic() - self.since
        if passed > self.timeout_s:
            if self.arrived < SLOWEST_BYTES_S * passed:
                raise SlowError(f"the server sent {self.arrived:,} bytes in {passed:.0f} s")
            self.since, self.arrived = time.monotonic(), 0
        return got

    def close(self) -> None:
        self.raw.close()
        super().close()


def ask(url: str, headers: Mapping[str, str], most_bytes: int, timeout_s: float) -> http.client.HTTPResponse:
    """Send a GET request; at most ``most_bytes`` are read, in bounded time.

    ``timeout_s`` is how long it may be silent, and over how long its rate is looked at.

    Raises:
        DownloadError: the address cannot be, or leads to one that is not looked at.
        urllib.error.HTTPError: the server refuses.
        OSError, http.client.HTTPException: the connection fails or brings too little (SlowError) or too much.
    """

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: Any, *arguments: Any, **named: Any) -> None:
            super().__init__(sock, *arguments, **named)
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_Watched(raw, most_bytes, timeout_s))

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(Response),
        _Https(Response),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    try:
        request = urllib.request.Request(url, headers=dict(headers))
        answer: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
    except ValueError as error:
        raise DownloadError(f"{url!r} is not a valid web address ({error}); check it") from error
    return answer


class _Redirects(urllib.request.BaseHandler):
    """Follows a bounded number of redirects, to http(s) only, and from https only to https."""

    def __init__(self) -> None:
        self.followed = 0

    def http_error_302(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message) -> Any:
        """Follow the redirect without reading its body."""
        fp.close()
        target = urllib.parse.urljoin(req.full_url, headers.get("location", "").strip().replace(" ", "%20"))
        self.followed += 1
        if self.followed > MOST_REDIRECTS:
            raise DownloadError(f"{req.full_url} redirects more than {MOST_REDIRECTS} times; check it, or {_BY_HAND}")
        if urllib.parse.urlsplit(target).scheme not in (("https",) if req.type == "https" else ("http", "https")):
            raise DownloadError(f"{req.full_url} redirects to {target!r}, which is less secure; {_BY_HAND}")
        return self.parent.open(urllib.request.Request(target, headers=req.headers), timeout=req.timeout)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


_BY_HAND = "download the archive by other means and give its path as the corpus"


class _Http(urllib.request.HTTPHandler):
    def __init__(self, response: type[http.client.HTTPResponse]) -> None:
        super().__init__()
        self.connect = partial(_connected, http.client.HTTPConnection, response)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self.connect, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, response: type[http.client.HTTPResponse]) -> None:
        super().__init__()
        self.connect = partial(_connected, http.client.HTTPSConnection, response)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self.connect, req)


def _connected(
    kind: type[http.client.HTTPConnection], response: type[http.client.HTTPResponse], host: str, **named: Any
) -> http.client.HTTPConnection:
    connection = kind(host, **named)
    connection.response_class = response
    return connection
