"""Guess the speakers of clips from fields of their file names.

Nothing here decides anything: a guess is shown with its evidence, and the user confirms it by giving its pattern.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import median

MOST_NAMES = 20_000
"""Names looked at; a pattern that fits so many fits the rest or is refused when it is used."""

_TOKEN, _GAP, _LETTER = r"[^/_. -]", r"[_. -]+", r"[^/\d_. -]"
_MOST_TOKENS = 9
_NUMBER = re.compile(r"\d+")
CALLED = re.compile(
    r"(speaker|spkr?|actor|subject|subj|user|person|participant|client|talker|voice|id)[\W_]?\d+", re.IGNORECASE
)
"""What says of itself that it is a speaker: Actor_01, spk7, subject-3."""
_LIKELY = re.compile(r"[a-z]\d{1,5}|0\d+|\d{4,}|[A-Z]?[a-z]{2,}", re.ASCII)
_SINGLE = re.compile(r"\d{1,3}|[A-Za-z]")
_ENOUGH_SHARE = 0.8
_MOST_GUESSES = 3


@dataclass(frozen=True)
class Guess:
    """A field of the clips' names that may hold the speaker, or the recording that several clips are cut from.

    ``kind`` is "speaker" or "recording"; ``pattern`` captures it; ``values`` are how many there are, ``examples`` some
    of them; ``clips_each`` is the mean and ``labels_each`` the median over them.
    """

    kind: str
    pattern: str
    values: int
    examples: tuple[str, ...]
    clips_each: int
    labels_each: int

    @property
    def evidence(self) -> str:
        """The evidence for the guess, in one phrase.

        >>> Guess("speaker", "_([a-z]+)_", 6, ("george", "jackson", "lucas"), 500, 10).evidence
        '6 speakers (george, jackson, lucas, …), each with about 500 clips of 10 labels'
        """
        shown = ", ".join(self.examples) + (", …" if self.values > len(self.examples) else "")
        labels = f"{self.labels_each} label{'s' * (self.labels_each != 1)}"
        return f"{self.values} {self.kind}s ({shown}), each with about {self.clips_each} clips of {labels}"


def guess_speakers(labels: Mapping[str, str]) -> tuple[Guess, ...]:
    r"""Fields that may hold a speaker, or failing that a recording, best first; ``labels`` maps clip names to labels.

    A speaker's value recurs: on several clips, and with several labels. A recording's value recurs on clips of one
    label. What equals the label, what is on every clip, and what only counts takes is neither.

    >>> names = {f"{d}/{d}_{who}_{n}.wav": d for d in "012" for who in ("ann", "bob", "cy") for n in range(4)}
    >>> best = guess_speakers(names)[0]
    >>> best.kind, best.pattern, best.examples
    ('speaker', '/[^/_. -]+[_. -]+([^/_. -]+)[^/]*$', ('ann', 'bob', 'cy'))
    """
    everything = sorted(name for name in labels if "_nohash_" not in name)
    names = everything[:: len(everything) // MOST_NAMES + 1]
    all_fields = [_Field(pattern, values, [labels[name] for name in names]) for pattern, values in fields(names)]
    speakers = [field for field in all_fields if field.crosses_labels and not field.counts_takes]
    speakers.sort(key=lambda field: (-field.rank, -len(field.clips)))
    speakers = [field for field in speakers if field.rank > 0 or speakers[0].rank == 0]
    recordings = sorted((field for field in all_fields if field.within_labels), key=lambda field: len(field.clips))
    chosen = [(field.pattern, "speaker") for field in speakers]
    cut = [(field.pattern, "recording") for field in recordings[:1]]
    chosen = cut + chosen if not speakers or speakers[0].rank == 0 else chosen + cut
    guesses = (_guess(pattern, kind, everything, labels) for pattern, kind in chosen)
    return tuple(guess for guess in guesses if guess)[:_MOST_GUESSES]


def _guess(pattern: str, kind: str, names: Sequence[str], labels: Mapping[str, str]) -> Guess | None:
    """A pattern that was found on some names, counted on all of them."""
    values = _captured(pattern, names)
    return None if values is None else _Field(pattern, values, [labels[name] for name in names]).guess(kind)


def _captured(pattern: str, names: Sequence[str]) -> tuple[str, ...] | None:
    """What a pattern captures in each name; None where it is not found in one of them."""
    search = re.compile(pattern).search
    matches = [search(name) for name in names]
    return tuple(match.group(1) for match in matches if match) if all(matches) else None


class _Field:
    """What one pattern captures in every name, and how it relates to the labels."""

    def __init__(self, pattern: str, values: Sequence[str], labels: Sequence[str]) -> None:
        self.pattern = pattern
        self.clips: dict[str, int] = defaultdict(int)
        self.labels: dict[str, set[str]] = defaultdict(set)
        for value, label in zip(values, labels, strict=True):
            self.clips[value] += 1
            self.labels[value].add(label)
        self.count = len(values)
        self.label_count = len(set(labels))

    @property
    def is_label(self) -> bool:
        """Each value is one label's, and each label has one value."""
        return len(self.clips) == self.label_count and all(len(found) == 1 for found in self.labels.values())

    @property
    def crosses_labels(self) -> bool:
        several = sum(len(found) > 1 for found in self.labels.values())
        return 3 <= len(self.clips) <= self.count / 2 and several >= _ENOUGH_SHARE * len(self.clips)

    @property
    def within_labels(self) -> bool:
        """A recording: on clips of one label only, and on several in many cases; more of them than labels."""
        alone = sum(len(found) == 1 for found in self.labels.values())
        several = sum(n > 1 for n in self.clips.values())
        enough = len(self.clips) > 2 * self.label_count and self.count >= 1.3 * len(self.clips)
        return enough and alone >= 0.98 * len(self.clips) and several >= 0.1 * len(self.clips) and not self.is_label

    @property
    def counts_takes(self) -> bool:
        """Bare numbers, each once or so with each label: more likely the number of a take than of a person."""
        if not all(_NUMBER.fullmatch(value) for value in self.clips):
            return False
        cells = sum(len(found) for found in self.labels.values())
        return self.count < 1.5 * cells

    @property
    def rank(self) -> int:
        """How much its values look like speakers: called so; names, initials, padded numbers; codes; single signs."""
        values = list(self.clips)
        if share(values, CALLED) >= _ENOUGH_SHARE:
            return 3
        if share(values, _LIKELY) >= _ENOUGH_SHARE:
            return 2
        return 0 if share(values, _SINGLE) >= _ENOUGH_SHARE else 1

    def guess(self, kind: str) -> Guess:
        return Guess(
            kind=kind,
            pattern=self.pattern,
            values=len(self.clips),
            examples=tuple(sorted(self.clips)[:3]),
            clips_each=round(self.count / len(self.clips)),
            labels_each=round(median(len(found) for found in self.labels.values())),
        )


