"""What lies under a sound's name and is no sound: said by name, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from cello.audio.containers.ogg import page_crc
from cello.audio.decode import decode
from cello.errors import ClipError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86\x81\x01B\x82\x84webm", "WebM, not WAV: convert it to WAV or FLAC"),
        (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x82\x88matroska", "Matroska, not WAV: convert it to WAV or FLAC"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "MP4, not WAV: convert it to WAV or FLAC"),
        (b"\0\0\0\x20ftyp3gp4\0\0\0\0", "3GP, not WAV: convert it to WAV or FLAC"),
        (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), r"WMA \(ASF\), not WAV: convert it to WAV or FLAC"),
        (b"#!AMR\n\x3c", "AMR, not WAV: convert it to WAV or FLAC"),
        (b"\xff\xf1\x50\x80\x02\x1f\xfc" + b"\x55" * 200, "AAC, not WAV: convert it to WAV or FLAC"),
        (b"RIFF\x40\0\0\0AVI LIST", "AVI, not WAV: convert it to WAV or FLAC"),
        (LFS, "^a Git LFS pointer: run git lfs pull$"),
        (b"/annex/objects/MD5-s1--0f\n", "^a git-annex pointer: run git annex get$"),
        (b"../other/clip.flac", r"not audio: the text of a link \('../other/clip.flac'\)"),
        (b"<!DOCTYPE html>\n<html>404</html>", "not audio: an HTML page .* download it again"),
        (b'{"error": "quota exceeded"}', "not audio: JSON text .* download it again"),
        (b"<?xml version='1.0'?><Error/>", "not audio: XML text .* download it again"),
        ("не найдено\n".encode() * 500, "not audio: a text file"),
        (b"PK\x03\x04\x14\0", "not audio: a ZIP archive"),
        (b"\x93NUMPY\x01\0", "not audio: a NumPy array"),
        (b"\x9b\x00\x13" * 40, "^not audio, or damaged; convert it to WAV or FLAC, or remove it$"),
    ],
)
def test_what_a_file_is_instead_of_sound_is_said(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ClipError, match=reason):
        decode(tmp_path / "a.wav", 16_000)


def test_a_video_under_its_own_name_is_not_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom\0\0\0\0")
    with pytest.raises(ClipError, match=r"^MP4: convert it to WAV or FLAC$"):
        decode(tmp_path / "a.mp4", 16_000)


@pytest.mark.parametrize("codec", [b"Speex   ", b"\x80theora"])
def test_ogg_codecs_that_are_not_read_are_named(tmp_path: Path, codec: bytes) -> None:
    page = b"OggS\0\x06" + bytes(20) + b"\x01" + bytes([80]) + codec.ljust(80, b"\0")
    page = page[:22] + page_crc(page).to_bytes(4, "little") + page[26:]
    (tmp_path / "a.ogg").write_bytes(page)
    with pytest.raises(ClipError, match=r"Ogg (Speex|Theora), not OGG: convert it to WAV or FLAC"):
        decode(tmp_path / "a.ogg", 16_000)
