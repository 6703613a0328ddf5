"""Opening a corpus by its name: the right clips, or a message that says what to do."""

from __future__ import annotations

import os
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from cello.audio import speech_commands, spoken
from cello.audio.corpus import Corpus
from cello.audio.open import at_hand, open_corpus
from cello.audio.splits import official_split
from cello.errors import CorpusError


def lists_by_rule(root: Path) -> None:
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*_nohash_*.wav"))]
    for file, split in (("validation_list.txt", "validation"), ("testing_list.txt", "test")):
        listed = [name for name in names if official_split(name.split("/")[1].split("_nohash_")[0]) == split]
        (root / file).write_text("".join(f"{name}\n" for name in listed), encoding="utf-8")


def splits(corpus: Corpus) -> dict[str, int]:
    return Counter(clip.split for clip in corpus.manifest.clips)


def test_what_is_not_in_the_cache_is_not_at_hand(tmp_path: Path) -> None:
    made = ("spoken", "speech-commands", "speech-commands:v0.01", "speech-commands:v0.02:12")
    assert not any(at_hand(spec, tmp_path) for spec in made)
    assert at_hand(f"folder:{tmp_path}", tmp_path)
    assert at_hand(f"speech-commands:{tmp_path}", tmp_path)
    (tmp_path / spoken.folder_name(spoken.DEFAULT)).mkdir()
    (tmp_path / speech_commands.folder_name("v0.01")).mkdir()
    assert [at_hand(spec, tmp_path) for spec in made] == [True, False, True, False]


@pytest.mark.parametrize("prefix", ["", "folder:"])
def test_a_folder_is_opened_and_read(tone_folder: Path, tmp_path: Path, prefix: str) -> None:
    corpus = open_corpus(f"{prefix}{tone_folder}", cache=tmp_path / "cache")
    assert corpus.manifest.corpus == "tones"
    assert corpus.manifest.labels == ("high", "low", "rough")
    assert sum(splits(corpus).values()) == 60
    assert str(tone_folder) in corpus.manifest.source
    audio, lengths = corpus.audio(np.arange(60))
    assert audio.shape == (60, 16_000)
    assert set(lengths) == {16_000, 15_600, 15_200}
    assert np.array_equal(corpus.targets, np.repeat([0, 1, 2], 20))
    there, _ = soundfile.read(tone_folder / corpus.manifest.clips[7].name, dtype="float32")
    assert np.array_equal(audio[7, : lengths[7]], there)


def test_splits_of_a_folder_keep_speakers_apart(tone_folder: Path, tmp_path: Path) -> None:
    corpus = open_corpus(str(tone_folder), cache=tmp_path / "cache")
    assert len({(clip.speaker, clip.split) for clip in corpus.manifest.clips}) == 20
    assert set(splits(corpus)) == {"train", "validation", "test"}


def test_a_renamed_folder_has_its_new_name_and_its_old_checksum(tone_folder: Path, tmp_path: Path) -> None:
    first = open_corpus(str(tone_folder), cache=tmp_path / "cache").manifest
    again = open_corpus(str(tone_folder.rename(tmp_path / "pitch")), cache=tmp_path / "cache").manifest
    assert again.corpus == "pitch"
    assert "pitch" in again.source
    assert again.checksum == first.checksum


def test_bad_clips_are_named_with_their_reasons(tone_folder: Path, tmp_path: Path) -> None:
    low = tone_folder / "low"
    (low / "empty.wav").touch()
    (low / "words.mp3").write_text("not a sound")
    soundfile.write(low / "silent.flac", np.zeros(100), 16_000)
    soundfile.write(low / "nan.wav", np.array([np.nan, 1.0]), 16_000, subtype="FLOAT")
    whole = next(low.glob("*_nohash_0.wav")).read_bytes()
    (low / "cut.wav").write_bytes(whole[:1000])
    (tone_folder / "_background_noise_").mkdir()
    (tone_folder / "_background_noise_" / "hum.wav").write_bytes(whole[:1000])
    with pytest.raises(CorpusError) as raised:
        open_corpus(str(tone_folder), cache=tmp_path / "cache")
    assert re.search(r"6 of 66 clips of tones \(9\.1%\) are unusable, more than the 1\.0% allowed", str(raised.value))
    assert "low/empty.wav: empty: a file of 0 bytes; low/nan.wav: not finite" in str(raised.value)
    assert "; and 1 more. Repair or remove them, or skip them with --allow-bad 0.091" in str(raised.value)
    corpus = open_corpus(str(tone_folder), cache=tmp_path / "cache", allow_bad=0.091)
    reasons = {bad.name: bad.reason.split(" ")[0].rstrip(":") for bad in corpus.manifest.bad}
    assert reasons == {
        "low/cut.wav": "truncated",
        "low/empty.wav": "empty",
        "low/nan.wav": "not",
        "low/silent.flac": "all",
        "low/words.mp3": "not",
        "_background_noise_/hum.wav": "truncated",
    }
    assert len(corpus.manifest.clips) == 60


