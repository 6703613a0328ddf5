"""Dask's processes on this machine, for this user alone: Unix sockets in a private folder, and no port.

Whoever reaches a Dask scheduler may run code in it, and Dask knows no password. So nothing here listens on a port:
scheduler, nannies, workers and client meet at sockets in a folder that only this user may enter. Dask's state pages are
not served, and its scratch folders lie in the private folder and never on ``sys.path``.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distributed import Nanny, Scheduler, Worker
from distributed.comm.addressing import parse_host_port, unparse_host_port
from distributed.comm.core import BaseListener, CommClosedError, Connector
from distributed.comm.registry import Backend, backends
from distributed.comm.tcp import MAX_BUFFER_SIZE, TCP
from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpserver import TCPServer

from cello.errors import StudyError

SCHEME = "unix"
PREFIX = "cello-run-"
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
ROOM = len("/pymp-12345678/listener-12345678")
"""What Python's own sockets need below a temporary folder; ours need less."""
BACKLOG = 2048
STALE_SECONDS = 60.0
SHORT = "/tmp"


def socket_folder() -> Path:
    """A folder in which a private one can be made for sockets: TMPDIR, or one that is short and safe where it is not.

    Raises:
        StudyError: there is none.
    """
    asked = tempfile.gettempdir()
    for place in (asked, os.environ.get("XDG_RUNTIME_DIR", ""), SHORT):
        if place and not _fault(place):
            return Path(place)
    raise StudyError(f"TMPDIR {_fault(asked)}; set it to a short path of your own, such as /tmp")


def _fault(place: str) -> str:
    """Why a folder cannot hold sockets; empty if it can."""
    if ":" in place:
        return f"has a colon in it ({place}), which a socket's address cannot have"
    letters = len(os.fsencode(place))
    if letters + ROOM > LONGEST_SOCKET:
        return f"is too long for sockets ({letters} letters)"
    try:
        status = os.stat(place)  # noqa: PTH116 - a string, for the length of its bytes
    except OSError as error:
        return f"cannot be used ({error})"
    if not os.access(place, os.W_OK | os.X_OK):
        return f"cannot be written ({place})"
    foreign = status.st_mode & 0o022 or status.st_uid not in (0, os.geteuid())
    if foreign and not status.st_mode & stat.S_ISVTX:  # with that bit, as /tmp has it, what is ours stays ours
        return f"can be changed by other users ({place})"
    return ""


@contextmanager
def private_folder(base: Path) -> Iterator[Path]:
    """A new folder that only this user may enter, gone at the end; what a killed process left there goes too.

    Raises:
        StudyError: it cannot be made.
    """
    _sweep(base)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StudyError(f"no folder for workers can be made in {base}: {error}; set TMPDIR to another") from error
    try:
        with suppress(OSError):  # where there are no locks, nothing is swept either
            fcntl.flock(held, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(held)
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(base: Path) -> None:
    """Remove this user's private folders that no process holds any more."""
    for folder in base.glob(f"{PREFIX}????????"):
        with suppress(OSError):
            status = folder.lstat()
            young = time.time() - status.st_mtime < STALE_SECONDS  # it may be about to be locked
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or young:
                continue
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(held)


def _path(address: str) -> str:
    """The socket's file of an address without its scheme, FOLDER:NUMBER, as Dask writes hosts and ports."""
    folder, number = parse_host_port(address)
    return f"{folder}/{number}"


class _Connector(Connector):
    async def connect(self, address: str, deserialize: bool = True, **_: Any) -> TCP:
        stream = IOStream(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), max_buffer_size=int(MAX_BUFFER_SIZE))
        try:
            await stream.connect(_path(address))
        except (OSError, StreamClosedError) as error:
            stream.close()
            raise CommClosedError(f"nobody listens at {SCHEME}://{address}: {error}") from error
        own = unparse_host_port(parse_host_port(address)[0], 0)
        return TCP(stream, f"{SCHEME}://{own}", f"{SCHEME}://{address}", deserialize)


