from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import msgspec
import numpy as np
import platformdirs
import pytest
import torch

from cello.audio.corpus import Clip, Corpus, Manifest
from cello.errors import FeatureError
from cello.features import cache as cache_module
from cello.features.cache import FeatureSet, cache_folder, cache_key, load_features
from cello.features.config import FeatureConfig
from cello.features.mfcc import extract

CONFIG = FeatureConfig()


def same(one: FeatureSet, two: FeatureSet) -> bool:
    return torch.equal(one.flat, two.flat) and torch.equal(one.counts, two.counts)


def the_file(corpus, folder, config=CONFIG):
    return folder / f"{cache_key(corpus, config)}.npy"


def visible(folder):
    """What lies in a folder but the lock of the cache and the name of the corpus."""
    return [p.name for p in folder.iterdir() if p.name != ".in-use.lock" and p.suffix != ".corpus"]


@pytest.fixture
def never_extract(monkeypatch):
    def refuse(*_):
        raise AssertionError("the frames were computed although they lie in the cache")

    return lambda: monkeypatch.setattr(cache_module, "ClipFrames", refuse)


def test_batches_hold_every_clip_s_own_frames(tone_corpus, tmp_path):
    features = load_features(tone_corpus, CONFIG, cache=tmp_path)
    chosen = np.array([7, 0, 41, 2, 7])
    frames, counts = features.batch(chosen)
    sound, lengths = tone_corpus.audio(chosen)
    expected, expected_counts = extract(torch.from_numpy(sound), torch.from_numpy(lengths), CONFIG)
    assert torch.equal(counts, expected_counts)
    torch.testing.assert_close(frames, expected, atol=1e-5, rtol=1e-5)
    assert (frames[3, int(counts[3]) :] == 0).all()
    assert len(features) == len(tone_corpus.lengths)
    assert features.dimensions == 39


def test_writing_into_a_batch_changes_neither_the_set_nor_the_file(tone_corpus, tmp_path):
    features = load_features(tone_corpus, CONFIG, cache=tmp_path)
    before = features.batch(np.arange(3))[0].clone()
    features.batch(np.arange(3))[0].zero_()
    features.flat[0] = 7
    assert torch.equal(load_features(tone_corpus, CONFIG, cache=tmp_path).batch(np.arange(3))[0], before)


