"""What hurts: an unknown word that is chosen too, silence of one second in two splits, a choice the checksum hides."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cello.audio.choice import SILENCE, UNKNOWN, Choice, choose
from cello.audio.corpus import SPLITS, Clip, Corpus, Manifest
from cello.errors import CorpusError

RATE_HZ = 1000


def corpus(noise_s: float = 30.0) -> Corpus:
    """Six labels, 20 training, 10 validation and 10 test clips each; every sample of clip k is k."""
    clips, at = [], 0
    for label in "abcdef":
        for number in range(40):
            split = SPLITS[(number >= 20) + (number >= 30)]
            clips.append(
                Clip(name=f"{label}/{number:02d}.wav", label=label, split=split, speaker="s", start=at, samples=100)
            )
            at += 100
    manifest = Manifest(
        corpus="six",
        rate_hz=RATE_HZ,
        labels=tuple("abcdef"),
        clips=tuple(clips),
        bad=(),
        checksum="0" * 64,
        source="",
    )
    sound = np.repeat(np.arange(len(clips), dtype=np.int16), 100)
    ramp = np.arange(noise_s * RATE_HZ, dtype=np.float32) / 2**15
    noise = [ramp, -ramp] if noise_s else []
    return Corpus(manifest, sound, noise)


def counts(found: Corpus) -> dict[str, list[int]]:
    clips = Counter((clip.label, clip.split) for clip in found.manifest.clips)
    return {label: [clips[label, split] for split in SPLITS] for label in found.manifest.labels}


def test_nothing_chosen_is_the_corpus_itself() -> None:
    whole = corpus()
    assert choose(whole, Choice()) is whole


def test_the_others_are_pooled_as_unknown_and_silence_is_cut_from_noise() -> None:
    found = choose(corpus(), Choice(labels=("b", "a"), unknown=10, silence=25))
    assert found.manifest.labels == ("b", "a", UNKNOWN, SILENCE)
    assert counts(found) == {"b": [20, 10, 10], "a": [20, 10, 10], UNKNOWN: [4, 2, 2], SILENCE: [10, 5, 5]}
    pooled = [clip.name[0] for clip in found.manifest.clips if clip.label == UNKNOWN]
    assert set(pooled) <= set("cdef")
    assert len(set(pooled)) > 2


def test_every_clip_has_the_samples_that_it_had_and_silence_those_of_the_noise() -> None:
    whole = corpus()
    found = choose(whole, Choice(labels=("a", "f"), silence=25))
    before = {clip.name: index for index, clip in enumerate(whole.manifest.clips)}
    sound, lengths = found.audio(np.arange(len(found.manifest.clips)))
    for row, clip in enumerate(found.manifest.clips):
        if clip.label == SILENCE:
            assert lengths[row] == RATE_HZ
            steps = np.diff(sound[row, :RATE_HZ])
            assert set(np.abs(steps * 2**15).tolist()) == {1.0}
        else:
            assert set((sound[row, :100] * 32768).round().astype(int)) == {before[clip.name]}


def test_no_second_of_noise_is_in_two_splits() -> None:
    found = choose(corpus(), Choice(labels=("a", "b"), silence=100))
    excerpts: dict[str, set[int]] = {split: set() for split in SPLITS}
    rows = np.array([k for k, clip in enumerate(found.manifest.clips) if clip.label == SILENCE])
    sound, _ = found.audio(rows)
    for row, clip in zip(sound, rows, strict=True):
        excerpts[found.manifest.clips[clip].split] |= set(np.rint(row[:RATE_HZ] * 32768).astype(int).tolist())
    assert not excerpts["train"] & excerpts["test"]
    assert not excerpts["train"] & excerpts["validation"]
    assert not excerpts["validation"] & excerpts["test"]


def test_more_unknown_clips_hold_fewer_and_the_checksum_tells_every_choice() -> None:
    choices = [Choice(labels=("a",), unknown=share) for share in (10, 50, 100)] + [Choice(labels=("a", "b"))]
    found = [choose(corpus(), choice) for choice in choices]
    pooled = [{clip.name for clip in each.manifest.clips if clip.label == UNKNOWN} for each in found[:3]]
    assert pooled[0] < pooled[1] < pooled[2]
    assert len({each.manifest.checksum for each in [*found, corpus()]}) == 5


def test_recordings_at_full_scale_do_not_wrap_round() -> None:
    whole = corpus()
    loud = Corpus(whole.manifest, whole.sound, [np.full(30 * RATE_HZ, 1.0, np.float32)])
    found = choose(loud, Choice(labels=("a", "b"), silence=10))
    assert (found.more[0] > 0).all()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(labels=("a", "g")), "unknown label of six 'g'"),
        (Choice(labels=("a",)), r"one label is left \(a\); choose at least two, or add unknown clips"),
        (Choice(unknown=10), "unknown=10 pools the labels that are not chosen, but all 6 are; list the labels to keep"),
        (
            Choice(labels=("a", "b"), silence=-1),
            "silence=-1 is invalid: it must be a percentage of the chosen clips, for example 10",
        ),
    ],
)
def test_what_cannot_be_chosen_is_named(choice: Choice, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        choose(corpus(), choice)


def test_silence_needs_noise_long_enough_for_three_splits() -> None:
    with pytest.raises(CorpusError, match="silence=10 needs noise recordings, but six has none; add some to it"):
        choose(corpus(noise_s=0), Choice(labels=("a", "b"), silence=10))
    with pytest.raises(CorpusError, match="no noise recording of six lasts 10 s, which silence in every split needs"):
        choose(corpus(noise_s=5), Choice(labels=("a", "b"), silence=10))
