"""Divide a corpus into folds for cross-validation."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.checks import check_splits
from cello.audio.corpus import SPLITS, Clip, Corpus, Manifest, Split
from cello.audio.splits import percentile
from cello.errors import CorpusError, unknown

NONE, COLUMN, SPEAKER = "none", "column", "speaker"
LEAST = 3
"""One fold tests, one validates, and at least one trains."""
LEGAL = f"column, speaker, or a number of at least {LEAST} (one fold tests, one validates, the others train)"
VALIDATES = "the fold before it validates"
"""The rule of validation in words: the last fold validates where the first one tests."""


def check_rule(rule: str) -> None:
    """Check that a rule is ``none``, ``column``, ``speaker`` or a number of folds.

    Raises:
        CorpusError: it is none of these.
    """
    number = int(rule) if rule.isascii() and rule.isdigit() and len(rule) < 10 else 0
    if rule not in (NONE, COLUMN, SPEAKER) and number < LEAST:
        raise CorpusError(f"folds={rule[:40]} is invalid: it must be {LEGAL}")


def fold(corpus: Corpus, rule: str) -> Corpus:
    """Assign folds by a rule; the last fold becomes the test split, and the checksum depends on the folds.

    ``column`` takes the folds of the corpus's table, pattern or folders; ``speaker`` makes one a speaker; a number, so
    many of about equally many clips, no speaker in two of them. Where nobody knows who speaks, recordings are dealt
    label by label, in the order of their SHA-1. No random number decides, so that each seed has the same folds.

    Raises:
        CorpusError: the corpus gives no folds, has too few speakers, or a fold cannot be tested on.
    """
    check_rule(rule)
    if rule == NONE:
        return corpus
    manifest = corpus.manifest
    if rule == COLUMN:
        own, said = _given(manifest), "folds as the corpus gives them"
    elif rule == SPEAKER:
        own, said = _speakers(manifest), "folds of one speaker each"
    else:
        own, said = _dealt(manifest, int(rule)), "folds grouped by speaker"
        if not manifest.speakers_known:
            said = "folds by SHA-1 of the file name (speakers not known)"
    said = f"{len(set(own))} {said}"
    clips = tuple(msgspec.structs.replace(clip, fold=name) for clip, name in zip(manifest.clips, own, strict=True))
    order = _ordered(set(own))  # which decides what validates
    digest = hashlib.sha256(msgspec.json.encode((manifest.checksum, "folds", order, own))).hexdigest()
    folded = msgspec.structs.replace(manifest, clips=clips, checksum=digest, folds=said)
    folded = folded.from_origin(manifest.origin.divided("folds", said))
    for name in fold_names(folded):
        _check_fold(folded, name)
    last = of_fold(folded, fold_names(folded)[-1])
    return Corpus(msgspec.structs.replace(folded, clips=last.clips), corpus.sound, corpus.noise, corpus.more)


def fold_names(manifest: Manifest) -> tuple[str, ...]:
    """The names of the folds in order; empty if the corpus has none.

    >>> fold_names(Manifest(corpus="", rate_hz=1, labels=(), clips=(), bad=(), checksum="", source=""))
    ()
    """
    return _ordered({clip.fold for clip in manifest.clips}) if manifest.folds else ()


def validation_fold(names: Sequence[str], tested: str) -> str:
    """The validation fold for a test fold: the one before it, cyclically.

    >>> validation_fold(("1", "2", "3"), "1")
    '3'
    """
    return names[list(names).index(tested) - 1]


def of_fold(manifest: Manifest, name: str) -> Manifest:
    """The manifest with the splits of one fold's run: it is the test split, the one before it validation.

    Raises:
        CorpusError: there is no such fold, or there are no folds at all.
    """
    names = fold_names(manifest)
    if not names:
        raise CorpusError(
            f"data.fold={name} names a test fold, but {manifest.corpus} has no folds; give --folds {LEGAL}"
        )
    if name not in names:
        raise CorpusError(unknown(f"fold of {manifest.corpus} (data.fold)", name, names))
    part: dict[str, Split] = dict.fromkeys(names, "train")
    part |= {name: "test", validation_fold(names, name): "validation"}
    clips = tuple(msgspec.structs.replace(clip, split=part[clip.fold]) for clip in manifest.clips)
    rule = f"{manifest.folds}: {name!r} tests, {VALIDATES}"
    origin = manifest.origin.divided("one-fold", rule)
    return msgspec.structs.replace(manifest, clips=clips, folds="").from_origin(origin)


def indices_of(corpus: Corpus, name: str) -> dict[Split, NDArray[np.int64]]:
    """The positions of the clips of each split when this fold is tested; without a name, as the corpus has them.

    Raises:
        CorpusError: the corpus has folds and none is named; as ``of_fold``.
    """
    manifest = corpus.manifest
    if name:
        splits = [clip.split for clip in of_fold(manifest, name).clips]
    elif manifest.folds:
        raise CorpusError(
            f"{manifest.corpus} has {manifest.folds}, but no test fold is given; give one of them as "
            f"--data.fold {fold_names(manifest)[-1]}, or leave --folds out"
        )
    else:
        splits = [clip.split for clip in manifest.clips]
    return {split: np.flatnonzero([own == split for own in splits]).astype(np.int64) for split in SPLITS}


def in_several(manifest: Manifest) -> int:
    """The number of speakers in more than one fold."""
    pairs = {(clip.speaker, clip.fold) for clip in manifest.clips if clip.spoken}
    return sum(folds > 1 for folds in Counter(speaker for speaker, _ in pairs).values())


def fold_doubts(manifest: Manifest) -> Iterator[str]:
    """Warnings about folds: that only one of them is tested, or that they share speakers."""
    given = {clip.fold for clip in manifest.clips if clip.fold}
    if not manifest.folds and len(given) >= LEAST:
        yield (
            f"the corpus has {len(given)} folds and one of them is tested; --folds {COLUMN} trains and tests on each "
            f"in turn, as the protocols of ESC-50 and UrbanSound8K ask"
        )
    if manifest.folds and manifest.speakers_known and (shared := in_several(manifest)):
        are = "speaker is" if shared == 1 else "speakers are"
        yield f"{shared} {are} in several folds: the results do not generalise to new speakers"


def _ordered(names: set[str]) -> tuple[str, ...]:
    """Numbers in names count as numbers: fold 2 comes before fold 10."""
    return tuple(sorted(names, key=lambda name: (re.sub(r"[0-9]+", lambda found: found[0].zfill(12), name), name)))


def _given(manifest: Manifest) -> list[str]:
    missing = [clip for clip in manifest.clips if not clip.fold]
    if len(missing) == len(manifest.clips):
        raise CorpusError(
            f"{manifest.corpus} gives its clips no folds; name the column with --columns fold=COLUMN, or make folds: "
            f"--folds {SPEAKER}, or a number"
        )
    names = {clip.fold for clip in manifest.clips if clip.fold}
    if missing:
        raise CorpusError(f"{len(missing)} clips have no fold, for example {missing[0].name!r}; give every clip one")
    if len(names) < LEAST:
        raise CorpusError(f"{len(names)} folds ({', '.join(sorted(names))}) are too few; give --folds {LEGAL}")
    return [clip.fold for clip in manifest.clips]


def _speakers(manifest: Manifest) -> list[str]:
    if not manifest.speakers_known:
        raise CorpusError(
            f"the speakers of {manifest.corpus} are not known, so none can be left out; give a --speaker-pattern, "
            f"or a number of folds"
        )
    names = set(map(_dealt_as, manifest.clips))
    if len(names) < LEAST:
        raise CorpusError(
            f"{len(names)} speakers of {manifest.corpus} are too few for folds; at least {LEAST} are needed"
        )
    return list(map(_dealt_as, manifest.clips))


def _dealt_as(clip: Clip) -> str:
    """Whose fold a clip is in; excerpts of noise are dealt one by one, for of each fold silence is asked."""
    return clip.speaker if clip.spoken else clip.name


def _dealt(manifest: Manifest, count: int) -> list[str]:
    """Each clip's fold, 1 … ``count``: speaker by speaker to the fold with the fewest clips, large ones first."""
    own: dict[str, list[Clip]] = {}
    for clip in manifest.clips:
        own.setdefault(_dealt_as(clip), []).append(clip)
    if count > len(own):
        who = "speakers" if manifest.speakers_known else "recordings"
        raise CorpusError(
            f"{count} folds are more than the {len(own)} {who} of {manifest.corpus}; give at most {len(own)}"
        )
    place = {label: number for number, label in enumerate(manifest.labels)}

    def order(who: str) -> tuple[int, float, str]:
        first = -len(own[who]) if manifest.speakers_known else place[own[who][0].label]
        return first, percentile(who), who

    held, fold_of = [0] * count, dict[str, str]()
    for who in sorted(own, key=order):
        fewest = held.index(min(held))
        held[fewest] += len(own[who])
        fold_of[who] = str(fewest + 1)
    return [fold_of[_dealt_as(clip)] for clip in manifest.clips]


def _check_fold(manifest: Manifest, name: str) -> None:
    try:
        check_splits(of_fold(manifest, name))
    except CorpusError as error:
        raise CorpusError(f"fold {name!r} cannot be the test fold: {error}") from error
