"""WAV headers as recorders, editors and accidents leave them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from cello.errors import ClipError

from .conftest import RATE_HZ, Decoder, noise, replaced

PCM = (noise() * 32767).astype("<i2")


def chunk(kind: bytes, body: bytes, padded: bool = True) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2 if padded else 0)


def wav(before: bytes = b"", after: bytes = b"", samples: NDArray[np.generic] = PCM, tag: int = 1) -> bytes:
    width = samples.dtype.itemsize
    fmt = struct.pack("<HHIIHH", tag, 1, RATE_HZ, RATE_HZ * width, width, 8 * width)
    inner = b"WAVE" + chunk(b"fmt ", fmt) + before + chunk(b"data", samples.tobytes()) + after
    return b"RIFF" + struct.pack("<I", len(inner)) + inner


@pytest.mark.parametrize("body", [b"abcde", b"a", b"INFOISFT\x05\0\0\0abcde", b"x" * 255])
@pytest.mark.parametrize("samples", [PCM, noise().astype("<f4")])
def test_an_odd_chunk_without_its_pad_byte_hides_no_samples(
    decoded: Decoder, body: bytes, samples: NDArray[np.generic]
) -> None:
    tag = 3 if samples.dtype == np.float32 else 1
    for padded in (False, True):
        sound = decoded(wav(chunk(b"LIST", body, padded), samples=samples, tag=tag))
        assert np.array_equal(sound, samples)


def test_a_chunk_behind_an_odd_number_of_samples_is_no_sound(decoded: Decoder) -> None:
    for after in (chunk(b"LIST", b"INFO"), b"\0" + chunk(b"LIST", b"INFO"), b"", b"\0"):
        odd = wav()[:-1] + after
        assert np.array_equal(decoded(replaced(odd, 40, struct.pack("<I", 2 * len(PCM) - 1))), PCM[:-1])


@pytest.mark.parametrize("width", [1, 3, 5])
def test_part_of_a_sample_at_the_end_is_left_out(decoded: Decoder, width: int) -> None:
    ragged = wav()[: 44 + 2 * len(PCM) - width]
    ragged = replaced(ragged, 40, struct.pack("<I", 2 * len(PCM) - width))
    assert np.array_equal(decoded(ragged), PCM[: len(PCM) - (width + 1) // 2])


def test_chunks_behind_the_samples_stay_out_also_where_the_last_is_cut(decoded: Decoder) -> None:
    tail = chunk(b"id3 ", b"t" * 4001, padded=False) + chunk(b"LIST", b"INFO" * 2000)
    for content in (wav(after=tail), wav(after=tail)[:-3000]):
        assert np.array_equal(decoded(content), PCM)


def test_an_empty_recording_is_empty_and_one_stopped_early_is_not(decoded: Decoder) -> None:
    with pytest.raises(ClipError, match="empty: it holds no samples"):
        decoded(wav(samples=PCM[:0], after=chunk(b"LIST", b"INFO" * 500)))
    assert np.array_equal(decoded(replaced(wav(), 40, bytes(4))), PCM)


def test_more_sound_behind_the_samples_is_named(decoded: Decoder) -> None:
    for more in (chunk(b"data", PCM.tobytes()), wav()):
        with pytest.raises(ClipError, match=r"^mis-sized: the header declares 16000 bytes of samples, \d+ more follow"):
            decoded(wav(after=more))


def test_a_chunk_of_a_wrong_length_is_named(decoded: Decoder) -> None:
    long = wav(before=b"LIST" + struct.pack("<I", 40_000))
    with pytest.raises(ClipError, match=r"no data chunk found .* \(a chunk before it has a wrong length\?\)"):
        decoded(replaced(long, 4, struct.pack("<I", len(long) - 8)))


def test_a_file_of_empty_chunks_without_end_is_refused(decoded: Decoder) -> None:
    with pytest.raises(ClipError, match="its header has more than 65536 chunks"):
        decoded(b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 70_000)


def test_bw64_is_read(whole: dict[str, bytes], decoded: Decoder) -> None:
    for name in ("rf64-16", "rf64-24"):
        assert np.array_equal(decoded(b"BW64" + whole[name][4:]), decoded(whole[name]))


def test_mp3_inside_wav_is_of_unknown_length(whole: dict[str, bytes], decoded: Decoder) -> None:
    fmt = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE_HZ, 8000, 1, 0, 12, 1, 2, 1152, 1, 1393)
    body = chunk(b"fmt ", fmt) + chunk(b"data", whole["mp3"])
    with pytest.raises(ClipError, match="of unknown length: MP3 inside WAV; convert it to FLAC or plain WAV"):
        decoded(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)


def test_an_encoding_that_nothing_here_reads_is_named(decoded: Decoder) -> None:
    with pytest.raises(ClipError, match="not audio, or damaged"):
        decoded(wav(tag=0x161))
