"""Build the 12-class task of Speech Commands: ten words, unknown and silence.

Training and validation clips are those of the whole archive, by its lists; unknown words and silence are each 10 % of
the clips of the ten words, rounded up, as TensorFlow's ``speech_commands/input_data.py`` has it. Which unknown words
those are, a hash decides once; there a random number does. The test clips are the separate archive's, all of them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import PurePosixPath

import msgspec

from cello.audio.choice import SILENCE, STANDARD, UNKNOWN, Choice, choose
from cello.audio.corpus import Clip, Corpus
from cello.audio.folder import File, Folder
from cello.audio.layout import listed
from cello.errors import CorpusError

CHOICE = Choice(labels=STANDARD, unknown=10, silence=10)
TEST_RULE = "the official test archive"
RULE = "validation_list.txt and testing_list.txt"
ABOUT = f"the 12-class task: ten words, 10 % unknown words and 10 % silence; tested on {TEST_RULE}"

_SPEAKER = re.compile(r"([0-9a-f]+)_nohash_")  # clips of unknown words begin with the word: bed_3ff840aa_nohash_0.wav
_FORMAT = 1
_LOUDEST, _NOISY = 0.1, 0.8


def test_clips(folder: Folder) -> Folder:
    """The folder of the test archive, every clip with its speaker and in the test split.

    Raises:
        CorpusError: its labels are not the twelve.
    """
    expected = {*STANDARD, UNKNOWN, SILENCE}
    if set(folder.labels) != expected:
        wrong = sorted(expected ^ set(folder.labels))
        raise CorpusError(
            f"{str(folder.root)!r} is not the 12-class test archive of Speech Commands: it differs in the folders "
            f"{listed(wrong)}; remove it from the cache, so that it is downloaded again"
        )
    clips = tuple(
        replace(clip, split="test", speaker=_speaker(clip), silent=clip.label == SILENCE) for clip in folder.clips
    )
    return replace(folder, clips=clips, rule=TEST_RULE)


def _speaker(clip: File) -> str:
    found = _SPEAKER.search(clip.name)
    return found.group(1) if found else f"{clip.label}/{PurePosixPath(clip.name).stem}"


def volume(name: str) -> float:
    """The factor of an excerpt of noise that stands for silence: 0 to 0.1, and 0 for one in five, by SHA-1 of its name.

    >>> 0 <= volume("_silence_/train_00000") <= 0.1
    True
    """
    digest = hashlib.sha1(name.encode(), usedforsecurity=False).digest()
    noisy, loud = (int.from_bytes(digest[at : at + 4], "big") / 2**32 for at in (0, 4))
    return _LOUDEST * loud if noisy < _NOISY else 0.0


def twelve(whole: Corpus, test: Corpus) -> Corpus:
    """The 12-class task from the whole corpus, as its lists split it, and the clips of the test archive.

    Raises:
        CorpusError: a speaker of the test clips is in training or validation, or a word is not there.
    """
    kept = tuple(clip for clip in whole.manifest.clips if clip.split != "test")
    learnt = msgspec.structs.replace(whole.manifest, clips=kept)
    chosen = choose(Corpus(learnt, whole.sound, whole.noise, whole.more), CHOICE, volume)
    own = [clip for clip in chosen.manifest.clips if clip.split != "test"]
    _check_apart(own, test)
    after = sum(map(len, chosen.arrays))
    tested = [msgspec.structs.replace(clip, start=clip.start + after) for clip in test.manifest.clips]
    text = msgspec.json.encode((_FORMAT, chosen.manifest.checksum, test.manifest.checksum))
    manifest = msgspec.structs.replace(
        chosen.manifest,
        clips=tuple(sorted((*own, *tested), key=lambda clip: clip.name)),
        bad=(*whole.manifest.bad, *test.manifest.bad),
        checksum=hashlib.sha256(text).hexdigest(),
    )
    return Corpus(manifest, chosen.sound, chosen.noise, (*chosen.more, *test.arrays))


def _check_apart(learnt: list[Clip], test: Corpus) -> None:
    trained = {clip.speaker: clip.name for clip in learnt}
    shared = [(clip.name, trained[clip.speaker]) for clip in test.manifest.clips if clip.speaker in trained]
    if shared:
        tested, learnt_from = min(shared)
        raise CorpusError(
            f"{len(shared)} clips of the test archive have speakers of the training or validation clips, for example "
            f"{tested!r} and {learnt_from!r}; the two archives do not match: download both again"
        )