def test_the_second_time_nothing_is_computed(tone_corpus, tmp_path, never_extract):
    seen: list[tuple[int, int]] = []
    first = load_features(tone_corpus, CONFIG, cache=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (42, 42)
    never_extract()
    assert same(first, load_features(tone_corpus, CONFIG, cache=tmp_path).in_memory())
    assert visible(tmp_path) == [the_file(tone_corpus, tmp_path).name]


def test_small_blocks_give_the_same_frames(tone_corpus, tmp_path, monkeypatch):
    first = load_features(tone_corpus, CONFIG, cache=tmp_path / "a")
    monkeypatch.setattr(cache_module, "_SAMPLES_AT_ONCE", 40_000)
    second = load_features(tone_corpus, CONFIG, cache=tmp_path / "b")
    torch.testing.assert_close(second.flat, first.flat, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("damage", ["cut", "cut header", "empty", "longer shape", "not npy"])
def test_a_damaged_file_is_computed_anew(tone_corpus, tmp_path, damage):
    good = load_features(tone_corpus, CONFIG, cache=tmp_path).in_memory()
    path = the_file(tone_corpus, tmp_path)
    whole = path.read_bytes()
    if damage == "longer shape":
        np.save(path, np.zeros((3, 39), dtype=np.float32))
    else:
        path.write_bytes({"cut": whole[:-1], "cut header": whole[:40], "empty": b"", "not npy": b"x" * 5000}[damage])
    assert same(load_features(tone_corpus, CONFIG, cache=tmp_path), good)
    assert path.read_bytes() == whole


def test_no_damage_gives_other_frames(tone_corpus, tmp_path):
    good = load_features(tone_corpus, CONFIG, cache=tmp_path).in_memory()
    path = the_file(tone_corpus, tmp_path)
    whole = path.read_bytes()
    rng = random.Random(3)
    for _ in range(40):
        broken = bytearray(whole)
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        path.write_bytes(broken[: rng.choice([len(broken), len(broken), rng.randrange(len(broken))])])
        assert same(load_features(tone_corpus, CONFIG, cache=tmp_path), good)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("instead", ["of before there were checksums", "another config's", "a pipe"])
def test_what_is_not_this_file_is_not_taken_for_it(tone_corpus, tmp_path, instead):
    good = load_features(tone_corpus, CONFIG, cache=tmp_path).in_memory()
    path = the_file(tone_corpus, tmp_path)
    whole = path.read_bytes()
    path.unlink()
    if instead == "a pipe":
        os.mkfifo(path)
    elif instead == "another config's":
        other = FeatureConfig(low_hz=100.0)
        load_features(tone_corpus, other, cache=tmp_path)
        the_file(tone_corpus, tmp_path, other).rename(path)
    else:
        np.save(path, np.zeros(tuple(good.flat.shape), dtype=np.float32))
    assert same(load_features(tone_corpus, CONFIG, cache=tmp_path), good)
    assert path.read_bytes() == whole


def test_other_programs_still_read_the_file_as_npy(tone_corpus, tmp_path):
    good = load_features(tone_corpus, CONFIG, cache=tmp_path)
    assert np.array_equal(np.load(the_file(tone_corpus, tmp_path)), good.flat.numpy())


def test_a_crash_while_writing_leaves_nothing_that_could_be_taken_for_frames(tone_corpus, tmp_path, monkeypatch):
    def crash(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module, "_SAMPLES_AT_ONCE", 40_000)
    with pytest.raises(KeyboardInterrupt):
        load_features(tone_corpus, CONFIG, cache=tmp_path, progress=crash)
    assert visible(tmp_path) == []


def test_what_a_killed_process_left_is_cleared_away_when_old(tone_corpus, tmp_path):
    key = cache_key(tone_corpus, CONFIG)
    old, young = tmp_path / f".{key}.npy.1-aa.part", tmp_path / f".{key}.npy.2-bb.part"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    day_ago = time.time() - 86_400
    os.utime(old, (day_ago, day_ago))
    load_features(tone_corpus, CONFIG, cache=tmp_path)
    assert not old.exists()
    assert young.exists()


def test_two_processes_at_once_both_get_the_frames(tone_corpus, tmp_path):
    np.save(tmp_path / "sound.npy", tone_corpus.sound)
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(tone_corpus.manifest))
    script = """
import hashlib, pathlib, sys
import msgspec, numpy as np, torch
from cello.audio.corpus import Corpus, Manifest
from cello.features import cache
from cello.features.config import FeatureConfig
here = pathlib.Path(sys.argv[1])
torch.set_num_threads(1)
cache._SAMPLES_AT_ONCE = 40_000
manifest = msgspec.json.decode((here / "manifest.json").read_bytes(), type=Manifest)
corpus = Corpus(manifest, np.load(here / "sound.npy"))
print("ready", flush=True)
sys.stdin.readline()
for round in range(5):
    features = cache.load_features(corpus, FeatureConfig(), cache=here / str(round))
    print(hashlib.sha256(features.flat.numpy().tobytes()).hexdigest())
"""
    start = [sys.executable, "-c", script, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(start, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert answers[0] == answers[1]
    assert len(set(answers[0] + answers[1])) == 1
    assert [len(visible(tmp_path / str(round))) for round in range(5)] == [1] * 5


@pytest.mark.parametrize(
    "change",
    [{"window_ms": 20.0}, {"n_mels": 30}, {"log_floor": 1e-5}, {"delta_width": 7}, {"normalisation": "clip"}],
)
def test_another_config_is_another_file(tone_corpus, change):
    assert cache_key(tone_corpus, CONFIG) != cache_key(tone_corpus, msgspec.structs.replace(CONFIG, **change))


def test_another_corpus_is_another_file(tone_corpus):
    other = Corpus(msgspec.structs.replace(tone_corpus.manifest, checksum="1" * 64), tone_corpus.sound)
    assert cache_key(tone_corpus, CONFIG) != cache_key(other, CONFIG)


def test_the_trainer_s_normalisation_shares_the_plain_frames(tone_corpus):
    plain = FeatureConfig(normalisation="none")
    assert cache_key(tone_corpus, FeatureConfig(normalisation="corpus")) == cache_key(tone_corpus, plain)


def test_clips_shorter_than_a_window_are_named_and_counted(tone_corpus, tmp_path):
    with pytest.raises(
        FeatureError,
        match=r"clip high/train2.wav of tones lasts 875 ms, less than one window of "
        r"features.window_ms=900; 12 of 42 clips are too short; use a window of at most 875 ms",
    ):
        load_features(tone_corpus, FeatureConfig(window_ms=900), cache=tmp_path)


def test_another_sample_rate_is_refused(tone_corpus, tmp_path):
    with pytest.raises(FeatureError, match=r"read at 16000 Hz but features.rate_hz=8000; open the corpus at 8000 Hz"):
        load_features(tone_corpus, FeatureConfig(rate_hz=8000), cache=tmp_path)


def test_a_corpus_without_clips_is_refused(tmp_path):
    manifest = Manifest(corpus="none", rate_hz=16_000, labels=(), clips=(), bad=(), checksum="2" * 64, source="memory")
    with pytest.raises(FeatureError, match="corpus none has no clips"):
        load_features(Corpus(manifest, np.zeros(0, dtype=np.int16)), CONFIG, cache=tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tone_corpus, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(
        FeatureError, match=r"frames of tones cannot be written to .*file.*MB are needed.*another cache"
    ):
        load_features(tone_corpus, CONFIG, cache=blocked / "features")


def test_a_full_disk_is_told_and_leaves_nothing(tone_corpus, tmp_path, monkeypatch):
    def full(file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "fsync", full)
    with pytest.raises(FeatureError, match="No space left on device"):
        load_features(tone_corpus, CONFIG, cache=tmp_path)
    assert visible(tmp_path) == []


def test_the_default_folder_is_the_user_s_own(monkeypatch, tmp_path):
    monkeypatch.delenv("CELLO_CACHE", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    assert cache_folder() == tmp_path / "cello" / "features"


def test_a_long_clip_among_short_ones_does_not_fill_memory():
    lengths = np.array([1000, 1000, cache_module._SAMPLES_AT_ONCE, 1000, 1000])
    assert list(cache_module._ranges(lengths)) == [(0, 2), (2, 3), (3, 5)]


def test_labels_in_any_script_are_named_in_errors(tmp_path):
    clip = Clip(name="кот/1.wav", label="кот", split="train", speaker="a", start=0, samples=100)
    manifest = Manifest(
        corpus="слова", rate_hz=16_000, labels=("кот",), clips=(clip,), bad=(), checksum="3" * 64, source="memory"
    )
    with pytest.raises(FeatureError, match=r"кот/1\.wav of слова lasts 6\.25 ms"):
        load_features(Corpus(manifest, np.zeros(100, dtype=np.int16)), CONFIG, cache=tmp_path)
