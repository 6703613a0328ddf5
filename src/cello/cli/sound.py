"""Define the flags that name a corpus, and open it."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, arg, subcommand

from cello.audio.choice import Choice
from cello.audio.corpus import Corpus
from cello.audio.folds import NONE
from cello.audio.reading import Reading
from cello.errors import ConfigError
from cello.features.config import FeatureConfig
from cello.terminal import bars, one_line

CORPUS_HELP = (
    "spoken (made on this machine by eSpeak NG), speech-commands[:v0.01|:v0.02|:v0.02:12|:PATH], folder:PATH, "
    "where PATH holds one folder of clips a label"
)


LONGEST_NAME = 200
"""Bytes of a folder's name that Cello makes; file systems take 255, and temporary names are longer."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Where the clips come from and how they are read."""

    corpus: Annotated[str, arg(help=CORPUS_HELP)] = "spoken"
    speaker_pattern: Annotated[
        str | None,
        arg(help="regular expression whose group is the speaker in a clip's path, for speaker-disjoint splits"),
    ] = None
    unknown_speakers: Annotated[
        bool,
        arg(help="nobody knows who speaks: split clip by clip, though accuracies are then too high for new speakers"),
        FlagCreatePairsOff,
    ] = False
    pattern: Annotated[
        str | None,
        arg(help="regular expression over a clip's path, with groups (?P<label>…), (?P<speaker>…), (?P<split>…)"),
    ] = None
    table: Annotated[
        Path | None, arg(help="CSV, JSON lines or Parquet with a path and a label a line, also split, speaker, fold")
    ] = None
    columns: Annotated[
        tuple[str, ...], arg(help="which column means what: path=COLUMN label=COLUMN …", metavar="MEANING=COLUMN")
    ] = ()
    labels: Annotated[str | None, arg(help="choose these labels, separated by commas", metavar="A,B,…")] = None
    unknown: Annotated[
        float, arg(help="pool the other labels as one, so many clips in percent of those of the chosen labels")
    ] = 0.0
    silence: Annotated[
        float, arg(help="add silence cut from background noise, in percent of the clips of the chosen labels")
    ] = 0.0
    allow_bad: Annotated[float, arg(help="share of unusable clips that is tolerated (they are always named)")] = 0.01
    cache: Annotated[Path | None, arg(help="where decoded clips and features are kept; a user folder by default")] = (
        None
    )

    @property
    def spec(self) -> str:
        """The corpus; with a table alone, the folder that it lies in."""
        if self.table is not None and self.corpus in ("", "spoken"):
            return f"folder:{self.table.expanduser().absolute().parent}"
        return self.corpus

    @property
    def reading(self) -> Reading:
        """What the flags say of the clips."""
        table = self.table.expanduser() if self.table is not None else None
        return Reading(
            unknown_speakers=self.unknown_speakers,
            pattern=self.pattern,
            table=None if table is None else str(table.absolute() if table.exists() else table),
            columns=dict(map(_meaning, self.columns)),
            choice=Choice(
                labels=tuple(label.strip() for label in (self.labels or "").split(",") if label.strip()),
                unknown=self.unknown,
                silence=self.silence,
            ),
        )

    def options(self, rate_hz: int, folds: str = NONE) -> dict[str, Any]:
        """What opens the same corpus again, in a worker or on another day."""
        options = {"speaker_pattern": self.speaker_pattern, "allow_bad": self.allow_bad, "rate_hz": rate_hz}
        told = msgspec.to_builtins(msgspec.structs.replace(self.reading, folds=folds))
        return {**options, "reading": told} if told else options


def _meaning(text: str) -> tuple[str, str]:
    meaning, equals, column = text.partition("=")
    if not (meaning and equals and column):
        raise ConfigError(f"--columns {text} is not MEANING=COLUMN; write label=category for example")
    return meaning, column


def described(command: type, name: str, *examples: str) -> object:
    """A subcommand whose help ends with examples."""
    text = f"{inspect.cleandoc(command.__doc__ or '')}\n\nFor example:\n" + "\n".join(f"  cello {e}" for e in examples)
    return subcommand(name, description=text)


def corpus_slug(spec: str) -> str:
    """A folder name for a corpus: its last path part, or the spec with its colon replaced."""
    kind, colon, rest = spec.partition(":")
    place = rest if colon else spec
    return Path(place).expanduser().resolve().name if "/" in place or kind == "folder" else spec.replace(":", "-")


def file_name(name: str) -> str:
    """A name as one file can have it: what is no letter, digit, dot, dash or underscore is a dash; not too long."""
    return re.sub(r"[^\w.-]+", "-", name).lstrip(".").encode()[:LONGEST_NAME].decode(errors="ignore")


def open_sound(
    sound: Sound,
    console: Console,
    rate_hz: int = FeatureConfig().rate_hz,
    strict: bool = True,
    folds: str = NONE,
) -> Corpus:
    """The corpus that the flags name; see :func:`open_shown`."""
    return open_shown(sound.spec, sound.options(rate_hz, folds), console, sound.cache, strict)


def open_shown(
    spec: str, options: Mapping[str, Any], console: Console, cache: Path | None = None, strict: bool = True
) -> Corpus:
    """A corpus, with a progress bar while it is fetched, rendered or decoded; its doubts are printed.

    Unless ``strict``, what would be refused is among them.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    from cello.audio.open import open_corpus

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with bars(console, *columns, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, int] = {}

        def show(what: str, done: int, total: int) -> None:
            label = one_line(what)
            task = (
                tasks.setdefault(label, progress.add_task(label, total=total)) if label not in tasks else tasks[label]
            )
            progress.update(task, completed=done, total=total)  # type: ignore[arg-type]

        corpus = open_corpus(spec, cache=cache, strict=strict, progress=show, **options)
    for sentence in corpus.manifest.warnings:
        warnings.warn(sentence, stacklevel=2)
    return corpus
