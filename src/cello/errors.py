"""Define the exceptions: one class for each kind of error that a user can fix.

CelloError
├── ConfigError        a setting that does not exist or is invalid
├── CorpusError        a corpus that cannot be found, read or split
│   ├── ClipError      one clip that is not usable sound
│   │   └── LongClipError  one that is longer than it may be
│   └── DownloadError  an archive that did not arrive whole, or is not what it should be
├── FeatureError       frames that cannot be computed from these clips
├── CellError          equations outside the language
├── ModelError         a model that cannot be built from its parts
├── BackendError       a way of running cells that is not available here
├── TrainingError      a run that cannot start, continue or be resumed
│   └── DivergenceError  the loss became NaN or infinite
├── StudyError         a plan that makes no sense
│   └── StoreError     an output folder that cannot be used
└── ReportError        a report that cannot be written

Every message names the fact, the value, the context and the remedy.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


class CelloError(Exception):
    """Anything a user of Cello can fix; the command line prints it without a traceback."""


class ConfigError(CelloError):
    """A setting that does not exist or has an invalid value."""


class CorpusError(CelloError):
    """A corpus that cannot be found, read or split."""


class ClipError(CorpusError):
    """One clip that is not usable sound; its text is the reason alone, the caller names the clip."""


class LongClipError(ClipError):
    """A clip that is longer than it may be."""


class DownloadError(CorpusError):
    """An archive that did not arrive whole, or is not what its checksum says."""


class FeatureError(CelloError):
    """Frames that cannot be computed from these clips with this config."""


class CellError(CelloError):
    """Equations outside the cell language."""


class ModelError(CelloError):
    """A model that cannot be built from its parts."""


class BackendError(CelloError):
    """A back end that is not available on this machine."""


class TrainingError(CelloError):
    """A run that cannot start, continue or be resumed."""


class DivergenceError(TrainingError):
    """The loss became NaN or infinite: the run's settings are to blame, and it would diverge again."""


class StudyError(CelloError):
    """A study whose plan makes no sense."""


class StoreError(StudyError):
    """An output folder that cannot be used for this study."""


class ReportError(CelloError):
    """A report that cannot be written."""


class ExportError(CelloError):
    """A trained model that cannot be written in a form."""


class DeployError(CelloError):
    """An exported model that cannot be read, or sound that it cannot take."""


LONGEST = 100
"""Letters of a name or value that a message repeats."""
MOST_NAMES = 30
"""Of more names than this, a message that suggests the nearest lists no others."""


def unknown(kind: str, name: str, known: Iterable[str], remedy: str = "") -> str:
    """The sentence for a name that does not exist: what was asked, the nearest name, all names, the remedy.

    Where one is near, the others of a very long list are left out.

    >>> unknown("cell", "lsmt", ["gru", "lstm"])
    "unknown cell 'lsmt'; did you mean 'lstm'? Known: gru, lstm."
    """
    names, name = sorted(known), name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    listed = f" Known: {', '.join(names)}." if names and not (near and len(names) > MOST_NAMES) else ""
    return f"unknown {kind} {name!r}{hint}{listed}" + (f" {remedy}" if remedy else "")


def reason(error: OSError) -> str:
    """Why the system refused, in words: without the number of its error.

    >>> reason(FileNotFoundError(2, "No such file or directory", "/proc/x"))
    "no such file or directory ('/proc/x')"
    """
    named = f" ({os.fsdecode(error.filename)!r})" if isinstance(error.filename, str | bytes) else ""
    return f"{error.strerror[:1].lower()}{error.strerror[1:]}{named}" if error.strerror else str(error)
