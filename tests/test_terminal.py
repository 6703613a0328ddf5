"""What hurts: a label that colours, renames or clears somebody's terminal; a name that it cannot show ends the work."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from cello.terminal import OutputError, Stream, Terminal, bars, escaped, one_line, say, streams

ATTACKS = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31m",
    "\x9d0;title\x9c",
    "over\rwritten",
    "back\b\b\bspace",
    "bell\x07",
    "del\x7f",
    "form\x0cfeed",
    "bidi\u202egnp.exe",
    "isolate\u2066x\u2069",
    "mark\u200f\u061c",
    "zero\u200bwidth\ufeff",
    "line\u2028paragraph\u2029",
    "tags\U000e0041\U000e007f",
    "caf\udce9",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_that_a_terminal_obeys_is_printed_however_it_comes(text: str) -> None:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=True, width=150, color_system=None)
    table = Table("label", text, title=text)
    table.add_row(text, Text(text))
    console.print(table)
    console.print(text)
    console.print(Text(text))
    say(console, f"error: {text}")
    with bars(console) as progress:
        progress.update(progress.add_task(text, total=1), completed=1, description=f"{text}!")
    printed = "".join(part for part in out.getvalue() if part not in "\n\r")
    for own in ("\x1b[?25l", "\x1b[?25h", "\x1b[2K"):  # a progress bar hides the cursor, clears its line
        printed = printed.replace(own, "")
    assert escaped(printed) == printed
    assert printed.count(escaped(text)) >= 5


@pytest.mark.parametrize(
    "text", ["[red]low[/]", "[link=file:///etc/passwd]x[/link]", "[/]", "\\[bold]", ":smile:", "mine.py:x:", "[0]\\"]
)
def test_markup_in_a_name_is_only_a_name(text: str) -> None:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=True, width=80)
    table = Table(text, title=text)
    table.add_row(text)
    console.print(table)
    say(console, text)
    with bars(console) as progress:
        progress.add_task(text)
    assert out.getvalue().count(text) >= 4
    assert "\x1b]8" not in out.getvalue()


def test_a_name_is_one_line_and_lines_stay_lines() -> None:
    assert one_line("a\nb\tc\x1b") == r"a\nb\tc\x1b"
    assert escaped("a\nb\tc") == "a\nb\tc"
    assert escaped("ünï — 語 हिन्दी عربي 👩\u200d🔬") == "ünï — 語 हिन्दी عربي 👩\u200d🔬"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "koi8-r", "utf-8", "utf-16"])
def test_every_encoding_can_show_every_text(encoding: str) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding)
    with contextlib.redirect_stdout(out), streams():
        table = Table("语", title="½ × 3 … – “x”")
        table.add_row("हिन्दी\udce9 💥")
        Terminal().print(table)
        print("naïve Ångström")  # noqa: T201 as other libraries do
    shown = raw.getvalue().decode(encoding)
    if encoding == "ascii":
        assert '? x 3 ... - "x"' in shown.replace("\\xbd", "?")
        assert r"\u8bed" in shown
        assert "naive Angstrom" in shown
    if encoding in ("latin-1", "cp1252", "utf-8", "utf-16"):
        assert "naïve Ångström" in shown


class Failing(io.StringIO):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EBADF])
def test_output_must_be_written_and_progress_need_not(number: int) -> None:
    Stream(Failing(number), needed=False).write("[1/6] …")
    with pytest.raises(OutputError) as told:
        Stream(Failing(number), needed=True).write("a result")
    assert told.value.errno == number


def test_where_nobody_reads_any_more_the_work_ends() -> None:
    with pytest.raises(OutputError):
        Stream(Failing(errno.EPIPE), needed=False).write("[1/6] …")


def test_a_closed_or_missing_stream_is_an_output_error_or_nothing() -> None:
    closed = io.StringIO()
    closed.close()
    Stream(closed, needed=False).write("x")
    with pytest.raises(OutputError):
        Stream(closed, needed=True).write("x")
    Stream(None, needed=True).write("x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_shows_once_and_not_again_when_python_ends() -> None:
    with Path("/dev/full").open("w") as full, contextlib.redirect_stdout(full):
        with pytest.raises(OutputError, match="No space left"), streams():
            sys.stdout.write("x")
        full.flush()
