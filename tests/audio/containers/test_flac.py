"""FLAC: written to a pipe, cut, damaged, or with a header that lies."""

from __future__ import annotations

import numpy as np
import pytest

from cello.errors import ClipError

from .conftest import Decoder, encoded, noise, replaced

NAMES = ("flac-16", "flac-24")
COUNT_AT, MD5_AT = 18, 26


def piped(content: bytes) -> bytes:
    """As an encoder leaves it that cannot go back: neither the count of samples nor their MD5."""
    packed = int.from_bytes(content[COUNT_AT : COUNT_AT + 8], "big") >> 36 << 36
    return replaced(replaced(content, COUNT_AT, packed.to_bytes(8, "big")), MD5_AT, bytes(16))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", [100, 5000, 700_000])
def test_a_stream_of_unknown_length_is_read_to_its_end(decoded: Decoder, name: str, samples: int) -> None:
    content = encoded(name, noise(samples))
    assert np.array_equal(decoded(piped(content)), decoded(content))


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_of_unknown_length_that_is_cut_is_named(whole: dict[str, bytes], decoded: Decoder, name: str) -> None:
    for cut in (1, 100, 5000):
        with pytest.raises(ClipError, match=r"truncated: its length was never written .* encode it again"):
            decoded(piped(whole[name])[:-cut])


@pytest.mark.parametrize("name", NAMES)
def test_a_count_of_samples_that_is_too_small_is_named(whole: dict[str, bytes], decoded: Decoder, name: str) -> None:
    packed = int.from_bytes(whole[name][COUNT_AT : COUNT_AT + 8], "big") - 3000
    with pytest.raises(ClipError, match=r"^damaged: its samples do not match its MD5 checksum"):
        decoded(replaced(whole[name], COUNT_AT, packed.to_bytes(8, "big")))


def test_a_tag_before_the_stream_and_several_channels_are_no_damage(decoded: Decoder) -> None:
    content = encoded("flac-24", noise(channels=3))
    assert np.array_equal(decoded(b"ID3\x03\0\0\0\0\x01\0" + bytes(128) + content), decoded(content))


def test_a_count_that_is_too_small_is_named_also_without_a_checksum(whole: dict[str, bytes], decoded: Decoder) -> None:
    without = replaced(whole["flac-16"], MD5_AT, bytes(16))
    assert np.array_equal(decoded(without + b"TAG" + bytes(125)), decoded(whole["flac-16"]))
    packed = int.from_bytes(without[COUNT_AT : COUNT_AT + 8], "big") - 3000
    with pytest.raises(ClipError, match="mis-sized: the header declares 5000 samples, the file holds 8000"):
        decoded(replaced(without, COUNT_AT, packed.to_bytes(8, "big")))


def test_two_streams_in_one_file_are_named(whole: dict[str, bytes], decoded: Decoder) -> None:
    with pytest.raises(ClipError, match="several FLAC streams one after another"):
        decoded(whole["flac-16"] * 2)
