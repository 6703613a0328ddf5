"""Write the samples of many clips into one file of the narrowest type."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np

from cello.audio.decode import Sound, as_float

_BLOCK_SAMPLES = 1 << 20


class SampleWriter:
    """A flat npy file grown clip by clip: int16 until the first float32 clip comes, float32 from then on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples = 0
        self._open("<i2")

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def append(self, sound: Sound) -> int:
        """Write a clip and return its start."""
        if sound.dtype == np.float32 and self.dtype == np.int16:
            self._widen()
        start = self.samples
        self._write(sound)
        return start

    def _open(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self._file = self.path.open("wb")
        self._write_header()

    def _write(self, sound: Sound) -> None:
        same = sound if self.dtype == np.int16 else as_float(sound)
        self._file.write(np.ascontiguousarray(same, dtype=self.dtype).data)
        self.samples += len(sound)

    def _write_header(self) -> None:
        # numpy pads the header so that its length does not depend on the number of samples
        shape = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.samples,)}
        np.lib.format.write_array_header_1_0(self._file, shape)

    def _close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _widen(self) -> None:
        self._close()
        narrow = self.path.with_suffix(".int16")
        self.path.rename(narrow)
        written, self.samples = self.samples, 0
        self._open("<f4")
        if written:
            whole = np.load(narrow, mmap_mode="r")
            for start in range(0, written, _BLOCK_SAMPLES):
                self._write(whole[start : start + _BLOCK_SAMPLES])
            del whole
        narrow.unlink()
