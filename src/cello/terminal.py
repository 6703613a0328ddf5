"""Print text on a terminal safely: control characters are escaped, and any encoding will do.

Labels, file names, names of rows and texts of errors come from anywhere. All that Cello prints goes through a
:class:`Stream`, and what it lays out through a :class:`Terminal`.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

# Control characters but for tabs and new lines, marks that turn the direction of writing, characters that nobody
# sees, halves of a character (what Python makes of a file name that is not UTF-8).
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_LIKE = {"×": "x", "−": "-", "–": "-", "—": "-", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*"}
_LIKE |= dict.fromkeys("─━═╌┄┈", "-") | dict.fromkeys("│┃║╎┆", "|")
_SIMILAR = "cello.similar"


class OutputError(OSError):
    """Standard output that cannot be written: a full disk, or a reader that has gone (``errno.EPIPE``)."""


def escaped(text: str) -> str:
    """The text with what a terminal would obey, or not show, as an escape sequence in letters; lines stay lines.

    >>> escaped("a label with \\x1b[31mcolour\\x1b[0m and caf\\udce9")
    'a label with \\\\x1b[31mcolour\\\\x1b[0m and caf\\\\xe9'
    """
    return _CONTROL.sub(_letters, text)


def one_line(text: object) -> str:
    r"""A name as ``escaped`` shows it, with new lines and tabs escaped too.

    >>> one_line("high\n0 unusable clips")
    'high\\n0 unusable clips'
    """
    return escaped(str(text).replace("\n", r"\n").replace("\t", r"\t"))


def counted(number: int, thing: str) -> str:
    """So many things.

    >>> counted(1, "worker"), counted(1200, "run")
    ('1 worker', '1,200 runs')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def clock(seconds: float | None) -> str:
    """A duration for people.

    >>> [clock(s) for s in (None, 8.4, 75, 4000)]
    ['?', '8 s', '1 min 15 s', '1 h 06 min']
    """
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _letters(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _similar(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks: é as e, × as x, a foreign letter by its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    base = unicodedata.normalize("NFD", character)[0]
    if base.isascii() or base in _LIKE:
        return _LIKE.get(base, base)
    kind = unicodedata.category(character)
    if kind == "Mn" and character < "\u0370":  # an accent whose letter has been shown
        return ""
    return character.encode("ascii", "backslashreplace").decode() if kind[0] in "LMNC" else "?"


codecs.register_error(_SIMILAR, _similar)


class Stream:
    """A text stream that shows what its encoding can show; all else it has of the stream that it stands for.

    ``needed``: what cannot be written is an ``OutputError``; else it is dropped, as progress must not end the work.
    With ``plain`` no escape sequence passes, for text that other libraries lay out.
    """

    def __init__(self, stream: TextIO | None, needed: bool, plain: bool = False) -> None:
        self._stream = io.StringIO() if stream is None else stream
        self._needed, self._plain = needed, plain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return not self._plain and self._stream.isatty()

    def write(self, text: str) -> int:
        if self._plain:
            text = escaped(text)
        encoding = self._stream.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.encode(encoding, _SIMILAR).decode(encoding)
        with self._failing():
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._failing():
            self._stream.flush()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._needed or error.errno == errno.EPIPE:
                _silence(self._stream)
                raise OutputError(error.errno, error.strerror) from error
        except ValueError:  # it was closed
            if self._needed:
                raise OutputError(errno.EBADF, "it is closed") from None


def _silence(stream: TextIO) -> None:
    """Let what the stream still holds go nowhere, so that it does not fail once more when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


class Terminal(Console):
    """A console for which brackets are no markup, colons no pictures, and foreign control characters only letters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # before widths are measured
        return super().render_str(escaped(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escaped(segment.text))


def say(console: Console, line: str) -> None:
    """Print a line as it stands: brackets are no markup, and a path can be copied whole."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def bars(console: Console, *columns: ProgressColumn, **options: Any) -> Progress:
    """Progress bars whose descriptions are shown as they are; without ``columns`` a bar, a share and the time left."""
    usual = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}", markup=False), *(columns or usual), console=console, **options)


@contextlib.contextmanager
def streams(plain: bool = False) -> Iterator[None]:
    """Within, standard output and standard error are a ``Stream`` each; at the end all has been written.

    Raises:
        OutputError: standard output cannot be written.
    """
    out, problems = Stream(sys.stdout, needed=True, plain=plain), Stream(sys.stderr, needed=False, plain=plain)
    with contextlib.redirect_stdout(cast(TextIO, out)), contextlib.redirect_stderr(cast(TextIO, problems)):
        try:
            yield
        finally:
            problems.flush()
            out.flush()
