"""Damaged headers of every container: samples or a reason, never another exception, nothing left out in silence."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cello.audio.decode import decode
from cello.errors import ClipError

from .conftest import CONTAINERS, RATE_HZ
from .test_sizes import FIELDS

MUTATIONS = 2_000
HEADER_BYTES = 200
SLIP = 660  # bytes of samples that a header may leave out: 2 %
HEADERS = (24, 44, 54, 58)  # bytes
SPECIAL = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)


class Fuzzed:
    """One file changed in place, as making thousands of new ones takes longer than decoding them."""

    def __init__(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self._path, self._content = path, content
        self._file = path.open("r+b", buffering=0)

    def close(self) -> None:
        self._file.close()

    def outcome(self, content: bytes) -> int | str:
        """How many samples are decoded, or the reason why none are; the file is as before afterwards."""
        os.pwrite(self._file.fileno(), content, 0)
        os.ftruncate(self._file.fileno(), len(content))
        try:
            sound = decode(self._path, RATE_HZ)
        except ClipError as error:
            return str(error)
        assert sound.ndim == 1
        assert np.isfinite(sound).all()
        return len(sound)


@pytest.fixture
def fuzzed(tmp_path: Path, whole: dict[str, bytes], name: str) -> Iterator[Fuzzed]:
    file = Fuzzed(tmp_path / "clip", whole[name])
    yield file
    file.close()


def mutated(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(min(HEADER_BYTES, len(content)) if draw.random() < 0.9 else len(content))
        changed[at] = draw.choice((*SPECIAL, draw.randrange(256), changed[at] ^ 1 << draw.randrange(8)))
    return bytes(changed)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_damaged_header_gives_samples_or_a_reason(
    whole: dict[str, bytes], fuzzed: Fuzzed, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(name)
    for _ in range(MUTATIONS // len(CONTAINERS)):
        content = mutated(whole[name], draw)
        outcome = fuzzed.outcome(content)
        assert not str(outcome).startswith("cannot be"), content[:HEADER_BYTES]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_cut_anywhere_is_named(whole: dict[str, bytes], fuzzed: Fuzzed, name: str) -> None:
    draw = random.Random(name)
    for _ in range(20):
        size = draw.randrange(1, len(whole[name]) - 1)
        outcome = fuzzed.outcome(whole[name][:size])
        if isinstance(outcome, int) and len(whole[name]) - size in HEADERS:
            continue  # so does a header look that counts itself
        assert isinstance(outcome, str), f"{outcome} samples of a file cut to {size} of {len(whole[name])} bytes"
        assert outcome.startswith(("truncated", "not audio", "of unknown length")), outcome


@pytest.mark.parametrize("name", FIELDS)
def test_no_wrong_size_leaves_samples_out(whole: dict[str, bytes], fuzzed: Fuzzed, name: str) -> None:
    at, width, order, besides = FIELDS[name]
    draw, size = random.Random(name), int.from_bytes(whole[name][at : at + width], order)
    expected = fuzzed.outcome(whole[name])
    assert isinstance(expected, int)
    for _ in range(40):
        wrong = draw.choice(
            (draw.randrange(1 << 8 * width), draw.randrange(size), size ^ 1 << draw.randrange(8 * width))
        )
        content = whole[name][:at] + wrong.to_bytes(width, order) + whole[name][at + width :]
        outcome = fuzzed.outcome(content)
        if isinstance(outcome, int):
            left_out = (1 - outcome / expected) * (size - besides)
            assert left_out <= SLIP, f"size {wrong} instead of {size}: {outcome} of {expected} samples"
