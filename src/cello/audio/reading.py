"""Define how the clips of a folder are read: speakers, labels, splits, folds and choices."""

from __future__ import annotations

import re

import msgspec

from cello.audio.choice import Choice
from cello.audio.folds import NONE, check_rule
from cello.audio.splits import speaker_pattern
from cello.errors import CorpusError

GROUPS = ("label", "speaker", "split", "fold")
"""What a pattern with named groups may read off a clip's name."""


class Reading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the user reads a folder of clips; by default, class folders are labels.

    ``pattern`` is a regular expression with named groups (``GROUPS``) that is searched for in each clip's path below
    the folder; ``table`` is a file with a path and a label a line, and ``columns`` maps a meaning to its column.
    ``speaker_pattern`` captures the speaker alone; ``unknown_speakers`` confirms that nobody knows who speaks.
    ``folds`` divides the clips for cross-validation; see ``folds.fold``.
    """

    speaker_pattern: str | None = None
    unknown_speakers: bool = False
    pattern: str | None = None
    table: str | None = None
    columns: dict[str, str] = {}
    choice: Choice = Choice()
    folds: str = NONE

    def __post_init__(self) -> None:
        check_rule(self.folds)
        if self.speaker_pattern is not None:
            speaker_pattern(self.speaker_pattern)
        if self.pattern is not None:
            name_pattern(self.pattern)
        if self.folds != NONE and self.choice.silence:
            raise CorpusError(
                "silence is cut from other seconds of the noise for each split, and folds have no splits of their own; "
                "leave --silence or --folds out"
            )
        for one, other in (("pattern", "table"), ("unknown_speakers", "speaker_pattern")):
            if getattr(self, one) and getattr(self, other):
                flags = [f"--{name.replace('_', '-')}" for name in (one, other)]
                raise CorpusError(f"{flags[0]} and {flags[1]} cannot be combined; give one of them")


PLAIN = Reading()
"""Nothing said."""


def name_pattern(text: str) -> re.Pattern[str]:
    """A user's regular expression with a group named ``label`` and others of ``GROUPS``.

    Raises:
        CorpusError: it is no regular expression, has another group, or none for the label.
    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise CorpusError(f"pattern {text!r} is not a valid regular expression: {error}") from error
    foreign = [name for name in pattern.groupindex if name not in GROUPS]
    if foreign or "label" not in pattern.groupindex:
        what = f"a group {foreign[0]!r}" if foreign else "no group for the label"
        raise CorpusError(
            f"pattern {text!r} has {what}; its groups are (?P<label>…) and, where names tell, "
            f"(?P<speaker>…), (?P<split>…) and (?P<fold>…)"
        )
    return pattern
