"""What hurts: a cache that only grows, one cleared under a running study, a user's own file that goes with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cello.audio import digests, staging
from cello.audio.corpus import Corpus
from cello.audio.open import open_corpus
from cello.errors import CorpusError
from cello.features.cache import load_features
from cello.features.clean import clean, clean_corpus, corpora, held
from cello.features.config import FeatureConfig

DAY = 86_400
PACK = "packs/" + "0" * 32
FRAMES = "features/" + "a" * 64 + ".npy"
OWN = ("thesis.tar.gz", "spoken-notes/a.txt", "packs/mine/a.txt", "features/mine.npy", ".thesis.partial-1/a", "b.npy")


@pytest.fixture(autouse=True)
def _left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process counts as one that has used no cache, and afterwards again."""
    held_here: dict[Path, int] = {}
    monkeypatch.setattr(staging, "_USED", held_here)
    yield
    for file in held_here.values():
        os.close(file)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """One thing of every kind, each last used another number of days ago."""
    folder = tmp_path / "cache"
    for days, name in enumerate(
        (
            f"{PACK}/sound.npy",
            FRAMES,
            "b" * 64 + ".npy",
            "spoken-0123456789ab/yes/a.wav",
            "speech_commands_v0.02/yes/a.wav",
            "speech_commands_v0.02.tar.gz",
            "speech-commands-0123456789ab/yes/a.wav",
            "packs/." + "1" * 32 + ".partial-x/sound.npy",
            ".spoken-0123456789ab.f9097851bbc7.unfinished/yes/a.wav",
            "." + "c" * 64 + ".npy.12-ab.part",
        )
    ):
        write(folder / name, 100 + days)
        top = folder / Path(*Path(name).parts[: 2 if name.startswith(("packs", "features")) else 1])
        age(top, days)
    return folder


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY - 60
    os.utime(path, (then, then))


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock")}


def test_everything_is_listed_with_its_size_the_longest_unused_first(cache: Path) -> None:
    for name in OWN:
        write(cache / name, 9)
    things = held(cache)
    assert [thing.size for thing in things] == [109, 108, 107, 106, 105, 104, 103, 102, 101, 100]
    assert [thing.what for thing in things] == [
        *["unfinished"] * 3,
        *["downloaded corpus"] * 3,
        "rendered corpus",
        *["frames"] * 2,
        "decoded clips",
    ]
    assert held(cache / "none") == []


def test_kernels_and_digests_are_listed_and_removed_too(tmp_path: Path) -> None:
    kernel, corpus = "kernels/lstm-float-" + "a" * 24 + ".so", "speech-commands-" + "c" * 32
    for suffix in (".so", ".o"):
        write(tmp_path / kernel.replace(".so", "-" + "d" * 16 + suffix), 9)
    for name in (kernel, "kernels/.building-x1/kernel.c", "digests/" + "b" * 32, f"{corpus}/a.wav", f"made/{corpus}"):
        write(tmp_path / name, 9)
    for name in ("kernels/mine.so", "digests/mine.txt"):
        write(tmp_path / name, 9)
    assert sorted(thing.what for thing in held(tmp_path)) == [
        *("digests", "downloaded corpus", *["kernels"] * 3, "notes", "unfinished"),
    ]
    assert len(clean(tmp_path)) == 7
    assert files(tmp_path) == {"kernels/mine.so", "digests/mine.txt"}


def test_what_was_used_lately_stays_and_so_does_what_is_not_cellos(cache: Path) -> None:
    for name in OWN:
        write(cache / name, 9)
    removed = clean(cache, older_than_days=2)
    assert [thing.size for thing in removed] == [109, 108, 107, 106, 105, 104, 103, 102]
    assert files(cache) == {*OWN, FRAMES, f"{PACK}/sound.npy"}
    assert len(clean(cache)) == 2
    assert files(cache) == set(OWN)
    assert clean(cache / "none") == []


