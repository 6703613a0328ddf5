"""The spoken corpus: the same bytes on every render, speakers in one split only, words audible and whole."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import wave
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cello.audio import espeak, spoken
from cello.audio.noise import coloured
from cello.audio.spoken import (
    CLIP_SAMPLES,
    SHORTEST_SAMPLES,
    VARIANTS,
    WORDS,
    SpokenConfig,
    folder_name,
    in_noise,
    plan,
    render_to,
    speaker,
    voices,
)
from cello.errors import ConfigError, CorpusError

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs: pip install 'cello-rnn[spoken]'"
)
SMALL = SpokenConfig(words=("yes", "marvin"), clips_per_word=10)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache") / folder_name(SMALL)
    render_to(folder, config=SMALL, workers=1)
    return folder


@pytest.fixture(scope="module")
def in_sevens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus as one process renders it in shards of 7 clips."""
    folder = tmp_path_factory.mktemp("sevens") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spoken, "_SHARD", 7)
        render_to(folder, config=SMALL, workers=1)
    return folder


def content(folder: Path) -> dict[str, str]:
    """The hash of every file below a folder, by its path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read(path: Path) -> tuple[Any, np.ndarray[Any, np.dtype[np.int16]]]:
    with wave.open(str(path)) as file:
        return file.getparams(), np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def test_no_voice_is_heard_in_two_splits() -> None:
    for seed in range(5):
        cast = voices(SpokenConfig(seed=seed))
        names = [variant for split in cast.values() for variant in split]
        assert sorted(names) == sorted(VARIANTS)
        assert {split: len(v) for split, v in cast.items()} == {"train": 52, "validation": 12, "test": 18}


def test_variants_have_names_of_their_own_and_no_near_duplicates() -> None:
    assert len({speaker(variant) for variant in VARIANTS}) == len(VARIANTS) == 82
    for alike in (
        {"adam", "klatt6", "Reed", "benjamin", "edward2"},
        {"klatt", "klatt2"},
        {"klatt4", "klatt5"},
        {"steph", "steph2", "steph3"},
        {"robosoft2", "robosoft3"},
    ):
        assert len(alike & set(VARIANTS)) <= 1


def test_the_default_plan_has_a_hundred_training_clips_of_every_word_spread_over_all_voices() -> None:
    clips = plan(SpokenConfig())
    assert len({clip.name for clip in clips}) == len(clips)
    trained = Counter(clip.word for clip in clips if clip.split == "train")
    assert trained == dict.fromkeys(WORDS, 100)
    assert len(WORDS) == 35
    by_voice = Counter(clip.variant for clip in clips if clip.split == "train")
    assert max(by_voice.values()) - min(by_voice.values()) <= 35
    cast = voices(SpokenConfig())
    assert all(clip.variant in cast[clip.split] for clip in clips)


@given(st.integers(1, 150), st.integers(0, 2**31))
def test_every_split_has_every_word_however_small_the_corpus(clips_per_word: int, seed: int) -> None:
    clips = plan(SpokenConfig(clips_per_word=clips_per_word, words=("yes", "no"), seed=seed))
    assert {(clip.split, clip.word) for clip in clips} == {
        (split, word) for split in ("train", "validation", "test") for word in ("yes", "no")
    }
    assert len({clip.name for clip in clips}) == len(clips)


def test_the_name_in_the_cache_changes_with_everything_that_changes_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[dict[str, Any]] = [{"clips_per_word": 10}, {"seed": 1}, {"snr_low_db": 0.0}, {"words": ("no",)}]
    names = {folder_name(SpokenConfig(**other)) for other in [{}, *others]}
    monkeypatch.setattr(spoken, "RENDERING", spoken.RENDERING + 1)
    assert len(names | {folder_name(SpokenConfig())}) == 6


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"clips_per_word": 0}, r"clips_per_word=0 is invalid: it must be at least 1"),
        ({"snr_low_db": 9.0, "snr_high_db": 3.0}, r"snr_low_db=9\.0 is invalid: it must be at most snr_high_db=3\.0"),
        ({"seed": -1}, r"seed=-1 is invalid: it must be ≥ 0"),
        ({"words": ("yes", "yes")}, r"is invalid: give at least one word, only letters, none twice"),
        ({"words": ("../up",)}, r"is invalid: give at least one word, only letters"),
        ({"words": ()}, r"at least one"),
    ],
)
def test_a_config_that_cannot_be_rendered_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        SpokenConfig(**settings)


@needs_espeak
def test_the_folder_is_an_ordinary_corpus(rendered: Path) -> None:
    clips = plan(SMALL)
    files = set(content(rendered))
    noises = {f"_background_noise_/{n}.wav" for n in ("white", "pink", "brown", "hum", "babble")}
    lists = {"validation_list.txt", "testing_list.txt"}
    assert files == {clip.name for clip in clips} | noises | lists | {"spoken.json"}
    for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        assert sorted(c.name for c in clips if c.split == split) == (rendered / name).read_text().splitlines()
    assert {p.name for p in rendered.parent.iterdir()} == {rendered.name, f".{rendered.name}.lock"}


@needs_espeak
def test_clips_are_16_khz_mono_of_different_lengths_and_levels_and_never_clip(rendered: Path) -> None:
    lengths, peaks = set(), []
    for clip in plan(SMALL):
        form, sound = read(rendered / clip.name)
        assert (form.nchannels, form.sampwidth, form.framerate) == (1, 2, 16_000)
        assert SHORTEST_SAMPLES <= len(sound) <= CLIP_SAMPLES
        lengths.add(len(sound))
        peaks.append(int(np.abs(sound.astype(int)).max()))
    assert len(lengths) > 3
    assert max(peaks) < 32_000
    assert max(peaks) > 2 * min(peaks)


@needs_espeak
def test_every_render_gives_the_same_bytes_with_any_number_of_workers(
    tmp_path: Path, in_sevens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spoken, "_SHARD", 7)
    render_to(tmp_path / "b", config=SMALL, workers=2)
    assert content(tmp_path / "b") == content(in_sevens)


@needs_espeak
def test_another_seed_gives_other_sound(tmp_path: Path, rendered: Path) -> None:
    render_to(tmp_path / "a", config=msgspec.structs.replace(SMALL, seed=1))
    assert not set(content(tmp_path / "a").values()) & set(content(rendered).values())


@needs_espeak
def test_a_complete_folder_is_left_as_it_is(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p: p.stat().st_mtime_ns for p in rendered.rglob("*")}
    monkeypatch.setattr(espeak, "say", None)
    render_to(rendered, config=SMALL)
    assert {p: p.stat().st_mtime_ns for p in rendered.rglob("*")} == before


@pytest.mark.parametrize("record", [None, b"{}"])
def test_a_folder_of_the_users_own_is_not_overwritten(tmp_path: Path, record: bytes | None) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "voice.wav").write_bytes(b"mine")
    if record is not None:
        (tmp_path / "mine" / "spoken.json").write_bytes(record)
    before = content(tmp_path / "mine")
    with pytest.raises(CorpusError, match=r"exists but is not the spoken corpus of this config.*move it away"):
        render_to(tmp_path / "mine", config=SMALL)
    assert content(tmp_path / "mine") == before


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Shards of 7 clips, and how many clips each process of eSpeak NG said, the three of the babble left out."""
    real, counts = espeak.say, list[int]()

    def counted(engine: espeak.Engine, utterances: list[espeak.Utterance], **options: Any) -> Any:
        if options["longest_ms"] == spoken.LONGEST_WORD_MS:
            counts.append(len(utterances))
        return real(engine, utterances, **options)

    monkeypatch.setattr(spoken, "_SHARD", 7)
    monkeypatch.setattr(espeak, "say", counted)
    return counts


