"""What hurts: a field of the names taken for a speaker that is a take, a label or a sentence; a real speaker missed."""

from __future__ import annotations

import random

import pytest

from cello.audio.names import guess_speakers


def labelled(names: list[str]) -> dict[str, str]:
    return {name: name.split("/")[0] for name in names}


DIGITS = [f"{d}/{d}_{who}_{n}.flac" for d in range(10) for who in ("george", "theo", "lucas") for n in range(20)]
RAVDESS = [
    f"e{e}/03-01-{e:02d}-{i:02d}-{s:02d}-{r:02d}-{actor:02d}.wav"
    for e in range(1, 9)
    for i in (1, 2)
    for s in (1, 2)
    for r in (1, 2)
    for actor in range(1, 25)
]
AUDIO_MNIST = [f"{d}/{d}_{who:02d}_{n}.wav" for d in range(10) for who in range(1, 61) for n in range(12)]
FOLDERS = [f"{w}/spk{who}/{n}.wav" for w in ("yes", "no") for who in range(9) for n in range(12)]
EMO_DB = [f"{e}/{s:02d}a{n:02d}{e}a.wav" for e in ("W", "F", "A") for s in (3, 8, 9, 10) for n in range(5)]
CREMA = [
    f"{e}/{a}_{s}_{e}_{v}.wav"
    for e in ("ANG", "DIS", "SAD")
    for a in range(1001, 1031)
    for s in ("IEO", "TIE", "IOM")
    for v in ("XX", "LO")
]
STUCK = [f"{w}/{who}{n}.wav" for w in ("yes", "no", "up") for who in ("ann", "bob", "cy") for n in range(30)]
ONE_EACH = [f"{w}/p{who:03d}.wav" for w in ("yes", "no", "up") for who in range(30)]


@pytest.mark.parametrize(
    ("names", "speakers", "first"),
    [
        (DIGITS, 3, "george"),
        (RAVDESS, 24, "01"),
        (AUDIO_MNIST, 60, "01"),
        (FOLDERS, 9, "spk0"),
        (EMO_DB, 4, "03"),
        (CREMA, 30, "1001"),
        (STUCK, 3, "ann"),
        (ONE_EACH, 30, "p000"),
    ],
)
def test_the_first_guess_is_the_speaker(names: list[str], speakers: int, first: str) -> None:
    best = guess_speakers(labelled(names))[0]
    assert (best.kind, best.values, best.examples[0]) == ("speaker", speakers, first)


def test_recordings_that_several_clips_are_cut_from_are_found_where_there_are_no_speakers() -> None:
    names = [f"c{c}/{100 + 40 * c + rec}-{c}-0-{part}.wav" for c in range(10) for rec in range(30) for part in range(3)]
    best = guess_speakers(labelled(names))[0]
    assert (best.kind, best.values, best.clips_each, best.labels_each) == ("recording", 300, 3, 1)


@pytest.mark.parametrize(
    "names",
    [
        [f"{d}/{d}_{n}.wav" for d in range(10) for n in range(50)],  # the number of a take
        [f"{w}/{random.Random(f'{w}{n}').getrandbits(64):016x}.wav" for w in "abc" for n in range(50)],
        [f"{w}/{random.Random(n).getrandbits(32):08x}_nohash_{n % 5}.wav" for w in "abc" for n in range(50)],
        ["a/1.wav", "b/2.wav"],
        [],
    ],
)
def test_nothing_is_made_up(names: list[str]) -> None:
    assert guess_speakers(labelled(names)) == ()


def test_a_pattern_that_misses_one_name_is_no_guess() -> None:
    names = [*DIGITS, "3/recording.flac"]
    assert all("george" not in guess.examples for guess in guess_speakers(labelled(names)))


def test_its_evidence_is_counted_on_all_names_and_told_in_one_phrase() -> None:
    best = guess_speakers(labelled(DIGITS))[0]
    assert best.evidence == "3 speakers (george, lucas, theo), each with about 200 clips of 10 labels"
