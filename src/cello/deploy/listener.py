"""Run a server on an address by uvicorn, where connections that ask for nothing are dropped."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cello.deploy.limits import Limits
from cello.deploy.serve import Server, make_app
from cello.errors import DeployError

REQUEST_S = 10.0
"""Time that a connection may take to send the head of a request."""
PING_S = 10.0
"""Time between pings, which keep a quiet connection open on its way. Nobody has to answer one in time: an answer waits
behind the sound that came before it, and who sends nothing at all is dropped after ``Limits.idle_s``."""
SPARE_CONNECTIONS = 64
"""Connections beside streams and uploads: for the page, labels, health, and refusals."""


class TimedProtocol(H11Protocol):
    """HTTP/1.1 that drops a connection which does not send a whole request head in time."""

    request_s = REQUEST_S
    _timer: asyncio.TimerHandle | None = None
    _seen: object = None

    def connection_made(self, transport: Any) -> None:
        """Begin to watch a connection."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End to watch it."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self) -> None:
        self._timer = self.loop.call_later(self.request_s, self._check)

    def _check(self) -> None:
        """Drop a connection that has waited for a request since the last look."""
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return  # it is gone, or a WebSocket now
        if self.cycle is None or (self.cycle.response_complete and self.cycle is self._seen):
            self.transport.close()
            return
        self._seen = self.cycle if self.cycle.response_complete else None
        self._watch()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        DeployError: it cannot.
    """
    if not 0 <= port <= 65_535:
        raise DeployError(f"--port {port} is invalid: it must be from 0 to 65535")
    if not host:
        raise DeployError("--host is empty: give 127.0.0.1 for this machine alone, or 0.0.0.0 for all")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, address = found[0][0], found[0][4]
        return socket.create_server(address, family=family, backlog=256)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeployError(
            f"--host {host} --port {port} cannot be listened on: {reason}; choose another --port, or a --host of this "
            "machine"
        ) from error


def is_local(listening: socket.socket) -> bool:
    """Whether only programs of this machine can reach it."""
    return ip_address(listening.getsockname()[0].split("%")[0]).is_loopback


def run(server: Server, listening: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM; streams that are open are then closed (code 1012)."""
    uvicorn.Server(config_of(server, server.limits)).run(sockets=[listening])


def config_of(server: Server, limits: Limits) -> uvicorn.Config:
    """How uvicorn runs a server.

    Messages are not compressed, as a small one could unfold to any size, and sound hardly shrinks.
    """
    return uvicorn.Config(
        make_app(server),
        http=TimedProtocol,
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=limits.message_bytes,
        ws_ping_interval=PING_S,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
        limit_concurrency=limits.streams + limits.files + SPARE_CONNECTIONS,
        timeout_graceful_shutdown=3,
    )
