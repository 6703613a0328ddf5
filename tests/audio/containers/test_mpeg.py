"""MP3: its frames counted, and nothing of libmpg123's on the terminal."""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest

from cello.errors import ClipError

from .conftest import Decoder, encoded, noise, replaced


def test_a_cut_file_is_named_with_its_frames(whole: dict[str, bytes], decoded: Decoder) -> None:
    with pytest.raises(ClipError, match=r"^truncated: the header declares 16 MPEG frames, the file holds \d$"):
        decoded(whole["mp3"][: len(whole["mp3"]) // 2])


def test_two_files_in_one_are_named(whole: dict[str, bytes], decoded: Decoder) -> None:
    with pytest.raises(ClipError, match="mis-sized: the header declares 16 MPEG frames, the file holds 33"):
        decoded(whole["mp3"] * 2)


@pytest.mark.parametrize("at", [6, 12])
def test_a_count_that_libmpg123_does_not_see_is_no_count(whole: dict[str, bytes], decoded: Decoder, at: int) -> None:
    with pytest.raises(ClipError, match="of unknown length: an MP3 without a Xing, Info or VBRI header"):
        decoded(replaced(whole["mp3"], at, b"\x20"))


def test_a_broken_file_is_not_said_to_be_missing(decoded: Decoder) -> None:
    for content in (b"ID3\x03\0\0\0\0\x10\0" + bytes(5000), b"\xff\xfb\x90\x00" * 300, b"\xff\xe3" + bytes(500)):
        with pytest.raises(ClipError) as caught:
            decoded(content)
        assert "exist" not in str(caught.value)
        assert "pipe" not in str(caught.value)


def test_warnings_of_the_library_stay_off_the_terminal(decoded: Decoder, capfd: pytest.CaptureFixture[str]) -> None:
    content = encoded("mp3", noise(32_000, channels=2))
    tagged = b"ID3\x03\0\0\0\0\x40\0" + bytes(8192) + content  # its size is off by more than 1 %
    assert np.array_equal(decoded(tagged), decoded(content))
    draw = random.Random(0)
    for _ in range(20):
        damaged = bytearray(content)
        for _ in range(20):
            damaged[draw.randrange(600, len(damaged))] = draw.randrange(256)
        with suppress(ClipError):
            decoded(bytes(damaged))
    out, err = capfd.readouterr()
    assert out + err == ""
