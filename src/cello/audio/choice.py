"""Select labels of a corpus; pool the others as unknown and cut silence from background noise."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.corpus import NO_SPEAKER, SPLITS, Clip, Corpus, Split
from cello.errors import CorpusError, unknown

UNKNOWN, SILENCE = "_unknown_", "_silence_"
STANDARD = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
"""The ten words of the 12-class task of Speech Commands (Warden 2018, arXiv:1804.03209)."""

_SHARES: dict[Split, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}
_SILENCE_S = 1.0


class Choice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The labels to classify; empty ``labels`` keeps all.

    ``unknown`` and ``silence`` are clips in percent of those of the chosen labels, in each split: 10 and 10 are what
    the 12-class task of Speech Commands has.
    """

    labels: tuple[str, ...] = ()
    unknown: float = 0.0
    silence: float = 0.0

    @property
    def changes(self) -> bool:
        return self != Choice()


def choose(corpus: Corpus, choice: Choice, volume: Callable[[str], float] | None = None) -> Corpus:
    """Select the chosen labels, then add ``_unknown_`` and ``_silence_`` if asked for.

    Unknown clips are those of the other labels whose names have the lowest SHA-1, so that more of them hold fewer.
    Silence is cut from the noise recordings at even distances, the first 80 % of each for training, the next 10 % for
    validation, the rest for the test; ``volume`` gives the factor for each excerpt, by its name (1 by default). The
    checksum says what was chosen.

    Raises:
        CorpusError: a label that the corpus has not, fewer than two left, unknown clips without other labels, silence
            without noise recordings, or a share below 0.
    """
    if not choice.changes:
        return corpus
    _check(corpus, choice)
    manifest = corpus.manifest
    chosen = choice.labels or tuple(label for label in manifest.labels if label not in (UNKNOWN, SILENCE))
    kept = [clip for clip in manifest.clips if clip.label in chosen]
    wanted = {split: sum(clip.split == split for clip in kept) for split in SPLITS}
    clips = kept + list(_unknown(manifest.clips, chosen, wanted, choice.unknown))
    silence = list(_silence(corpus, wanted, choice.silence))
    labels = (*chosen, *([UNKNOWN] if choice.unknown else []), *([SILENCE] if choice.silence else []))
    extra: list[NDArray[np.generic]] = []
    start = sum(map(len, corpus.arrays))
    for split, name, noise, sound in silence:
        who = f"{NO_SPEAKER}recording {noise + 1}"
        clips.append(Clip(name=name, label=SILENCE, split=split, speaker=who, start=start, samples=len(sound)))
        louder = sound if volume is None else sound * np.float32(volume(name))
        extra.append(_as_stored(louder, corpus.sound.dtype))
        start += len(sound)
    clips.sort(key=lambda clip: clip.name)
    digest = hashlib.sha256(msgspec.json.encode((manifest.checksum, choice)))
    changed = msgspec.structs.replace(manifest, labels=labels, clips=tuple(clips), checksum=digest.hexdigest())
    return Corpus(changed, corpus.sound, corpus.noise, (*corpus.more, np.concatenate(extra)) if extra else corpus.more)


def _check(corpus: Corpus, choice: Choice) -> None:
    known = corpus.manifest.labels
    for label in choice.labels:
        if label not in known:
            raise CorpusError(unknown(f"label of {corpus.manifest.corpus}", label, known))
    for name, share in (("unknown", choice.unknown), ("silence", choice.silence)):
        if not 0 <= share < math.inf:
            raise CorpusError(
                f"{name}={share:g} is invalid: it must be a percentage of the chosen clips, for example 10"
            )
    left = len(choice.labels or known) + (choice.unknown > 0) + (choice.silence > 0)
    if left < 2:
        raise CorpusError(
            f"only one label is left ({', '.join(choice.labels)}); choose at least two, or add unknown clips"
        )
    if choice.unknown and not set(known) - set(choice.labels or known):
        raise CorpusError(
            f"unknown={choice.unknown:g} pools the labels that are not chosen, but all {len(known)} are; "
            f"list the labels to keep with --labels"
        )
    if choice.silence and not corpus.noise:
        raise CorpusError(
            f"silence={choice.silence:g} needs noise recordings, but {corpus.manifest.corpus} has none; "
            f"add some to its folder _background_noise_"
        )


def _unknown(clips: Sequence[Clip], chosen: Sequence[str], wanted: dict[Split, int], percent: float) -> Iterator[Clip]:
    if not percent:
        return
    others = sorted((clip for clip in clips if clip.label not in (*chosen, SILENCE)), key=_order)
    for split in SPLITS:
        own = [clip for clip in others if clip.split == split]
        for clip in own[: math.ceil(wanted[split] * percent / 100)]:
            yield msgspec.structs.replace(clip, label=UNKNOWN)


def _order(clip: Clip) -> bytes:
    return hashlib.sha1(clip.name.encode(), usedforsecurity=False).digest()


def _silence(
    corpus: Corpus, wanted: dict[Split, int], percent: float
) -> Iterator[tuple[Split, str, int, NDArray[np.float32]]]:
    """Excerpts of one second, in turn from each recording, from the part of it that belongs to the split.

    Each comes with its name and the number of its recording, which is no speaker, but what its sounds have in common.
    """
    samples = round(_SILENCE_S * corpus.manifest.rate_hz)
    long = [place for place, noise in enumerate(corpus.noise) if len(noise) * min(_SHARES.values()) >= samples]
    if percent and not long:
        raise CorpusError(
            f"no noise recording of {corpus.manifest.corpus} lasts {_SILENCE_S / min(_SHARES.values()):g} s, which "
            f"silence in every split needs; add longer ones to _background_noise_"
        )
    first = 0.0
    for split in SPLITS:
        count = math.ceil(wanted[split] * percent / 100)
        for number in range(count):
            place = long[number % len(long)]
            noise = corpus.noise[place]
            low, high = int(first * len(noise)), int((first + _SHARES[split]) * len(noise)) - samples
            turns = math.ceil(count / len(long))
            at = low + (high - low) * (number // len(long)) // max(1, turns - 1)
            yield split, f"{SILENCE}/{split}_{number:05d}", place, noise[at : at + samples]
        first += _SHARES[split]


def _as_stored(sound: NDArray[np.float32], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    if dtype == np.int16:
        return np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.int16)
    return sound
