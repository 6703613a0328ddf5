"""What hurts: names in another script drawn as boxes while a font that has them is installed, or without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from cello.report import fonts, plots
from cello.report.results import StudyResults
from cello.report.write import write_report
from cello.study.store import Store

HINDI = "हिन्दी"


def made_font(path: Path, family: str, letters: str) -> str:
    """A font in which each of these letters is a triangle."""
    names = {ord(letter): f"u{ord(letter):04X}" for letter in letters}
    order = [".notdef", *dict.fromkeys(names.values())]
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    pen.lineTo((500, 800))
    pen.lineTo((900, 0))
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys(order, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(order, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)
    return str(path)


@pytest.fixture
def only() -> Iterator[Callable[..., None]]:
    """Let matplotlib know the fonts it came with alone, and find files that a test made."""
    known = list(font_manager.fontManager.ttflist)
    own = [font for font in known if "matplotlib" in font.fname]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(font_manager.fontManager, "ttflist", own)

        def files(*paths: str) -> None:
            patch.setattr(font_manager, "findSystemFonts", lambda: list(paths))
            fonts._found.cache_clear()

        files()
        yield files
    fonts._found.cache_clear()


def test_letters_that_no_font_has_are_named_with_a_remedy(only: Callable[..., None]) -> None:
    text = fonts.warning(["lstm", HINDI, "门"])
    assert text.startswith("no installed font has ")
    assert "Devanagari" in text
    assert "CJK" in text
    assert "fonts-noto-cjk" in text
    assert fonts.warning(["größe", "ひ"[:0], "⟨U+001B⟩", "żółw", "привет"]) == ""


def test_a_font_that_has_the_letters_is_found_among_broken_ones(tmp_path: Path, only: Callable[..., None]) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    only(str(tmp_path / "broken.ttf"), made_font(tmp_path / "own.ttf", "Own Devanagari", HINDI))
    assert fonts.warning([HINDI]) == ""
    assert fonts.families(frozenset(HINDI)) == ["Own Devanagari"]


def test_a_picture_has_the_letters_and_says_nothing(
    tmp_path: Path, small: StudyResults, only: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    runs = tuple(msgspec.structs.replace(run, row=HINDI) if run.row == "gru" else run for run in small.runs)
    study = msgspec.structs.replace(small, rows=("rnn", HINDI), runs=runs)
    boxes = plots.png(plots.accuracy(study))
    only(made_font(tmp_path / "own.ttf", "Own Devanagari", HINDI))
    assert plots.png(plots.accuracy(study)) != boxes
    assert not caplog.records


def test_the_notebook_names_missing_letters_once(
    tmp_path: Path,
    small: StudyResults,
    fill: Callable[[Path, StudyResults], Store],
    only: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = (HINDI, *small.corpus.labels[1:])
    corpus = msgspec.structs.replace(small.corpus, labels=labels)
    runs = tuple(
        msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, labels=labels)) for run in small.runs
    )
    fill(tmp_path / "study", msgspec.structs.replace(small, corpus=corpus, runs=runs))
    monkeypatch.setattr("cello.report.formats.notebook._execute", lambda *_: None)
    with pytest.warns(UserWarning, match="no installed font has Devanagari letters") as found:
        write_report(tmp_path / "study", formats=("md", "html", "notebook"), execute=True)
    assert len(found) == 1
