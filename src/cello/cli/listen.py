"""Listen to a microphone or a file with a trained or exported model: `cello listen`."""

from __future__ import annotations

import queue
import time
from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.live import Live
from tyro.conf import FlagCreatePairsOff, Positional, arg

from cello.errors import ClipError, ConfigError
from cello.terminal import counted, one_line, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cello.deploy.package import PackageStream
    from cello.trained.stream import ModelStream

    Piece = NDArray[np.float32]

PIECE_S = 0.05
SILENT_S = 5.0
LONGEST_QUEUE = 200
"""Pieces that may wait: ten seconds, after which sound is lost rather than memory."""


@dataclass(frozen=True, kw_only=True)
class Listen:
    """Listen to a microphone, or to a file, and show what the model decides. Ctrl-C ends it."""

    folder: Annotated[Positional[Path], arg(help="an exported folder, or that of a run or study", metavar="DIR")]
    after: Annotated[
        Positional[tuple[str, ...]],
        arg(help="nothing follows: a file is given as --file", help_behavior_hint="", metavar=""),
    ] = ()
    file: Annotated[Path | None, arg(help="an audio file that is listened to in real time, not a microphone")] = None
    fast: Annotated[bool, arg(help="with --file, as fast as it can"), FlagCreatePairsOff] = False
    device: Annotated[str | None, arg(help="the microphone, by its number or a part of its name")] = None
    threshold: Annotated[float | None, arg(help="probability of a decision; the model's own by default")] = None
    row: Annotated[str | None, arg(help="of a study, the best run of this row")] = None
    column: Annotated[str | None, arg(help="of a study, the best run of this column")] = None

    def run(self, console: Console) -> None:
        from cello.cli.live import LiveView, line, nothing_decided

        if self.after:
            given = one_line(self.after[0])
            raise ConfigError(f"cello listen takes one folder, but {given!r} follows it; give --file for an audio file")
        if self.file is not None and self.device is not None:
            raise ConfigError("--file and --device cannot be combined; listen to one of them")
        if self.fast and self.file is None:
            raise ConfigError("--fast is for files; give --file, or leave it out")
        stream, rate_hz = self._stream()
        view = LiveView(str(self.file or self.device or "microphone"), stream.labels)
        lively = console.is_terminal and not self.fast
        decided = 0
        with Live(view, console=console, refresh_per_second=12) if lively else nullcontext():
            try:
                with closing(self._sound(rate_hz)) as sound:
                    for piece, from_hz in sound:
                        found = stream.push(piece, from_hz)
                        view.push(piece, from_hz, stream.last_scores, found)
                        decided += len(found)
                        if not lively:
                            for one in found:
                                say(console, line(one))
            except KeyboardInterrupt:
                pass  # how one stops listening
            rest = stream.finish()
            view.push(_nothing(), rate_hz, stream.last_scores, rest)
        for one in () if lively else rest:
            say(console, line(one))
        say(console, f"{counted(decided + len(rest), 'decision')} in {view.seconds:.1f} s of sound")
        if not decided + len(rest):
            say(console, nothing_decided(stream))

    def _stream(self) -> tuple[ModelStream | PackageStream, int]:
        """The model's stream, and the rate that it takes."""
        settings = {} if self.threshold is None else {"threshold": self.threshold}
        if (self.folder / "manifest.json").exists():
            from cello.deploy.package import load

            package = load(self.folder)
            return package.stream(**settings), package.rate_hz
        from cello.trained.model import load_model

        model = load_model(self.folder, self.row, self.column)
        return model.stream(**settings), model.features.rate_hz

    def _sound(self, rate_hz: int) -> Generator[tuple[Piece, int], None, None]:
        """Pieces of sound, each with its rate."""
        if self.file is not None:
            return _of_file(self.file, rate_hz, fast=self.fast)
        return _of_microphone(self.device, rate_hz)


def _nothing() -> Piece:
    import numpy as np

    return np.zeros(0, np.float32)


def _of_file(file: Path, rate_hz: int, *, fast: bool) -> Generator[tuple[Piece, int], None, None]:
    from cello.audio.decode import as_float, decode

    try:
        sound = as_float(decode(file, rate_hz, silent=True))
    except ClipError as error:
        raise ClipError(f"{str(file)!r}: {error}") from error
    step, begin = max(1, round(PIECE_S * rate_hz)), time.monotonic()
    for start in range(0, len(sound), step):
        if not fast:
            time.sleep(max(0.0, begin + start / rate_hz - time.monotonic()))
        yield sound[start : start + step], rate_hz


def _of_microphone(device: str | None, rate_hz: int) -> Generator[tuple[Piece, int], None, None]:
    try:
        import sounddevice
    except ImportError as error:
        raise ConfigError(
            "a microphone needs sounddevice, which is not installed; give: pip install 'cello-rnn[listen]', or "
            "listen to a --file"
        ) from error
    except OSError as error:  # the package is there, the system's PortAudio is not
        raise ConfigError(
            f"a microphone needs PortAudio ({error}); Debian and Ubuntu: apt install libportaudio2, or listen to a "
            "--file"
        ) from error
    chosen: int | str | None = int(device) if device is not None and device.isdecimal() else device
    waiting: queue.Queue[Piece] = queue.Queue(LONGEST_QUEUE)

    def arrived(samples: Piece, *_: Any) -> None:
        if not waiting.full():
            waiting.put_nowait(samples[:, 0].copy())

    try:
        from_hz = _rate_of(sounddevice, chosen, rate_hz)
        block = round(PIECE_S * from_hz)
        microphone = sounddevice.InputStream(
            samplerate=from_hz, blocksize=block, device=chosen, channels=1, dtype="float32", callback=arrived
        )
        with microphone:
            while True:
                yield waiting.get(timeout=SILENT_S), from_hz
    except queue.Empty:
        raise ConfigError(
            f"the microphone gave no sound for {SILENT_S:g} s; plug it in again, or choose another with --device"
        ) from None
    except (sounddevice.PortAudioError, ValueError) as error:
        named = "the microphone" if device is None else f"--device {device}"
        raise ConfigError(
            f"{named} cannot be opened: {error}; python -m sounddevice lists devices, or listen to a --file"
        ) from error


def _rate_of(sounddevice: Any, device: int | str | None, rate_hz: int) -> int:
    """The model's rate where the device has it, else the device's own, which is resampled."""
    try:
        sounddevice.check_input_settings(device=device, channels=1, dtype="float32", samplerate=rate_hz)
    except sounddevice.PortAudioError:
        return round(float(sounddevice.query_devices(device, "input")["default_samplerate"]))
    return rate_hz
