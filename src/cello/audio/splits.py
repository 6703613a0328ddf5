"""Split clips by speaker: the official Speech Commands rule, lists, and small corpora."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from cello.audio.corpus import SPLITS, Split
from cello.errors import CorpusError

VALIDATION_PERCENT = 10.0
TEST_PERCENT = 10.0

_LARGEST = 2**27 - 1


def speaker_of(name: str, pattern: re.Pattern[str] | None = None) -> str:
    """Who speaks in a clip, from its POSIX name below the corpus.

    With ``pattern``: what its group (``speaker``, or the only one) captures where it is first found in the name.
    Without: what stands before ``_nohash_`` in the file's name; failing that the file's stem, so that each clip is a
    speaker of its own.

    Raises:
        CorpusError: the pattern is not found in this name, or its group captures nothing.

    >>> speaker_of("bed/0c40e715_nohash_2.wav"), speaker_of("bed/clip 7.wav")
    ('0c40e715', 'clip 7')
    >>> speaker_of("0/0_george_12.flac", speaker_pattern("_([a-z]+)_"))
    'george'
    """
    if pattern is None:
        file = PurePosixPath(name)
        return file.name.split("_nohash_")[0] if "_nohash_" in file.name else file.stem
    match = pattern.search(name)
    speaker = match.group("speaker" if "speaker" in pattern.groupindex else 1) if match else None
    if not speaker:
        raise CorpusError(f"speaker pattern {pattern.pattern!r} finds no speaker in {name!r}; it must match every name")
    return speaker


def speaker_pattern(text: str) -> re.Pattern[str]:
    """A user's regular expression, with one group or a group named ``speaker``.

    Raises:
        CorpusError: it is no regular expression, or has not that group.
    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise CorpusError(f"speaker pattern {text!r} is not a valid regular expression: {error}") from error
    if "speaker" not in pattern.groupindex and pattern.groups != 1:
        raise CorpusError(
            f"speaker pattern {text!r} has {pattern.groups} groups; put parentheses around the speaker only, "
            f"as in '_([a-z]+)_', or name the group: '(?P<speaker>…)'"
        )
    return pattern


def percentile(speaker: str) -> float:
    """Where a speaker stands in [0, 100], by SHA-1: p = 100 · (SHA1(speaker) mod 2²⁷) / (2²⁷ − 1)."""
    number = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16)
    return (number % (_LARGEST + 1)) * (100.0 / _LARGEST)


def official_split(speaker: str) -> Split:
    """The split of a speaker by the rule of Speech Commands (Warden 2018, arXiv:1804.03209): 80/10/10 by hash.

    >>> official_split("0c40e715"), official_split("026290a7"), official_split("00176480")
    ('test', 'validation', 'train')
    """
    place = percentile(speaker)
    if place < VALIDATION_PERCENT:
        return "validation"
    return "test" if place < VALIDATION_PERCENT + TEST_PERCENT else "train"


def split_speakers(speakers: Iterable[str], known: bool = True) -> tuple[dict[str, Split], str]:
    """Each speaker's split, and the rule that was used, in words; speakers not ``known`` are the names of files.

    The official rule where it fills all three splits. With few speakers it may not: then they stand in the order of
    their hash, the first tenth (rounded, at least one) is validation, the next test, the rest training.

    Raises:
        CorpusError: fewer than three speakers.

    >>> split_speakers(["george", "jackson", "lucas", "nicolas", "theo", "yweweler"])[0]["george"]
    'train'
    """
    order = sorted(set(speakers), key=lambda speaker: (percentile(speaker), speaker))
    splits = {speaker: official_split(speaker) for speaker in order}
    if set(splits.values()) == set(SPLITS):
        return splits, "SHA-1 of the speaker" if known else "SHA-1 of the file name (speakers not known)"
    if len(order) < 3 and not known:
        raise CorpusError(
            f"{len(order)} different file name{'s' * (len(order) > 1)} ({', '.join(order)}) are too few for training, "
            f"validation and test, for files of the same name stay together; rename files, or write "
            f"validation_list.txt and testing_list.txt"
        )
    if len(order) < 3:
        raise CorpusError(
            f"{len(order)} speaker{'s' * (len(order) > 1)} ({', '.join(order)}) are too few for training, "
            f"validation and test; add speakers, give a speaker pattern that separates them, or write "
            f"validation_list.txt and testing_list.txt"
        )
    each = max(1, round(len(order) * VALIDATION_PERCENT / 100))
    few: dict[str, Split] = {
        speaker: "validation" if rank < each else "test" if rank < 2 * each else "train"
        for rank, speaker in enumerate(order)
    }
    what = "speakers in the order of their SHA-1" if known else "file names by their SHA-1 (speakers not known)"
    return few, f"{len(order)} {what}"


def check_official(splits: Mapping[str, Split]) -> None:
    """Hold lists to the official rule; ``splits`` maps names of Speech Commands clips to what the lists say.

    Raises:
        CorpusError: a clip is listed elsewhere than its speaker's hash says; the count and the first are named.
    """
    wrong = [name for name, split in sorted(splits.items()) if official_split(speaker_of(name)) != split]
    if wrong:
        first = wrong[0]
        raise CorpusError(
            f"{len(wrong)} of {len(splits)} clips are listed in another split than the rule of Speech Commands gives; "
            f"the first is {first!r} ({splits[first]} by the lists, {official_split(speaker_of(first))} by the rule); "
            f"this is not Speech Commands as published: open it as folder:PATH to use its lists as they are"
        )
