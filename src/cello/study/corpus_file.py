"""Read and write a store's ``corpus.json``: what reports need of a corpus, without its audio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.corpus import SPLITS, BadClip, Clip, Manifest
from cello.audio.folds import fold_names, in_several, validation_fold
from cello.audio.origin import Origin, origin_of
from cello.errors import StoreError
from cello.files import DamagedFileError, decode_json, naming_damage, read_stored, seal_json, write_whole
from cello.study.folder import RESTORE

CORPUS_FORMAT = 1
MOST_SPEAKERS = 2**31
BEFORE: dict[str, tuple[str, ...]] = {"test": ("train", "validation"), "validation": ("train",)}
"""The splits whose speakers a split may not have: what was trained and chosen on is not new to it."""
OF_CLIPS = (
    "test_speakers",
    "speakers_known",
    "shared_speakers",
    "shared_by_split",
    "test_names",
    "speaker_names",
    "columns",
    "train_clip_s",
)
"""The fields that came later, with what is said of single test clips and their speakers."""


class SplitSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Clips of one split, in all and by label, and how many speakers said them."""

    clips: int
    speakers: int
    clips_by_label: dict[str, int]


class FoldSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A fold's name, and its clips: those that are tested where it tests."""

    name: str
    test: SplitSummary


class CorpusSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a report says about the data, without the data.

    ``test_speakers`` numbers the speaker of each test clip, in the order of ``predictions.npz``; where nobody speaks,
    as in silence cut from noise, the recording has a number, and no name. A store made before
    Cello kept it has none, until its study runs once more with the corpus there. So it is with ``speakers_known``
    (False where files of one name stay together) and ``shared_speakers``: how many speakers of test clips are in
    training or validation too. ``shared_by_split`` says it split by split: how many of the test speakers are in
    training and in validation too, and of the validation speakers in training; only what is shared is in it.

    Of the test clips, in the same order, ``test_names`` holds the names and ``columns`` what a table says of them
    beside label, split and speaker; ``speaker_names`` holds the names of the speakers, in the order of their numbers,
    where they are known. A store made before Cello kept these has none, and its reports name no clip.

    With ``folds`` each clip trains, validates and is tested in turn: all splits hold all clips, and ``test_folds`` says
    by number which fold tests each. ``shared_speakers`` are then those with clips in more than one fold.

    ``train_clip_s`` is the median length of the training clips in s; a store made before Cello kept it has none.

    ``origin`` says where the clips came from; a store made before Cello kept it has it from its ``source``.
    """

    name: str
    source: str
    checksum: str
    rate_hz: int
    labels: tuple[str, ...]
    splits: dict[str, SplitSummary]
    bad: tuple[BadClip, ...]
    test_speakers: tuple[int, ...] = ()
    speakers_known: bool | None = None
    shared_speakers: int | None = None
    shared_by_split: dict[str, dict[str, int]] | None = None
    test_names: tuple[str, ...] = ()
    speaker_names: tuple[str, ...] = ()
    columns: dict[str, tuple[str, ...]] = {}
    train_clip_s: float | None = None
    folds: tuple[FoldSummary, ...] = ()
    test_folds: tuple[int, ...] = ()
    origin: Origin = Origin()

    def __post_init__(self) -> None:
        if self.source and self.origin == Origin():
            msgspec.structs.force_setattr(self, "origin", origin_of(self.source))

    @classmethod
    def of(cls, manifest: Manifest) -> CorpusSummary:
        """The summary of a corpus."""
        splits: dict[str, SplitSummary] = {}
        names = fold_names(manifest)
        for split in SPLITS:
            splits[split] = _counted(manifest, [clip for clip in manifest.clips if names or clip.split == split])
        folds = [_counted(manifest, [clip for clip in manifest.clips if clip.fold == name]) for name in names]
        number = {name: place for place, name in enumerate(names)}
        return cls(
            name=manifest.corpus,
            source=manifest.source,
            origin=manifest.origin,
            checksum=manifest.checksum,
            rate_hz=manifest.rate_hz,
            labels=manifest.labels,
            splits=splits,
            bad=manifest.bad,
            folds=tuple(FoldSummary(name=name, test=own) for name, own in zip(names, folds, strict=True)),
            test_folds=tuple(number[clip.fold] for clip in manifest.clips) if names else (),
            **clip_facts(manifest),
        )

    @property
    def fold_names(self) -> tuple[str, ...]:
        """The folds in their order; empty where there are none."""
        return tuple(fold.name for fold in self.folds)

    def tested_by(self, fold: str, clips: int) -> NDArray[np.int64]:
        """The places of a run's test clips among all: those of its fold, or of a run without folds all of them."""
        if fold not in self.fold_names:
            return np.arange(clips)
        return np.flatnonzero(np.array(self.test_folds) == self.fold_names.index(fold)).astype(np.int64)

    def of_fold(self, name: str) -> CorpusSummary:
        """What is said of the corpus of one fold's run, whose test clips are those of the fold alone."""
        part = {validation_fold(self.fold_names, name): "validation", name: "test"}
        splits = {split: [f.test for f in self.folds if part.get(f.name, "train") == split] for split in SPLITS}
        own = self.tested_by(name, 0).tolist()
        each = {field: tuple(getattr(self, field)[clip] for clip in own) for field in ("test_names", "test_speakers")}
        return msgspec.structs.replace(
            self,
            splits={split: _added(found) for split, found in splits.items()},
            columns={column: tuple(values[clip] for clip in own) for column, values in self.columns.items()},
            folds=(),
            test_folds=(),
            **each,
        )

    @property
    def lacks_facts(self) -> bool:
        """Whether a Cello wrote it that did not keep all that ``clip_facts`` says."""
        told = self.speakers_known is False or self.shared_by_split is not None
        return not self.test_speakers or self.speakers_known is None or not self.test_names or not told

    @property
    def facts_kept(self) -> int:
        """How many of ``OF_CLIPS`` it says something of."""
        return sum(getattr(self, name) not in (None, ()) for name in OF_CLIPS)


