"""The way into the command line: Ctrl-C is quiet from the first moment, also while the imports run."""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130


def main() -> int:
    """What the ``cello`` command runs; its exit status."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where whoever started this has Ctrl-C ignored
        # Leaving at once, as an exception could be caught or wrapped by whatever is being imported.
        signal.signal(signal.SIGINT, _leave)
    from cello.cli import main as run

    signal.signal(signal.SIGINT, before)
    try:
        return run()
    except KeyboardInterrupt:
        return INTERRUPTED


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    raise SystemExit(main())
