"""A corpus carried to another machine: sent as the files of a pack, found again in the cache by its checksum."""

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
from cello.audio.decode import as_float
from cello.audio.decoded import NOISE, SOUND, load_array
from cello.audio.pack import Pack, find_pack
from cello.audio.staging import locked, used, using
from cello.errors import CorpusError
from cello.files import DamagedFileError, read_stored, seal_json, unseal_json

MANIFEST = "manifest.json"
PIECE_BYTES = 4 << 20


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


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """So many bytes of one of a pack's files, from ``offset`` on."""

    file: str
    offset: int
    content: bytes


def pieces(corpus: Corpus) -> Iterator[Piece]:
    """A corpus as the files of a pack, the manifest last; no more than one piece in memory."""
    noise = corpus.noise or (np.zeros(0, np.float32),)
    crc = {SOUND: 0, NOISE: 0}
    for file, arrays in ((SOUND, corpus.arrays), (NOISE, noise)):
        for piece in _array_pieces(file, arrays):
            crc[file] = zlib.crc32(piece.content, crc[file])
            yield piece
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


def _array_pieces(file: str, arrays: Sequence[NDArray[Any]]) -> Iterator[Piece]:
    """Arrays end to end as one ``.npy`` file; where some are int16 and some float32, all are sent as float32."""
    dtype = np.dtype(np.int16 if all(array.dtype == np.int16 for array in arrays) else np.float32)
    header = io.BytesIO()
    form = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (sum(map(len, arrays)),)}
    np.lib.format.write_array_header_1_0(header, form)
    yield Piece(file=file, offset=0, content=header.getvalue())
    start, step = header.tell(), PIECE_BYTES // dtype.itemsize
    for array in arrays:
        for at in range(0, len(array), step):
            some = array[at : at + step]
            wide = np.ascontiguousarray(some if dtype == np.int16 else as_float(some), dtype=dtype)
            yield from _cut(file, start, wide.view(np.uint8).data)
            start += wide.nbytes


def _cut(file: str, start: int, content: memoryview) -> Iterator[Piece]:
    for at in range(0, len(content), PIECE_BYTES):
        yield Piece(file=file, offset=start + at, content=bytes(content[at : at + PIECE_BYTES]))


def receive(cache: Path, checksum: str, transfer: str, piece: Piece) -> None:
    """Put a piece where the pack grows that is sent under this ``transfer``'s name.

    Raises:
        CorpusError: the cache cannot be written, or the piece is of no file that a pack has.
    """
    folder = _growing(cache, checksum, transfer)
    if piece.file not in (MANIFEST, SOUND, NOISE) or piece.offset < 0:
        raise CorpusError(
            f"a piece of {piece.file!r} was sent, which is no file of a corpus; update Cello on all sides"
        )
    using(cache)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / piece.file, os.O_WRONLY | os.O_CREAT, 0o644)
        with os.fdopen(file, "wb") as out:
            out.seek(piece.offset)
            out.write(piece.content)
    except OSError as error:
        raise CorpusError(
            f"the corpus cannot be received in the cache {str(cache)!r}: {error}; make room there, or make it writable"
        ) from error


def settle(cache: Path, checksum: str, transfer: str) -> None:
    """Give a pack that was received whole its place in the cache.

    Raises:
        CorpusError: it is not whole.
    """
    grown, target = _growing(cache, checksum, transfer), cache / "packs" / checksum[:32]
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


def _growing(cache: Path, checksum: str, transfer: str) -> Path:
    return cache / "packs" / f".{checksum[:32]}.partial-{transfer}"


def load_pack(target: Path) -> Pack | None:
    """A corpus that was sent, if it is there and whole; those that earlier versions decoded into packs, too."""
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
    return Pack(
        manifest,
        record.rule,
        "unknown",
        sound,
        tuple(np.split(np.asarray(noise), ends)) if record.noise_samples else (),
    )


def find(cache: Path, name: str, checksum: str) -> Corpus | None:
    """The corpus of this checksum if the cache holds it, decoded here or sent, under the name given."""
    if (made := find_pack(cache, checksum)) is not None:
        using(cache)
        return Corpus(msgspec.structs.replace(made.manifest, corpus=name), made.sound, made.noise)
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