def _counted(manifest: Manifest, clips: Sequence[Clip]) -> SplitSummary:
    counts = dict.fromkeys(manifest.labels, 0)
    for clip in clips:
        counts[clip.label] += 1
    return SplitSummary(
        clips=len(clips), speakers=len({clip.speaker for clip in clips if clip.spoken}), clips_by_label=counts
    )


def _added(folds: Sequence[SplitSummary]) -> SplitSummary:
    """Several folds as one split; a speaker of two of them counts twice."""
    labels = dict.fromkeys(label for fold in folds for label in fold.clips_by_label)
    return SplitSummary(
        clips=sum(fold.clips for fold in folds),
        speakers=sum(fold.speakers for fold in folds),
        clips_by_label={label: sum(fold.clips_by_label[label] for fold in folds) for label in labels},
    )


def clip_facts(manifest: Manifest) -> dict[str, Any]:
    """What a summary keeps of single test clips and of the speakers."""
    known = manifest.speakers_known
    trained = {clip.speaker for clip in manifest.clips if clip.spoken and clip.split != "test"}
    test = _tested(manifest)
    tested = {clip.speaker: clip.speaker if clip.spoken else "" for clip in test}
    shared = in_several(manifest) if manifest.folds else len(trained & set(tested))
    return {
        "test_speakers": speaker_numbers(manifest),
        "speakers_known": known,
        "shared_speakers": shared if known else None,
        "shared_by_split": (shared_by_split(manifest) if not manifest.folds else {}) if known else None,
        "test_names": tuple(clip.name for clip in test),
        "speaker_names": tuple(tested.values()) if known else (),
        "columns": _columns(test),
        "train_clip_s": _median_s(manifest),
    }


def _median_s(manifest: Manifest) -> float | None:
    """The median length of the training clips in s; with folds each clip trains."""
    samples = [clip.samples for clip in manifest.clips if manifest.folds or clip.split == "train"]
    return float(np.median(samples)) / manifest.rate_hz if samples else None


