"""Files that somebody cut, changed or replaced are never read as if they were whole."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cello.files import DamagedFileError, read_stored, read_text, seal, seal_json, unseal, unseal_json, write_whole


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "result.json")
    with pytest.raises(DamagedFileError, match="not a regular file"):
        read_stored(tmp_path / "result.json")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="not a regular file"):
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
