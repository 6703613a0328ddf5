"""A model that needs no training: loud sound is a decision, its loudness the score."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from cello.deploy.decisions import Decision
from cello.deploy.limits import Limits
from cello.deploy.serve import Server, make_app
from cello.deploy.sound import mono
from cello.errors import ClipError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the client that Starlette would rather have
    from starlette.testclient import TestClient

RATE_HZ = 16_000


class MadeStream:
    """Decides once for every 1,000 samples, whatever pieces they come in."""

    def __init__(self) -> None:
        self._sound = np.zeros(0, dtype=np.float32)
        self._at = 0

    def push(self, samples: NDArray[Any], rate_hz: int | None = None) -> list[Decision]:
        self._sound = np.concatenate([self._sound, mono(samples)])
        found = []
        while len(self._sound) >= 1000:
            self._at += 1000
            found.append(Decision(self._at / (rate_hz or RATE_HZ), "loud", float(np.abs(self._sound[:1000]).mean())))
            self._sound = self._sound[1000:]
        return found

    def finish(self) -> list[Decision]:
        return [Decision((self._at + len(self._sound)) / RATE_HZ, "end", 1.0)]


class MadeModel:
    """What a server serves."""

    labels = ("loud", "<quiet>")
    rate_hz = RATE_HZ

    def predict(self, samples: NDArray[Any], rate_hz: int | None = None) -> list[tuple[str, float]]:
        if len(samples) < 400:
            raise ClipError(f"too short: it has {len(samples)} samples; give a longer clip")
        return [("loud", 0.75), ("<quiet>", 0.25)]

    def stream(self) -> MadeStream:
        return MadeStream()


def server(page: str | None = None, **limits: Any) -> Server:
    return Server(MadeModel(), Limits(**limits), page)


def client(one: Server) -> TestClient:
    return TestClient(make_app(one), raise_server_exceptions=False)


def wav(seconds: float = 0.5, rate_hz: int = RATE_HZ, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    form = {"format": "OGG", "subtype": "OPUS"} if kind == "Opus" else {"format": kind}
    soundfile.write(file, np.sin(np.arange(int(seconds * rate_hz)) / 7) / 3, rate_hz, **form)
    return file.getvalue()
