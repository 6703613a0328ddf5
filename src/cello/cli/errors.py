"""Turn every exception of a command into a sentence and an exit status."""

from __future__ import annotations

import errno
import os

from cello.errors import CelloError
from cello.terminal import OutputError, one_line

FAILED = 1
USAGE = 2
FAULT = 70
INTERRUPTED = 130
PIPE = 141
"""Exit statuses besides 0: an error that a user can fix; wrong usage; a bug in Cello (``EX_SOFTWARE`` of
``sysexits.h``); Ctrl-C; a reader that has gone (128 + SIGPIPE, as of programs that the signal ends)."""

_ROOM = "make room there, or choose another folder with --out or --cache"
_ALLOWED = "choose a place that you may use, with --out or --cache"
_PATH = "check the path"
_OPEN = "close programs, or allow more with ulimit -n"
_LOCAL = "that file system has no locks: choose a folder on a local disk with --cache or --out"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EACCES: _ALLOWED,
    errno.EPERM: _ALLOWED,
    errno.EROFS: _ALLOWED,
    errno.ENOENT: _PATH,
    errno.ENOTDIR: _PATH,
    errno.EISDIR: _PATH,
    errno.EEXIST: _PATH,
    errno.ELOOP: _PATH,
    errno.ENXIO: _PATH,
    errno.ENAMETOOLONG: "choose a shorter name or folder",
    errno.EMFILE: _OPEN,
    errno.ENFILE: _OPEN,
    errno.ENOLCK: _LOCAL,
    errno.ENOSYS: _LOCAL,
    errno.ENOTSUP: _LOCAL,
    errno.EIO: "check the disk",
    errno.ESTALE: "the network's file system has lost it: give the same command again",
    errno.ENOMEM: "close programs, or give fewer --workers",
}
_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "Unable to allocate")


def outcome(error: BaseException, doing: str) -> tuple[str, int]:
    """The sentence (empty: nothing is to be said) and the exit status; ``doing`` is the command, as ``cello train``."""
    if isinstance(error, CelloError):
        return str(error), FAILED
    if isinstance(error, OutputError):
        return _output(error)
    sentence = _fixable(error)
    if sentence:
        return f"{doing}: {sentence}", FAILED
    return (
        f"{doing} met a bug in Cello: {type(error).__name__}: {one_line(error) or 'no text'}. Run it again "
        f"with --traceback, and report it with what that shows",
        FAULT,
    )


def _output(error: OutputError) -> tuple[str, int]:
    if error.errno == errno.EPIPE:
        return "", PIPE
    return f"standard output cannot be written: {error.strerror}; make room there, or send it elsewhere", FAILED


def _fixable(error: BaseException) -> str:
    """What a user can do about an exception that is not Cello's; empty where it is a bug in Cello."""
    text = one_line(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(part in text for part in _MEMORY)):
        return "out of memory; give fewer --workers, a smaller model or batch, or close programs"
    if isinstance(error, OSError):
        return _system(error)
    if isinstance(error, UnicodeError):
        return _letters(error)
    if isinstance(error, RecursionError):
        return "something is nested too deeply to be read; make it flatter, or see with --traceback what it is"
    if isinstance(error, RuntimeError) and "home directory" in text:
        return "no home folder is known (of this user, or of the one after ~); choose a cache with --cache, or set HOME"
    if isinstance(error, ImportError):
        return (
            f"{text or type(error).__name__}; install Cello and what it needs again, for example in a new environment"
        )
    return ""


def _system(error: OSError) -> str:
    named = (name for name in (error.filename, error.filename2) if isinstance(name, str | bytes))
    names = [f"'{one_line(os.fsdecode(name))}'" for name in named]
    fact = one_line(error.strerror or error or type(error).__name__)
    remedy = _REMEDIES.get(error.errno or 0, "see with --traceback what was being done")
    return f"{' → '.join(names)}{': ' * bool(names)}{fact}; {remedy}"


def _letters(error: UnicodeError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return not_utf8(error.object)
    if isinstance(error, UnicodeDecodeError):
        byte = f"byte {error.start} is 0x{error.object[error.start]:02x}"
        return f"a file that is to be text is not UTF-8 ({byte}); save it as UTF-8, or see with --traceback which it is"
    return f"{one_line(error)}; write it in UTF-8"


def not_utf8(name: str) -> str:
    """The sentence for a name of a file, a folder or an argument that holds bytes which are no UTF-8."""
    try:
        os.fsencode(name).decode("utf-8")
    except UnicodeError:
        return f"'{one_line(name)}' is not UTF-8, and Cello's records must be; rename it"
    return f"'{one_line(name)}' cannot be read in this locale; set LC_ALL=C.UTF-8, or PYTHONUTF8=1"
