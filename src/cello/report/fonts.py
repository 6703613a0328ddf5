"""Find fonts that have the letters of a study's names, for PNG pictures."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

USUAL = "DejaVu Sans"  # comes with matplotlib
BOXES = "Last Resort"  # has a box for every letter
SHOWN = 3


def dress(figure: Figure) -> None:
    """Give every text of a figure that the usual font lacks letters of the fonts that have them."""
    for text in figure.findobj(Text):
        found = families(_lacking(text.get_text()))
        if found:
            text.set_fontfamily([USUAL, *found])
            text.set_fontweight("normal")  # few have bold letters, and matplotlib would say so


def warning(names: Iterable[str]) -> str:
    """What to install where no font has some letters of these names; empty where all can be drawn.

    >>> warning(["lstm", "größe", "سلام"])
    ''
    """
    letters = _lacking("".join(names))
    covered = frozenset().union(*(_has(path, letters) for _, path in _found(letters)))
    missing = sorted(letters - covered)
    if not missing:
        return ""
    scripts = dict.fromkeys(unicodedata.name(letter, "other").split()[0].split("-")[0] for letter in missing)
    named = ", ".join(name if name == "CJK" else name.capitalize() for name in scripts)
    return (
        f"no installed font has {named} letters of this study's names ({', '.join(missing[:SHOWN])}"
        f"{', …' if len(missing) > SHOWN else ''}), so the notebook's pictures have boxes there; install one, as the "
        "packages fonts-noto-core and fonts-noto-cjk have, and write the report again"
    )


def families(letters: frozenset[str]) -> list[str]:
    """The fewest-first names of installed fonts that together have the most of some letters."""
    return [name for name, _ in _found(letters)]


def _lacking(text: str) -> frozenset[str]:
    if text.isascii():
        return frozenset()
    usual = _has(font_manager.findfont(USUAL), frozenset(text))
    return frozenset(letter for letter in text if letter not in usual and not letter.isspace())


@cache
def _found(letters: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """(name, file) of each font that is needed for the letters."""
    found, rest = [], letters
    for name, path in _installed() if letters else ():
        has = _has(path, rest)
        if has:
            found.append((name, path))
            rest -= has
        if not rest:
            break
    return tuple(found)


def _installed() -> Iterator[tuple[str, str]]:
    """Upright fonts that can be scaled, those without serifs first; then files that came after matplotlib looked."""
    known = font_manager.fontManager.ttflist
    upright = [font for font in known if font.style == "normal" and BOXES not in font.name]
    upright.sort(key=lambda font: ("Sans" not in font.name, font.weight not in (400, "normal", "regular"), font.fname))
    yield from ((font.name, font.fname) for font in upright)
    files = {font.fname for font in known}
    for path in sorted(set(font_manager.findSystemFonts()) - files):
        try:
            font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError, ValueError, KeyError):
            continue  # broken, or a kind that cannot be scaled
        yield font_manager.fontManager.ttflist[-1].name, path


def _has(path: str, letters: frozenset[str]) -> frozenset[str]:
    try:
        font = FT2Font(path)
        places = font.get_charmap() if font.scalable else {}
    except (OSError, RuntimeError, ValueError):
        return frozenset()
    return frozenset(letter for letter in letters if ord(letter) in places)
