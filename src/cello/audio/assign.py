"""Assign speakers and splits to clips by table, folders, lists or a hash of the speaker."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cello.audio.corpus import Split
from cello.audio.folder import LISTS, File, Folder
from cello.audio.origin import SplitRule
from cello.audio.reading import PLAIN, Reading
from cello.audio.splits import VALIDATION_PERCENT, percentile, speaker_of, speaker_pattern, split_speakers
from cello.errors import CorpusError
from cello.files import DamagedFileError, read_text


@dataclass(frozen=True)
class Assignment:
    """The speaker and split of each clip by name; ``split`` decided, ``rule`` says it in words."""

    speakers: Mapping[str, str]
    splits: Mapping[str, Split]
    rule: str
    split: SplitRule = "given"


def assign(folder: Folder, reading: Reading = PLAIN) -> Assignment:
    """Assign a speaker and a split to every clip.

    The splits are those of a table or of folders, of folds (the last one tests, the one before it validates), of the
    lists where there are any, and by the speaker's hash otherwise. Where splits are given but none validates, a tenth
    of the training speakers does, by their hash.

    Raises:
        CorpusError: a list that cannot be read, names a clip that is not there or is named twice; a pattern that finds
            no speaker; too few speakers or folds; splits that only some clips have.
    """
    compiled = None if reading.speaker_pattern is None else speaker_pattern(reading.speaker_pattern)
    speakers = {clip.name: clip.speaker or speaker_of(_recording(clip), compiled) for clip in folder.clips}
    if any(clip.split for clip in folder.clips):
        return _given(folder, speakers)
    if any(clip.fold for clip in folder.clips):
        return _by_fold(folder, speakers)
    if folder.lists and not folder.rule:
        return Assignment(speakers, _listed_splits(folder), " and ".join(LISTS), "lists")
    known = speakers_known(folder, reading)
    by_speaker, rule = split_speakers(speakers.values(), known)
    splits = {name: by_speaker[who] for name, who in speakers.items()}
    return Assignment(speakers, splits, rule, "speaker-hash" if known else "clip-hash")


def _recording(clip: File) -> str:
    """The name by which clips that nobody tells the speaker of are kept together: parts of one recording share it."""
    return clip.name.partition("#")[0] if clip.part else clip.name


def speakers_known(folder: Folder, reading: Reading = PLAIN) -> bool:
    """Whether the speakers are given by a table, a pattern or names in the form of Speech Commands."""
    return reading.speaker_pattern is not None or all(clip.speaker or "_nohash_" in clip.name for clip in folder.clips)


def splits_given(folder: Folder) -> bool:
    """Whether the user chose the splits, not a hash."""
    return any(clip.split or clip.fold for clip in folder.clips) or bool(folder.lists and not folder.rule)


def _given(folder: Folder, speakers: Mapping[str, str]) -> Assignment:
    missing = [clip.name for clip in folder.clips if not clip.split]
    if missing:
        raise CorpusError(
            f"{len(missing)} of {len(folder.clips)} clips have no split by {folder.rule}, for example {missing[0]!r}; "
            f"give every clip a split, or none"
        )
    splits: dict[str, Split] = {clip.name: clip.split for clip in folder.clips if clip.split}
    if "validation" in splits.values():
        return Assignment(speakers, splits, folder.rule)
    trained = sorted({speakers[name] for name, split in splits.items() if split == "train"}, key=percentile)
    held_out = {who for who in trained if percentile(who) < VALIDATION_PERCENT} or set(trained[:1])
    for name, split in splits.items():
        if split == "train" and speakers[name] in held_out:
            splits[name] = "validation"
    return Assignment(speakers, splits, f"{folder.rule}; validation is a tenth of the training speakers, by SHA-1")


def _by_fold(folder: Folder, speakers: Mapping[str, str]) -> Assignment:
    missing = [clip.name for clip in folder.clips if not clip.fold]
    folds = sorted({clip.fold for clip in folder.clips if clip.fold}, key=lambda fold: (len(fold), fold))
    if missing:
        raise CorpusError(
            f"{len(missing)} of {len(folder.clips)} clips have no fold, for example {missing[0]!r}; give every clip one"
        )
    if len(folds) < 3:
        raise CorpusError(
            f"{len(folds)} folds ({', '.join(folds)}) are too few for training, validation and test; "
            f"give at least three folds, or splits"
        )
    by_fold: dict[str, Split] = dict.fromkeys(folds, "train")
    by_fold |= {folds[-1]: "test", folds[-2]: "validation"}
    rule = f"folds: {folds[-1]!r} tests, {folds[-2]!r} validates, the other {len(folds) - 2} train"
    return Assignment(speakers, {clip.name: by_fold[clip.fold] for clip in folder.clips}, rule, "hold-out")


def _listed_splits(folder: Folder) -> dict[str, Split]:
    missing = LISTS.keys() - {file.name for file in folder.lists}
    if missing:
        raise CorpusError(
            f"{str(folder.root)!r} has {folder.lists[0].name} but no {missing.pop()}; "
            f"write both lists, or remove this one to split by speaker"
        )
    splits: dict[str, Split] = {clip.name: "train" for clip in folder.clips}
    for file in folder.lists:
        for written in _lines(file.path):
            name = written if written in splits else written.replace("\\", "/").removeprefix("./")
            if name not in splits:
                raise CorpusError(
                    f"{str(file.path)!r} lists {written!r}, which is not a clip of the corpus; "
                    f"{_list_remedy(name, splits)}"
                )
            if splits[name] not in ("train", LISTS[file.name]):
                raise CorpusError(f"{name!r} is in both lists of {str(folder.root)!r}; leave it in one of them")
            splits[name] = LISTS[file.name]
    return splits


def _list_remedy(name: str, clips: Mapping[str, Split]) -> str:
    last = name.rpartition("/")[2]
    if name.startswith(("/", "~")) or name[1:2] == ":" or any(clip.endswith(f"/{last}") for clip in clips):
        return "names are relative to the corpus, with /, as in " + repr(min(clips))
    return "add the file or remove the line"


def _lines(path: Path) -> Iterator[str]:
    try:
        text = read_text(path)
    except (OSError, DamagedFileError) as error:
        raise CorpusError(
            f"split list {str(path)!r} cannot be read ({getattr(error, 'strerror', None) or error}); "
            f"it must be UTF-8 text, one clip a line"
        ) from error
    for line in text.replace("\r", "\n").split("\n"):  # splitlines would cut names at rarer signs
        if name := line.strip():
            yield unicodedata.normalize("NFC", PurePosixPath(name).as_posix())
