"""Follow the chunks of RIFF and IFF files, also where pad bytes are missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from cello.audio.containers.source import Source
from cello.errors import ClipError

Order = Literal["little", "big"]

_MOST = 1 << 16
_KNOWN = frozenset(
    b"fmt |data|fact|LIST|list|INFO|JUNK|junk|PAD |FLLR|bext|cue |smpl|inst|plst|PEAK|id3 |ID3 |iXML|aXML|axml|chna|"
    b"cart|DISP|_PMX|acid|afsp|levl|umid|minf|elm1|regn|ds64|wavl|slnt|qlty|mext|link|strc|"
    b"COMM|SSND|FVER|MARK|COMT|NAME|AUTH|ANNO|(c) |INST|MIDI|AESD|APPL|SAUR|CHAN|BODY|VHDR".split(b"|")
)
# these begin another file or more sound, so nothing that stands behind the samples explains them
_SOUND = frozenset((b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"data", b"SSND", b"BODY", b"wavl"))


class Chunk(NamedTuple):
    """A chunk's four letters, and its body by position and promised size."""

    kind: bytes
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


def chunks(source: Source, start: int, order: Order) -> Iterator[Chunk]:
    """Iterate over chunks from ``start``, following their sizes; the last may reach beyond the file.

    Raises:
        ClipError: there are more than any writer makes.
    """
    for _ in range(_MOST):
        head = source.read(8, start)
        if len(head) < 8:
            return
        chunk = Chunk(head[:4], start + 8, int.from_bytes(head[4:], order))
        yield chunk
        start = after(source, chunk)
    raise ClipError(f"not audio: its header has more than {_MOST} chunks")


def after(source: Source, chunk: Chunk) -> int:
    """The position of the next chunk; odd chunks are padded to even length, but not by every writer."""
    if chunk.size % 2 == 0:
        return chunk.end
    head = source.read(5, chunk.end)
    bare, padded = head[:4], head[1:]
    forgotten = padded not in _KNOWN and (bare in _KNOWN or (_is_name(bare) and not _is_name(padded)))
    return chunk.end if forgotten else chunk.end + 1


def chunks_end(source: Source, samples: Chunk, order: Order) -> int:
    """The end of the chunks behind the samples, before more audio or bytes that are not chunks."""
    start = after(source, samples)
    for chunk in chunks(source, start, order):
        if chunk.kind in _SOUND or not (chunk.kind in _KNOWN or (_is_name(chunk.kind) and chunk.end <= source.size)):
            break
        start = after(source, chunk)
    return min(start, source.size)


def _is_name(kind: bytes) -> bool:
    return len(kind) == 4 and all(0x20 <= letter < 0x7F for letter in kind)