class _Server(TCPServer):
    def __init__(self, accept: Callable[[IOStream], Awaitable[None]]) -> None:
        super().__init__(max_buffer_size=int(MAX_BUFFER_SIZE))
        self.accept = accept

    def handle_stream(self, stream: IOStream, address: Any) -> Awaitable[None]:
        return self.accept(stream)


class _Listener(BaseListener):
    """Listens at a socket of a new number in the folder of an address."""

    prefix = f"{SCHEME}://"

    def __init__(self, address: str, handle: Callable[[TCP], Any], deserialize: bool, allow_offload: bool) -> None:
        super().__init__()
        self.folder = parse_host_port(address, 0)[0]
        self.handle, self.deserialize, self.allow_offload = handle, deserialize, allow_offload
        self.server: TCPServer | None = None
        self.number = 0

    async def start(self) -> None:
        self.number = 1 + secrets.randbelow(999_999_999)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.setblocking(False)
        listening.bind(f"{self.folder}/{self.number}")
        listening.listen(BACKLOG)
        self.server = _Server(self._accept)
        self.server.add_socket(listening)

    async def _accept(self, stream: IOStream) -> None:
        if self.server is None:
            stream.close()
            return
        peer = f"{SCHEME}://{unparse_host_port(self.folder, 0)}"
        comm = TCP(stream, self.listen_address, peer, self.deserialize)
        comm.allow_offload = self.allow_offload
        with suppress(CommClosedError):
            await self.on_connection(comm)
            await self.handle(comm)

    def stop(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            server.stop()
            Path(self.folder, str(self.number)).unlink(missing_ok=True)

    @property
    def listen_address(self) -> str:
        return f"{SCHEME}://{unparse_host_port(self.folder, self.number)}"

    @property
    def contact_address(self) -> str:
        return self.listen_address


class _Sockets(Backend):
    """What Dask asks of a way to communicate; addresses are unix://FOLDER:NUMBER."""

    def get_connector(self) -> Connector:
        return _Connector()

    def get_listener(self, loc: str, handle_comm: Callable[[TCP], Any], deserialize: bool, **arguments: Any) -> Any:
        return _Listener(loc, handle_comm, deserialize, arguments.get("allow_offload", True))

    def get_address_host(self, loc: str) -> str:
        return parse_host_port(loc)[0]

    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        return parse_host_port(loc)

    def resolve_address(self, loc: str) -> str:
        return loc

    def get_local_address_for(self, loc: str) -> str:
        return parse_host_port(loc)[0]


def _needed(record: logging.LogRecord) -> bool:
    return "Could not set timeout on TCP stream" not in record.getMessage()


backends[SCHEME] = _Sockets()
logging.getLogger("distributed.comm.tcp").addFilter(_needed)  # those sockets have no such timeout, and need none


class _Private:
    """Serves no pages, and keeps its scratch folder off ``sys.path``."""

    local_directory: str

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        before = list(sys.path)
        super().__init__(*arguments, **settings)
        if self.local_directory not in before and self.local_directory in sys.path:
            sys.path.remove(self.local_directory)

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Open no port."""


class PrivateScheduler(_Private, Scheduler):
    """A scheduler that only this user reaches."""


class PrivateNanny(_Private, Nanny):
    """A nanny that only this user reaches."""


class PrivateWorker(_Private, Worker):
    """A worker that only this user reaches."""


def specification(folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """What ``SpecCluster`` takes to have a scheduler, and to make single-threaded workers, in a private folder."""
    place = {"host": str(folder), "protocol": f"{SCHEME}://"}
    nanny = {
        **place,
        "nthreads": 1,
        "memory_limit": 0,
        "env": environment,
        "worker_class": PrivateWorker,
        "silence_logs": logging.CRITICAL,
    }
    return {
        "scheduler": {"cls": PrivateScheduler, "options": {**place, "dashboard": False}},
        "worker": {"cls": PrivateNanny, "options": nanny},
    }
