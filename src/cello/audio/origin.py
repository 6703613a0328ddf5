"""Say where a corpus's clips come from and how they were split, as fields and as one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

import msgspec

CorpusKind = Literal["speech-commands", "spoken", "folder", "other"]
SplitRule = Literal[
    "official",  # that of Speech Commands, checked when the corpus was opened
    "lists",  # validation_list.txt and testing_list.txt
    "given",  # a table, a pattern or folders say it
    "speaker-hash",
    "clip-hash",  # of the file's name, for nobody knows who speaks
    "folds",  # each tests in turn
    "one-fold",  # one of such folds tests
    "hold-out",  # the last of the corpus's own folds tests
    "unknown",
]
LISTS = "validation_list.txt and testing_list.txt"
SPLIT_BY = ", split by "
_VERSION = re.compile(r"v\d+\.\d+(:\d+)?")
_NAMED = tuple(kind for kind in get_args(CorpusKind) if kind != "other")


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where clips come from: the ``spec`` that was opened, of which ``kind``, and the ``task`` made of it.

    ``split`` says by what they were divided, ``rule`` the same in words.

    >>> str(Origin(kind="folder", spec="folder:clips", split="lists", rule=LISTS))
    'folder:clips, split by validation_list.txt and testing_list.txt'
    """

    kind: CorpusKind = "other"
    spec: str = ""
    task: str = ""
    split: SplitRule = "unknown"
    rule: str = ""

    def __str__(self) -> str:
        task = f", {self.task}" if self.task else ""
        return f"{self.spec}{task}{SPLIT_BY if self.rule else ''}{self.rule}"

    def divided(self, split: SplitRule, rule: str) -> Origin:
        """The same clips, split otherwise."""
        return msgspec.structs.replace(self, split=split, rule=rule)


def kind_of(spec: str) -> CorpusKind:
    """The kind of corpus that a spec names; a path alone is a folder."""
    kind = spec.partition(":")[0]
    return next((known for known in _NAMED if known == kind), "folder")


def absolute(spec: str) -> str:
    """The same corpus with the path in its spec absolute; unchanged where it names none.

    >>> absolute("spoken"), absolute("speech-commands:v0.02:12"), absolute("folder:/data/clips")
    ('spoken', 'speech-commands:v0.02:12', 'folder:/data/clips')
    """
    kind, colon, rest = spec.partition(":")
    if kind not in _NAMED:
        kind, colon, rest = "", "", spec
    if kind == "spoken" or not rest or (kind == "speech-commands" and _VERSION.fullmatch(rest)):
        return spec
    return f"{kind}{colon}{Path(rest).expanduser().absolute()}"


def split_of(rule: str) -> SplitRule:
    """Which split a rule in words is: for caches and stores from before it was a field of its own."""
    if rule == LISTS:
        return "lists"
    if rule.startswith("folds: "):
        return "hold-out"
    if re.match(r"\d+ folds\b", rule):
        return "one-fold" if " tests, " in rule else "folds"
    if "SHA-1" in rule and not re.match("the table|the pattern|folders, ", rule):
        return "clip-hash" if "speakers not known" in rule else "speaker-hash"
    return "given" if rule else "unknown"


def origin_of(sentence: str) -> Origin:
    """The fields of a sentence as corpora had it before they had fields; nothing else reads it.

    >>> origin_of("speech-commands:v0.02, split by SHA-1 of the speaker").split
    'official'
    """
    front, by, rule = sentence.rpartition(SPLIT_BY)
    if not by:
        spec, kind = sentence, kind_of(sentence)
        return Origin(kind="other" if kind == "folder" and not spec.startswith("folder:") else kind, spec=spec)
    spec, comma, task = front.partition(", the ")
    split = split_of(rule)
    kind = kind_of(spec)
    if kind == "speech-commands" and split in ("lists", "speaker-hash", "given"):
        split = "official"
    return Origin(kind=kind, spec=spec, task=f"{comma.removeprefix(', ')}{task}", split=split, rule=rule)
