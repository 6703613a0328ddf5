"""Files that somebody cut, changed or replaced are never read as if they were whole."""

from __future__ import annotations

import json
import os
import zlib
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cello.errors import StoreError
from cello.files import (
    DamagedFileError,
    OtherVersionError,
    decode_json,
    naming_damage,
    read_stored,
    read_text,
    seal,
    seal_json,
    unseal,
    unseal_json,
    write_whole,
)
from damage import HOSTILE


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "result.json")
    with pytest.raises(DamagedFileError, match="not a regular file"):
        read_stored(tmp_path / "result.json")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="a folder, not a regular file"):
        read_stored(tmp_path)


def test_a_file_larger_than_its_kind_may_be_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(11))
    assert read_stored(tmp_path / "big", largest=11) == bytes(11)
    with pytest.raises(DamagedFileError, match="11 bytes, more than the 10"):
        read_stored(tmp_path / "big", largest=10)


def test_text_that_is_not_utf8_names_the_byte_and_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfna\xc3\xafve")
    assert read_text(tmp_path / "a") == "naïve"
    (tmp_path / "a").write_bytes(b"na\xefve")
    with pytest.raises(DamagedFileError, match=r"not UTF-8 \(byte 2 is 0xef\)"):
        read_text(tmp_path / "a")


@given(st.binary(max_size=200), st.integers(min_value=0), st.integers(0, 7))
def test_one_bit_of_a_sealed_file_changed_anywhere_is_noticed(content: bytes, at: int, bit: int) -> None:
    sealed = bytearray(seal(content))
    assert unseal(bytes(sealed)) == content
    sealed[at % len(sealed)] ^= 1 << bit
    with pytest.raises(DamagedFileError, match="checksum"):
        unseal(bytes(sealed))


@given(st.binary(max_size=200), st.data())
def test_a_sealed_file_cut_anywhere_is_noticed(content: bytes, data: st.DataObject) -> None:
    sealed = seal(content)
    with pytest.raises(DamagedFileError, match="checksum"):
        unseal(sealed[: data.draw(st.integers(0, len(sealed) - 1))])


@given(st.dictionaries(st.text(), st.integers() | st.text(), min_size=1))
def test_a_sealed_object_is_still_json_and_an_unsealed_one_is_read_as_before(fields: dict[str, object]) -> None:
    text = json.dumps(fields).encode()
    assert json.loads(seal_json(text)).pop("crc32")
    assert json.loads(unseal_json(seal_json(text))) == fields
    if b'"crc32"' not in text:
        assert unseal_json(text) == text


@given(st.dictionaries(st.text("abc"), st.integers(), min_size=1), st.integers(min_value=0), st.integers(0, 7))
def test_a_changed_bit_of_a_sealed_object_is_noticed_or_leaves_no_seal(
    fields: dict[str, int], at: int, bit: int
) -> None:
    text = json.dumps(fields).encode()
    sealed = bytearray(seal_json(text))
    sealed[at % len(sealed)] ^= 1 << bit
    with suppress(DamagedFileError):
        assert unseal_json(bytes(sealed)) == bytes(sealed)  # the seal's own name was hit: nothing was cut off


def test_what_stood_there_is_kept_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def failing() -> object:
        yield b"new"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(path, failing())  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_of_a_file_goes_when_it_is_old_and_other_files_stay(tmp_path: Path) -> None:
    old, young, others = (tmp_path / name for name in (".a[1].1-ab.part", ".a[1].2-ab.part", ".a1.3-ab.part"))
    for left in (old, young, others):
        left.write_bytes(b"half")
    for left in (old, others):
        os.utime(left, (0, 0))
    write_whole(tmp_path / "a[1]", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([young, others, tmp_path / "a[1]"])


class Kept(msgspec.Struct, forbid_unknown_fields=True):
    format: int = 1
    name: str = ""


def test_a_sealed_object_is_decoded_and_an_unsealed_one_too() -> None:
    text = msgspec.json.encode(Kept(name="x"))
    assert decode_json(text, Kept, 1) == decode_json(seal_json(text), Kept, 1) == Kept(name="x")
    assert decode_json(seal_json(msgspec.json.format(text)) + b"\r\n", Kept, 1) == Kept(name="x")


@pytest.mark.parametrize("kind", HOSTILE)
def test_json_that_is_none_or_another_has_a_reason(kind: str) -> None:
    with pytest.raises((DamagedFileError, OtherVersionError)):
        decode_json(HOSTILE[kind], Kept, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            b'{"format":2,"more":1}',
            r"^has format 2, and this is Cello \S+, which knows formats up to 1; install a newer",
        ),
        (
            b'{"more":1}',
            r"^was written by another version of Cello than this \S+: .* `more`; use the version that wrote",
        ),
    ],
)
def test_another_version_is_said_to_be_one(text: bytes, message: str) -> None:
    with pytest.raises(OtherVersionError, match=message):
        decode_json(text, Kept, 1)
    with (
        pytest.raises(StoreError, match=r"^a/study\.json " + message[1:]),
        naming_damage("a/study.json", StoreError, "x"),
    ):
        decode_json(text, Kept, 1)


def test_a_damaged_file_is_named_with_the_reason_and_the_remedy() -> None:
    with (
        pytest.raises(StoreError, match=r"^a/study\.json is damaged: it is not UTF-8; restore it$"),
        naming_damage("a/study.json", StoreError, "restore it"),
    ):
        decode_json(b'{"name":"\xff"}', Kept, 1)


def test_a_line_sealed_with_what_stands_above_it_does_not_stand_elsewhere() -> None:
    above = zlib.crc32(b"first line")
    line = seal_json(b'{"a":1}', above)
    assert unseal_json(line, above) == b'{"a":1}'
    with pytest.raises(DamagedFileError, match="checksum"):
        unseal_json(line)
