"""Write a corpus as one self-contained HTML page with facts, class balance and clips to play."""

from __future__ import annotations

import base64
import hashlib
import io
import wave
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cello import __version__
from cello.audio.corpus import SPLITS, Clip, Corpus, Manifest
from cello.audio.facts import Section
from cello.audio.picture import HEIGHT, WIDTH, spectrogram
from cello.errors import CorpusError
from cello.files import write_whole

CLIPS_A_LABEL = 4
LONGEST_S = 3.0
MOST_BYTES = 6_000_000
"""Of sound in a page, before it is written in base64."""

_MARK = b"<!DOCTYPE html><!-- cello corpus inspect -->\n"
_BARS = 200
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --faint: #5d656d; --paper: #fefefe; --line: #dfe3e6;
  --train: #005dc8; --validation: #c18d01; --test: #b33e22; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaec; --faint: #a0a8b0; --paper: #16181a; --line: #34383c;
  --train: #6ea8ff; --validation: #e0b84a; --test: #f0866a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; font: 16px/1.45 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
.faint, figcaption { color: var(--faint); font-size: .85rem; }
.warning { border-left: 4px solid var(--test); padding: .2rem .8rem; margin: .4rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); }
thead th { font-size: .85rem; color: var(--faint); }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th[scope=rowgroup] { padding-top: 1rem; }
th[scope=row] { font-weight: normal; min-width: 5rem; max-width: 14rem; overflow-wrap: break-word; }
td.value { overflow-wrap: normal; min-width: 5.2rem; }
.bar { display: flex; height: .9rem; min-width: 4.5rem; } .bar i { display: block; height: 100%; }
.train { background: var(--train); } .validation { background: var(--validation); } .test { background: var(--test); }
.key i { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .9em; }
.clips { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
figure { margin: 0; min-width: 0; } figure img { width: 100%; height: 6rem; display: block; image-rendering: auto; }
audio { width: 100%; height: 2.2rem; margin-top: .3rem; }
"""


def check_target(path: Path) -> None:
    """Refuse to write over what is no earlier page.

    Raises:
        CorpusError: something else lies there, or its folder does not exist.
    """
    try:
        if not path.parent.is_dir():
            raise CorpusError(
                f"folder {str(path.parent)!r} does not exist; create it, or choose another file for --html"
            )
        if not path.exists():
            return
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(_MARK)) == _MARK:
                    return
    except OSError as error:
        raise CorpusError(f"{str(path)!r} cannot be read: {error.strerror}; choose another file for --html") from error
    raise CorpusError(f"{str(path)!r} exists and is not a page of cello corpus inspect; choose another file")


def write_page(path: Path, corpus: Corpus, sections: Sequence[Section]) -> None:
    """Write the page of a corpus, whole or not at all, over an earlier one only.

    Raises:
        CorpusError: something else lies there, or it cannot be written.
    """
    check_target(path)
    try:
        write_whole(path, (chunk.encode(errors="backslashreplace") for chunk in _chunks(corpus, sections)))
    except OSError as error:
        raise CorpusError(
            f"{str(path)!r} cannot be written: {error.strerror}; choose another file for --html"
        ) from error


def _chunks(corpus: Corpus, sections: Sequence[Section]) -> Iterator[str]:
    manifest = corpus.manifest
    name = escape(manifest.corpus)
    yield _MARK.decode()
    yield f'<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
    yield f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>\n'
    yield f'<h1>{name}</h1>\n<p class="faint">{escape(_about(manifest))}</p>\n'
    for sentence in manifest.warnings:
        yield f'<p class="warning">{escape(sentence)}</p>\n'
    yield "<main>\n"
    yield from _balance(manifest)
    yield from _facts(sections)
    yield from _clips(corpus)
    yield f'</main>\n<p class="faint">Written by Cello {escape(__version__)}.</p></body></html>\n'


def _about(manifest: Manifest) -> str:
    speakers = f"; {manifest.grouping}" if manifest.grouping else ""
    return (
        f"{len(manifest.clips):,} clips of {len(manifest.labels):,} labels at {manifest.rate_hz:,} Hz, from "
        f"{manifest.source}{speakers}. Checksum {manifest.checksum[:16]}."
    )


def _balance(manifest: Manifest) -> Iterator[str]:
    counts = {label: dict.fromkeys(SPLITS, 0) for label in manifest.labels}
    for clip in manifest.clips:
        counts[clip.label][clip.split] += 1
    most = max((sum(own.values()) for own in counts.values()), default=0) or 1
    key = "".join(f'<i class="{split}"></i>{split}' for split in SPLITS)
    heads = "".join(f'<th class="number" scope="col">{split}</th>' for split in SPLITS)
    yield f'<h2>Clips a label</h2>\n<p class="key faint">{key}</p>\n<div class="scroll"><table><thead><tr>'
    yield f'<th scope="col">label</th><th scope="col" style="width:45%"></th>{heads}</tr></thead><tbody>\n'
    for label in manifest.labels[:_BARS]:
        bars = "".join(
            f'<i class="{split}" style="width:{100 * counts[label][split] / most:.2f}%"></i>' for split in SPLITS
        )
        cells = "".join(f'<td class="number">{counts[label][split]:,}</td>' for split in SPLITS)
        yield f'<tr><th scope="row">{escape(label)}</th><td><div class="bar">{bars}</div></td>{cells}</tr>\n'
    yield "</tbody></table></div>\n"
    if len(manifest.labels) > _BARS:
        yield f'<p class="faint">The other {len(manifest.labels) - _BARS:,} labels are not shown.</p>\n'


def _facts(sections: Sequence[Section]) -> Iterator[str]:
    yield "<h2>Recordings</h2>\n<table>\n"
    for section in sections:
        yield f'<tbody><tr><th scope="rowgroup" colspan="3">{escape(section.title)}</th></tr>\n'
        for row in section.rows:
            cells = f'<td class="value">{escape(row.value)}</td><td>{escape(row.examples)}</td>'
            yield f'<tr><th scope="row">{escape(row.what)}</th>{cells}</tr>\n'
        yield "</tbody>\n"
    yield "</table>\n"


def _clips(corpus: Corpus) -> Iterator[str]:
    """Some clips of each label, as many as the page has room for."""
    manifest = corpus.manifest
    by_label: dict[str, list[int]] = {label: [] for label in manifest.labels}
    for index, clip in enumerate(manifest.clips):
        by_label[clip.label].append(index)
    most = int(LONGEST_S * manifest.rate_hz)
    usual = 2 * int(np.median(np.minimum(corpus.lengths, most))) if len(corpus.lengths) else 1
    each = max(1, min(CLIPS_A_LABEL, MOST_BYTES // (usual * len(by_label))))
    yield f'<h2>Some clips</h2>\n<p class="faint">The first {LONGEST_S:g} s of each at most. Spectrograms from 0 to '
    yield f"{manifest.rate_hz / 2000:g} kHz, down to 70 dB below the loudest.</p>\n"
    left = MOST_BYTES
    for label, indices in by_label.items():
        chosen = sorted(indices, key=lambda k: _order(manifest.clips[k]))[:each]
        if chosen and left <= 0:
            yield f'<p class="faint">Clips of {escape(label)} and later labels are left out to limit the size.</p>\n'
            return
        yield f'<h3>{escape(label)}</h3>\n<div class="clips">\n'
        for index in chosen:
            audio, lengths = corpus.audio(np.array([index]))
            sound = audio[0, : min(most, int(lengths[0]))]
            left -= 2 * len(sound)
            yield _figure(manifest.clips[index], sound, manifest.rate_hz)
        yield "</div>\n"


def _order(clip: Clip) -> bytes:
    return hashlib.sha1(clip.name.encode(), usedforsecurity=False).digest()


def _figure(clip: Clip, sound: NDArray[np.float32], rate_hz: int) -> str:
    picture, listen = (base64.b64encode(data).decode() for data in (spectrogram(sound, rate_hz), wav(sound, rate_hz)))
    about = f"{clip.name} · {clip.split} · {clip.samples / rate_hz:.2f} s · {clip.speaker}"
    return (
        f'<figure><img alt="Spectrogram of {escape(clip.name)}" width="{WIDTH}" height="{HEIGHT}" '
        f'src="data:image/png;base64,{picture}"><audio controls preload="none" src="data:audio/wav;base64,{listen}">'
        f"</audio><figcaption>{escape(about)}</figcaption></figure>\n"
    )


def wav(sound: NDArray[np.float32], rate_hz: int) -> bytes:
    """A clip as 16-bit WAV; what is beyond full scale is cut off."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.clip(np.rint(sound * 32768), -32768, 32767).astype("<i2").tobytes())
    return out.getvalue()
