"""Splits: the published rule, no speaker in two splits, and small corpora."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cello.audio.corpus import SPLITS
from cello.audio.splits import check_official, official_split, percentile, speaker_of, speaker_pattern, split_speakers
from cello.errors import CorpusError

# from the lists of Speech Commands as published
PUBLISHED = {
    "026290a7": "validation",
    "060cd039": "validation",
    "0c40e715": "test",
    "0ea0e2f4": "test",
    "00176480": "train",
}


@pytest.mark.parametrize(("speaker", "split"), PUBLISHED.items())
def test_rule_agrees_with_the_published_lists(speaker: str, split: str) -> None:
    assert official_split(speaker) == split


@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_percentile_is_the_published_formula(speaker: str) -> None:
    digest = hashlib.sha1(speaker.encode()).hexdigest()
    assert percentile(speaker) == (int(digest, 16) % 2**27) * (100.0 / (2**27 - 1))
    assert 0 <= percentile(speaker) <= 100


def test_shares_are_near_80_10_10() -> None:
    splits = [official_split(f"speaker {n}") for n in range(20_000)]
    for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        assert abs(splits.count(split) / len(splits) - share) < 0.01


@given(st.sets(st.text("abcdef", min_size=1, max_size=6), min_size=3, max_size=40), st.randoms())
def test_every_split_is_filled_whatever_the_order(speakers: set[str], random: object) -> None:
    order = sorted(speakers)
    random.shuffle(order)  # type: ignore[attr-defined]
    splits, rule = split_speakers(order + order)
    assert splits.keys() == speakers
    assert set(splits.values()) == set(SPLITS)
    assert (splits, rule) == split_speakers(sorted(speakers))


def test_few_speakers_are_split_whole_in_the_order_of_their_hash() -> None:
    names = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
    splits, rule = split_speakers(names)
    first, second, *rest = sorted(names, key=percentile)
    assert splits == {first: "validation", second: "test"} | dict.fromkeys(rest, "train")
    assert rule == "6 speakers in the order of their SHA-1"


def test_two_speakers_cannot_fill_three_splits() -> None:
    with pytest.raises(
        CorpusError,
        match=r"2 speakers \(.*ann.*\) are too few for training, validation and test; .* give a speaker pattern",
    ):
        split_speakers(["ann", "bob", "ann"])


@pytest.mark.parametrize(
    ("name", "pattern", "speaker"),
    [
        ("bed/0c40e715_nohash_0.flac", None, "0c40e715"),
        ("bed/0c40e715_nohash_12.wav", None, "0c40e715"),
        ("bed/deep/take.1.wav", None, "take.1"),
        ("3/3_theo_49.wav", r"_([a-z]+)_", "theo"),
        ("ann/3.wav", r"^(?P<speaker>[^/]+)/", "ann"),
        ("x/7-ann-3.wav", r"(\d)-(?P<speaker>\w+)-", "ann"),
        ("да/Юля 3.wav", r"/(\w+) ", "Юля"),
    ],
)
def test_speaker_is_found(name: str, pattern: str | None, speaker: str) -> None:
    assert speaker_of(name, None if pattern is None else speaker_pattern(pattern)) == speaker


@pytest.mark.parametrize("pattern", [r"_([a-z]+)_", r"/(\d*)x|7"])
def test_a_name_without_a_speaker_is_named(pattern: str) -> None:
    with pytest.raises(CorpusError, match=r"finds no speaker in 'a/7.wav'"):
        speaker_of("a/7.wav", re.compile(pattern))


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("([a-z", "is not a valid regular expression"),
        ("[a-z]+", "has 0 groups; put parentheses"),
        ("(a)(b)", "has 2 groups"),
    ],
)
def test_a_pattern_that_cannot_tell_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(CorpusError, match=reason):
        speaker_pattern(pattern)


def test_lists_against_the_rule_are_refused() -> None:
    right = {f"bed/{speaker}_nohash_0.wav": split for speaker, split in PUBLISHED.items()}
    check_official(right)  # type: ignore[arg-type]
    wrong = right | {"bed/0c40e715_nohash_0.wav": "train", "bed/0ea0e2f4_nohash_0.wav": "train"}
    with pytest.raises(
        CorpusError, match=r"2 of 5 clips .* first is 'bed/0c40e715_nohash_0.wav' \(train by the lists, test"
    ):
        check_official(wrong)  # type: ignore[arg-type]
