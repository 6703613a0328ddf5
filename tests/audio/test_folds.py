"""What hurts: a speaker in two folds, a clip tested twice or never, folds that change with the seed or go unsaid."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cello.audio.choice import Choice
from cello.audio.corpus import Clip, Corpus, Manifest
from cello.audio.folds import fold, fold_doubts, fold_names, in_several, indices_of, of_fold
from cello.audio.reading import Reading
from cello.errors import CorpusError


def corpus(speakers: int = 6, folds: int = 0, known: bool = True, takes: int = 2) -> Corpus:
    clips = tuple(
        Clip(
            name=f"{label}/{who}_{take}.wav", label=label, split="train", samples=1, start=0,
            speaker=f"s{who}" if known else f"{label}{who}_{take}", fold=str(who % folds + 1) if folds else "",
        )
        for label in ("no", "yes")
        for who in range(speakers)
        for take in range(takes + who % 2)
    )  # fmt: skip
    manifest = Manifest(
        corpus="c", rate_hz=8000, labels=("no", "yes"), clips=clips, bad=(), checksum="ab" * 32,
        source="folder:c, split by SHA-1", speakers_known=known,
    )  # fmt: skip
    return Corpus(manifest, np.zeros(1, np.float32))


@pytest.mark.parametrize("rule", ["column", "speaker", "3", "5"])
def test_each_clip_is_tested_once_and_trains_and_validates_nowhere_it_is_tested(rule: str) -> None:
    folded = fold(corpus(folds=4), rule)
    tested: Counter[int] = Counter()
    for name in fold_names(folded.manifest):
        own = indices_of(folded, name)
        tested.update(own["test"].tolist())
        assert sorted(np.concatenate(list(own.values())).tolist()) == list(range(len(folded.manifest.clips)))
        speakers = [{folded.manifest.clips[i].speaker for i in own[split]} for split in own]
        assert not speakers[0] & speakers[1] | speakers[1] & speakers[2] | speakers[0] & speakers[2]
    assert set(tested.values()) == {1}
    assert len(tested) == len(folded.manifest.clips)


def test_the_fold_before_the_tested_one_validates_in_a_circle() -> None:
    folded = fold(corpus(folds=3), "column").manifest
    splits = {name: {c.fold: c.split for c in of_fold(folded, name).clips} for name in "123"}
    assert splits["1"] == {"1": "test", "3": "validation", "2": "train"}
    assert splits["3"] == {"3": "test", "2": "validation", "1": "train"}


def test_folds_by_number_are_of_about_as_many_clips_and_the_same_every_time() -> None:
    first, again = (fold(corpus(speakers=10), "5").manifest for _ in range(2))
    assert [clip.fold for clip in first.clips] == [clip.fold for clip in again.clips]
    sizes = Counter(clip.fold for clip in first.clips)
    assert max(sizes.values()) - min(sizes.values()) <= 2
    assert in_several(first) == 0


def test_without_known_speakers_every_fold_has_clips_of_every_label_and_the_rule_says_so() -> None:
    folded = fold(corpus(known=False), "3").manifest
    held = Counter((clip.fold, clip.label) for clip in folded.clips)
    assert len(held) == 6
    assert max(held.values()) - min(held.values()) <= 1
    assert folded.folds == "3 folds by SHA-1 of the file name (speakers not known)"
    assert folded.source == f"folder:c, split by {folded.folds}"


def test_other_folds_are_another_corpus() -> None:
    found = [fold(corpus(folds=4), rule).manifest.checksum for rule in ("none", "column", "speaker", "3")]
    assert found[0] == "ab" * 32
    assert len(set(found)) == 4
    assert fold(corpus(folds=3), "column").manifest.checksum != found[1]


@pytest.mark.parametrize(
    ("made", "rule", "message"),
    [
        (corpus(), "2", r"folds=2 is invalid: it must be column, speaker, or a number of at least 3 \(one fold tests"),
        (corpus(), "leave-one-out", r"folds=leave-one-out is invalid: it must be column"),
        (corpus(), "column", r"c gives its clips no folds; name the column with --columns fold=COLUMN, or make folds"),
        (corpus(folds=2), "column", r"2 folds \(1, 2\) are too few; give --folds column"),
        (corpus(known=False), "speaker", r"the speakers of c are not known, so none can be left out; give"),
        (corpus(speakers=2), "speaker", r"2 speakers of c are too few for folds; at least 3 are needed"),
        (corpus(), "7", r"7 folds are more than the 6 speakers of c; give at most 6"),
    ],
)
def test_folds_that_cannot_be_are_refused_with_what_can(made: Corpus, rule: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        fold(made, rule)


def test_silence_of_which_each_split_has_its_own_is_refused_with_folds() -> None:
    with pytest.raises(CorpusError, match=r"silence is cut from other seconds .*; leave --silence or --folds out"):
        Reading(folds="speaker", choice=Choice(silence=10))
    assert Reading(folds="speaker", choice=Choice(unknown=10)).folds == "speaker"


def test_a_fold_without_training_clips_of_a_label_is_named() -> None:
    clips = [c for c in corpus(folds=3).manifest.clips if c.label == "yes" or c.fold == "2"]
    manifest = corpus().manifest
    few = Manifest(**{f: getattr(manifest, f) for f in manifest.__struct_fields__} | {"clips": tuple(clips)})
    with pytest.raises(CorpusError, match=r"fold '2' cannot be the test fold: 1 of 2 classes of c have no training"):
        fold(Corpus(few, np.zeros(1, np.float32)), "column")


def test_a_fold_to_test_on_needs_folds_and_folds_need_one_to_test_on() -> None:
    with pytest.raises(CorpusError, match=r"data.fold=2 names a test fold, but c has no folds"):
        indices_of(corpus(folds=3), "2")
    with pytest.raises(CorpusError, match=r"c has 3 folds as the corpus gives them, but no test fold is given"):
        indices_of(fold(corpus(folds=3), "column"), "")
    with pytest.raises(CorpusError, match=r"unknown fold of c \(data.fold\) '4'.*Known: 1, 2, 3"):
        indices_of(fold(corpus(folds=3), "column"), "4")


def test_folds_that_lie_unused_and_speakers_in_several_are_said() -> None:
    (said,) = fold_doubts(corpus(folds=4).manifest)
    assert said.startswith("the corpus has 4 folds and one of them is tested; --folds column trains and tests on each")
    assert list(fold_doubts(fold(corpus(folds=3), "column").manifest)) == []
    mixed = corpus(folds=3).manifest
    clips = tuple(Clip(**{f: getattr(c, f) for f in c.__struct_fields__} | {"speaker": "one"}) for c in mixed.clips)
    shared = Manifest(**{f: getattr(mixed, f) for f in mixed.__struct_fields__} | {"clips": clips})
    (said,) = fold_doubts(fold(Corpus(shared, np.zeros(1, np.float32)), "column").manifest)
    assert said == "1 speaker is in several folds: the results do not generalise to new speakers"
