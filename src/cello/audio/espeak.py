"""Run eSpeak NG as a separate program that returns the same audio for the same utterances."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.errors import CorpusError

WORKER = Path(__file__).with_name("spoken_worker.py")
LONGEST_DATA_PATH = 150
"""eSpeak NG keeps the path of its data in 160 bytes and does not start with a longer one."""
_SEED = 1
_TIMEOUT_S = 300


class Utterance(msgspec.Struct, frozen=True, array_like=True):
    """A text for a voice such as ``en-us+f3``, at ``rate`` words a minute and ``pitch`` from 0 to 99."""

    voice: str
    text: str
    rate: int
    pitch: int


class Engine(msgspec.Struct, frozen=True):
    """The paths of the library and its data."""

    library: Path
    data: Path


@contextmanager
def engine() -> Iterator[Engine]:
    """Find the eSpeak NG of the ``spoken`` extra, with its data at a path short enough for it.

    Raises:
        CorpusError: the extra is not installed.
    """
    try:
        loader = importlib.import_module("espeakng_loader")
    except ModuleNotFoundError:
        raise CorpusError(
            "the spoken corpus is rendered by eSpeak NG, which is not installed here; "
            "install it with: pip install 'cello-rnn[spoken]' (or choose another corpus)"
        ) from None
    with short_path(Path(loader.get_data_path())) as data:
        yield Engine(Path(loader.get_library_path()), data)


@contextmanager
def short_path(folder: Path) -> Iterator[Path]:
    """The folder, or a link to it (else a copy) whose path is short enough for eSpeak NG.

    Raises:
        CorpusError: the folder for temporary files has too long a path as well.
    """
    if len(os.fsencode(folder)) <= LONGEST_DATA_PATH:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="cello-") as place:
        short = Path(place) / "data"
        if len(os.fsencode(short)) > LONGEST_DATA_PATH:
            raise CorpusError(
                f"eSpeak NG accepts no data path of more than {LONGEST_DATA_PATH} bytes, and both {folder} and the "
                f"folder for temporary files ({tempfile.gettempdir()}) are longer; set TMPDIR to a shorter folder"
            )
        try:
            short.symlink_to(folder, target_is_directory=True)
        except OSError:
            shutil.copytree(folder, short)
        yield short


def say(
    engine: Engine, utterances: Sequence[Utterance], *, longest_ms: int, worker: Path = WORKER
) -> tuple[int, list[NDArray[np.int16]]]:
    """Render utterances: the sample rate in hertz and the audio (N,) of each, at most ``longest_ms`` long.

    One fresh process says them all in order, so the same utterances always give the same samples.

    Raises:
        CorpusError: the process failed, with what it printed.
    """
    job = {
        "library": str(engine.library),
        "data": str(engine.data),
        "seed": _SEED,
        "longest_ms": longest_ms,
        "utterances": msgspec.to_builtins(utterances),
    }
    command = [sys.executable, "-I", str(worker)]
    try:
        done = subprocess.run(
            command, input=json.dumps(job).encode(), capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CorpusError(
            f"eSpeak NG did not finish {len(utterances)} utterances in {_TIMEOUT_S} s; {_REMEDY}"
        ) from None
    printed = done.stderr.decode(errors="replace").strip()[-2000:]
    if done.returncode != 0:
        raise CorpusError(
            f"the eSpeak NG worker {_ending(done.returncode)}: {printed or '(it printed nothing)'}; {_REMEDY}"
        )
    try:
        return _unpack(done.stdout, len(utterances))
    except (struct.error, ValueError):
        raise CorpusError(
            f"the eSpeak NG worker answered {len(done.stdout)} bytes that are not {len(utterances)} utterances: "
            f"{printed or '(it printed nothing)'}; {_REMEDY}"
        ) from None


_REMEDY = "reinstall it with: pip install --force-reinstall 'cello-rnn[spoken]', or choose another corpus"


def _ending(code: int) -> str:
    if code >= 0:
        return f"stopped with exit code {code}"
    names = {int(number): number.name for number in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"


def _unpack(answer: bytes, count: int) -> tuple[int, list[NDArray[np.int16]]]:
    """The worker's answer taken apart; ValueError or struct.error where it is not whole."""
    (rate_hz,) = struct.unpack_from("<I", answer)
    sounds: list[NDArray[np.int16]] = []
    at = 4
    for _ in range(count):
        (samples,) = struct.unpack_from("<I", answer, at)
        sounds.append(np.frombuffer(answer, dtype="<i2", count=samples, offset=at + 4).astype(np.int16))
        at += 4 + 2 * samples
    if at != len(answer):
        raise ValueError
    return rate_hz, sounds
