# ruff: noqa: T201
"""Hold many streams of `cello serve` in real time, and compare every decision with the same stream computed directly.

python benchmarks/serve_load.py model --clients 64 --seconds 30
python benchmarks/serve_load.py results/mine/runs/ID --wav words.wav

The model is an exported folder or a run. Sound is made, or from a WAV file of words at the model's rate and 16 bits,
each client from another place on. Each client sends 20 ms pieces of int16 when they would have been recorded. A
decision's latency is the time from the sending of the piece that brings it, known from the direct computation, to its
arrival.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from cello.cli.serve import served_of

PIECE_S = 0.02
CLOCK = os.sysconf("SC_CLK_TCK")


def sound_of(client: int, seconds: float, rate_hz: int, words: NDArray[np.int16] | None) -> NDArray[np.int16]:
    """Words from another place on for each client; without any tones that change and noise that swells."""
    if words is not None:
        return np.resize(np.roll(words, -7919 * client), int(seconds * rate_hz))
    rng = np.random.default_rng(client)
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    hz = np.repeat(rng.uniform(150, 3500, int(seconds / 0.25) + 1), int(0.25 * rate_hz))[: len(times)]
    tones = np.sin(2 * np.pi * np.cumsum(hz) / rate_hz) * np.sin(2 * np.pi * times * rng.uniform(0.3, 1.5)) ** 2
    return np.asarray((0.3 * tones + rng.normal(0, 0.03, len(times))) * 20_000, dtype=np.int16)


def read_wav(path: Path, rate_hz: int) -> NDArray[np.int16]:
    """The samples of a WAV file."""
    with wave.open(str(path), "rb") as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (rate_hz, 1, 2):
            sys.exit(f"{path} is not one channel of 16 bits at {rate_hz} Hz")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def pieces_of(sound: NDArray[np.int16], rate_hz: int) -> list[NDArray[np.int16]]:
    """What is sent at once."""
    step = int(PIECE_S * rate_hz)
    return [sound[start : start + step] for start in range(0, len(sound), step)]


def expected(served: Any, pieces: list[NDArray[np.int16]]) -> list[tuple[int, Any]]:
    """Each decision with the number of the piece that brings it; the ones of the end have the number of pieces."""
    stream = served.stream()
    found = [(number, one) for number, piece in enumerate(pieces) for one in stream.push(piece, served.rate_hz)]
    return found + [(len(pieces), one) for one in stream.finish()]


class Client:
    """One stream: what it sent when, and what came back when."""

    def __init__(self, url: str, pieces: list[NDArray[np.int16]], begin_s: float) -> None:
        self.url, self.pieces, self.begin_s = url, pieces, begin_s
        self.sent_s: list[float] = []
        self.told: list[tuple[float, dict[str, Any]]] = []

    async def run(self) -> None:
        """Send in real time, and read."""
        async with connect(self.url, compression=None, max_queue=None, ping_interval=None) as socket:
            reading = asyncio.create_task(self._read(socket))
            await asyncio.sleep(max(0.0, self.begin_s - time.perf_counter()))
            for number, piece in enumerate(self.pieces):
                await asyncio.sleep(max(0.0, self.begin_s + number * PIECE_S - time.perf_counter()))
                self.sent_s.append(time.perf_counter())
                await socket.send(piece.tobytes())
            self.sent_s.append(time.perf_counter())
            await socket.send('{"end": true}')
            await reading

    async def _read(self, socket: Any) -> None:
        async for text in socket:
            self.told.append((time.perf_counter(), json.loads(text)))


async def load(url: str, sounds: list[list[NDArray[np.int16]]]) -> list[Client]:
    """All clients at once, their pieces spread over the 20 ms."""
    begin = time.perf_counter() + 2
    clients = [Client(url, pieces, begin + PIECE_S * k / len(sounds)) for k, pieces in enumerate(sounds)]
    await asyncio.gather(*(client.run() for client in clients))
    return clients


def differences(client: Client, due: list[tuple[int, Any]]) -> tuple[int, list[float]]:
    """How many decisions are missing, too many or different, and the latency of the others in ms."""
    came = [(at, one) for at, one in client.told if one["type"] == "decision"]
    wrong = abs(len(came) - len(due))
    latencies = []
    for (at, one), (number, decision) in zip(came, due, strict=False):
        same = (one["time_s"], one["label"]) == (decision.time_s, decision.label)
        wrong += not (same and abs(one["score"] - decision.score) < 1e-6)
        latencies.append(1000 * (at - client.sent_s[number]))
    return wrong, latencies


def cpu_s(pid: int) -> float:
    """What a process has used of the processors."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--seconds", type=float, default=30)
    options.add_argument("--wav", type=Path)
    asked = options.parse_args()
    served, _ = served_of(asked.folder)
    words = read_wav(asked.wav, served.rate_hz) if asked.wav else None
    each = [sound_of(k, asked.seconds, served.rate_hz, words) for k in range(asked.clients)]
    sounds = [pieces_of(sound, served.rate_hz) for sound in each]
    due = [expected(served, pieces) for pieces in sounds]
    command = [sys.executable, "-u", "-m", "cello", "serve", str(asked.folder), "--port", "0"]
    with subprocess.Popen(
        [*command, "--most-streams", str(asked.clients)], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            told = server.stdout.readline() if server.stdout else ""
            address = re.search(r"http://(\S+)/", told)
            if address is None:
                sys.exit(f"the server did not start: {told}")
            used, own = cpu_s(server.pid), cpu_s(os.getpid())
            url = f"ws://{address[1]}/stream?rate_hz={served.rate_hz}&format=int16"
            clients = asyncio.run(load(url, sounds))
            used, own = cpu_s(server.pid) - used, cpu_s(os.getpid()) - own
        finally:
            server.terminate()
    results = [differences(client, one) for client, one in zip(clients, due, strict=True)]
    latencies = np.array([ms for _, found in results for ms in found])
    late = np.array([at - (c.begin_s + k * PIECE_S) for c in clients for k, at in enumerate(c.sent_s)])
    print(f"{len(clients)} streams of {asked.seconds:g} s: {len(latencies)} decisions, ", end="")
    print(f"{sum(wrong for wrong, _ in results)} wrong or missing; latency p50 {np.median(latencies):.2f} ms, ", end="")
    print(f"p99 {np.quantile(latencies, 0.99):.2f} ms, most {latencies.max():.2f} ms; ", end="")
    print(f"server {100 * used / asked.seconds:.0f} % of a core, clients {100 * own / asked.seconds:.0f} %, ", end="")
    print(f"which sent p99 {1000 * np.quantile(late, 0.99):.2f} ms late; load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
