"""What hurts: connections that ask for nothing and stay, streams of clients that are gone, a port that is taken."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from cello.deploy import listener, upload
from cello.deploy.listener import TimedProtocol, config_of, is_local, listen
from cello.errors import DeployError
from made_server import server, wav


class Running:
    """A server in a thread, with its address and what uvicorn holds for it."""

    def __init__(self, **limits: Any) -> None:
        self.server = server(**limits)
        self.socket = listen("127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.uvicorn = uvicorn.Server(config_of(self.server, self.server.limits))
        self.thread = threading.Thread(target=self.uvicorn.run, kwargs={"sockets": [self.socket]})

    @property
    def held(self) -> int:
        """Connections, tasks, streams and uploads that are held."""
        state = self.uvicorn.server_state
        return len(state.connections) + len(state.tasks) + self.server.streams + self.server.files


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(TimedProtocol, "request_s", 0.1)
    monkeypatch.setattr(upload, "DISCARD_S", 0.1)
    monkeypatch.setattr(listener, "PING_S", 0.1)
    one = Running(streams=2)
    one.thread.start()
    _until(lambda: one.uvicorn.started)
    yield one
    one.uvicorn.should_exit = True
    one.thread.join(10)
    assert not one.thread.is_alive()


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def _raw_stream(running: Running) -> socket.socket:
    """A stream of a client that does not know how to take its leave."""
    client = socket.create_connection(running.address.split(":"), timeout=10)
    client.sendall(
        b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
    return client


def test_files_and_streams_are_served_and_vanished_clients_leave_nothing(running: Running) -> None:
    request = urllib.request.Request(f"http://{running.address}/predict", wav())
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["label"] == "loud"
    with connect(f"ws://{running.address}/stream", compression=None) as stream:
        assert json.loads(stream.recv())["type"] == "ready"
        stream.send(bytes(2000))
        assert json.loads(stream.recv())["time_s"] == 0.0625
        with _raw_stream(running) as gone:
            _until(lambda: running.server.streams == 2)
            with connect(f"ws://{running.address}/stream", compression=None) as third:
                assert json.loads(third.recv())["type"] == "error"
                with pytest.raises(ConnectionClosed) as late:
                    third.recv()
            assert late.value.rcvd is not None
            assert late.value.rcvd.code == 1013
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, as of a crash
        _until(lambda: running.server.streams == 1)
        stream.send('{"end": true}')
        assert [json.loads(text)["type"] for text in stream] == ["decision", "end"]
    _until(lambda: running.held == 0)


def test_a_message_too_large_is_closed_by_the_protocol_before_it_is_whole(running: Running) -> None:
    with connect(f"ws://{running.address}/stream", compression=None) as stream:
        stream.recv()
        stream.send(bytes(300_000))
        with pytest.raises(ConnectionClosed) as closed:
            stream.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    _until(lambda: running.held == 0)


def test_a_stream_whose_answer_to_a_ping_waits_behind_its_sound_is_not_dropped(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cello.deploy.socket_stream.BURST_S", 0.0)
    with connect(f"ws://{running.address}/stream", compression=None, ping_interval=None) as stream:
        for _ in range(12):  # 2.4 s of sound in 0.6 s at four times its speed, six times as long as between two pings
            stream.send(bytes(6400))
        stream.send('{"end": true}')
        told = [json.loads(text) for text in stream]
    assert [one["type"] for one in told[-2:]] == ["decision", "end"]
    assert told[-1]["decisions"] == len(told) - 2 == 39


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET"])
def test_a_connection_that_sends_no_whole_request_is_dropped(running: Running, sent: bytes) -> None:
    with socket.create_connection(running.address.split(":"), timeout=10) as client:
        client.sendall(sent)
        while client.recv(4096):
            pass
    _until(lambda: running.held == 0)


def test_an_upload_that_is_too_large_is_answered_though_most_of_it_was_not_sent(running: Running) -> None:
    with socket.create_connection(running.address.split(":"), timeout=10) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nabc")
        told = b""
        while part := client.recv(4096):
            told += part
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in told.lower()
    _until(lambda: running.held == 0)


def test_a_taken_port_and_an_address_of_another_machine_are_said() -> None:
    with listen("127.0.0.1", 0) as taken:
        assert is_local(taken)
        port = taken.getsockname()[1]
        with pytest.raises(
            DeployError, match=f"^--host 127.0.0.1 --port {port} cannot be listened on: Address already"
        ):
            listen("127.0.0.1", port)
    for host, port in (("203.0.113.1", 0), ("a" * 300, 0), ("no such host", 0)):
        with pytest.raises(DeployError, match=r"cannot be listened on: .*; choose another --port"):
            listen(host, port).close()
    with pytest.raises(DeployError, match=r"^--port 65536 is invalid: it must be from 0 to 65535$"):
        listen("127.0.0.1", 65_536)
    with pytest.raises(DeployError, match=r"^--host is empty: give 127\.0\.0\.1 for this machine alone"):
        listen("", 0)


def test_an_address_for_everyone_is_known_as_such() -> None:
    with listen("0.0.0.0", 0) as everyone:
        assert not is_local(everyone)