def test_one_bad_clip_in_a_hundred_is_let_pass_and_kept_in_the_record(tone_folder: Path, tmp_path: Path) -> None:
    for number in range(39):
        soundfile.write(tone_folder / "low" / f"more{number}.wav", np.full(50, 0.5), 16_000)
    (tone_folder / "low" / "empty.wav").touch()
    for _ in range(2):  # decoded, and from the cache
        corpus = open_corpus(str(tone_folder), cache=tmp_path / "cache")
        assert [bad.name for bad in corpus.manifest.bad] == ["low/empty.wav"]


def test_a_split_that_is_empty_once_bad_clips_are_left_out_is_refused(tone_folder: Path, tmp_path: Path) -> None:
    lists_by_rule(tone_folder)
    for name in (tone_folder / "validation_list.txt").read_text().splitlines():
        (tone_folder / name).write_bytes(b"")
    with pytest.raises(
        CorpusError, match=r"validation split of tones is empty \(train \d+, validation 0, test \d+; .* add"
    ):
        open_corpus(str(tone_folder), cache=tmp_path / "cache", allow_bad=1.0)


def test_a_class_without_training_clips_is_refused(tone_folder: Path, tmp_path: Path) -> None:
    lists_by_rule(tone_folder)
    with (tone_folder / "testing_list.txt").open("a") as file:
        listed = (tone_folder / "validation_list.txt").read_text() + (tone_folder / "testing_list.txt").read_text()
        for path in (tone_folder / "low").iterdir():
            if f"low/{path.name}" not in listed:
                file.write(f"low/{path.name}\n")
    with pytest.raises(
        CorpusError, match=r"1 of 3 classes of tones have no training clip, for example 'low' .* add clips"
    ):
        open_corpus(str(tone_folder), cache=tmp_path / "cache")


def test_a_speaker_pattern_splits_whole_speakers(tmp_path: Path) -> None:
    root = tmp_path / "digits"
    for word in "01":
        (root / word).mkdir(parents=True)
        for speaker in ("ann", "bob", "cat", "dan"):
            for take in range(4):
                soundfile.write(root / word / f"{word}_{speaker}_{take}.flac", np.full(80, 0.5), 8000)
    corpus = open_corpus(str(root), cache=tmp_path / "cache", speaker_pattern=r"_([a-z]+)_")
    assert len({(clip.speaker, clip.split) for clip in corpus.manifest.clips}) == 4
    assert splits(corpus) == {"train": 16, "validation": 8, "test": 8}
    assert corpus.manifest.source.endswith("split by 4 speakers in the order of their SHA-1")
    assert corpus.sound.dtype == np.float32
    with pytest.raises(CorpusError, match=r"finds no speaker in '0/0_ann_0.flac'"):
        open_corpus(str(root), cache=tmp_path / "cache", speaker_pattern=r"_([A-Z]+)_")
    with pytest.raises(CorpusError, match="1 speaker "):
        open_corpus(str(root), cache=tmp_path / "cache", speaker_pattern=r"(\.)flac")


@pytest.mark.parametrize("inside", [".", "speech_commands"])
def test_speech_commands_are_opened_from_a_folder_and_an_archive(
    tone_folder: Path, tmp_path: Path, inside: str
) -> None:
    lists_by_rule(tone_folder)
    folder = open_corpus(f"speech-commands:{tone_folder}", cache=tmp_path / "cache")
    archive = tmp_path / "commands.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tone_folder, arcname=inside)
    for _ in range(2):
        unpacked = open_corpus(f"speech-commands:{archive}", cache=tmp_path / "cache")
        assert unpacked.manifest.checksum == folder.manifest.checksum
        assert unpacked.manifest.corpus == "speech-commands"


def test_speech_commands_with_other_lists_are_refused(tone_folder: Path, tmp_path: Path) -> None:
    lists_by_rule(tone_folder)
    listed = (tone_folder / "testing_list.txt").read_text().splitlines()
    (tone_folder / "testing_list.txt").write_text("\n".join(listed[1:]))
    with pytest.raises(CorpusError, match=f"1 of 60 clips are listed in another split .* '{listed[0]}'"):
        open_corpus(f"speech-commands:{tone_folder}", cache=tmp_path / "cache")
    assert open_corpus(f"folder:{tone_folder}", cache=tmp_path / "cache").manifest.corpus == "tones"


@pytest.mark.parametrize(
    ("spec", "version"),
    [("speech-commands", "v0.02"), ("speech-commands:v0.01", "v0.01"), ("speech-commands:v0.02", "v0.02")],
)
def test_speech_commands_are_fetched(
    tone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, version: str
) -> None:
    asked: list[str] = []

    def fetch(version: str, cache: Path, *, progress: object = None) -> Path:
        asked.append(version)
        return tone_folder

    monkeypatch.setattr(speech_commands, "fetch", fetch)
    assert open_corpus(spec, cache=tmp_path / "cache").manifest.corpus == f"speech-commands-{version}"
    assert asked == [version]


