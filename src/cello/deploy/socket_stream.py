"""Serve one stream of sound over a WebSocket: samples in, decisions out as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from numpy.typing import NDArray

from cello.deploy.decisions import Decision
from cello.deploy.limits import FASTEST_HZ, SLOWEST_HZ, Limits, RefusedError, refusal_of
from cello.errors import CelloError

FORMATS: dict[str, np.dtype[Any]] = {"int16": np.dtype("<i2"), "float32": np.dtype("<f4")}
POLICY, NOT_TAKEN, TOO_BIG, AGAIN_LATER, BAD_DATA, FAILED = 1008, 1003, 1009, 1013, 1007, 1011
"""Close codes, of RFC 6455 and its registry."""
LONGEST_MESSAGE_S = 5.0
"""Sound in one message; it bounds how long one client can keep the others waiting."""
PIECE_S = 0.1
"""Sound that is computed before other streams have their turn."""
BURST_S = 10.0
"""Sound that may come at once before a client has to wait."""


class Stream(Protocol):
    """Endless sound → decisions."""

    def push(self, samples: NDArray[Any], rate_hz: int | None = None) -> list[Decision]:
        """Take some samples; the decisions that they bring."""

    def finish(self) -> list[Decision]:
        """End the stream; the decisions of what waited."""


class StreamFormat(NamedTuple):
    """How the samples of a stream are coded."""

    rate_hz: int
    dtype: np.dtype[Any]

    @classmethod
    def asked(cls, rate_hz: str, name: str) -> StreamFormat:
        """What the query of a stream's address says.

        Raises:
            RefusedError: no such format or rate.
        """
        if name not in FORMATS:
            raise RefusedError(POLICY, "the format is not known", name[:40], f"ask for format={' or '.join(FORMATS)}")
        rate = int(rate_hz) if rate_hz.isascii() and rate_hz.isdecimal() and len(rate_hz) < 10 else 0
        if not SLOWEST_HZ <= rate <= FASTEST_HZ:
            allowed = f"give rate_hz from {SLOWEST_HZ} to {FASTEST_HZ}"
            raise RefusedError(POLICY, "the sampling rate is not taken", rate_hz[:40], allowed)
        return cls(rate, FORMATS[name])

    def samples(self, message: bytes) -> NDArray[Any]:
        """The samples of a message.

        Raises:
            RefusedError: it holds a part of a sample, or more sound than a message may.
        """
        if len(message) % self.dtype.itemsize:
            remedy = f"send whole samples of {self.dtype.itemsize} bytes, little-endian"
            raise RefusedError(BAD_DATA, "the message ends within a sample", len(message), remedy)
        if len(message) > LONGEST_MESSAGE_S * self.rate_hz * self.dtype.itemsize:
            remedy = "send smaller pieces, such as 20 ms"
            raise RefusedError(
                TOO_BIG, f"the message holds more than {LONGEST_MESSAGE_S:g} s of sound", len(message), remedy
            )
        return np.frombuffer(message, self.dtype).astype(self.dtype.newbyteorder("="), copy=False)


class SocketStream:
    """One accepted WebSocket with its stream, until either side ends it."""

    def __init__(self, socket: WebSocket, stream: Stream, form: StreamFormat, limits: Limits) -> None:
        self.socket, self.stream, self.form, self.limits = socket, stream, form, limits
        self._piece = max(1, int(PIECE_S * form.rate_hz))
        self.samples = self.decisions = 0
        self._sending = False
        self._began_s = asyncio.get_running_loop().time()

    async def run(self, ready: dict[str, Any]) -> None:
        """Say that it is ready, and take messages until the client says that the sound ends, or leaves.

        Raises:
            RefusedError: it sends what cannot be taken, nothing at all, or does not read.
            WebSocketDisconnect: it has left.
        """
        limit = self.limits.idle_s
        try:
            async with asyncio.timeout(limit) as self._idle:
                await self.send(ready)
                await self._run()
        except TimeoutError:
            if self._sending:
                raise RefusedError(POLICY, "the client does not read", limit, "read what is sent") from None
            raise RefusedError(
                POLICY, f"no sound came for {limit:g} s", limit, "send silence to keep a stream"
            ) from None

    async def _run(self) -> None:
        while (samples := await self._received()) is not None:
            for start in range(0, len(samples), self._piece):
                if start:
                    await asyncio.sleep(0)  # the other streams have their turn
                piece = samples[start : start + self._piece]
                if decisions := self._computed(self.stream.push, piece, self.form.rate_hz):
                    await self._tell(decisions)
            self.samples += len(samples)
            if (ahead_s := self._ahead_s()) > 0:
                await asyncio.sleep(ahead_s / self.limits.speed)
                self._keep()
        await self._tell(self._computed(self.stream.finish))
        seconds = round(self.samples / self.form.rate_hz, 6)
        await self.send({"type": "end", "seconds": seconds, "decisions": self.decisions})

    async def _received(self) -> NDArray[Any] | None:
        """The samples of the next message; None where the sound ends."""
        message = await self.socket.receive()
        self._keep()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        if (content := message.get("bytes")) is not None:
            if len(content) > self.limits.message_bytes:
                limit = f"the message is larger than {self.limits.message_bytes} bytes"
                raise RefusedError(TOO_BIG, limit, len(content), "send smaller pieces, such as 20 ms")
            return self.form.samples(content)
        _check_end(message.get("text") or "")
        return None

    def _keep(self) -> None:
        """Put the end for want of sound off; not at every message, as a timer costs as much as reading one."""
        due_s, limit = self._idle.when(), self.limits.idle_s
        now_s = asyncio.get_running_loop().time()
        if due_s is not None and due_s - now_s < 0.9 * limit:
            self._idle.reschedule(now_s + limit)

    def _computed(self, function: Callable[..., list[Decision]], *arguments: Any) -> list[Decision]:
        """What a piece of sound brings: some 0.1 ms of work, which in another thread takes longer than here."""
        try:
            return function(*arguments)
        except CelloError as error:
            raise refusal_of(error, BAD_DATA) from error

    async def _tell(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            self.decisions += 1
            await self.send({"type": "decision", **decision._asdict()})

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message to the client.

        Raises:
            WebSocketDisconnect: it has left, or the protocol has closed the connection.
        """
        self._sending = True
        try:
            await self.socket.send_text(json.dumps(message))
        except RuntimeError as error:  # the close is in the queue behind the sound that is being computed
            raise WebSocketDisconnect(1006) from error
        self._sending = False

    def _ahead_s(self) -> float:
        """How much more sound has come than at the highest speed; such a client waits, so that the others do not."""
        elapsed_s = asyncio.get_running_loop().time() - self._began_s
        return self.samples / self.form.rate_hz - BURST_S - elapsed_s * self.limits.speed


def _check_end(text: str) -> None:
    """Refuse any other text than ``{"end": true}``.

    Raises:
        RefusedError: it is something else.
    """
    try:
        if json.loads(text[:200]) == {"end": True}:
            return
    except (ValueError, RecursionError):
        pass
    raise RefusedError(
        NOT_TAKEN, "the text is not known", text[:40], 'send samples as binary messages, then {"end": true}'
    )
