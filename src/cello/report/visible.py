"""Make text of strangers safe to show: no invisible letters, local paths or endless names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

LONGEST = 200
"""Letters of a name in tables and sentences; pictures allow fewer."""
INVISIBLE = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"))
JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # Persian, Hindi and others are spelt with them
QUOTED = re.compile(r"""(['"])((?:~|/|[A-Za-z]:[\\/]|\\\\)[^'"\n]*)\1""")
BARE = re.compile(r"""(?<![\w.\\/-])(?!//)(?:~[\w.-]*[\\/]|/|[A-Za-z]:[\\/]|\\\\)[^\s'"<>|:*?,;()\[\]]*""")


def visible(text: str) -> str:
    r"""Text whose control characters, changes of direction and other invisible signs are written out.

    >>> visible("\x1b[31mred \u202ecod.exe\nnext")
    '⟨U+001B⟩[31mred ⟨U+202E⟩cod.exe next'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_letter, text))


def _letter(letter: str) -> str:
    if letter in "\n\r\t":
        return " "
    return f"⟨U+{ord(letter):04X}⟩" if unicodedata.category(letter) in INVISIBLE and letter not in JOINERS else letter


def elided(text: str, letters: int = LONGEST) -> str:
    """A long name without its middle; what is twice as wide (Chinese, Japanese, Korean) counts twice.

    >>> elided("a name that goes on and on", 11), elided("名前がとても長い", 7)
    ('a nam…nd on', '名前…い')
    """
    if len(text) <= letters and (text.isascii() or _width(text) <= letters):
        return text
    end = _fitting(text[::-1], letters // 2)
    return f"{text[: _fitting(text, letters - 1 - _width(text[len(text) - end :]))]}…{text[len(text) - end :]}"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _fitting(text: str, width: int) -> int:
    """How many letters of a text's beginning are no wider."""
    taken = 0
    for count, letter in enumerate(text):
        taken += _width(letter)
        if taken > width:
            return count
    return len(text)


def names(found: Iterable[str], change: Callable[[str], str]) -> dict[str, str]:
    """Each name with what is shown for it; two names are never shown alike.

    >>> names(["abcdefgh", "abcxyfgh", "abc"], lambda name: elided(name, 5))
    {'abcdefgh': 'ab…gh', 'abcxyfgh': 'ab…gh (2)', 'abc': 'abc'}
    """
    shown: dict[str, str] = {}
    taken: set[str] = set()
    every = dict.fromkeys(found)
    # a name that is shown as it is keeps its text, whoever else would be shown alike
    for name in sorted(every, key=lambda name: change(name) != name):
        text, number = change(name), 2
        while text in taken:
            text, number = f"{change(name)} ({number})", number + 1
        shown[name] = text
        taken.add(text)
    return {name: shown[name] for name in every}


def without_paths(text: str) -> str:
    """Text in which a path of somebody's machine is its last part alone; a report travels, the folder does not.

    >>> without_paths("cannot read '/home/anna k/clips/a.wav': see /home/anna/cello.log, 16/24 kHz, https://a.org/b/c")
    "cannot read 'a.wav': see cello.log, 16/24 kHz, https://a.org/b/c"
    """
    return BARE.sub(lambda found: last_part(found[0]), QUOTED.sub(lambda q: f"{q[1]}{last_part(q[2])}{q[1]}", text))


def last_part(path: str) -> str:
    r"""The name at a path's end, whoever's separators it has; what has none stands.

    >>> last_part("/home/anna/clips/"), last_part(r"C:\Users\anna\mine.py"), last_part("/"), last_part("clips")
    ('clips', 'mine.py', '/', 'clips')
    """
    parts = [part for part in re.split(r"[\\/]", path) if part]
    return parts[-1] if parts else path


def is_local(path: str) -> bool:
    r"""Whether a path begins at a machine's root or somebody's home.

    >>> is_local("/data/clips"), is_local("~/clips"), is_local(r"C:\clips"), is_local("../clips")
    (True, True, True, False)
    """
    return re.match(r"~|[\\/]|[A-Za-z]:[\\/]", path) is not None
