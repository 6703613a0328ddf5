"""What hurts: one recording in two splits or under two labels, silence and clipping that nobody mentions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from cello.audio.corpus import BadClip, Clip, Corpus, Manifest, Split
from cello.audio.facts import Row, by_reason, facts
from cello.audio.open import corpus_files, open_corpus


def found(corpus: Corpus, files: dict[str, Path] | None = None) -> dict[tuple[str, str], Row]:
    return {(part.title, row.what): row for part in facts(corpus, files or {}) for row in part.rows}


def made(clips: list[tuple[str, str, Split, np.ndarray]]) -> Corpus:
    entries, at = [], 0
    for name, label, split, sound in clips:
        entries.append(Clip(name=name, label=label, split=split, speaker=name, start=at, samples=len(sound)))
        at += len(sound)
    labels = tuple(sorted({label for _, label, _, _ in clips}))
    manifest = Manifest(
        corpus="made", rate_hz=1000, labels=labels, clips=tuple(entries), bad=(), checksum="", source=""
    )
    return Corpus(manifest, np.concatenate([sound for *_, sound in clips]).astype(np.int16))


@pytest.fixture
def noise() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(-9000, 9000, (8, 400)))


def test_duplicates_are_named_with_what_is_wrong_about_them(noise: list[np.ndarray]) -> None:
    corpus = made(
        [
            ("a/1", "a", "train", noise[0]),
            ("a/2", "a", "train", noise[0]),
            ("a/3", "a", "train", noise[1]),
            ("a/4", "a", "test", noise[1]),
            ("a/5", "a", "train", noise[2]),
            ("b/1", "b", "train", noise[2]),
            ("b/2", "b", "train", noise[3]),
            ("b/3", "b", "train", noise[3][:-1]),
            *((f"b/zero{k}", "b", "train", np.zeros(50)) for k in range(3)),
        ]
    )
    rows = found(corpus)
    same = rows["Duplicates", "same samples"]
    assert (same.value, same.examples) == ("6 clips", "a/1 = a/2; a/3 = a/4; a/5 = b/1")
    assert rows["Duplicates", "in several splits"][1:] == ("2 clips", "a/3 = a/4")
    assert rows["Duplicates", "under several labels"][1:] == ("2 clips", "a/5 = b/1")


def test_silence_and_clipping_are_counted(noise: list[np.ndarray]) -> None:
    loud, peak, below = noise[0].copy(), noise[1].copy(), noise[2].copy()
    loud[100:103], peak[100:102], below[5:8] = 32767, 32767, -32768
    corpus = made(
        [
            ("a/loud", "a", "train", loud),
            ("a/peak", "a", "train", peak),
            ("b/below", "b", "train", below),
            ("b/quiet", "b", "train", noise[3] // 400),
            ("b/soft", "b", "train", noise[4] // 100),
        ]
    )
    rows = found(corpus)
    assert rows["Loudness", "cut off (clipped)"][1:] == ("2", "a/loud, b/below")
    assert rows["Loudness", "below −60 dBFS"][1:] == ("1", "b/quiet")


def test_lengths_and_balance(noise: list[np.ndarray]) -> None:
    clips: list[tuple[str, str, Split, np.ndarray]] = [
        (f"a/{k}", "a", "train", noise[k][: 200 + 10 * k]) for k in range(6)
    ]
    clips += [("b/0", "b", "train", np.tile(noise[6], 3)), ("b/1", "b", "train", noise[7][:20])]
    clips.append(("a/9", "a", "test", noise[7][:210]))
    rows = found(made(clips))
    assert rows["Lengths", "shortest"][1:] == ("0.02 s", "b/1")
    assert rows["Lengths", "longest"][1:] == ("1.20 s", "b/0")
    assert rows["Lengths", "median"].value == "0.22 s"
    assert rows["Lengths", "under a third of it"][1:] == ("1", "b/1")
    assert rows["Lengths", "over three times it"][1:] == ("1", "b/0")
    assert rows["Balance", "train"][1:] == ("3.0 : 1", "a 6, b 2")
    assert rows["Balance", "test"][1:] == ("a label without clips", "a 1, b 0")


@pytest.mark.filterwarnings("ignore")
def test_files_and_a_bad_corpus_are_told_whole(tone_folder: Path, tmp_path: Path) -> None:
    low = tone_folder / "low"
    soundfile.write(low / "deep.wav", np.full((800, 2), 0.1), 44_100, subtype="PCM_24")
    soundfile.write(low / "zero.wav", np.zeros(800), 16_000)
    (low / "words.wav").write_text("none")
    corpus = open_corpus(str(tone_folder), cache=tmp_path / "c", strict=False)
    files = {**corpus_files(str(tone_folder), cache=tmp_path / "c"), "not/chosen.wav": tmp_path / "none.wav"}
    parts = facts(corpus, files)
    rows = list(parts[0].rows)
    assert rows[0] == Row("files", "63")
    assert Row("format", "WAV, 24-bit, stereo", "1 file") in rows
    assert Row("sampling rate", "44,100 Hz", "1 file, resampled to 16,000 Hz") in rows
    assert Row("sampling rate", "16,000 Hz", "61 files") in rows
    unusable = parts[-1]
    assert (unusable.title, len(unusable.rows)) == ("Unusable", 2)
    assert unusable.rows[1] == Row("1 file", "", "low/zero.wav: all silence: every sample is zero")
    assert Row("all zero", "1", "low/zero.wav") in parts[2].rows


@pytest.mark.filterwarnings("ignore")
def test_a_corpus_without_any_sound_has_facts_too(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / f"{name}.wav").touch()
    corpus = open_corpus(str(tmp_path / "d"), cache=tmp_path / "c", strict=False)
    parts = facts(corpus, corpus_files(str(tmp_path / "d"), cache=tmp_path / "c"))
    assert parts[-1].rows == (Row("3 files", "", "a/a.wav, b/b.wav, c/c.wav: empty: a file of 0 bytes"),)


def test_reasons_that_differ_by_numbers_and_names_alone_are_one() -> None:
    """A folder of links that Git wrote as text printed 9,387 lines."""
    reasons = [f"a link ('../../x/{k}.flac'), cut at {k},000 of 1.5 s." for k in range(9)] + ["empty: 0 bytes"] * 2
    bad = tuple(BadClip(name=f"a/{k}", reason=reason) for k, reason in enumerate(reasons))
    manifest = Manifest(corpus="", rate_hz=1, labels=(), clips=(), bad=bad, checksum="", source="")
    assert by_reason(manifest) == {
        "a link (…), cut at … of … s.": [f"a/{k}" for k in range(9)],
        "empty: 0 bytes": ["a/9", "a/10"],
    }
