"""A corpus transferred to another machine: sent as the files of a pack, found again in the cache by its checksum."""

from __future__ import annotations

import io
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.corpus import Corpus
from cello.audio.pack import MANIFEST, NOISE, SOUND, Record, encode_record, load_pack
from cello.audio.staging import locked, used, using
from cello.errors import CorpusError
from cello.files import DamagedFileError, read_stored

CHUNK_BYTES = 4 << 20


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """So many bytes of one of a pack's files, from ``offset`` on."""

    file: str
    offset: int
    content: bytes


def chunks(corpus: Corpus) -> Iterator[Chunk]:
    """A corpus as the files of a pack, the manifest last; no more than one chunk in memory."""
    noise = np.concatenate(corpus.noise) if corpus.noise else np.zeros(0, np.float32)
    sound = np.concatenate([corpus.sound, corpus.more]) if len(corpus.more) else corpus.sound
    crc = {SOUND: 0, NOISE: 0}
    for file, array in ((SOUND, sound), (NOISE, noise)):
        for chunk in _array_chunks(file, array):
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
    yield from _cut(MANIFEST, 0, memoryview(encode_record(record)))


def _array_chunks(file: str, array: NDArray[Any]) -> Iterator[Chunk]:
    header = io.BytesIO()
    form = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(header, form)
    yield Chunk(file=file, offset=0, content=header.getvalue())
    yield from _cut(file, header.tell(), np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _cut(file: str, start: int, content: memoryview) -> Iterator[Chunk]:
    for at in range(0, len(content), CHUNK_BYTES):
        yield Chunk(file=file, offset=start + at, content=bytes(content[at : at + CHUNK_BYTES]))


def receive(cache: Path, checksum: str, transfer: str, chunk: Chunk) -> None:
    """Put a chunk where the pack grows that is sent under this ``transfer``'s name.

    Raises:
        CorpusError: the cache cannot be written, or the chunk is of no file that a pack has.
    """
    folder = _partial(cache, checksum, transfer)
    if chunk.file not in (MANIFEST, SOUND, NOISE) or chunk.offset < 0:
        raise CorpusError(
            f"a chunk of {chunk.file!r} was sent, which is no file of a corpus; update Cello on all sides"
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
            f"the corpus cannot be received in the cache {str(cache)!r}: {error}; make room there, or make it writable"
        ) from error


def finalise(cache: Path, checksum: str, transfer: str) -> None:
    """Give a pack that was received whole its place in the cache.

    Raises:
        CorpusError: it is not whole.
    """
    grown, target = _partial(cache, checksum, transfer), cache / "packs" / checksum[:32]
    pack = load_pack(grown)
    if pack is None or pack.manifest.checksum != checksum:
        raise CorpusError(f"the corpus received in {str(grown)!r} is not what was sent; give the same command again")
    with locked(target):
        there = load_pack(target)
        if there is not None and there.manifest.checksum == checksum:
            shutil.rmtree(grown, ignore_errors=True)
            return
        shutil.rmtree(target, ignore_errors=True)
        for name in (SOUND, NOISE, MANIFEST):
            with (grown / name).open("rb") as file:
                os.fsync(file.fileno())
        grown.rename(target)


def _partial(cache: Path, checksum: str, transfer: str) -> Path:
    return cache / "packs" / f".{checksum[:32]}.partial-{transfer}"


def find(cache: Path, name: str, checksum: str) -> Corpus | None:
    """The corpus of this checksum if the cache holds it, however it came there, under the name given."""
    for manifest in sorted((cache / "packs").glob(f"[!.]*/{MANIFEST}")):
        with suppress(OSError, DamagedFileError):  # cleared away meanwhile, or unreadable: seen below
            if checksum.encode() not in read_stored(manifest):
                continue
        pack = load_pack(manifest.parent)
        if pack is not None and pack.manifest.checksum == checksum:
            using(cache)
            used(manifest.parent)
            return Corpus(msgspec.structs.replace(pack.manifest, corpus=name), pack.sound, pack.noise)
    return None
