"""Name files that are not readable audio, and say what to do with them."""

from __future__ import annotations

import codecs

from cello.audio.containers.source import Source

_HEAD_BYTES = 4096
_SHOWN_LETTERS = 60
_CONVERT = "convert it to WAV or FLAC"
_SOUND_SUFFIXES = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".sph"))

# first bytes → a container of sound or pictures that libsndfile does not read
_MEDIA: tuple[tuple[bytes, str], ...] = (
    (bytes.fromhex("3026b2758e66cf11"), "WMA (ASF)"),
    (b"#!AMR", "AMR"),
    (b"#!SILK", "SILK"),
    (b"\x02#!SILK", "SILK"),
    (b"FLV\x01", "Flash video"),
    (b"DSD ", "DSD"),
    (b"FRM8", "DSD"),
    (b"wvpk", "WavPack"),
    (b"MAC ", "Monkey's Audio"),
    (b"TTA1", "True Audio"),
    (b"ajkg", "Shorten"),
    (b"OFR ", "OptimFROG"),
    (b"tBaK", "TAK"),
    (b"MPCK", "Musepack"),
    (b"MP+", "Musepack"),
    (b".RMF", "RealMedia"),
    (b".ra\xfd", "RealAudio"),
    (b"MThd", "MIDI"),
    (b"ADIF", "AAC"),
    (b"\xff\xf1", "AAC"),
    (b"\xff\xf9", "AAC"),
    (b"\x0b\x77", "AC-3"),
    (b"\x7f\xfe\x80\x01", "DTS"),
)
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x00\x05\x16\x07", "a macOS resource file"),
)
_OGG_CODECS = ((b"Speex   ", "Speex"), (b"\x80theora", "Theora"), (b"\x7fFLAC", "FLAC"), (b"BBCD", "Dirac"))


def describe(source: Source, suffix: str) -> str:
    """Say why a file that libsndfile does not open is unusable; ``suffix`` is its file extension."""
    head = source.read(_HEAD_BYTES, 0)
    kind = _media(head)
    if kind is not None:
        named = suffix.lower() in _SOUND_SUFFIXES
        return f"{kind}, not {suffix[1:].upper()}: {_CONVERT}" if named else f"{kind}: {_CONVERT}"
    other = next((name for magic, name in _OTHERS if head.startswith(magic)), None)
    if other is not None:
        return f"not audio: {other}"
    return _text(head, source.size) or f"not audio, or damaged; {_CONVERT}, or remove it"


def _media(head: bytes) -> str | None:
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "WebM" if b"webm" in head[:256] else "Matroska"
    if head[4:8] == b"ftyp":
        return "3GP" if head[8:10] == b"3g" else "QuickTime" if head[8:10] == b"qt" else "MP4"
    if head[4:8] in (b"moov", b"mdat", b"wide"):
        return "QuickTime"
    if head[:4] == b"RIFF" and len(head) >= 12 and head[8:12] != b"WAVE":
        return "AVI" if head[8:12] == b"AVI " else "another kind of RIFF file"
    if head[:4] == b"OggS":
        codec = next((name for mark, name in _OGG_CODECS if mark in head[:128]), None)
        return None if codec is None else f"Ogg {codec}"
    return next((name for magic, name in _MEDIA if head.startswith(magic)), None)


def _text(head: bytes, size: int) -> str | None:
    """What a text file named as sound is: most often what stands for a sound that is not here."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head, final=size <= len(head)).strip()
    except UnicodeDecodeError:
        return None
    if not text.isprintable() and not all(letter.isprintable() or letter.isspace() for letter in text):
        return None
    lower = text[:512].lower()
    if lower.startswith("version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer: run git lfs pull"
    if "/annex/objects/" in lower and "\n" not in text:
        return "a git-annex pointer: run git annex get"
    if lower.startswith(("<!doctype html", "<html")) or "<html" in lower:
        return "not audio: an HTML page (what a failed download leaves); download it again"
    if lower.startswith("<"):
        return "not audio: XML text (what a failed download leaves?); download it again"
    if lower.startswith(("{", "[")):
        return "not audio: JSON text (what a failed download leaves?); download it again"
    if len(text) < 1024 and "\n" not in text and text.startswith(("../", "./")):
        return f"not audio: the text of a link ({text[:_SHOWN_LETTERS]!r}), which Git writes where links are off"
    return "not audio: a text file" if text else None
