"""Open a corpus by its name: the one entry for every kind of corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from cello.audio import speech_commands, spoken
from cello.audio.assign import speakers_known, splits_given
from cello.audio.checks import check_bad, check_speakers, check_splits, doubts, unconfirmed
from cello.audio.choice import choose
from cello.audio.corpus import Corpus
from cello.audio.dataset_cache import CachedDataset, Options, open_dataset
from cello.audio.digests import digests
from cello.audio.folder import LISTS, scan
from cello.audio.folds import NONE, fold, fold_doubts
from cello.audio.kept import kept
from cello.audio.layout import is_junk
from cello.audio.names import guess_speakers
from cello.audio.origin import Origin, kind_of
from cello.audio.progress import Progress
from cello.audio.rates import rate_doubts, rates
from cello.audio.reading import PLAIN, Reading
from cello.audio.splits import check_official
from cello.audio.staging import used, using
from cello.audio.twelve import ABOUT, test_clips, twelve
from cello.cache import cache_root
from cello.errors import CorpusError, reason, unknown

NEWEST, TASK = "v0.02", "12"
_TASKS = tuple(f"{version}:{TASK}" for version in speech_commands.TEST_SETS)
KNOWN_CORPORA = {
    "spoken": "35 words rendered on this machine by eSpeak NG (needs the extra cello-rnn[spoken])",
    "speech-commands:v0.02": "Google Speech Commands, 105,829 clips of 35 words, 2.4 GB to download",
    "speech-commands:v0.02:12": "its 12-class task (ten words, unknown, silence) with the official test archive",
    "speech-commands:v0.01": "its first version, 64,727 clips of 30 words",
    "speech-commands:PATH": "the same from your folder or archive; its lists are checked against the official rule",
    "folder:PATH": "any folder with one folder of clips a label: WAV, FLAC, OGG or MP3",
}


class _Place(NamedTuple):
    """Where a spec's clips lie; ``official`` when they are Speech Commands and must be split as published.

    ``test`` is where the test clips of the 12-class task lie, if it is that.
    """

    name: str
    folder: Path
    official: bool = False
    test: Path | None = None


def open_corpus(
    spec: str,
    *,
    cache: Path | None = None,
    speaker_pattern: str | None = None,
    allow_bad: float = 0.01,
    rate_hz: int = 16_000,
    reading: Reading | Mapping[str, Any] = PLAIN,
    strict: bool = True,
    progress: Progress | None = None,
) -> Corpus:
    """Open a corpus, rendering, downloading, unpacking and decoding whatever is not yet in the cache.

    ``spec`` is ``spoken``; ``speech-commands``, ``speech-commands:v0.01``, ``:v0.02`` or ``:PATH`` of its folder or
    archive, ``speech-commands:v0.02:12`` for the 12-class task; ``folder:PATH`` or the path alone for a folder of class
    folders. The splits are those of ``validation_list.txt`` and ``testing_list.txt`` where the corpus has them, else by
    the speaker's hash; ``speaker_pattern`` is a regular expression whose group captures the speaker in a clip's path;
    ``reading`` says more of the clips: a table, a pattern, labels. ``allow_bad`` is the share that may be unusable.
    ``progress`` is called with what is done, how far, of how much. What may not be meant so (labels that differ by case
    alone, speakers of several splits) is in ``manifest.warnings``; unless ``strict``, what would be refused is too.

    Raises:
        CorpusError: there is no such corpus, it cannot be read or split, too many of its clips are unusable, or the
            names of its clips seem to tell who speaks and nobody confirmed or denied it.
    """
    _check_options(allow_bad, rate_hz)
    cache = cache_root(cache)
    using(cache)
    place = _located(spec, cache, progress)
    reading = msgspec.convert(msgspec.to_builtins(reading), Reading)
    if speaker_pattern is not None:
        reading = msgspec.structs.replace(reading, speaker_pattern=speaker_pattern)
    _check_plain(spec, place, reading)
    folder = scan(place.folder, reading)
    refused: list[str] = []
    known = speakers_known(folder, reading)
    guesses = () if known else guess_speakers({clip.name: clip.label for clip in folder.clips})
    unasked = bool(guesses) and not splits_given(folder) and not reading.unknown_speakers
    if unasked:
        _refuse(unconfirmed(place.name, guesses), strict, refused)
    options = Options(rate_hz, msgspec.structs.replace(reading, folds=NONE))
    dataset = open_dataset(folder, options, cache, progress, place.name)
    manifest = msgspec.structs.replace(dataset.manifest, corpus=place.name, speakers_known=known)
    manifest = manifest.from_origin(_origin(spec, place, dataset))
    if place.official and folder.lists:
        check_official({clip.name: clip.split for clip in manifest.clips})
    whole = Corpus(manifest, dataset.sound, dataset.noise)
    corpus = fold(choose(whole, reading.choice), reading.folds)
    if place.test is not None:
        corpus = twelve(whole, _tested(place, place.test, rate_hz, cache, progress))
    for check in (lambda found: check_bad(found, allow_bad), check_speakers, check_splits):
        try:
            check(corpus.manifest)
        except CorpusError as error:
            _refuse(str(error), strict, refused)
    said = doubts(corpus.manifest, guesses=None if unasked else guesses, empty=folder.empty, texts=folder.texts)
    found = (*said, *fold_doubts(corpus.manifest))
    resampled = rate_doubts(rates([clip.path for clip in folder.clips]), rate_hz)
    manifest = msgspec.structs.replace(corpus.manifest, warnings=(*refused, *found, *resampled))
    return Corpus(manifest, corpus.sound, corpus.noise, corpus.more)


def at_hand(spec: str, cache: Path | None = None) -> bool:
    """Whether a corpus would be opened without rendering or downloading it."""
    kind, _, rest = spec.partition(":")
    version = rest.partition(":")[0] or NEWEST
    if kind == "spoken":
        name = spoken.folder_name(spoken.DEFAULT)
    elif kind == "speech-commands" and version in speech_commands.VERSIONS:
        name = speech_commands.folder_name(version)
    else:
        return True
    return (cache_root(cache) / name).is_dir()


def _origin(spec: str, place: _Place, dataset: CachedDataset) -> Origin:
    official = place.official and dataset.split in ("lists", "speaker-hash")
    return Origin(
        kind=kind_of(spec),
        spec=spec,
        task="" if place.test is None else ABOUT,
        split="official" if official else dataset.split,
        rule=dataset.rule,
    )


def _check_options(allow_bad: float, rate_hz: int) -> None:
    if not 0 <= allow_bad <= 1:
        raise CorpusError(f"allow_bad={allow_bad} is invalid: it must be a share of all clips, from 0 to 1")
    if rate_hz < 1:
        raise CorpusError(
            f"rate_hz={rate_hz} is invalid: it must be a positive whole number of hertz, for example 16000"
        )


def corpus_files(
    spec: str, *, cache: Path | None = None, reading: Reading | Mapping[str, Any] = PLAIN
) -> dict[str, Path]:
    """The files of a corpus by the names of its clips, usable or not; of one that :func:`open_corpus` has opened."""
    place = _located(spec, cache_root(cache), None)
    reading = msgspec.convert(msgspec.to_builtins(reading), Reading)
    folders = [scan(place.folder, reading), *([scan(place.test)] if place.test is not None else [])]
    return {file.name: file.path for folder in folders for file in folder.clips}


def _tested(place: _Place, folder: Path, rate_hz: int, cache: Path, progress: Progress | None) -> Corpus:
    dataset = open_dataset(test_clips(scan(folder)), Options(rate_hz), cache, progress, place.name)
    return Corpus(dataset.manifest, dataset.sound)


def _check_plain(spec: str, place: _Place, reading: Reading) -> None:
    """Raises CorpusError where flags say of the 12-class task what it says itself."""
    if place.test is not None and msgspec.structs.replace(reading, unknown_speakers=False) != PLAIN:
        raise CorpusError(
            f"corpus {spec} has its own labels, splits and speakers; leave out what else is said of them, or choose "
            f"from {spec.rpartition(':')[0]} with --labels, --unknown and --silence"
        )


def _located(spec: str, cache: Path, progress: Progress | None) -> _Place:
    try:
        return _locate(spec, cache, progress)
    except OSError as error:
        raise CorpusError(
            f"corpus {spec!r} cannot be written to the cache {str(cache)!r}: {reason(error)}; free space there or "
            f"choose another cache folder"
        ) from error


def _refuse(reason: str, strict: bool, refused: list[str]) -> None:
    """Raise CorpusError, or where everything is to be seen note the reason."""
    if strict:
        raise CorpusError(reason)
    refused.append(reason)


def _locate(spec: str, cache: Path, progress: Progress | None) -> _Place:
    kind, _, rest = spec.partition(":")
    if kind in _KINDS:
        return _KINDS[kind](rest, cache, progress)
    path = _expanded(spec)
    if spec and path.is_dir():
        return _folder(spec, cache, progress)
    if spec and path.exists():
        raise CorpusError(f"corpus {spec!r} is a file; {_packed(spec)}")
    if "/" in spec:
        raise CorpusError(f"corpus folder {spec!r} does not exist; give a folder of class folders")
    raise CorpusError(unknown("corpus", spec, _KINDS, "Or give the path of a folder of class folders."))


def _folder(path: str, cache: Path, progress: Progress | None) -> _Place:
    if not path:
        raise CorpusError("corpus 'folder:' names no folder; write folder:PATH")
    folder = _expanded(path)
    if folder.is_file():
        raise CorpusError(f"corpus folder {path!r} is a file, not a folder; {_packed(path)}")
    return _Place(_utf8(folder.resolve().name), folder)


def _packed(path: str) -> str:
    if Path(path).suffix.lower() in (".zip", ".7z", ".rar"):
        return "unpack it and give its folder"
    return f"give a folder of class folders, or write speech-commands:{path} if it is that archive"


def _expanded(path: str) -> Path:
    """A path with its ``~`` replaced; refused where it could not be written down with a study's results."""
    try:
        return Path(_utf8(path)).expanduser()
    except RuntimeError as error:
        raise CorpusError(f"{path!r} names an unknown home folder; give the full path") from error


