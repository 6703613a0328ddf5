"""What hurts: a page that needs the network, obeys a label, is too large to open, or replaces somebody's file."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from cello.audio import page as module
from cello.audio.corpus import Clip, Corpus, Manifest
from cello.audio.facts import Row, Section, facts
from cello.audio.page import check_target, wav, write_page
from cello.errors import CorpusError


class Tags(HTMLParser):
    """Every tag with its attributes; a void one is not waited for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_holds_its_clips_and_needs_nothing_else(tone_corpus: Corpus, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", tone_corpus, facts(tone_corpus, {}))
    text = (tmp_path / "page.html").read_text("utf-8")
    tags = Tags(text).found
    sources = [value for _, attrs in tags for name, value in attrs.items() if name in ("src", "href")]
    assert len(sources) == 2 * 3 * 4
    assert all(source and source.startswith(("data:image/png;base64,", "data:audio/wav;base64,")) for source in sources)
    assert "http" not in text
    playable = [source for source in sources if source and "audio" in source[:20]]
    sound, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(playable[0].partition(",")[2])), dtype="int16")
    assert rate_hz == 16_000
    clips = [tone_corpus.sound[c.start : c.start + c.samples] for c in tone_corpus.manifest.clips]
    assert any(np.array_equal(sound, clip) for clip in clips)
    assert re.search(r'style="width:100.00%"|width:57.14%', text)
    for part in ("Lengths", "Loudness", "Duplicates", "Balance"):
        assert f">{part}</th>" in text


def test_every_text_is_escaped(tone_corpus: Corpus, tmp_path: Path) -> None:
    bad = '"><script>alert(1)</script>'
    clips = tuple(
        msgspec.structs.replace(clip, label=bad, name=bad + clip.name, speaker=bad) if clip.label == "low" else clip
        for clip in tone_corpus.manifest.clips
    )
    labels = tuple(bad if label == "low" else label for label in tone_corpus.manifest.labels)
    manifest = msgspec.structs.replace(
        tone_corpus.manifest, clips=clips, labels=labels, corpus=bad, source=bad, warnings=(bad, "half \udce9")
    )
    write_page(tmp_path / "page.html", Corpus(manifest, tone_corpus.sound), [Section(bad, (Row(bad, bad, bad),))])
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "<script" not in text
    assert "half \\udce9" in text
    assert {tag for tag, _ in Tags(text).found}.isdisjoint({"script", "link", "iframe"})


def test_a_large_corpus_makes_no_large_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 600_000)
    monkeypatch.setattr(module, "_BARS", 10)
    labels = tuple(f"label{k:03d}" for k in range(60))
    clips = tuple(
        Clip(name=f"{label}/{k}", label=label, split="train", speaker="s", start=0, samples=80_000)
        for label in labels
        for k in range(3)
    )
    manifest = Manifest(corpus="many", rate_hz=8000, labels=labels, clips=clips, bad=(), checksum="", source="")
    write_page(tmp_path / "page.html", Corpus(manifest, np.arange(80_000).astype(np.int16)), [])
    text = (tmp_path / "page.html").read_text("utf-8")
    assert len(text) < 1_500_000
    assert text.count("<audio") == 13
    assert "Clips of label013 and later labels are left out" in text
    assert "The other 50 labels are not shown." in text


def test_only_an_earlier_page_is_replaced(tone_corpus: Corpus, tmp_path: Path) -> None:
    own, page = tmp_path / "thesis.html", tmp_path / "page.html"
    own.write_text("mine")
    for path, text in (
        (own, "thesis.html' exists and is not a page of cello corpus inspect; choose another file"),
        (tmp_path, "exists and is not a page"),
        (tmp_path / "none" / "page.html", "none' does not exist; create it, or choose another file for --html"),
    ):
        with pytest.raises(CorpusError, match=text):
            write_page(path, tone_corpus, [])
    assert own.read_text() == "mine"
    write_page(page, tone_corpus, [])
    first = page.read_bytes()
    check_target(page)
    write_page(page, tone_corpus, [])
    assert page.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "thesis.html"]


def test_sound_beyond_full_scale_does_not_wrap_round() -> None:
    sound, _ = soundfile.read(io.BytesIO(wav(np.array([1.5, -1.5, 0.5], np.float32), 8000)), dtype="int16")
    assert sound.tolist() == [32767, -32768, 16384]
