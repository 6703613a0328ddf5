"""Check that a corpus can be trained on, and warn about what is doubtful."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from cello.audio.corpus import SPLITS, BadClip, Manifest, Split
from cello.audio.layout import listed
from cello.audio.names import Guess
from cello.errors import CorpusError

_SHOWN = 5
_NAMES: dict[Split, str] = {"train": "training", "validation": "validation", "test": "test"}


def check_bad(manifest: Manifest, allow_bad: float) -> None:
    """Raises CorpusError when a larger share than ``allow_bad`` of all clips is unusable."""
    bad, total = len(manifest.bad), len(manifest.clips) + len(manifest.bad)
    if bad <= allow_bad * total:
        return
    shown = "; ".join(f"{b.name}: {b.reason}" for b in manifest.bad[:_SHOWN])
    more = f"; and {bad - _SHOWN} more" if bad > _SHOWN else ""
    enough = math.ceil(1000 * bad / total) / 1000
    raise CorpusError(
        f"{bad} of {total} clips of {manifest.corpus} ({bad / total:.1%}) are unusable, more than the "
        f"{allow_bad:.1%} allowed: {shown}{more}. Repair or remove them, or skip them with --allow-bad {enough:.3f}"
    )


def check_splits(manifest: Manifest) -> None:
    """Raises CorpusError when a split is empty, or a class has nothing to be trained on."""
    clips = Counter(clip.split for clip in manifest.clips)
    for split in SPLITS:
        if not clips[split]:
            counts = ", ".join(f"{s} {clips[s]}" for s in SPLITS)
            raise CorpusError(
                f"the {split} split of {manifest.corpus} is empty ({counts}; {len(manifest.bad)} clips unusable; "
                f"{manifest.source}); add clips, or list some in validation_list.txt and testing_list.txt"
            )
    trained = {clip.label for clip in manifest.clips if clip.split == "train"}
    untrained = [label for label in manifest.labels if label not in trained]
    if untrained:
        raise CorpusError(
            f"{len(untrained)} of {len(manifest.labels)} classes of {manifest.corpus} have no training clip, "
            f"for example {untrained[0]!r} ({manifest.source}); {_remedy(manifest, untrained[0])}"
        )


def check_speakers(manifest: Manifest) -> None:
    """Raises CorpusError when what is said to be the speaker is the label, so that a split would part whole labels."""
    pairs = {(clip.speaker, clip.label) for clip in manifest.clips if clip.spoken}
    speakers, labels = ({pair[place] for pair in pairs} for place in (0, 1))
    if manifest.speakers_known and len(pairs) == len(speakers) == len(labels) > 1:
        speaker, label = min(pairs)
        raise CorpusError(
            f"the speakers of {manifest.corpus} are its labels: {speaker!r} says only {label!r}, and so on for all "
            f"{len(labels)}; give a --speaker-pattern that captures the speaker, or --unknown-speakers"
        )


def unconfirmed(corpus: str, guesses: Sequence[Guess]) -> str:
    """The error text where file names seem to contain speakers: evidence, and flags that confirm or deny it."""
    best, *others = guesses
    text = (
        f"the file names of {corpus} seem to contain {best.kind}s: {best.evidence}. Give "
        f"--speaker-pattern '{best.pattern}' to keep each in one split"
    )
    for guess in others:
        text += f", or '{guess.pattern}' if it is {guess.values} {guess.kind}s ({', '.join(guess.examples)})"
    return text + "; --unknown-speakers splits clip by clip, and accuracy is then too optimistic for new ones"


def _remedy(manifest: Manifest, label: str) -> str:
    bad = [clip for clip in manifest.bad if clip.name.startswith(f"{label}/")]
    if bad and all(clip.label != label for clip in manifest.clips):
        return (
            f"none of its {len(bad)} files is readable audio ({_first(bad)}); repair them, or remove the class folder"
        )
    return "add clips of more speakers, or remove the class folder"


def _first(bad: Sequence[BadClip]) -> str:
    return f"{bad[0].name}: {bad[0].reason}"


def doubts(
    manifest: Manifest, *, guesses: Sequence[Guess] | None = (), empty: Sequence[str] = (), texts: Sequence[str] = ()
) -> Iterator[str]:
    """Warnings about a corpus; ``empty`` are class folders without files, ``guesses`` possible speakers; None where it
    was said already that the names may tell them.

    ``texts`` are files that were passed over since their names say that they are no sound.
    """
    if texts:
        count = f"{len(texts):,} file{'s' * (len(texts) > 1)}"
        yield f"{count} beside the clips cannot be audio by name, so passed over: {listed(texts)}"
    if empty:
        yield f"class folders without clips are ignored: {listed(empty)}"
    yield from _alike(manifest.labels)
    if manifest.speakers_known:
        yield from _shared_speakers(manifest)
    elif guesses:
        yield _shared_guess(manifest, guesses[0])
    elif guesses is not None:
        yield (
            "the speakers of the clips are not known, so one speaker may be in several splits; "
            "if the file names contain the speaker, give --speaker-pattern"
        )
    yield from _missing(manifest)


def _alike(labels: Sequence[str]) -> Iterator[str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        folded = unicodedata.normalize("NFKC", label).casefold()
        seen = (letter for letter in folded if not letter.isspace() and unicodedata.category(letter) != "Cf")
        groups["".join(seen)].append(label)
    for group in groups.values():
        if len(group) > 1:
            yield f"labels {listed(group)} differ only by case or spaces; put the clips of one label into one folder"


def _shared_speakers(manifest: Manifest) -> Iterator[str]:
    by_split: dict[Split, set[str]] = {split: set() for split in SPLITS}
    for clip in manifest.clips:
        by_split[clip.split] |= {clip.speaker} if clip.spoken else set()
    pairs: tuple[tuple[Split, tuple[Split, ...]], ...] = (("test", ("train", "validation")), ("validation", ("train",)))
    for split, others in pairs:
        shared = {other: by_split[split] & by_split[other] for other in others}
        if any(shared.values()):
            told = " and ".join(f"{len(who)} in {_NAMES[other]}" for other, who in shared.items() if who)
            yield (
                f"of the {len(by_split[split])} speakers of the {_NAMES[split]} clips, {told} too: "
                f"these results do not generalise to new speakers"
            )


def _shared_guess(manifest: Manifest, guess: Guess) -> str:
    """What a guess at the speakers says of the splits."""
    splits: dict[str, set[Split]] = defaultdict(set)
    for clip in manifest.clips:
        if match := re.search(guess.pattern, clip.name):
            splits[match.group(1)].add(clip.split)
    shared = [value for value, found in splits.items() if len(found) > 1]
    fact = f"file names seem to contain {guess.values} {guess.kind}s ({', '.join(guess.examples)})"
    confirm = f"confirm them with --speaker-pattern '{guess.pattern}'"
    if not shared:
        return f"{fact}, each in one split; {confirm}"
    return f"{fact}; {len(shared)} are in several splits, so accuracy is too optimistic for new ones: {confirm}"


def _missing(manifest: Manifest) -> Iterator[str]:
    held: dict[str, set[Split]] = defaultdict(set)
    for clip in manifest.clips:
        held[clip.label].add(clip.split)
    kinds: tuple[tuple[Split, ...], ...] = (("validation", "test"), ("validation",), ("test",))
    for splits in kinds:
        labels = [label for label in manifest.labels if set(SPLITS) - held[label] == set(splits)]
        if labels:
            what = " and ".join(f"no {_NAMES[split]} clip" for split in splits)
            yield f"{listed(labels)} {'has' if len(labels) == 1 else 'have'} {what}"