def share(values: Sequence[str], pattern: re.Pattern[str]) -> float:
    """The part of the values that a pattern fits whole."""
    return sum(pattern.fullmatch(value) is not None for value in values) / len(values)


def fields(names: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Patterns that capture something in every name, with what they capture; the shortest of those that agree."""
    found: dict[tuple[str, ...], str] = {}
    for text in sorted(_patterns(names), key=len):
        values = _captured(text, names)
        if values and len(set(values)) > 1:
            found.setdefault(values, text)
    return [(text, values) for values, text in found.items()]


def _patterns(names: Sequence[str]) -> Iterator[str]:
    """Folders from the second on, then the parts of the file's name from the left and from the right."""
    paths = [PurePosixPath(name) for name in names]
    if not paths:
        return
    for depth in range(1, min(len(path.parts) for path in paths) - 1):
        yield rf"^(?:[^/]+/){{{depth}}}([^/]+)/"
    tokens = min(_MOST_TOKENS, max(len(re.findall(rf"{_TOKEN}+", path.stem)) for path in paths))
    for place in range(tokens):
        before = {0: "", 1: rf"{_TOKEN}+{_GAP}"}.get(place, rf"(?:{_TOKEN}+{_GAP}){{{place}}}")
        yield rf"/{before}({_TOKEN}+)[^/]*$"
        yield rf"/{before}({_LETTER}+)[^/]*$"  # letters that a number follows at once
        yield rf"/{before}(\d+){_LETTER}[^/]*$"
    for place in range(tokens):
        after = {0: "", 1: rf"{_GAP}{_TOKEN}+"}.get(place, rf"(?:{_GAP}{_TOKEN}+){{{place}}}")
        yield rf"({_TOKEN}+){after}\.[^./]+$"
