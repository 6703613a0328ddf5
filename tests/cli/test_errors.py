"""What hurts: an exception that a user meets as a traceback, or as a sentence without a remedy."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cello.cli.errors import FAILED, FAULT, PIPE, not_utf8, outcome
from cello.errors import ConfigError
from cello.terminal import OutputError


def system(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), *names)


def no_home() -> Exception:
    try:
        Path("~nosuchuser/clips").expanduser()
    except RuntimeError as error:
        return error
    return AssertionError()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConfigError("epochs=0 trains nothing"), "epochs=0 trains nothing"),
        (system(errno.ENOSPC, "a/b"), "cello x: 'a/b': No space left on device; make room there, or choose another"),
        (system(errno.EACCES, "a"), "cello x: 'a': Permission denied; choose a place that you may use, with --out"),
        (system(errno.EROFS, "a"), "Read-only file system; choose a place that you may use"),
        (system(errno.ENAMETOOLONG, "a" * 999), "File name too long; choose a shorter name or folder"),
        (system(errno.EMFILE), "cello x: Too many open files; close programs, or allow more with ulimit -n"),
        (system(errno.ENOLCK), "cello x: No locks available; that file system has no locks: choose a folder on a"),
        (system(errno.ENOENT, "nö\udce9\n"), "cello x: 'nö\\xe9\\n': No such file or directory; check the path"),
        (system(errno.EUCLEAN), "Structure needs cleaning; see with --traceback what was being done"),
        (OSError("odd"), "cello x: odd; see with --traceback what was being done"),
        (MemoryError(), "cello x: out of memory; give fewer --workers, a smaller model or batch"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (RecursionError("maximum"), "cello x: something is nested too deeply to be read; make it flatter"),
        (
            UnicodeEncodeError("utf-8", "caf\udce9", 3, 4, "x"),
            "'caf\\xe9' is not UTF-8, and Cello's records must be; r",
        ),
        (UnicodeDecodeError("utf-8", b"ab\xff", 2, 3, "x"), "not UTF-8 (byte 2 is 0xff); save it as UTF-8, or see wi"),
        (no_home(), "no home folder is known (of this user, or of the one after ~); choose a cache with --cache"),
        (ModuleNotFoundError("No module named 'rich'"), "No module named 'rich'; install Cello and what it needs"),
        (OutputError(errno.ENOSPC, "No space left"), "standard output cannot be written: No space left; make room"),
    ],
)
def test_what_a_user_can_mend_is_a_sentence_with_a_remedy(error: Exception, sentence: str) -> None:
    said, status = outcome(error, "cello x")
    assert sentence in said
    assert status == FAILED


def test_a_fault_of_cello_says_so_and_has_a_status_of_its_own() -> None:
    said, status = outcome(KeyError("\x1b[31mstate"), "cello train")
    assert said == (
        r"cello train met a bug in Cello: KeyError: '\x1b[31mstate'. Run it again with --traceback, and report "
        "it with what that shows"
    )
    assert status == FAULT
    assert outcome(AssertionError(), "cello")[0].startswith("cello met a bug in Cello: AssertionError: no text")


def test_where_nobody_reads_nothing_is_said() -> None:
    assert outcome(OutputError(errno.EPIPE, "Broken pipe"), "cello x") == ("", PIPE)


def test_a_name_that_only_this_locale_cannot_read_is_not_blamed() -> None:
    assert not_utf8("clips/caf\udcc3\udca9").endswith(
        "cannot be read in this locale; set LC_ALL=C.UTF-8, or PYTHONUTF8=1"
    )
    assert not_utf8("clips/caf\udce9") == r"'clips/caf\xe9' is not UTF-8, and Cello's records must be; rename it"
