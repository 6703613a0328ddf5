"""List, fetch, inspect and clean corpora: `cello corpus`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg, subcommand

from cello.audio.corpus import SPLITS, Manifest
from cello.audio.facts import UNUSABLE, Section, by_reason, some
from cello.cli.sound import CORPUS_HELP, Sound, open_sound
from cello.errors import ConfigError
from cello.terminal import counted, one_line, say


@dataclass(frozen=True, kw_only=True)
class CorpusList:
    """List the corpora Cello knows."""

    def run(self, console: Console) -> None:
        from cello.audio.open import KNOWN_CORPORA

        table = Table("corpus", "what it is")
        for name, what in KNOWN_CORPORA.items():
            table.add_row(name, what)
        console.print(table)


@dataclass(frozen=True, kw_only=True)
class CorpusFetch(Sound):
    """Download or render a corpus, decode it, and keep it ready in the cache; resumes a broken download."""

    corpus: Annotated[Positional[str], arg(help=CORPUS_HELP, metavar="CORPUS")]

    def run(self, console: Console) -> None:
        corpus = open_sound(self, console)
        manifest = corpus.manifest
        say(console, one_line(f"{manifest.corpus}: {counted(len(manifest.clips), 'clip')}, {manifest.source}"))


@dataclass(frozen=True, kw_only=True)
class CorpusInspect(Sound):
    """Say what a corpus holds: clips a label and split, speakers, lengths, unusable clips, and what is doubtful.

    Nothing is refused: what training would refuse is said first.
    """

    corpus: Annotated[Positional[str], arg(help=CORPUS_HELP, metavar="CORPUS")]
    html: Annotated[
        Path | None,
        arg(help="write this as a page too, with spectrograms and players of some clips", metavar="FILE"),
    ] = None

    def run(self, console: Console) -> None:
        from cello.audio.facts import facts
        from cello.audio.open import corpus_files
        from cello.audio.page import check_target, write_page

        if self.html is not None:
            check_target(self.html.expanduser())
        corpus = open_sound(self, console, strict=False)
        manifest = corpus.manifest
        console.print(_counts(manifest))
        say(console, one_line(f"{manifest.source}{manifest.grouping and '; '}{manifest.grouping}"))
        sections = facts(corpus, corpus_files(self.spec, cache=self.cache, reading=self.reading))
        console.print(_facts(sections))
        say(console, counted(len(manifest.bad), "unusable clip") + (":" if manifest.bad else ""))
        for reason, names in by_reason(manifest).items():
            say(console, one_line(f"  {some(names)}: {reason}"))
        if self.html is not None:
            write_page(self.html.expanduser(), corpus, sections)
            say(console, one_line(f"page: {self.html}"))


def _counts(manifest: Manifest) -> Table:
    """Clips a label and split, and speakers."""
    title = one_line(f"{manifest.corpus}, {manifest.rate_hz} Hz, checksum {manifest.checksum[:16]}")
    table = Table("label", *(Column(split, justify="right") for split in SPLITS), title=title)
    counts = Counter((clip.label, clip.split) for clip in manifest.clips)
    for label in manifest.labels:
        table.add_row(one_line(label), *(f"{counts[label, split]:,}" for split in SPLITS))
    table.add_section()
    table.add_row("all", *(f"{sum(c.split == split for c in manifest.clips):,}" for split in SPLITS))
    who = "speakers" if manifest.speakers_known else "groups"
    table.add_row(who, *(f"{len({c.speaker for c in manifest.clips if c.split == s}):,}" for s in SPLITS))
    return table


def _facts(sections: Sequence[Section]) -> Table:
    table = Table("what", "found", Column("for example", overflow="fold"))
    for section in sections:
        if section.title == UNUSABLE:
            continue  # said below the table, where reasons have room
        table.add_section()
        table.add_row(Text(section.title, style="bold"), "", "")
        for row in section.rows:
            table.add_row(f"  {row.what}", one_line(row.value), one_line(row.examples))
    return table


@dataclass(frozen=True, kw_only=True)
class CorpusClean:
    """List what the cache holds, with sizes; with --older-than, --corpus or --all, remove it: it can be made again."""

    older_than: Annotated[int | None, arg(help="remove what was not used for so many days", metavar="DAYS")] = None
    corpus: Annotated[
        str | None,
        arg(
            help="remove decoded clips and frames of this corpus, as the list names it; downloads stay", metavar="NAME"
        ),
    ] = None
    all: Annotated[bool, arg(help="remove everything"), FlagCreatePairsOff] = False
    cache: Annotated[Path | None, arg(help="the cache folder; the user's own by default")] = None

    def run(self, console: Console) -> None:
        from rich.filesize import decimal

        from cello.features.clean import clean, clean_corpus, held

        self._check()
        things = held(self.cache)
        self._named(console)
        removed = None
        if self.corpus is not None:
            removed = clean_corpus(self.corpus, self.cache)
        elif self.all or self.older_than:
            removed = clean(self.cache, self.older_than or 0)
        table = Table("what", "name", "size", "not used for")
        for thing in things if removed is None else removed:
            table.add_row(thing.what, one_line(thing.path.name), decimal(thing.size), _days(thing.used))
        if table.row_count:
            console.print(table)
        total = sum(thing.size for thing in things)
        if removed is None:
            say(console, f"{len(things)} in the cache, {decimal(total)}")
        else:
            freed = sum(thing.size for thing in removed)
            say(console, f"removed {len(removed)} of {len(things)}, {decimal(freed)} of {decimal(total)}")

    def _check(self) -> None:
        if self.corpus is not None and (self.all or self.older_than is not None):
            raise ConfigError(f"--corpus {self.corpus} cannot be combined with --all or --older-than")
        if self.older_than is not None and (self.older_than < 1 or self.all):
            what = "and --all cannot be combined" if self.all else "is invalid: it must be at least 1, or give --all"
            raise ConfigError(f"--older-than {self.older_than} {what}")

    def _named(self, console: Console) -> None:
        """The corpora of which something is kept."""
        from rich.filesize import decimal

        from cello.features.clean import corpora

        folded = (Column(title, overflow="fold") for title in ("corpus", "read from"))
        table = Table(*folded, "decoded", "frames", "not used for")
        for kept in corpora(self.cache):
            folders = ", ".join(map(one_line, kept.folders))
            table.add_row(one_line(kept.name), folders, decimal(kept.decoded), decimal(kept.frames), _days(kept.used))
        if table.row_count:
            console.print(table)


def _days(used: float) -> str:
    return f"{(time.time() - used) / 86_400:.0f} days"


@dataclass(frozen=True)
class Corpus:
    """Look at corpora: list, fetch, inspect; clean what is kept of them."""

    action: OmitArgPrefixes[
        Annotated[CorpusList, subcommand("list", prefix_name=False)]
        | Annotated[CorpusFetch, subcommand("fetch", prefix_name=False)]
        | Annotated[CorpusInspect, subcommand("inspect", prefix_name=False)]
        | Annotated[CorpusClean, subcommand("clean", prefix_name=False)]
    ]

    def run(self, console: Console) -> None:
        self.action.run(console)
