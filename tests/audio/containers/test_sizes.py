"""What a header promises and what the file holds, in every container: cut, never written, too small."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import pytest
import soundfile

from cello.errors import ClipError

from .conftest import CONTAINERS, RATE_HZ, SAMPLES, Decoder, replaced

# container → where its field of the samples' size lies, its width and byte order, and what it counts besides samples
FIELDS: dict[str, tuple[int, int, Literal["little", "big"], int]] = {
    "wav-16": (40, 4, "little", 0),
    "wav-24": (40, 4, "little", 0),
    "wav-float": (76, 4, "little", 0),
    "rifx-16": (40, 4, "big", 0),
    "rifx-float": (76, 4, "big", 0),
    "aiff-16": (42, 4, "big", 8),
    "aifc-float": (84, 4, "big", 8),
    "au-16": (8, 4, "big", 0),
    "au-little": (8, 4, "little", 0),
    "w64-16": (96, 8, "little", 24),
    "caf-16": (4084, 8, "big", 4),
    "rf64-16": (28, 8, "little", 0),
    "voc-16": (27, 3, "little", 12),
}
RATES = {"wav": 24, "rifx": 24, "wavex": 24, "rf64": 60, "au": 16, "w64": 68}
NEVER_WRITTEN = (0, 0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0x80000024, 0xFFFFFFFF - 36, 0xFFFFFFFF)


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_a_cut_file_is_named(whole: dict[str, bytes], decoded: Decoder, name: str, share: float) -> None:
    reason = r"^(truncated|not audio)" if name == "htk" else r"^truncated|header"
    with pytest.raises(ClipError, match=reason):
        decoded(whole[name][: int(share * len(whole[name]))])


@pytest.mark.parametrize("name", FIELDS)
def test_a_cut_file_is_named_with_both_sizes(whole: dict[str, bytes], decoded: Decoder, name: str) -> None:
    with pytest.raises(ClipError, match=r"^truncated: the header declares \d{5} bytes of samples, the file holds \d+$"):
        decoded(whole[name][: len(whole[name]) // 2])


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("size", NEVER_WRITTEN, ids=hex)
def test_a_size_never_written_is_read_to_the_end(
    whole: dict[str, bytes], decoded: Decoder, name: str, size: int
) -> None:
    at, width, order, _ = FIELDS[name]
    if size >> 8 * width:
        size = (1 << 8 * width) - 1
    if width == 8 and size == 0xFFFFFFFF:
        size = (1 << 64) - 1
    piped = replaced(whole[name], at, size.to_bytes(width, order))
    assert np.array_equal(decoded(piped), decoded(whole[name]))


@pytest.mark.parametrize("name", FIELDS)
def test_samples_beyond_what_the_header_tells_of_are_not_left_out(
    whole: dict[str, bytes], decoded: Decoder, name: str
) -> None:
    at, width, order, besides = FIELDS[name]
    packet = replaced(whole[name], at, (3200 + besides).to_bytes(width, order))
    with pytest.raises(ClipError, match=r"^mis-sized: the header declares 3200 bytes of samples, \d+ more follow"):
        decoded(packet)


@pytest.mark.parametrize("name", ["wav-16", "wav-24", "rifx-16", "au-16"])
def test_a_header_that_counts_itself_is_read(whole: dict[str, bytes], decoded: Decoder, name: str) -> None:
    at, width, order, _ = FIELDS[name]
    size = int.from_bytes(whole[name][at : at + width], order)
    itself = 24 if name == "au-16" else 44
    counted = replaced(whole[name], at, (size + itself).to_bytes(width, order))
    assert np.array_equal(decoded(counted), decoded(whole[name]))


def test_a_sphere_header_without_its_count_is_read(whole: dict[str, bytes], decoded: Decoder) -> None:
    for count in (b"-1   ", b"0    "):
        assert len(decoded(whole["sphere-16"].replace(b"8000 ", count, 1))) == SAMPLES
    with pytest.raises(
        ClipError, match=r"^truncated: the header declares 18000 bytes of samples, the file holds 16000"
    ):
        decoded(whole["sphere-16"].replace(b"sample_count -i 8000", b"sample_count -i 9000"))


@pytest.mark.parametrize("name", sorted(set(CONTAINERS) - {"htk"}))
@pytest.mark.parametrize("tail", [b"TAG" + bytes(125), bytes(300), b"ID3\x03" + b"a" * 3000])
def test_tags_and_padding_behind_the_samples_are_no_sound(
    whole: dict[str, bytes], decoded: Decoder, name: str, tail: bytes
) -> None:
    assert np.array_equal(decoded(whole[name] + tail), decoded(whole[name]))


@pytest.mark.parametrize("name", sorted(set(CONTAINERS) - {"htk"}))
@pytest.mark.parametrize("tags", [1, 2])
def test_tags_before_the_header_are_skipped(whole: dict[str, bytes], decoded: Decoder, name: str, tags: int) -> None:
    tag = b"ID3\x03\0\0\0\0\x01\0" + bytes(128)
    assert np.array_equal(decoded(tag * tags + whole[name]), decoded(whole[name]))


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_with_another_one_behind_it_is_not_read_as_its_first_half(
    whole: dict[str, bytes], decoded: Decoder, name: str
) -> None:
    with pytest.raises(ClipError, match=r"^(mis-sized|damaged|several|not audio)"):
        decoded(whole[name] + whole[name])


@pytest.mark.parametrize("name", [name for name in CONTAINERS if name.split("-")[0] in RATES])
@pytest.mark.parametrize("rate_hz", [1, 999, 2_000_000])
def test_a_rate_that_no_recorder_has_is_named(
    whole: dict[str, bytes], decoded: Decoder, name: str, rate_hz: int
) -> None:
    written = rate_hz.to_bytes(4, "big" if name in ("rifx-16", "rifx-float", "au-16") else "little")
    with pytest.raises(ClipError, match=f"the header says {rate_hz} Hz, sound is sampled at 1000 to 1024000 Hz"):
        decoded(replaced(whole[name], RATES[name.split("-", maxsplit=1)[0]], written))


@pytest.mark.parametrize("kind", ["IRCAM", "PAF", "PVF", "AVR", "MAT5", "SDS"])
def test_formats_that_do_not_tell_a_cut_file_from_a_whole_one_are_refused(decoded: Decoder, kind: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.full(2000, 0.1), RATE_HZ, format=kind, subtype="PCM_16")
    with pytest.raises(ClipError, match="convert it to WAV or FLAC"):
        decoded(file.getvalue())
