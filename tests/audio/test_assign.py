"""What hurts: given splits that nobody used, a recording in two splits, folds that leave nothing to test."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from cello.audio.assign import assign, speakers_known, splits_given
from cello.audio.folder import File, Folder
from cello.audio.reading import Reading
from cello.audio.splits import percentile
from cello.errors import CorpusError

PATH = Path("x.wav")


def folder(*clips: File, rule: str = "the table clips.csv") -> Folder:
    return Folder(Path(), ("a", "b"), tuple(clips), (), (), rule=rule)


def clips(count: int = 40) -> list[File]:
    return [File(f"a/{n}.wav", PATH, speaker=f"s{n % 20}") for n in range(count)]


def test_given_splits_are_used_and_validation_is_held_out_of_training_by_speaker() -> None:
    given = [replace(clip, split="test" if clip.speaker < "s12" else "train") for clip in clips()]
    assigned = assign(folder(*given))
    by_speaker = defaultdict(set)
    for clip in given:
        by_speaker[clip.speaker].add(assigned.splits[clip.name])
        assert (assigned.splits[clip.name] == "test") == (clip.split == "test")
    assert all(len(splits) == 1 for splits in by_speaker.values())
    assert {"validation"} in by_speaker.values()
    assert assigned.rule == "the table clips.csv; validation is a tenth of the training speakers, by SHA-1"


def test_few_training_speakers_still_leave_one_to_validate() -> None:
    names = sorted((f"p{n}" for n in range(200)), key=percentile)[-3:]  # none of them in the lowest tenth
    given = [File(f"a/{who}.wav", PATH, speaker=who, split="train") for who in names]
    splits = assign(folder(*given, File("b/t.wav", PATH, speaker="t", split="test"))).splits
    assert sorted(splits.values()) == ["test", "train", "train", "validation"]


def test_splits_that_only_some_clips_have_are_refused() -> None:
    some = [replace(clips()[0], split="train"), *clips()[1:]]
    with pytest.raises(
        CorpusError, match=r"39 of 40 clips have no split by the table clips.csv, for example 'a/1.wav'; give ev"
    ):
        assign(folder(*some))


def test_the_last_fold_tests_and_the_one_before_validates() -> None:
    folded = [replace(clip, fold=str(1 + n % 11)) for n, clip in enumerate(clips(44))]
    assigned = assign(folder(*folded))
    assert {assigned.splits[clip.name] for clip in folded if clip.fold == "11"} == {"test"}
    assert {assigned.splits[clip.name] for clip in folded if clip.fold == "10"} == {"validation"}
    assert assigned.rule == "folds: '11' tests, '10' validates, the other 9 train"
    with pytest.raises(
        CorpusError, match=r"2 folds \(1, 2\) are too few for training, validation and test; give at least three"
    ):
        assign(folder(*(replace(clip, fold=str(1 + n % 2)) for n, clip in enumerate(clips()))))
    with pytest.raises(CorpusError, match=r"1 of 44 clips have no fold, for example 'a/0\.wav'"):
        assign(folder(replace(folded[0], fold=""), *folded[1:]))


def test_parts_of_one_recording_stay_together_where_nobody_says_who_speaks() -> None:
    parts = [
        File(f"r{n // 4}.wav#{n % 4}-{n % 4 + 1}", PATH, labelled="a", start=n % 4, end=n % 4 + 1) for n in range(80)
    ]
    splits = defaultdict(set)
    for name, split in assign(folder(*parts)).splits.items():
        splits[name.partition("#")[0]].add(split)
    assert all(len(found) == 1 for found in splits.values())


def test_who_decided_and_who_speaks_is_known() -> None:
    plain = folder(File("a/x.wav", PATH), rule="")
    assert not splits_given(plain)
    assert not speakers_known(plain)
    assert speakers_known(plain, Reading(speaker_pattern="(x)"))
    assert speakers_known(folder(*clips()))
    assert splits_given(folder(replace(clips()[0], fold="1")))