def test_spoken_is_rendered_into_the_cache(tone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def render_to(folder: Path, *, progress: object = None) -> None:
        tone_folder.rename(folder)

    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(spoken, "render_to", render_to)
    corpus = open_corpus("spoken", cache=tmp_path / "cache")
    assert corpus.manifest.corpus == "spoken"
    assert any((tmp_path / "cache").glob("spoken-*"))


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            "spokn",
            "unknown corpus 'spokn'; did you mean 'spoken'\\? Known: folder, speech-commands, spoken. Or give the path",
        ),
        ("speech-comands:v0.02", "did you mean 'speech-commands'"),
        ("speech-commands:v0.2", "unknown version or path of speech-commands 'v0.2'; did you mean 'v0.02'"),
        ("folder:nowhere/at/all", "corpus folder 'nowhere/at/all' does not exist"),
        ("nowhere/at/all", "corpus folder 'nowhere/at/all' does not exist"),
        ("", "unknown corpus ''"),
        ("folder:", "names no folder; write folder:PATH"),
        ("spoken:loud", "takes no options; write spoken"),
    ],
)
def test_a_corpus_that_does_not_exist_is_refused(tmp_path: Path, spec: str, text: str) -> None:
    with pytest.raises(CorpusError, match=text):
        open_corpus(spec, cache=tmp_path / "cache")


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def render_to(folder: Path, *, progress: object = None) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spoken, "render_to", render_to)
    with pytest.raises(
        CorpusError, match=r"'spoken' cannot be written to the cache .*: no space left.* choose another cache"
    ):
        open_corpus("spoken", cache=tmp_path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"allow_bad": 5}, "allow_bad=5 is invalid: it must be a share of all clips, from 0 to 1"),
        ({"allow_bad": float("nan")}, "allow_bad=nan"),
        ({"rate_hz": 0}, "rate_hz=0 is invalid: it must be a positive whole number"),
    ],
)
def test_options_that_cannot_be_are_refused(tone_folder: Path, tmp_path: Path, options: Any, text: str) -> None:
    with pytest.raises(CorpusError, match=text):
        open_corpus(str(tone_folder), cache=tmp_path, **options)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "sc.tar.gz").touch()
    with pytest.raises(
        CorpusError, match=r"sc.tar.gz' is a file; give a folder .* or write speech-commands:.*sc.tar.gz if"
    ):
        open_corpus(str(tmp_path / "sc.tar.gz"), cache=tmp_path)


@pytest.mark.parametrize("name", ["clips.zip", "clips.tar.gz"])
def test_a_file_given_as_a_folder_is_called_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    remedy = "unpack it and give its folder" if name.endswith("zip") else "give a folder of class folders, or write"
    with pytest.raises(CorpusError, match=f"{name}' is a file, not a folder; {remedy}"):
        open_corpus(f"folder:{tmp_path / name}", cache=tmp_path / "cache")


def test_an_unknown_home_and_a_name_that_is_not_utf8_are_said(tmp_path: Path) -> None:
    for spec in ("folder:~no-such-user/clips", "speech-commands:~no-such-user/a.tar", "~no-such-user/clips"):
        with pytest.raises(CorpusError, match=r"'~no-such-user/.*' names an unknown home folder; give the"):
            open_corpus(spec, cache=tmp_path)
    place = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(place).mkdir()
    with pytest.raises(CorpusError, match=r"the name of the corpus folder, '.*caf\\udce9', is not UTF-8; rename it"):
        open_corpus(f"folder:{place}", cache=tmp_path)


def test_another_archive_of_the_same_name_size_and_time_is_another_corpus(
    tone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "a.tar"
    checksums = []
    for flip in (0, 1):
        for path in tone_folder.rglob("*.wav"):
            content = path.read_bytes()
            path.write_bytes(content[:44] + bytes(byte ^ flip for byte in content[44:]))
        with tarfile.open(packed, "w") as tar:
            tar.add(tone_folder, arcname="corpus/speech")
            note = tarfile.TarInfo("corpus/__MACOSX/speech/._low")
            tar.addfile(note)
            tar.addfile(tarfile.TarInfo("README.md"))
        os.utime(packed, (1, 1))
        corpus = open_corpus(f"speech-commands:{packed}", cache=tmp_path / "cache")
        assert corpus.manifest.labels == ("high", "low", "rough")
        checksums.append(corpus.manifest.checksum)
    assert checksums[0] != checksums[1]


def test_another_rate_is_kept_in_the_manifest(tone_folder: Path, tmp_path: Path) -> None:
    corpus = open_corpus(str(tone_folder), cache=tmp_path / "cache", rate_hz=8000)
    assert corpus.manifest.rate_hz == 8000
    assert int(corpus.lengths.max()) == 8000
