"""Start the command line; Ctrl-C ends it quietly at any moment, also during imports."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

INTERRUPTED = 130


def main() -> int:
    """What the ``cello`` command runs; its exit status."""
    _fill_standard_streams()
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where whoever started this has Ctrl-C ignored
        # Leaving at once, as an exception could be caught or wrapped by whatever is being imported.
        signal.signal(signal.SIGINT, _leave)
    try:
        from cello.cli.main import main as run
    except Exception as error:
        if "--traceback" in sys.argv:
            raise
        return _cannot_start(error)

    signal.signal(signal.SIGINT, before)
    if "--traceback" not in sys.argv:
        _shorten_what_is_raised_aside()
    try:
        return run()
    except KeyboardInterrupt:
        return INTERRUPTED


def _fill_standard_streams() -> None:
    """Let closed standard streams lead nowhere; the next file that is opened would get their number, and the output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _shorten_what_is_raised_aside() -> None:
    """Say in a line what a thread raised, and nothing of what objects raise when Python throws them away."""
    import threading

    from cello.terminal import one_line

    def show(raised: threading.ExceptHookArgs) -> None:
        kind = raised.exc_type.__name__
        _write(f"warning: beside the command: {kind}: {one_line(raised.exc_value)}; see with --traceback where\n")

    sys.unraisablehook = lambda _: None
    threading.excepthook = show


def _cannot_start(error: Exception) -> int:
    _write(
        f"error: cello cannot start: {type(error).__name__}: {error}; install it again, or see with --traceback why\n"
    )
    return 1


def _write(line: str) -> None:
    with suppress(OSError):  # where standard error is gone there is nobody to tell
        os.write(2, line.encode("utf-8", "backslashreplace"))


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    raise SystemExit(main())
