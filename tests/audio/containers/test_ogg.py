"""Ogg pages: cut, missing, damaged, unmarked, or of a second stream."""

from __future__ import annotations

import numpy as np
import pytest

from cello.audio.containers.ogg import page_crc
from cello.errors import ClipError

from .conftest import Decoder, encoded, noise

CODECS = ("vorbis", "opus")


@pytest.fixture(scope="module")
def long() -> dict[str, bytes]:
    return {name: encoded(name, noise(64_000)) for name in CODECS}


def pages(content: bytes) -> list[bytes]:
    starts = [at for at in range(len(content)) if content.startswith(b"OggS\0", at)]
    return [content[a:b] for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]


@pytest.mark.parametrize("name", CODECS)
def test_a_stream_whose_end_is_not_marked_is_read(long: dict[str, bytes], decoded: Decoder, name: str) -> None:
    *others, last = pages(long[name])
    unmarked = bytearray(last)
    unmarked[5] &= ~4
    unmarked[22:26] = page_crc(bytes(unmarked)).to_bytes(4, "little")
    assert np.array_equal(decoded(b"".join(others) + unmarked), decoded(long[name]))


@pytest.mark.parametrize("name", CODECS)
def test_a_last_page_that_is_cut_is_named(long: dict[str, bytes], decoded: Decoder, name: str) -> None:
    for left in (1, 20, 27, 200):
        content = b"".join(pages(long[name])[:-1]) + pages(long[name])[-1][:left]
        with pytest.raises(ClipError, match=r"^truncated: its last Ogg page declares \d+ bytes, the file holds \d+"):
            decoded(content)


@pytest.mark.parametrize("name", CODECS)
def test_a_page_that_is_missing_damaged_or_of_another_stream_is_named(
    long: dict[str, bytes], decoded: Decoder, name: str
) -> None:
    whole = pages(long[name])
    damaged = bytearray(long[name])
    damaged[len(damaged) // 2] ^= 1
    for content, reason in [
        (b"".join(whole[:3] + whole[4:]), "damaged: an Ogg page before byte"),
        (bytes(damaged), "damaged: the checksum of the Ogg page at byte"),
        (long[name] * 2, "several Ogg streams one after another"),
        (long[name] + b"sound" * 3000, r"damaged: \d+ bytes from byte \d+ on are no Ogg page"),
    ]:
        with pytest.raises(ClipError, match=reason):
            decoded(content)
