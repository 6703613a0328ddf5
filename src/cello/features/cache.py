"""Compute the frames of a corpus once, and keep them on disk as one memory map."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.audio.corpus import Corpus
from cello.audio.staging import used, using
from cello.cache import cache_root
from cello.errors import FeatureError
from cello.features.clean import NOTE
from cello.features.config import FeatureConfig
from cello.features.front_end import ClipFrames
from cello.features.normalise import blank_padding
from cello.files import seal_of, write_whole

#: Part of every key; raise it when the same config gives other values.
ARITHMETIC = 3

#: Samples (padding included) read and framed at once: 16 MiB of sound.
_SAMPLES_AT_ONCE = 1 << 22

Progress = Callable[[int, int], None]


class FeatureSet:
    """The frames of every clip of a corpus, end to end: ``flat`` is (ΣT, D) float32, ``counts`` (n,) int64.

    ``flat`` may lie on any device; ``counts`` are on the CPU.
    """

    def __init__(self, flat: Tensor, counts: Tensor) -> None:
        self.flat = flat
        self.counts = counts
        self.starts = torch.cumsum(counts, 0) - counts

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def dimensions(self) -> int:
        """D, the elements of one frame."""
        return self.flat.shape[1]

    def batch(self, indices: NDArray[np.int64] | Tensor) -> tuple[Tensor, Tensor]:
        """The frames of these clips, (B, T, D) with T the longest of them, zero after each end; and (B,) counts."""
        chosen = torch.as_tensor(indices)
        counts = self.counts[chosen]
        longest = int(counts.max()) if len(counts) else 0
        rows = self.starts[chosen, None] + torch.arange(longest)
        # Rows after a short clip's end are its successors'; blanked below. Only the last clip has none.
        rows = rows.clamp_(max=len(self.flat) - 1).view(-1).to(self.flat.device)
        out = self.flat.index_select(0, rows).view(len(counts), longest, self.dimensions)
        return blank_padding(out, counts), counts

    def in_memory(self) -> FeatureSet:
        """The same frames held in memory, read from the disk once."""
        return FeatureSet(self.flat.clone(), self.counts)


def load_features(
    corpus: Corpus, config: FeatureConfig, *, cache: Path | None = None, progress: Progress | None = None
) -> FeatureSet:
    """Load the frames of every clip from the cache, or compute and store them.

    ``cache`` is a folder (``None``: the user's cache folder for Cello); a file's name there is a hash of the whole
    config and of the corpus's checksum. ``progress`` is told (clips done, clips in all). A file is whole or absent:
    it is written under a temporary name and renamed, so a crash or a second process at the same work does no harm.
    One that was damaged, or lies under another's name, is computed anew: each ends with a CRC-32 of its name and bytes.

    ``normalisation="corpus"`` is the trainer's (it knows which clips train), so its frames are those of ``"none"``.

    Raises:
        FeatureError: another sample rate than the config's, a clip shorter than one window, or a cache folder that
            cannot be written.
    """
    check_corpus(corpus, config)
    counts = 1 + (corpus.lengths - config.window_samples) // config.hop_samples
    shape = (int(counts.sum()), config.dimensions)
    path = cache_folder(cache) / f"{cache_key(corpus, config)}.npy"
    using(cache_root(cache))
    flat = _open(path, shape)
    if flat is not None:
        used(path)
    else:
        try:
            _write(path, shape, _blocks(corpus, config, progress))
        except OSError as error:
            raise FeatureError(
                f"frames of {corpus.manifest.corpus} cannot be written to {path.parent}: {error.strerror or error} "
                f"({4 * shape[0] * shape[1] / 1e6:.0f} MB are needed); free space there or choose another cache folder"
            ) from error
        flat = _open(path, shape)
    if flat is None:
        raise FeatureError(
            f"frames written to {path} cannot be read back; check the disk or choose another cache folder"
        )
    _note(path.with_suffix(NOTE), corpus.manifest.corpus)
    return FeatureSet(torch.from_numpy(flat), torch.from_numpy(counts))


def _note(path: Path, name: str) -> None:
    """Say beside the frames which corpus they are of, for whoever looks at the cache."""
    if path.exists():
        used(path)
        return
    with suppress(OSError):
        write_whole(path, name.encode(errors="replace"))


def cache_folder(cache: Path | None = None) -> Path:
    """The folder for frames: the one given, or one in the user's cache folder."""
    return cache_root() / "features" if cache is None else cache


def cache_key(corpus: Corpus, config: FeatureConfig) -> str:
    """SHA-256 (hexadecimal) of all that frames depend on: config, corpus, arithmetic."""
    if config.normalisation == "corpus":
        config = msgspec.structs.replace(config, normalisation="none")
    parts = {"arithmetic": ARITHMETIC, "corpus": corpus.manifest.checksum, "features": config}
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def check_corpus(corpus: Corpus, config: FeatureConfig) -> None:
    """Refuse a corpus whose frames cannot be computed.

    Raises:
        FeatureError: it has no clips, another sample rate than the config, or a clip shorter than one window.
    """
    name = corpus.manifest.corpus
    if not len(corpus.lengths):
        raise FeatureError(f"corpus {name} has no clips, so there is nothing to compute frames of; check its folder")
    if corpus.manifest.rate_hz != config.rate_hz:
        raise FeatureError(
            f"corpus {name} was read at {corpus.manifest.rate_hz} Hz but features.rate_hz={config.rate_hz}; "
            f"open the corpus at {config.rate_hz} Hz or set features.rate_hz={corpus.manifest.rate_hz}"
        )
    short = np.flatnonzero(corpus.lengths < config.window_samples)
    if len(short):
        shortest = short[np.argmin(corpus.lengths[short])]
        lasts = 1000 * int(corpus.lengths[shortest]) / config.rate_hz
        raise FeatureError(
            f"clip {corpus.manifest.clips[shortest].name} of {name} lasts {lasts:.4g} ms, less than one window of "
            f"features.window_ms={config.window_ms:g}; {len(short)} of {len(corpus.lengths)} clips are too short; "
            f"use a window of at most {lasts:.4g} ms or leave those clips out"
        )


def _blocks(corpus: Corpus, config: FeatureConfig, progress: Progress | None) -> Iterator[NDArray[np.float32]]:
    """The frames of the clips in order, (some T, D) at a time."""
    clips = ClipFrames(corpus, np.arange(len(corpus.lengths)), config, threads=torch.get_num_threads())
    for first, last in _ranges(corpus.lengths):
        yield clips.flat(torch.arange(first, last)).numpy()
        if progress is not None:
            progress(last, len(corpus.lengths))


def _ranges(lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs [first, last) of clips whose padded samples fit into memory at once; at least one clip each."""
    first, longest = 0, 0
    for index, samples in enumerate(lengths.tolist()):
        longest = max(longest, samples)
        if index > first and longest * (index + 1 - first) > _SAMPLES_AT_ONCE:
            yield first, index
            first, longest = index, samples
    yield first, len(lengths)


def _open(path: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """The file's frames as a private memory map, or None where it is absent, damaged or of another shape."""
    header = _header(shape)
    start, size = len(header), 4 * shape[0] * shape[1]
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size != start + size + len(seal_of(0)):
                return None
            # Copy-on-write: torch wants writable memory, and nothing written to it ever reaches the file.
            held = np.memmap(file, dtype=np.uint8, mode="c")
    except (OSError, ValueError):
        return None
    crc = zlib.crc32(held[: start + size].data, _key_crc(path))
    if held[:start].tobytes() != header or held[start + size :].tobytes() != seal_of(crc):
        return None
    flat: NDArray[np.float32] = held[start : start + size].view("<f4").reshape(shape)
    return flat


def _header(shape: tuple[int, int]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _key_crc(path: Path) -> int:
    """What the CRC-32 of a file begins with, so that it holds under no other name."""
    return zlib.crc32(path.name.encode())


def _write(path: Path, shape: tuple[int, int], blocks: Iterator[NDArray[np.float32]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _sealed(path, shape, blocks))


def _sealed(path: Path, shape: tuple[int, int], blocks: Iterator[NDArray[np.float32]]) -> Iterator[bytes]:
    """The bytes of a file of frames, block by block, with the checksum at the end."""
    crc = _key_crc(path)
    for chunk in chain([_header(shape)], (block.astype("<f4", copy=False).tobytes() for block in blocks)):
        crc = zlib.crc32(chunk, crc)
        yield chunk
    yield seal_of(crc)
