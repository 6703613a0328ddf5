"""Transfer a corpus to another machine in chunks; find it there in the cache by its checksum."""

from __future__ import annotations

import io
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.corpus import Corpus, Manifest
from cello.audio.dataset_cache import CachedDataset, find_dataset
from cello.audio.decode import as_float
from cello.audio.decoded import NOISE, SOUND, load_array
from cello.audio.staging import locked, used, using
from cello.errors import CorpusError, reason
from cello.files import DamagedFileError, read_stored, seal_json, unseal_json

MANIFEST = "manifest.json"
CHUNK_BYTES = 4 << 20


class Record(msgspec.Struct, frozen=True):
    """The manifest of a corpus that was sent, with CRC-32 of all its files, itself included.

    It is sealed, so that no field of it is believed after a damage either.
    """

    rule: str
    noise_samples: tuple[int, ...]
    sound_crc: int
    noise_crc: int
    manifest_crc: int
    manifest: msgspec.Raw


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Some bytes of one of the files that are sent, from ``offset``."""

    file: str
    offset: int
    content: bytes


def chunks(corpus: Corpus) -> Iterator[Chunk]:
    """Split a corpus into chunks of files, the manifest last; at most one chunk is in memory."""
    noise = corpus.noise or (np.zeros(0, np.float32),)
    crc = {SOUND: 0, NOISE: 0}
    for file, arrays in ((SOUND, corpus.arrays), (NOISE, noise)):
        for chunk in _array_chunks(file, arrays):
            crc[file] = zlib.crc32(chunk.content, crc[file])
            yield chunk
    manifest = msgspec.json.encode(corpus.manifest)
    record = Record(
        rule="",
        noise_samples=tuple(map(len, corpus.noise)),
        sound_crc=crc[SOUND],
        noise_crc=crc[NOISE],
        manifest_crc=zlib.crc32(manifest),
        manifest=msgspec.Raw(manifest),
    )
    yield from _cut(MANIFEST, 0, memoryview(seal_json(msgspec.json.encode(record))))


def _array_chunks(file: str, arrays: Sequence[NDArray[Any]]) -> Iterator[Chunk]:
    """Arrays end to end as one ``.npy`` file; where some are int16 and some float32, all are sent as float32."""
    dtype = np.dtype(np.int16 if all(array.dtype == np.int16 for array in arrays) else np.float32)
    header = io.BytesIO()
    form = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (sum(map(len, arrays)),)}
    np.lib.format.write_array_header_1_0(header, form)
    yield Chunk(file=file, offset=0, content=header.getvalue())
    start, step = header.tell(), CHUNK_BYTES // dtype.itemsize
    for array in arrays:
        for at in range(0, len(array), step):
            some = array[at : at + step]
            wide = np.ascontiguousarray(some if dtype == np.int16 else as_float(some), dtype=dtype)
            yield from _cut(file, start, wide.view(np.uint8).data)
            start += wide.nbytes


def _cut(file: str, start: int, content: memoryview) -> Iterator[Chunk]:
    for at in range(0, len(content), CHUNK_BYTES):
        yield Chunk(file=file, offset=start + at, content=bytes(content[at : at + CHUNK_BYTES]))


def receive(cache: Path, checksum: str, transfer: str, chunk: Chunk) -> None:
    """Write a chunk into the folder of the corpus that arrives under this ``transfer``'s name.

    Raises:
        CorpusError: the cache cannot be written, or the chunk is of an unknown file.
    """
    folder = _partial(cache, checksum, transfer)
    if chunk.file not in (MANIFEST, SOUND, NOISE) or chunk.offset < 0:
        raise CorpusError(
            f"received a chunk of {chunk.file!r}, which is not a file of a corpus; "
            f"install one version of Cello everywhere"
        )
    using(cache)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / chunk.file, os.O_WRONLY | os.O_CREAT, 0o644)
        with os.fdopen(file, "wb") as out:
            out.seek(chunk.offset)
            out.write(chunk.content)
    except OSError as error:
        raise CorpusError(
            f"the corpus cannot be written to the cache {str(cache)!r}: {reason(error)}; free space there or make it "
            f"writable"
        ) from error


def finalise(cache: Path, checksum: str, transfer: str) -> None:
    """Move a corpus that has arrived complete to its place in the cache.

    Raises:
        CorpusError: it is not complete.
    """
    partial, target = _partial(cache, checksum, transfer), cache / "packs" / checksum[:32]
    received = load_received(partial)
    if received is None or received.manifest.checksum != checksum:
        raise CorpusError(
            f"the corpus received in {str(partial)!r} differs from the one sent; run the same command again"
        )
    with locked(target):
        there = load_received(target)
        if there is not None and there.manifest.checksum == checksum:
            shutil.rmtree(partial, ignore_errors=True)
            return
        shutil.rmtree(target, ignore_errors=True)
        for name in (SOUND, NOISE, MANIFEST):
            with (partial / name).open("rb") as file:
                os.fsync(file.fileno())
        partial.rename(target)


def _partial(cache: Path, checksum: str, transfer: str) -> Path:
    return cache / "packs" / f".{checksum[:32]}.partial-{transfer}"


def load_received(target: Path) -> CachedDataset | None:
    """Load a corpus that was sent, or decoded by an earlier version, if it is complete; else None."""
    try:
        text = read_stored(target / MANIFEST)
        body = unseal_json(text)
        if len(body) == len(text):  # not sealed: of an earlier version, or damaged
            return None
        record = msgspec.json.decode(body, type=Record)
        if zlib.crc32(bytes(record.manifest)) != record.manifest_crc:
            return None
        manifest = msgspec.json.decode(record.manifest, type=Manifest)
        sound = load_array(target / SOUND, record.sound_crc)
        noise = load_array(target / NOISE, record.noise_crc)
    except (OSError, ValueError):
        return None
    ends = np.cumsum(record.noise_samples, dtype=np.int64)[:-1]
    return CachedDataset(
        manifest,
        record.rule,
        "unknown",
        sound,
        tuple(np.split(np.asarray(noise), ends)) if record.noise_samples else (),
    )


def find(cache: Path, name: str, checksum: str) -> Corpus | None:
    """Find the corpus of this checksum in the cache, decoded here or received, and give it this name."""
    if (made := find_dataset(cache, checksum)) is not None:
        using(cache)
        return Corpus(msgspec.structs.replace(made.manifest, corpus=name), made.sound, made.noise)
    for manifest in sorted((cache / "packs").glob(f"[!.]*/{MANIFEST}")):
        with suppress(OSError, DamagedFileError):  # cleared away meanwhile, or unreadable: seen below
            if checksum.encode() not in read_stored(manifest):
                continue
        received = load_received(manifest.parent)
        if received is not None and received.manifest.checksum == checksum:
            using(cache)
            used(manifest.parent)
            return Corpus(msgspec.structs.replace(received.manifest, corpus=name), received.sound, received.noise)
    return None
