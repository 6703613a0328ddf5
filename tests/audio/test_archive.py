"""Unpacking: an honest archive comes out whole, a hostile one leaves nothing behind."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cello.audio import archive as module
from cello.audio.archive import extract
from cello.errors import CorpusError

ROOM = 1_000_000


def file(name: str, content: bytes = b"sound") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member, b""


def tarred(path: Path, members: Sequence[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return path


def left_behind(folder: Path) -> list[str]:
    """Everything below a folder but the archive and the lock."""
    return sorted(p.name for p in folder.rglob("*") if p.name not in {"a.tar.gz", ".out.lock"})


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_with_its_files_at_the_root_comes_out_whole(tmp_path: Path, mode: str) -> None:
    members = [special(".", tarfile.DIRTYPE), file("./validation_list.txt", b"bed/1.wav\n"), file("./bed/1.wav")]
    archive = tarred(
        tmp_path / "a.tar.gz", [*members, file("./empty.txt", b""), special("./lone", tarfile.DIRTYPE)], mode
    )
    out = tmp_path / "cache" / "out"
    extract(archive, out, max_bytes=ROOM)
    assert (out / "bed" / "1.wav").read_bytes() == b"sound"
    assert (out / "validation_list.txt").read_text() == "bed/1.wav\n"
    assert sorted(p.name for p in out.iterdir()) == ["bed", "empty.txt", "lone", "validation_list.txt"]


def test_labels_in_any_script_keep_their_names(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tar.gz", [file("да/1.wav"), file("はい/" + "n" * 120 + ".wav")])
    extract(archive, tmp_path / "out", max_bytes=ROOM)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"да", "はい"}


def test_permissions_of_the_archive_are_not_taken_over(tmp_path: Path) -> None:
    member, content = file("bed/1.wav")
    member.mode = 0o6777
    folder, nothing = special("bed", tarfile.DIRTYPE)
    folder.mode = 0
    extract(tarred(tmp_path / "a.tar.gz", [(folder, nothing), (member, content)]), tmp_path / "out", max_bytes=ROOM)
    assert (tmp_path / "out" / "bed" / "1.wav").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (file("/etc/evil"), "'/etc/evil', which is a path outside"),
        (file("../evil"), r"'\.\./evil', which is a path outside"),
        (file("bed/../../evil"), r"'bed/\.\./\.\./evil', which is a path outside"),
        (special("../evil", tarfile.DIRTYPE), r"'\.\./evil', which is a path outside"),
        (special("evil", tarfile.SYMTYPE, "/etc/passwd"), "'evil', which is a symbolic link"),
        (special("evil", tarfile.SYMTYPE, "bed"), "'evil', which is a symbolic link"),
        (special("evil", tarfile.LNKTYPE, "bed/1.wav"), "'evil', which is a hard link"),
        (special("evil", tarfile.CHRTYPE), "'evil', which is a device"),
        (special("evil", tarfile.BLKTYPE), "'evil', which is a device"),
        (special("evil", tarfile.FIFOTYPE), "'evil', which is a named pipe"),
        (special("evil", tarfile.GNUTYPE_SPARSE), "'evil', which is a sparse file"),
        (special("evil", b"Z"), "'evil', which is a member of kind b'Z'"),
        (file("."), "'.', which is a file without a name"),
        (file(""), "'', which is a file without a name"),
    ],
)
def test_a_hostile_member_is_named_and_nothing_is_left_behind(
    tmp_path: Path, member: tuple[tarfile.TarInfo, bytes], why: str
) -> None:
    place = tmp_path / "deep" / "cache"
    archive = tarred(tmp_path / "a.tar.gz", [file("bed/1.wav"), member, file("bed/2.wav")])
    with pytest.raises(CorpusError, match=f"{why}.*nothing was unpacked.*ownload the archive again"):
        extract(archive, place / "out", max_bytes=ROOM)
    assert left_behind(tmp_path) == ["cache", "deep"]


def test_a_file_where_a_folder_should_be_is_an_error_that_names_the_member(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tar.gz", [file("bed"), file("bed/1.wav")])
    with pytest.raises(CorpusError, match=r"cannot unpack 'bed/1.wav'.*nothing was unpacked"):
        extract(archive, tmp_path / "out", max_bytes=ROOM)
    assert left_behind(tmp_path) == []


def bomb(archive: Path) -> None:
    tarred(archive, [file("bed/1.wav", bytes(2 * ROOM))])


def many(archive: Path) -> None:
    tarred(archive, [file(f"bed/{i}.wav", b"") for i in range(ROOM // 512)])


@pytest.mark.parametrize("make", [bomb, many])
def test_no_more_is_unpacked_than_allowed(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a.tar.gz")
    with pytest.raises(CorpusError, match=r"unpacks to more than the 900,000 bytes allowed.*unpack it yourself"):
        extract(tmp_path / "a.tar.gz", tmp_path / "out", max_bytes=900_000)
    assert left_behind(tmp_path) == []


def test_neither_files_nor_folders_are_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENTRIES", 100)
    members = [file(f"{i}/{i}/{i}.wav", b"") for i in range(34)]
    extract(tarred(tmp_path / "a.tar.gz", members[:33]), tmp_path / "out", max_bytes=ROOM)
    with pytest.raises(
        CorpusError, match=r"holds more than 100 files and folders; nothing was unpacked.*unpack it your"
    ):
        extract(tarred(tmp_path / "a.tar.gz", members), tmp_path / "more", max_bytes=ROOM)
    with pytest.raises(CorpusError, match=r"'d/d/.*….*/1.wav', which is a path of 1901 folders"):
        extract(tarred(tmp_path / "a.tar.gz", [file("d/" * 1900 + "1.wav")]), tmp_path / "deep", max_bytes=10 * ROOM)
    assert not list(tmp_path.glob(".*partial*"))


def test_an_xz_archive_of_several_streams_comes_out_whole(tmp_path: Path) -> None:
    plain = tarred(tmp_path / "plain", [file("bed/1.wav", bytes(range(256)) * 999)], "w").read_bytes()
    half = len(plain) // 2
    packed = lzma.compress(plain[:half]) + lzma.compress(b"") + bytes(8) + lzma.compress(plain[half:]) + bytes(4)
    (tmp_path / "a.tar.gz").write_bytes(packed)
    extract(tmp_path / "a.tar.gz", tmp_path / "out", max_bytes=ROOM)
    assert (tmp_path / "out" / "bed" / "1.wav").read_bytes() == bytes(range(256)) * 999
    (tmp_path / "a.tar.gz").write_bytes(packed + b"more")
    with pytest.raises(CorpusError, match="is not a complete tar archive"):
        extract(tmp_path / "a.tar.gz", tmp_path / "other", max_bytes=ROOM)


def test_an_xz_archive_that_demands_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_XZ_MEMORY", 1 << 20)
    tarred(tmp_path / "a.tar.gz", [file("bed/1.wav")], "w:xz")
    with pytest.raises(CorpusError, match="Memory usage limit"):
        extract(tmp_path / "a.tar.gz", tmp_path / "out", max_bytes=ROOM)


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"PK\x03\x04", "is a ZIP archive; unpack it and give its folder"),
        (b"PK\x05\x06", "is an empty ZIP archive; unpack it"),
        (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it and give its folder"),
        (b"Rar!\x1a\x07", "is a RAR archive; unpack it and give its folder"),
        (b"\x28\xb5\x2f\xfd", "is a Zstandard archive; unpack it and give its folder"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer, not the archive.*; run git lfs pull",
        ),
    ],
)
def test_what_people_pack_corpora_in_is_named(tmp_path: Path, start: bytes, what: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(start + bytes(500))
    with pytest.raises(CorpusError, match=what) as raised:
        extract(tmp_path / "a.tar.gz", tmp_path / "out", max_bytes=ROOM)
    assert "elete" not in str(raised.value)
    assert left_behind(tmp_path) == []


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar.gz")
    with pytest.raises(CorpusError, match="is not a regular file; give a tar archive or an unpacked folder"):
        extract(tmp_path / "a.tar.gz", tmp_path / "out", max_bytes=ROOM)


def test_a_truncated_archive_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tar.gz", [file(f"bed/{i}.wav", bytes(range(256)) * 40) for i in range(20)])
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(CorpusError, match=r"a\.tar\.gz is not a complete tar archive.*download it again"):
        extract(archive, tmp_path / "out", max_bytes=ROOM)
    assert left_behind(tmp_path) == []


def damaged_header(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[1024 + 10] ^= 255
    archive.write_bytes(content)


def cut_between_members(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:2048])


@pytest.mark.parametrize(
    ("damage", "why"), [(damaged_header, "damaged header at byte 1,024"), (cut_between_members, "its end is missing")]
)
def test_members_behind_a_damage_are_not_lost_unseen(tmp_path: Path, damage: Callable[[Path], None], why: str) -> None:
    archive = tarred(tmp_path / "a.tar.gz", [file(f"bed/{i}.wav") for i in range(20)], "w")
    damage(archive)
    with pytest.raises(CorpusError, match=why):
        extract(archive, tmp_path / "out", max_bytes=ROOM)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"\x1f\x8bgarbage", b"BZhgarbage", b"\xfd7zXZgarbage"]
)
def test_what_is_no_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(CorpusError, match="is not a complete tar archive"):
        extract(tmp_path / "a.tar.gz", tmp_path / "out", max_bytes=ROOM)
    assert left_behind(tmp_path) == []


def test_a_missing_archive_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"cannot read the archive .*gone\.tar\.gz: No such file"):
        extract(tmp_path / "gone.tar.gz", tmp_path / "out", max_bytes=ROOM)


def test_a_folder_that_is_there_already_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    extract(tarred(tmp_path / "a.tar.gz", [file("bed/1.wav")]), tmp_path / "out", max_bytes=ROOM)
    assert left_behind(tmp_path) == ["mine.txt", "out"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".out.partial-abc").mkdir()
    (tmp_path / ".out.partial-abc" / "half.wav").write_bytes(b"half")
    extract(tarred(tmp_path / "a.tar.gz", [file("bed/1.wav")]), tmp_path / "out", max_bytes=ROOM)
    assert left_behind(tmp_path) == ["1.wav", "bed", "out"]


def test_progress_is_told_a_bounded_number_of_times(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    archive = tarred(tmp_path / "a.tar.gz", [file(f"bed/{i}.wav") for i in range(1500)])
    extract(archive, tmp_path / "out", max_bytes=10 * ROOM, progress=lambda *call: calls.append(call))
    assert 1 <= len(calls) <= 102
    assert calls[-1][0] == "unpacking a.tar.gz"
