"""What hurts: an honest archive refused, or a hostile header that costs memory, time without end or a traceback."""

from __future__ import annotations

import io
import random
import tarfile
import time

import pytest

from cello.audio import tar as module
from cello.audio.tar import BLOCK, LARGEST_EXTENSION, Member, TarError, TarReader

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
END = bytes(2 * BLOCK)


def read(content: bytes) -> list[tuple[Member, bytes]]:
    tar = TarReader(io.BytesIO(content).read)
    return [(member, b"".join(tar.chunks())) for member in tar]


def header(kind: bytes, size: int, name: str = "a", **fields: object) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def record(key: str, value: str) -> bytes:
    size = len(key) + len(value.encode()) + 3
    size += len(str(size + len(str(size))))
    return f"{size} {key}={value}\n".encode()


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    content = b"".join(records)
    return header(kind, len(content)) + padded(content)


@pytest.mark.parametrize("form", FORMATS)
def test_every_usual_format_is_read_as_python_reads_it(form: int) -> None:
    long = "/".join(["folder"] * 12)
    names = ["a", "bed/1.wav", f"{long}/1.wav", "x" * 90]
    if form != tarfile.USTAR_FORMAT:
        names += ["da/да.wav", "n" * 300, f"{long}/{long}/{long}/1.wav"]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        folder = tarfile.TarInfo("bed/")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uname = 700 * number, 1e9 + 0.5, "müller"
            tar.addfile(member, io.BytesIO(bytes([number]) * member.size))
    found = read(out.getvalue())
    assert found[0] == (Member("bed", True, 0), b"")
    assert [(member.name, content) for member, content in found[1:]] == [
        (name, bytes([number]) * 700 * number) for number, name in enumerate(names)
    ]


def test_old_formats_are_read() -> None:
    v7 = bytearray(header(b"\0", 0, "bed/"))
    v7[257:265] = bytes(8)
    v7[148:156] = b"%06o\0 " % (sum(v7[:148]) + sum(v7[156:]) + 8 * 32)
    signed = bytearray(header(b"0", 3, "olé"))
    told = sum(signed[:148]) + sum(signed[156:]) + 8 * 32 - 256 * sum(byte > 127 for byte in signed)
    signed[148:156] = b"%06o\0 " % told
    assert read(bytes(v7) + bytes(signed) + padded(b"abc") + END) == [
        (Member("bed", True, 0), b""),
        (Member("olé", False, 3), b"abc"),
    ]


def test_pax_records_decide_name_and_size_of_the_next_member_alone() -> None:
    content = pax(record("path", "да/1.wav"), record("size", "3"), record("mtime", "1.5")) + header(b"0", 0)
    found = read(content + padded(b"abc") + header(b"0", 1) + padded(b"x") + END)
    assert found == [(Member("да/1.wav", False, 3), b"abc"), (Member("a", False, 1), b"x")]
    comment = pax(record("comment", "0123456789abcdef"), kind=b"g")  # as git archive writes it
    assert read(comment + header(b"0", 1) + padded(b"x") + END) == [(Member("a", False, 1), b"x")]


@pytest.mark.parametrize(
    "content",
    [
        header(b"S", 0),
        pax(record("GNU.sparse.major", "1"), record("GNU.sparse.realsize", "2000000000")) + header(b"0", 0),
        pax(record("GNU.sparse.map", "0,1"), record("GNU.sparse.size", "2000000000")) + header(b"0", 0),
        pax(record("SCHILY.realsize", "2000000000")) + header(b"0", 0),
    ],
)
def test_a_sparse_file_is_refused_however_it_is_written(content: bytes) -> None:
    ((member, _),) = read(content + END)
    assert member.refused == "a sparse file"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (header(b"x", 1 << 30) + bytes(4096), "a header of 1,073,741,824 bytes, of which it may have 1,048,576"),
        (header(b"L", LARGEST_EXTENSION + 1) + bytes(4096), "a header of 1,048,577 bytes"),
        (header(b"g", 8 << 30) + bytes(4096), "a header of 8,589,934,592 bytes"),
        ((header(b"L", 1) + padded(b"n")) * 2000 + header(b"0", 0) + END, "more than 16 headers for one member"),
        (pax(b"9 path=\n"), "damaged header at byte 0|damaged"),
        (pax(b"99999999999999999999999 path=x\n"), "damaged"),
        (pax(b"0 path=x\n"), "damaged"),
        (pax(b"no record"), "damaged"),
        (pax(record("size", "-1")) + header(b"0", 0), "damaged"),
        (pax(record("size", "9" * 5000)) + header(b"0", 0), "damaged"),
        (pax(record("path", "/etc/passwd"), kind=b"g"), "a header for all members with a path"),
        (header(b"0", 600) + bytes(512), "its end is missing"),
        (header(b"0", 9 << 30) + bytes(512), "its end is missing"),
        (header(b"0", 0), "its end is missing"),
        (header(b"0", 0) + END + b"x", "damaged header at byte 512"),
        (b"", "empty file"),
        (b"<html>", "invalid header"),
        (header(b"0", -5, "a"), "damaged header|invalid"),
    ],
)
def test_what_is_not_whole_or_too_costly_is_refused_with_a_reason(content: bytes, why: str) -> None:
    with pytest.raises(TarError, match=why):
        read(content)


def test_all_extension_headers_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXTENSIONS_BYTES", 3000)
    one = pax(record("comment", "c" * 900)) + header(b"0", 0)
    assert len(read(one * 3 + END)) == 3
    with pytest.raises(TarError, match="its headers have more than 3,000 bytes beside the names"):
        read(one * 4 + END)


@pytest.mark.parametrize("content", [b"1" * LARGEST_EXTENSION, b"5 a=\n" * (LARGEST_EXTENSION // 5), b"1 " * 500_000])
def test_no_header_takes_long(content: bytes) -> None:
    start = time.process_time()
    with pytest.raises(TarError):
        read(header(b"x", len(content)) + padded(content) + header(b"5", 0, "b"))
    assert time.process_time() - start < 2


def test_no_mutation_raises_anything_else() -> None:
    whole = pax(record("path", "bed/1.wav"), record("size", "3")) + header(b"0", 0) + padded(b"abc")
    whole += header(b"L", 200) + padded(b"n" * 200) + header(b"0", 700) + padded(b"x" * 700) + header(b"5", 0) + END
    rng = random.Random(5)
    for _ in range(400):
        broken = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = rng.choice([0, 32, 48, 55, 255, rng.randrange(256)])
        try:
            found = read(bytes(broken[: rng.choice([len(broken), rng.randrange(len(broken))])]))
        except TarError:
            continue
        assert all(len(content) == member.size for member, content in found)