def test_opening_a_corpus_counts_as_use_and_what_was_cleared_is_made_again(
    tone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(digests, "_GRANULARITY_NS", 10**18)  # as new as clips are on a quick machine: no digest is kept

    def opened() -> Corpus:
        corpus = open_corpus(str(tone_folder), cache=cache)
        load_features(corpus, FeatureConfig(), cache=cache)
        return corpus

    first = opened().manifest.checksum
    for thing in held(cache):
        age(thing.path, 100)
    opened()
    assert sorted(thing.what for thing in held(cache) if time.time() - thing.used < DAY) == [
        *("decoded clips", "frames", "manifests", "notes"),
    ]
    for file in staging._USED.values():
        os.close(file)
    staging._USED.clear()
    assert len(clean(cache)) == 4
    assert held(cache) == []
    assert opened().manifest.checksum == first


USER = """
import sys
from pathlib import Path
from cello.audio.staging import using
using(Path(sys.argv[1]))
print("using", flush=True)
sys.stdin.read()
"""


def test_nothing_is_removed_while_another_process_uses_the_cache(cache: Path) -> None:
    before = files(cache)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", USER, str(cache)], text=True, **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "using\n"
        with pytest.raises(CorpusError, match=r"cache' is in use by a study, a training or another command; wait for"):
            clean(cache)
        assert files(cache) == before
        other.kill()
    assert len(clean(cache)) == 10


def test_a_corpus_in_the_cache_is_held_by_whoever_opened_it(tone_folder: Path, tmp_path: Path) -> None:
    corpus = open_corpus(str(tone_folder), cache=tmp_path / "a")
    load_features(corpus, FeatureConfig(), cache=tmp_path / "b")
    for folder in (tmp_path / "a", tmp_path / "b"):
        with pytest.raises(CorpusError, match="is in use"):
            clean(folder)
        assert len(held(folder)) == 2


def test_a_folder_half_removed_is_not_taken_for_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    whole = [thing.path for thing in held(cache) if thing.path.is_dir() and not thing.path.name.startswith(".")]
    assert len(whole) == 4
    with monkeypatch.context() as patched:
        patched.setattr("cello.features.clean.shutil.rmtree", stop)
        for path in whole:
            age(path, 100)
            with pytest.raises(KeyboardInterrupt):
                clean(cache, older_than_days=50)
            assert not path.exists()
            age(next(path.parent.glob(f".{path.name}.partial-*")), 0)
    assert len(clean(cache)) == 10
    assert files(cache) == set()


def test_what_cannot_be_removed_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cello.features.clean._remove", refused)
    with pytest.raises(CorpusError, match=r"\.part' cannot be removed from the cache: Permission denied; make it writ"):
        clean(cache)


def left_alone() -> None:
    for file in staging._USED.values():
        os.close(file)
    staging._USED.clear()


def test_corpora_are_named_with_their_sizes_and_one_can_be_cleared(tone_folder: Path, tmp_path: Path) -> None:
    cache, other = tmp_path / "cache", tmp_path / "others"
    shutil.copytree(tone_folder, other)
    for path in other.rglob("*_nohash_0.wav"):
        path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    for root, reading in ((tone_folder, {}), (tone_folder, {"choice": {"labels": ["low", "high"]}}), (other, {})):
        corpus = open_corpus(str(root), cache=cache, reading=reading)
        load_features(corpus, FeatureConfig(), cache=cache)
    left_alone()
    others, tones = corpora(cache)
    assert (others.name, tones.name) == ("others", "tones")
    assert tones.folders == (str(tone_folder),)
    sizes = {thing.path: thing.size for thing in held(cache)}
    assert others.decoded + tones.decoded + others.frames + tones.frames == sum(sizes.values())
    assert 1.6 < tones.frames / others.frames < 1.7, "three labels and two of them, against three"
    removed = clean_corpus("tones", cache)
    assert sum(thing.size for thing in removed) == tones.decoded + tones.frames
    assert [kept.name for kept in corpora(cache)] == ["others"]
    with pytest.raises(CorpusError, match=r"unknown corpus in the cache 'tones'\. Known: others"):
        clean_corpus("tones", cache)


def test_what_two_corpora_share_stays_with_the_other(tone_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(tone_folder, tmp_path / "others")
    checksums = [
        open_corpus(str(root), cache=cache, speaker_pattern=pattern).manifest.checksum
        for root, pattern in ((tone_folder, None), (tmp_path / "others", "([0-9a-f])_nohash"))
    ]
    left_alone()
    assert [thing.what for thing in clean_corpus("tones", cache)] == ["manifests"]
    (kept,) = corpora(cache)
    assert kept.decoded > 60 * 2 * 15_000
    left_alone()
    assert open_corpus(str(tone_folder), cache=cache).manifest.checksum == checksums[0]


def test_a_name_that_is_no_text_names_no_corpus(cache: Path) -> None:
    (cache / "features" / ("a" * 64 + ".corpus")).write_bytes(b"\xff\xfe")
    (cache / "manifests").mkdir()
    (cache / "manifests" / ("d" * 32 + ".json")).write_text("{}")
    assert corpora(cache) == []
    assert corpora(cache / "none") == []
