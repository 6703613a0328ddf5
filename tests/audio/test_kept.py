"""What hurts: a corpus in the cache that was damaged and is trained on, or one lost because it cannot be made again."""

from __future__ import annotations

import os
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from cello.audio.kept import FOLDER, kept
from cello.errors import CorpusError

FILES = {"yes/1.wav": b"y" * 300, "no/1.wav": b"n" * 300, "testing_list.txt": b"no/1.wav\n"}


class Maker:
    """Makes the same corpus, and counts how often."""

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "spoken-0123456789ab"
        self.times = 0

    def __call__(self) -> Path:
        if not self.folder.exists():
            self.times += 1
            for name, content in FILES.items():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(content)
        return self.folder


def held(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def add(path: Path) -> None:
    path.with_name("2.wav").write_bytes(b"more")


@pytest.mark.parametrize("damage", [flip, cut, add, Path.unlink])
def test_what_is_not_as_it_was_made_is_made_again_and_that_is_said(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    make = Maker(tmp_path)
    assert kept(make.folder, tmp_path, make) == make.folder
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept(make.folder, tmp_path, make)
    assert make.times == 1
    damage(make.folder / "yes" / "1.wav")
    with pytest.warns(UserWarning, match="spoken-0123456789ab' was modified; it is made again"):
        kept(make.folder, tmp_path, make)
    assert held(make.folder) == FILES
    assert {path.name for path in tmp_path.iterdir()} <= {FOLDER, "digests", make.folder.name}


def test_what_cannot_be_made_again_stays(tmp_path: Path) -> None:
    make = Maker(tmp_path)
    kept(make.folder, tmp_path, make)
    flip(make.folder / "no" / "1.wav")
    before = held(make.folder)

    def offline() -> Path:
        raise CorpusError("no connection")

    with pytest.warns(UserWarning, match="made again"), pytest.raises(CorpusError, match="no connection"):
        kept(make.folder, tmp_path, offline)
    assert held(make.folder) == before


def test_a_folder_of_before_there_were_notes_is_noted_as_it_is(tmp_path: Path) -> None:
    make = Maker(tmp_path)
    make()
    kept(make.folder, tmp_path, make)
    assert make.times == 1
    flip(make.folder / "no" / "1.wav")
    with pytest.warns(UserWarning, match="made again"):
        kept(make.folder, tmp_path, make)
    assert held(make.folder) == FILES


def test_a_damaged_note_costs_nothing(tmp_path: Path) -> None:
    make = Maker(tmp_path)
    kept(make.folder, tmp_path, make)
    note = tmp_path / FOLDER / make.folder.name
    whole, rng = note.read_bytes(), random.Random(1)
    for _ in range(50):
        broken = bytearray(whole)
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        note.write_bytes(broken[: rng.choice([len(broken), rng.randrange(len(broken))])])
        kept(make.folder, tmp_path, make)
        assert note.read_bytes() == whole
    note.unlink()
    os.mkfifo(note)
    kept(make.folder, tmp_path, make)
    assert make.times == 1
    shutil.rmtree(make.folder)
    kept(make.folder, tmp_path, make)
    assert make.times == 2