def _utf8(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(f"the name of the corpus folder, {name!a}, is not UTF-8; rename it") from error
    return name


def _spoken(options: str, cache: Path, progress: Progress | None) -> _Place:
    if options:
        raise CorpusError(f"corpus 'spoken:{options}' is invalid: the spoken corpus takes no options; write spoken")
    folder = cache / spoken.folder_name(spoken.DEFAULT)

    def make() -> Path:
        spoken.render_to(folder, progress=progress)
        return folder

    used(kept(folder, cache, make))
    return _Place("spoken", folder)


def _speech_commands(which: str, cache: Path, progress: Progress | None) -> _Place:
    version, _, task = (which or NEWEST).partition(":")
    if version in speech_commands.VERSIONS and task:
        return _task(version, task, cache, progress)
    version, path = which or NEWEST, _expanded(which)
    if version in speech_commands.VERSIONS:
        folder = cache / speech_commands.folder_name(version)
        fetched = kept(folder, cache, lambda: speech_commands.fetch(version, cache, progress=progress))
        used(fetched)
        return _Place(f"speech-commands-{version}", fetched, official=True)
    if path.is_file():
        (digest,) = digests([path], path.parent, cache)
        unpacked = cache / f"speech-commands-{digest.hex()[:32]}"

        def make() -> Path:
            speech_commands.extract(path, unpacked, progress=progress)
            return unpacked

        used(kept(unpacked, cache, make))
        return _Place("speech-commands", _descend(unpacked), official=True)
    if path.is_dir():
        return _Place("speech-commands", path, official=True)
    raise CorpusError(
        unknown("version or path of speech-commands", which, speech_commands.VERSIONS, "Or give its folder or archive.")
    )


def _task(version: str, task: str, cache: Path, progress: Progress | None) -> _Place:
    """A version and the test clips for its 12-class task."""
    if task != TASK or version not in speech_commands.TEST_SETS:
        raise CorpusError(unknown("task of speech-commands", f"{version}:{task}", _TASKS))
    whole = _speech_commands(version, cache, progress)
    folder = cache / speech_commands.test_folder_name(version)
    fetched = kept(folder, cache, lambda: speech_commands.fetch_test(version, cache, progress=progress))
    used(fetched)
    return whole._replace(name=f"{whole.name}-{task}", test=_descend(fetched))


def _descend(unpacked: Path) -> Path:
    """The corpus in an unpacked archive, which may hold it in a folder of its own, with other things beside."""
    while not any((unpacked / name).exists() for name in LISTS):
        folders = [path for path in unpacked.iterdir() if path.is_dir() and not is_junk(path.name)]
        if len(folders) != 1 or not any(path.is_dir() and not is_junk(path.name) for path in folders[0].iterdir()):
            break
        unpacked = folders[0]
    return unpacked


_KINDS: dict[str, Callable[[str, Path, Progress | None], _Place]] = {
    "folder": _folder,
    "speech-commands": _speech_commands,
    "spoken": _spoken,
}