def shared_by_split(manifest: Manifest) -> dict[str, dict[str, int]]:
    """How many of the speakers of test and validation clips are in the splits before them too, where any are."""
    speakers: dict[str, set[str]] = {
        split: {clip.speaker for clip in manifest.clips if clip.spoken and clip.split == split} for split in SPLITS
    }
    found: dict[str, dict[str, int]] = {}
    for split, others in BEFORE.items():
        counts = {other: len(speakers[split] & speakers[other]) for other in others}
        if any(counts.values()):
            found[split] = {other: n for other, n in counts.items() if n}
    return found


def _tested(manifest: Manifest) -> list[Clip]:
    """The test clips: all of them where there are folds, for each is tested once."""
    return [clip for clip in manifest.clips if manifest.folds or clip.split == "test"]


def _columns(clips: Sequence[Clip]) -> dict[str, tuple[str, ...]]:
    """What a table says of each clip, by the names of its columns; empty where it says nothing."""
    names = dict.fromkeys(name for clip in clips for name in clip.columns)
    return {name: tuple(clip.columns.get(name, "") for clip in clips) for name in names}


def speaker_numbers(manifest: Manifest) -> tuple[int, ...]:
    """The speaker of each test clip as a number, 0 the first to speak; the clips in the corpus's order."""
    speakers = [clip.speaker for clip in _tested(manifest)]
    number = {speaker: place for place, speaker in enumerate(dict.fromkeys(speakers))}
    return tuple(number[speaker] for speaker in speakers)


def write_corpus(folder: Path, summary: CorpusSummary) -> None:
    """Write a study's ``corpus.json``.

    Raises:
        OSError: the folder cannot be written.
    """
    write_whole(folder / "corpus.json", seal_json(msgspec.json.encode(summary)))


def read_corpus(path: Path) -> CorpusSummary:
    """Read a ``corpus.json``.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is damaged, or of a newer Cello.
    """
    with naming_damage(path, StoreError, RESTORE):
        summary = decode_json(read_stored(path), CorpusSummary, CORPUS_FORMAT)
        _check_counts(summary)
        return summary


def _check_counts(summary: CorpusSummary) -> None:
    """Hold a summary to its own labels and counts.

    Raises:
        DamagedFileError: what cannot be.
    """
    if set(summary.splits) != set(SPLITS):
        raise DamagedFileError(f"its splits are {', '.join(summary.splits) or 'none'}")
    for name, split in summary.splits.items():
        counts = split.clips_by_label
        if (
            set(counts) != set(summary.labels)
            or min(counts.values(), default=0) < 0
            or sum(counts.values()) != split.clips
        ):
            raise DamagedFileError(f"its counts of {name} clips by label are not those of its labels or of its clips")
    if not all(0 <= speaker < MOST_SPEAKERS for speaker in summary.test_speakers):
        raise DamagedFileError("a speaker has a number that speakers do not have")
    _check_shared(summary)
    _check_clips(summary)


def _check_shared(summary: CorpusSummary) -> None:
    """Hold the speakers that splits share to their number.

    Raises:
        DamagedFileError: what cannot be.
    """
    for split, shared in (summary.shared_by_split or {}).items():
        most = summary.splits[split].speakers if split in BEFORE else 0
        if any(other not in BEFORE.get(split, ()) or not 0 < n <= most for other, n in shared.items()):
            raise DamagedFileError(f"the speakers that its {split} clips share are not those of its splits")


def _check_clips(summary: CorpusSummary) -> None:
    """Hold what is said of single test clips to their number.

    Raises:
        DamagedFileError: what cannot be.
    """
    clips = summary.splits["test"].clips
    each = {"test_names": summary.test_names} | {f"column {name!r}": of for name, of in summary.columns.items()}
    for what, values in each.items():
        if len(values) != clips and (values or what != "test_names"):
            raise DamagedFileError(f"its {what} names {len(values):,} of {clips:,} test clips")
    if summary.folds or summary.test_folds:
        numbers = summary.test_folds
        if len(numbers) != clips or not all(0 <= number < len(summary.folds) for number in numbers):
            raise DamagedFileError("its folds are not those of its test clips")
    if summary.speaker_names and len(summary.speaker_names) <= max(summary.test_speakers, default=-1):
        raise DamagedFileError(f"it names {len(summary.speaker_names):,} speakers, fewer than its test clips have")
