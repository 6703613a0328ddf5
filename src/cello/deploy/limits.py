"""Bound what clients of a server may ask for, and word the refusal when it is too much."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from cello.errors import CelloError, ConfigError

SLOWEST_HZ, FASTEST_HZ = 1_000, 192_000
"""Sampling rates that a stream may have."""
FORMATS = "WAV, FLAC, OGG, Opus or MP3"
"""Forms of sound that clients are told to send; others that a corpus may have are taken too."""
MOST_CLIENTS = 4096
"""Addresses whose requests are counted; the one that has been quiet longest is forgotten."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server takes.

    Attributes:
        streams: WebSocket streams at once
        files: uploads at once, received or being computed
        bytes: of one upload
        seconds: of sound in one upload
        idle_s: time after which a client that sends nothing is dropped
        upload_s: time that one upload may take
        a_minute: uploads a minute from one address
        speed: how much faster than real time a stream is taken; a faster one waits
        message_bytes: of one WebSocket message

    Raises:
        ConfigError: one is not positive and finite.
    """

    streams: int = 64
    files: int = 8
    bytes: int = 8 << 20
    seconds: float = 60.0
    idle_s: float = 30.0
    upload_s: float = 60.0
    a_minute: int = 600
    speed: float = 4.0
    message_bytes: int = 1 << 18

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{field.name}={value} is invalid: a limit must be finite and above 0")


class RefusedError(Exception):
    """What a client gets instead of an answer: an HTTP status or a close code, and what to do."""

    def __init__(self, status: int, fact: str, value: Any = None, remedy: str = "") -> None:
        super().__init__(fact)
        self.status, self.fact, self.value, self.remedy = status, fact, value, remedy

    @property
    def body(self) -> dict[str, Any]:
        """As JSON."""
        return {"fact": self.fact, "value": self.value, "remedy": self.remedy}


def refusal_of(error: CelloError, status: int, value: Any = None) -> RefusedError:
    """An error of Cello, whose sentence ends with the remedy, as a client gets it.

    >>> refusal_of(CelloError("too short: 3 samples; give a longer clip"), 422).body
    {'fact': 'too short: 3 samples', 'value': None, 'remedy': 'give a longer clip'}
    >>> refusal_of(CelloError("MP4: convert it to WAV or FLAC"), 422).body
    {'fact': 'MP4', 'value': None, 'remedy': 'convert it to WAV or FLAC'}
    """
    fact, remedy = str(error), f"send a whole sound file: {FORMATS}"
    if "; " in fact:
        fact, _, remedy = fact.rpartition("; ")
    elif ": convert it " in fact:
        fact, _, how = fact.rpartition(": convert it ")
        remedy = f"convert it {how}"
    return RefusedError(status, fact, value, remedy)


class RateLimit:
    """Allows each client so many requests a minute, which may come all at once.

    >>> limit = RateLimit(2, clock=lambda: 0.0)
    >>> [limit.wait_s("a"), limit.wait_s("a"), limit.wait_s("a"), limit.wait_s("b")]
    [0.0, 0.0, 30.0, 0.0]
    """

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.a_minute, self._clock = a_minute, clock
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """0 where one more request is allowed, which then counts; else how long to wait for it."""
        now = self._clock()
        left, since = self._clients.pop(client, (float(self.a_minute), now))
        left = min(float(self.a_minute), left + (now - since) * self.a_minute / 60)
        allowed = left >= 1
        self._clients[client] = (left - 1 if allowed else left, now)
        if len(self._clients) > MOST_CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if allowed else (1 - left) * 60 / self.a_minute