def stop_after(clips: int, stop: BaseException) -> Any:
    """A progress that raises once so many clips are rendered."""

    def progress(label: str, done: int, total: int) -> None:
        if done >= clips:
            raise stop

    return progress


@needs_espeak
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), CorpusError("the voice broke")])
def test_stopped_halfway_a_render_goes_on_from_its_whole_shards_to_the_same_bytes(
    tmp_path: Path, in_sevens: Path, said: list[int], stop: BaseException
) -> None:
    everything = len(plan(SMALL))
    with pytest.raises(type(stop)):
        render_to(tmp_path / "a", config=SMALL, workers=1, progress=stop_after(21, stop))
    first = sum(said)
    assert 21 <= first < everything
    assert not (tmp_path / "a").exists()
    said.clear()
    render_to(tmp_path / "a", config=SMALL, workers=2)
    assert sum(said) == everything - first
    assert content(tmp_path / "a") == content(in_sevens)
    assert {p.name for p in tmp_path.iterdir()} == {"a", ".a.lock"}


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a render of shards of 7 clips was stopped after 21."""
    folder = tmp_path_factory.mktemp("halfway")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spoken, "_SHARD", 7)
        with pytest.raises(KeyboardInterrupt):
            render_to(folder / "a", config=SMALL, workers=1, progress=stop_after(21, KeyboardInterrupt()))
    return folder


@needs_espeak
@pytest.mark.parametrize("damage", ["cut", "removed", "unmarked", "marked otherwise"])
def test_a_shard_that_is_not_whole_is_rendered_again(
    tmp_path: Path, in_sevens: Path, halfway: Path, said: list[int], damage: str
) -> None:
    shutil.copytree(halfway, tmp_path, dirs_exist_ok=True)
    (begun,) = tmp_path.glob(".a.*.unfinished")
    clip, mark = begun / plan(SMALL)[8].name, begun / ".shards" / "7"
    whole = clip.read_bytes()
    if damage == "cut":
        clip.write_bytes(whole[: len(whole) // 2])
    elif damage == "removed":
        clip.unlink()
    elif damage == "unmarked":
        mark.unlink()
    else:
        mark.write_bytes((begun / ".shards" / "0").read_bytes())
    render_to(tmp_path / "a", config=SMALL, workers=1)
    assert sum(said) == len(plan(SMALL)) - 21  # of the 28 clips that were done, the other shards are kept
    assert content(tmp_path / "a") == content(in_sevens)


@needs_espeak
def test_a_render_begun_with_another_config_or_espeak_is_not_gone_on_with(tmp_path: Path, said: list[int]) -> None:
    other = msgspec.structs.replace(SMALL, words=("no", "yes"))
    for name, config in (("a", other), ("b", SMALL)):
        with pytest.raises(KeyboardInterrupt):
            render_to(tmp_path / name, config=config, workers=1, progress=stop_after(14, KeyboardInterrupt()))
    (begun,) = tmp_path.glob(".b.*.unfinished")
    begun.rename(tmp_path / ".b.0123456789ab.unfinished")  # as of a library that was another file
    said.clear()
    render_to(tmp_path / "a", config=SMALL)
    render_to(tmp_path / "b", config=SMALL)
    assert sum(said) == 2 * len(plan(SMALL))
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert {p.name for p in tmp_path.iterdir()} == {"a", ".a.lock", "b", ".b.lock"}


@needs_espeak
def test_progress_counts_clips_up_to_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken, "_SHARD", 25)
    calls: list[tuple[str, int, int]] = []
    render_to(tmp_path / "a", config=SMALL, progress=lambda *call: calls.append(call))
    total = len(plan(SMALL))
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    assert (calls[0][1:], calls[-1][1:]) == ((0, total), (total, total))


@given(st.integers(0, 2**31), st.integers(1000, 14_400))
def test_a_word_stands_whole_in_its_clip(seed: int, samples: int) -> None:
    word = np.sin(np.arange(samples) * 0.3).astype(np.float32) + 2
    babble = coloured("pink", 40_000, 16_000, np.random.default_rng(0))
    clip = in_noise(word, 300.0, babble, np.random.default_rng(seed))
    assert max(SHORTEST_SAMPLES, samples) <= len(clip) <= CLIP_SAMPLES
    loud = np.flatnonzero(clip)
    assert loud[-1] - loud[0] + 1 == samples
    shape = clip[loud[0] : loud[-1] + 1] / clip.max()
    assert np.allclose(shape, word / word.max(), atol=1e-3)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_the_noise_is_as_loud_as_the_ratio_says(snr_db: float) -> None:
    babble = coloured("white", 40_000, 16_000, np.random.default_rng(0))
    word = np.ones(8000, dtype=np.float32)
    for seed in range(20):
        rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
        noisy = in_noise(word, snr_db, babble, rng).astype(float)
        clean = in_noise(word, 300.0, babble, same) != 0
        noise = noisy[~clean].std() if (~clean).sum() > 5000 else noisy[clean].std()
        level = abs(noisy[clean].mean())
        assert 20 * np.log10(level / noise) == pytest.approx(snr_db, abs=4.0)
