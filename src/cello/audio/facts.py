"""Summarise a corpus: formats, durations, loudness, duplicates and class balance."""

from __future__ import annotations

import hashlib
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from cello.audio.c_output import hidden_c_output
from cello.audio.corpus import SPLITS, BadClip, Corpus, Manifest

HEADERS = 2000
"""Files whose headers are read, evenly among all."""
SHOWN = 3
UNUSABLE = "Unusable"

_QUIET = 1e-3  # −60 dB of full scale: 16 bits have 30 dB less, a quiet room some 10 dB more
_FULL = 0.999
_RUN = 3  # samples in a row at full scale: one alone may be a peak that fits
_FAR = 3.0
_OF_ONE = re.compile(r"'[^']*'|\d[\d.,]*(?<=\d)")
_BITS = {"FLOAT": "32-bit float", "DOUBLE": "64-bit float", "PCM_U8": "8-bit", "PCM_S8": "8-bit"}


class Row(NamedTuple):
    """One fact: its subject, its value, and examples."""

    what: str
    value: str
    examples: str = ""


class Section(NamedTuple):
    """Facts under one heading."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Loudness:
    """Names of clips that are nearly silent, and of clips that are clipped at full scale."""

    quiet: tuple[str, ...]
    clipped: tuple[str, ...]


def facts(corpus: Corpus, files: Mapping[str, Path]) -> tuple[Section, ...]:
    """Compute the facts of a corpus in sections; ``files`` maps clip names to files, and may hold others.

    A corpus without any usable clip has sections too.
    """
    manifest = corpus.manifest
    loudness, groups = _listen(corpus)
    sections = (
        Section("Files", tuple(_files(manifest, files))),
        Section("Lengths", tuple(_lengths(manifest))),
        Section("Loudness", tuple(_loudness(manifest, loudness))),
        Section("Duplicates", tuple(_duplicates(manifest, groups))),
        Section("Balance", tuple(_balance(manifest))),
        Section(UNUSABLE, tuple(_unusable(manifest))),
    )
    return tuple(section for section in sections if section.rows)


def some(names: Sequence[str], between: str = ", ") -> str:
    """The first names, and how many more there are.

    >>> some(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return between.join(names[:SHOWN]) + more


def _listen(corpus: Corpus) -> tuple[Loudness, list[tuple[int, ...]]]:
    """Loudness of every clip, and which clips have the very same samples."""
    quiet, clipped = [], []
    same: dict[bytes, list[int]] = defaultdict(list)
    every = np.arange(len(corpus.lengths))
    for indices in corpus.chunks(every):
        audio, lengths = corpus.audio(indices)
        for index, row, samples in zip(indices, audio, lengths, strict=True):
            sound, name = row[:samples], corpus.manifest.clips[index].name
            peak = max(float(sound.max()), -float(sound.min()))
            if peak:
                same[hashlib.blake2b(sound.data, digest_size=16).digest()].append(int(index))
            if float(np.dot(sound, sound)) < samples * _QUIET**2:
                quiet.append(name)
            elif peak >= _FULL and _is_clipped(sound):
                clipped.append(name)
    groups = [tuple(group) for group in same.values() if len(group) > 1]
    return Loudness(tuple(quiet), tuple(clipped)), groups


def _is_clipped(sound: NDArray[np.float32]) -> bool:
    for full in (sound >= _FULL, sound <= -_FULL):
        if len(full) >= _RUN and bool((full[2:] & full[1:-1] & full[:-2]).any()):
            return True
    return False


def _files(manifest: Manifest, files: Mapping[str, Path]) -> Iterable[Row]:
    own = [*(clip.name for clip in manifest.clips), *(clip.name for clip in manifest.bad)]
    paths = sorted({files[name] for name in own if name in files})
    kinds: Counter[str] = Counter()
    rates: Counter[int] = Counter()
    looked = paths[:: len(paths) // HEADERS + 1]
    with hidden_c_output():
        for path in looked:
            with suppress(soundfile.LibsndfileError, OSError, RuntimeError, ValueError):
                if path.is_file():
                    info = soundfile.info(path)
                    rates[int(info.samplerate)] += 1
                    kinds[f"{info.format}, {_bits(info.subtype)}, {_channels(info.channels)}"] += 1
    of = "" if len(looked) == len(paths) else f" of {len(looked):,} looked at"
    yield Row("files", f"{len(paths):,}")
    for kind, count in kinds.most_common():
        yield Row("format", kind, f"{_counted(count)}{of}")
    for rate, count in rates.most_common():
        read = "" if rate == manifest.rate_hz else f", resampled to {manifest.rate_hz:,} Hz"
        yield Row("sampling rate", f"{rate:,} Hz", f"{_counted(count)}{of}{read}")


def _unusable(manifest: Manifest) -> Iterable[Row]:
    for reason, names in by_reason(manifest).items():
        yield Row(_counted(len(names)), "", f"{some(names)}: {reason}")


def by_reason(manifest: Manifest) -> dict[str, list[str]]:
    """Group unusable clips by reason, ignoring numbers and names in it."""
    found: dict[str, list[BadClip]] = defaultdict(list)
    for clip in manifest.bad:
        found[_OF_ONE.sub("…", clip.reason)].append(clip)
    return {
        clips[0].reason if len({clip.reason for clip in clips}) == 1 else kind: [clip.name for clip in clips]
        for kind, clips in found.items()
    }


def _counted(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def _bits(subtype: str) -> str:
    return _BITS.get(subtype) or (f"{subtype[4:]}-bit" if subtype.startswith("PCM_") else subtype.lower())


def _channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")


def _lengths(manifest: Manifest) -> Iterable[Row]:
    if not manifest.clips:
        return
    seconds = [clip.samples / manifest.rate_hz for clip in manifest.clips]
    middle = statistics.median(seconds)
    yield Row("in all", _hours(sum(seconds)))
    yield Row("shortest", f"{min(seconds):.2f} s", manifest.clips[seconds.index(min(seconds))].name)
    yield Row("longest", f"{max(seconds):.2f} s", manifest.clips[seconds.index(max(seconds))].name)
    yield Row("median", f"{middle:.2f} s")
    named = [(clip.name, length) for clip, length in zip(manifest.clips, seconds, strict=True)]
    for what, names in (
        ("under a third of it", [name for name, length in named if length < middle / _FAR]),
        ("over three times it", [name for name, length in named if length > middle * _FAR]),
    ):
        if names:
            yield Row(what, f"{len(names):,}", some(names))


def _hours(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _loudness(manifest: Manifest, loudness: Loudness) -> Iterable[Row]:
    silent = [clip.name for clip in manifest.bad if clip.reason.startswith("all silence")]
    rows = (
        ("all zero", silent),
        ("below −60 dBFS", loudness.quiet),
        ("cut off (clipped)", loudness.clipped),
    )
    for what, names in rows:
        yield Row(what, f"{len(names):,}", some(names))


def _duplicates(manifest: Manifest, groups: Sequence[tuple[int, ...]]) -> Iterable[Row]:
    clips = manifest.clips
    kinds = {
        "in several splits": [g for g in groups if len({clips[k].split for k in g}) > 1],
        "under several labels": [g for g in groups if len({clips[k].label for k in g}) > 1],
    }
    yield Row("same samples", f"{sum(map(len, groups)):,} clips", _groups(manifest, groups))
    for what, found in kinds.items():
        if found:
            yield Row(what, f"{sum(map(len, found)):,} clips", _groups(manifest, found))


def _groups(manifest: Manifest, groups: Sequence[tuple[int, ...]]) -> str:
    return some([_equal(manifest, group) for group in groups], "; ")


def _equal(manifest: Manifest, group: Sequence[int]) -> str:
    names = [manifest.clips[k].name for k in group]
    more = f" = {len(names) - SHOWN} others" if len(names) > SHOWN else ""
    return " = ".join(names[:SHOWN]) + more


def _balance(manifest: Manifest) -> Iterable[Row]:
    for split in SPLITS:
        counts = Counter(clip.label for clip in manifest.clips if clip.split == split)
        if not counts:
            continue
        sizes = sorted((counts[label], label) for label in manifest.labels)
        (least, small), (most, large) = sizes[0], sizes[-1]
        ratio = f"{most / least:.1f} : 1" if least else "a label without clips"
        yield Row(split, ratio, f"{large} {most:,}, {small} {least:,}")
