"""A corpus from its name: the one entry for every kind of corpus."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import platformdirs

from cello.audio import speech_commands, spoken
from cello.audio.corpus import SPLITS, Corpus, Manifest
from cello.audio.folder import scan
from cello.audio.pack import Options, open_pack
from cello.audio.progress import Progress
from cello.audio.splits import check_official
from cello.audio.staging import used, using
from cello.errors import CorpusError, unknown

NEWEST = "v0.02"
KNOWN_CORPORA = {
    "spoken": "35 words rendered on this machine by eSpeak NG (needs the extra cello-rnn[spoken])",
    "speech-commands:v0.02": "Google Speech Commands, 105,829 clips of 35 words, 2.4 GB to download",
    "speech-commands:v0.01": "its first version, 64,727 clips of 30 words",
    "speech-commands:PATH": "the same from your folder or archive; its lists are checked against the official rule",
    "folder:PATH": "any folder with one folder of clips a label: WAV, FLAC, OGG or MP3",
}
_SHOWN = 5


class _Place(NamedTuple):
    """Where a spec's clips lie; ``official`` when they are Speech Commands and must be split as published."""

    name: str
    folder: Path
    official: bool = False


def open_corpus(
    spec: str,
    *,
    cache: Path | None = None,
    speaker_pattern: str | None = None,
    allow_bad: float = 0.01,
    rate_hz: int = 16_000,
    progress: Progress | None = None,
) -> Corpus:
    """Open a corpus, rendering, downloading, unpacking and decoding whatever is not yet in the cache.

    ``spec`` is ``spoken``; ``speech-commands``, ``speech-commands:v0.01``, ``:v0.02`` or ``:PATH`` of its folder or
    archive; ``folder:PATH`` or the path alone for a folder of class folders. The splits are those of
    ``validation_list.txt`` and ``testing_list.txt`` where the corpus has them, else by the speaker's hash;
    ``speaker_pattern`` is a regular expression whose group captures the speaker in a clip's path. ``allow_bad`` is the
    share of clips that may be unusable. ``progress`` is called with what is done, how far, of how much.

    Raises:
        CorpusError: there is no such corpus, it cannot be read or split, or too many of its clips are unusable.
    """
    if not 0 <= allow_bad <= 1:
        raise CorpusError(f"allow_bad={allow_bad} is a share of all clips; give a number from 0 to 1")
    if rate_hz < 1:
        raise CorpusError(f"rate_hz={rate_hz} is no sample rate; give a whole number of hertz, 16000 for example")
    cache = platformdirs.user_cache_path("cello") if cache is None else cache
    using(cache)
    try:
        place = _locate(spec, cache, progress)
    except OSError as error:
        raise CorpusError(
            f"corpus {spec!r} cannot be put into the cache {str(cache)!r}: {error}; free space there or choose "
            f"another cache folder"
        ) from error
    folder = scan(place.folder)
    pack = open_pack(folder, Options(rate_hz, speaker_pattern), cache, progress)
    source = f"{spec}, split by {pack.rule}"
    manifest = msgspec.structs.replace(pack.manifest, corpus=place.name, source=source)
    if place.official and folder.lists:
        check_official({clip.name: clip.split for clip in manifest.clips})
    check_bad(manifest, allow_bad)
    check_splits(manifest)
    return Corpus(manifest, pack.sound, pack.noise)


def check_bad(manifest: Manifest, allow_bad: float) -> None:
    """Raises CorpusError when a larger share than ``allow_bad`` of all clips is unusable."""
    bad, total = len(manifest.bad), len(manifest.clips) + len(manifest.bad)
    if bad <= allow_bad * total:
        return
    shown = "; ".join(f"{b.name}: {b.reason}" for b in manifest.bad[:_SHOWN])
    more = f"; and {bad - _SHOWN} more" if bad > _SHOWN else ""
    enough = math.ceil(1000 * bad / total) / 1000
    raise CorpusError(
        f"{bad} of {total} clips of {manifest.corpus} ({bad / total:.1%}) cannot be used, more than the "
        f"{allow_bad:.1%} allowed: {shown}{more}. Mend or remove them, or leave them out with --allow-bad {enough:.3f}"
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
            f"{untrained[0]!r} first ({manifest.source}); add clips of more speakers, or remove the class folder"
        )


def _locate(spec: str, cache: Path, progress: Progress | None) -> _Place:
    kind, _, rest = spec.partition(":")
    if kind in _KINDS:
        return _KINDS[kind](rest, cache, progress)
    path = Path(spec).expanduser()
    if spec and path.is_dir():
        return _folder(spec, cache, progress)
    if spec and path.exists():
        raise CorpusError(
            f"corpus {spec!r} is a file; give a folder of class folders, "
            f"or write speech-commands:{spec} if it is that archive"
        )
    if "/" in spec:
        raise CorpusError(f"corpus folder {spec!r} does not exist; give one that holds class folders")
    raise CorpusError(unknown("corpus", spec, _KINDS, "Or give the path of a folder of class folders."))


def _folder(path: str, cache: Path, progress: Progress | None) -> _Place:
    if not path:
        raise CorpusError("corpus 'folder:' names no folder; write folder:PATH")
    folder = Path(path).expanduser()
    return _Place(folder.resolve().name, folder)


def _spoken(options: str, cache: Path, progress: Progress | None) -> _Place:
    if options:
        raise CorpusError(f"corpus 'spoken:{options}' cannot be: the spoken corpus takes no options; write spoken")
    folder = cache / spoken.folder_name(spoken.DEFAULT)
    spoken.render_to(folder, progress=progress)
    used(folder)
    return _Place("spoken", folder)


def _speech_commands(which: str, cache: Path, progress: Progress | None) -> _Place:
    version = which or NEWEST
    path = Path(which).expanduser()
    if version in speech_commands.VERSIONS:
        fetched = speech_commands.fetch(version, cache, progress=progress)
        used(fetched)
        return _Place(f"speech-commands-{version}", fetched, official=True)
    if path.is_file():
        status = path.stat()
        key = hashlib.sha256(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:12]
        unpacked = cache / f"speech-commands-{key}"
        if not unpacked.exists():
            speech_commands.extract(path, unpacked, progress=progress)
        used(unpacked)
        return _Place("speech-commands", _descend(unpacked), official=True)
    if path.is_dir():
        return _Place("speech-commands", path, official=True)
    raise CorpusError(
        unknown("version or path of speech-commands", which, speech_commands.VERSIONS, "Or give its folder or archive.")
    )


def _descend(unpacked: Path) -> Path:
    """The corpus in an unpacked archive, which may hold it in a folder of its own."""
    inside = [path for path in unpacked.iterdir() if not path.name.startswith(".")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else unpacked


_KINDS: dict[str, Callable[[str, Path, Progress | None], _Place]] = {
    "folder": _folder,
    "speech-commands": _speech_commands,
    "spoken": _spoken,
}
