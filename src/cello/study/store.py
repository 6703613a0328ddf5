"""Store a study in one output folder: its plan, its runs and their results. Needs no torch.

The contract
------------
* ``study.json`` states the study, the corpus and every planned run. It is written last when a store is made, so a
  folder with it is a whole store. ``corpus.json`` describes the corpus, clips left out included.
* ``runs/<id>/`` belongs to training, which writes ``result.json`` last and by renaming. **The folder is the truth**: a
  run is finished if and only if its ``result.json`` can be read, names the run, and holds the planned config. Configs
  are compared as this version reads them, not hashed again: a setting that a later version adds with its old meaning
  as default leaves finished runs finished, under their old id. Unfinished ones are planned anew, under a new id.
* ``journal.jsonl`` is the history, only ever appended to; a last line torn by a crash is cut off before. Nothing is
  counted from it but the reason of the last failure of a run that is not finished; so a torn, damaged, missing or
  doubled line can neither lose a run nor count one twice.
* Every file has a checksum; files from before there were any are read without.
* One process at a time writes (it holds ``lock``); any number may read, also meanwhile and from a read-only folder:
  files appear whole by renaming, and lines of the journal whole or torn, which readers pass over. Nothing is written
  through a link in the folder.
* A plan may grow by rows, columns and seeds; what was added when runs were finished is recorded. A row, column and
  seed never changes its settings, and a store never changes its study or corpus: what stands side by side in a report
  was made alike.
* What only presents a study (its notebook's name, reference figures) is as the last command stated it.
* Nothing here deletes anything.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from numpy.typing import NDArray

from cello import __version__
from cello.audio.corpus import Manifest
from cello.audio.folds import NONE, fold_names
from cello.cells.stored import StoredCell
from cello.errors import CelloError, StoreError
from cello.files import DamagedFileError, decode_json, naming_damage, read_stored, seal_json, write_whole
from cello.study.config import Column, Row, StudyConfig
from cello.study.corpus_file import CorpusSummary, clip_facts, read_corpus, write_corpus
from cello.study.folder import RESTORE, check_not_exported, naming
from cello.study.former import as_begun
from cello.study.growth import Growth, growth
from cello.study.journal import Event, note, replay
from cello.study.made import is_made, note_made
from cello.study.own_cells import bring_objects, named, own_cells, reordered, resolver_from
from cello.study.plan import PlannedRun, plan
from cello.study.pools import StoredRun, joined, pooled
from cello.study.predictions import Predictions, checked
from cello.study.presented import presented_as
from cello.study.reading import Reader, read_result, unusable
from cello.study.settings import changed_settings
from cello.training.config import CorpusRef
from cello.training.result import RunResult

STORE_FORMAT = 1
ID = re.compile("[0-9a-f]{16}")
"""What Cello calls a run, and nothing else: a run's folder has that name."""
OPENER = "cello.audio.open:open_corpus"
"""What opens a corpus unless a source says otherwise."""
Named = TypeVar("Named", Row, Column)


class CorpusSource(msgspec.Struct, frozen=True, kw_only=True):
    """How to open the corpus again: ``opener`` ("module:function") takes ``spec``, ``cache`` and the options."""

    spec: str
    options: dict[str, Any] = {}
    opener: str = OPENER


def folded(source: CorpusSource, study: StudyConfig) -> CorpusSource:
    """The source with the study's folds among its options, so that whoever opens the corpus divides it alike."""
    options = dict(source.options)
    reading = {key: value for key, value in options.get("reading", {}).items() if key != "folds"}
    if study.fold_rule != NONE:
        reading["folds"] = study.fold_rule
    if reading:
        options["reading"] = reading
    return msgspec.structs.replace(source, options=options)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """``study.json``: the study, its data and every run planned so far.

    ``cells`` are the runs' cells that are the user's own, by the fingerprints of their equations; ``growth`` is what
    was added when runs were finished already.
    """

    format: int = STORE_FORMAT
    cello: str = __version__
    study: StudyConfig
    corpus: CorpusRef
    source: CorpusSource
    runs: tuple[PlannedRun, ...]
    cells: dict[str, StoredCell] = {}
    growth: tuple[Growth, ...] = ()


class FailedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A planned run whose last attempt failed, and why."""

    planned: PlannedRun
    reason: str


class Store:
    """The study in one output folder; open it with ``Store.open`` (to read) or ``Store.create_or_open`` (to run).

    See the module's contract for what may be relied upon.
    """

    single = False
    """Whether it is the folder of one run without a study; see ``single.SingleRun``."""

    def __init__(self, folder: Path, header: Header, corpus: CorpusSummary) -> None:
        self.folder = folder
        self.header = header
        self.corpus = corpus

    @property
    def study(self) -> StudyConfig:
        return self.header.study

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """Every run planned so far, in the plan's order."""
        return self.header.runs

    @classmethod
    def open(cls, folder: Path | str) -> Store:
        """The store in a folder, for reading; changes nothing.

        Raises:
            StoreError: no store there, one that a newer version wrote, or a damaged one.
        """
        folder = Path(folder)
        with naming(folder):
            if folder.is_dir() and not (folder / "study.json").exists():
                check_not_exported(folder)
                raise StoreError(
                    f"{str(folder)!r} holds no study (no study.json in it); give the --out of a study{_below(folder)}"
                )
            header = _read_header(folder / "study.json")
            return cls(folder, header, read_corpus(folder / "corpus.json"))

    @classmethod
    def create_or_open(cls, folder: Path, study: StudyConfig, manifest: Manifest, source: CorpusSource) -> Store:
        """The store for a study: a new one, or the same study's, whose plan grows where this one asks for more.

        Call it, and all that writes, inside ``single_writer(folder)``.

        Raises:
            StoreError: the folder holds another study or other files, or cannot be written.
        """
        corpus = CorpusRef(name=manifest.corpus, checksum=manifest.checksum)
        labels = len(manifest.labels)
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / "study.json").exists():
                _rewrite_damaged_corpus(folder, manifest)
                store = cls.open(folder)
                header = store.grown(study, corpus, source)
                if store.corpus.lacks_facts:
                    summary = msgspec.structs.replace(store.corpus, **clip_facts(manifest))
                    write_corpus(folder, summary)
                    store = cls.open(folder)
                if header == store.header:
                    return store
            else:
                check_free(folder)
                runs = plan(study, corpus, labels, folds=fold_names(manifest))
                cells = own_cells(run.config for run in runs)
                header = Header(study=study, corpus=corpus, source=source, runs=runs, cells=cells)
                write_corpus(folder, CorpusSummary.of(manifest))
            own = not (folder / "study.json").exists() or is_made(folder)
            write_whole(folder / "study.json", encoded(header))
            if own:
                note_made(folder)
        return cls.open(folder)

    def grown(self, study: StudyConfig, corpus: CorpusRef, source: CorpusSource) -> Header:
        """The header with the asked-for runs added; writes nothing.

        The corpus keeps the name that it had when the store was made; its checksum decides.

        Raises:
            StoreError: why they do not belong together.
        """
        old, folder, labels = self.header, self.folder, len(self.corpus.labels)
        for what, before, after in (
            ("study", old.study.name, study.name),
            ("protocol", old.study.label, study.label),
            ("match", old.study.match, study.match),
            ("match_to", old.study.reference, study.reference),
            ("division into folds", old.study.fold_rule, study.fold_rule),
        ):
            if before != after:
                raise _other_study(folder, f"its {what} is {before}, not {after}")
        if old.corpus.checksum != corpus.checksum:
            names = [f"{ref.name} ({ref.checksum[:12]})" for ref in (old.corpus, corpus)]
            raise _other_study(folder, f"its corpus is {names[0]}, not {names[1]}{_opened(old.source, source)}")
        bring_objects(old.runs, old.cells)
        folds = self.corpus.fold_names
        asked = plan(as_begun(study, old.study, old.runs), old.corpus, labels, folds=folds)
        own = own_cells(run.config for run in asked)
        if order := reordered(old.cells, own):
            raise _other_study(folder, order)
        cells = old.cells | own
        if set(asked) <= set(old.runs):
            return msgspec.structs.replace(old, study=presented_as(old.study, study), cells=cells)
        seeds = tuple(dict.fromkeys(old.study.seeds + study.seeds))
        rows, columns = _union(old.study.rows, study.rows), _union(old.study.columns, study.columns)
        reference = study.reference or None  # stated, for the first row may be another one now
        wider = msgspec.structs.replace(study, rows=rows, columns=columns, seeds=seeds, match_to=reference)
        resolver = resolver_from(old.runs, cells, study.match, named(study))
        begun = as_begun(wider, old.study, old.runs)
        runs = {run.place: run for run in plan(begun, old.corpus, labels, resolver, folds)}
        for run in old.runs:
            if run.place not in runs:
                raise _other_study(folder, f"it has {run}, a table of another shape")
            changed = changed_settings(run.config, runs[run.place].config)
            if changed:
                raise _other_study(folder, f"in {run}, {', '.join(changed)}")
        finished = {stored.planned.place: stored.planned for stored in self.each_result(curves=False)}
        places = {run.place for run in (*old.runs, *asked)}
        kept = tuple(finished.get(place, run) for place, run in runs.items() if place in places)
        added = growth(old.study, wider, len(finished))
        return Header(study=wider, corpus=old.corpus, source=source, runs=kept, cells=cells, growth=old.growth + added)

    def run_folder(self, run: PlannedRun | StoredRun) -> Path:
        """Where training keeps a run."""
        return Path(self.place(run.id))

    def place(self, run_id: str) -> str:
        """The same as text: to make a Path takes long, for thousands of runs."""
        return f"{self.folder}/runs/{run_id}"

    def result(self, run: PlannedRun) -> RunResult | None:
        """The run's result if it is finished, else None.

        Raises:
            StoreError: a newer version wrote the result.
        """
        return read_result(self.run_folder(run), run)

    def each_result(self, among: Iterable[PlannedRun] | None = None, curves: bool = True) -> Iterator[StoredRun]:
        """The finished runs among some of the plan's or all, in their order; without ``curves`` histories are empty.

        One record is in memory at a time, and what equals the plan or another record is held once.

        Raises:
            StoreError: a newer version wrote a result.
        """
        reader = Reader(curves)
        for run in self.runs if among is None else among:
            result = read_result(self.place(run.id), run, reader)
            if result is not None:
                yield StoredRun(planned=run, result=result)

    def tested(self, curves: bool = True) -> list[StoredRun]:
        """The finished runs as reports count them: of folds one for all of them, where all are finished."""
        runs = self.each_result(curves=curves)
        return list(runs) if self.study.fold_rule == NONE else pooled(runs, self.corpus)

    def results(self) -> list[StoredRun]:
        """All finished runs in the plan's order, each place of the table once."""
        return list(self.each_result())

    def pending(self, among: Iterable[PlannedRun] | None = None) -> list[PlannedRun]:
        """The runs still to do among some of the plan's or all, in their order, each id once."""
        runs = _once(self.runs if among is None else among)
        finished = {stored.id for stored in self.each_result(runs, curves=False)}
        return [run for run in runs if run.id not in finished]

    def failures(self, finished: Iterable[StoredRun] | None = None) -> list[FailedRun]:
        """Runs that are not finished and whose last event is a failure, or whose result cannot be used.

        ``finished`` are the store's results where the caller has read them already.
        """
        last = {event.run: event for event in self.events()}
        done = {stored.id for stored in (self.each_result(curves=False) if finished is None else finished)}
        failed = []
        for run in (run for run in _once(self.runs) if run.id not in done):
            reason, event = unusable(self.run_folder(run), run), last.get(run.id)
            if event is not None and event.event == "failed":
                failed.append(FailedRun(planned=run, reason=reason or event.reason))
            elif reason:
                failed.append(FailedRun(planned=run, reason=reason))
        return failed

    def events(self) -> tuple[Event, ...]:
        """The journal."""
        path = self.folder / "journal.jsonl"
        with naming(self.folder), naming_damage(path, StoreError, "move it away: no result is lost with it"):
            return replay(path)

    def predictions(
        self, run: PlannedRun | StoredRun, names: Sequence[str] = (), reader: Predictions | None = None
    ) -> dict[str, NDArray[Any]]:
        """The arrays of the run's ``predictions.npz``, all or only some; who reads many runs keeps one reader.

        Raises:
            StoreError: the file is missing or cannot be read.
        """
        if isinstance(run, StoredRun) and run.parts:
            return joined(self.corpus, {part.planned.fold: self.predictions(part, names, reader) for part in run.parts})
        path = f"{self.place(run.id)}/predictions.npz"
        try:
            found = (reader or Predictions()).read(path, names, self.corpus.splits["test"].clips)
            return checked(found, len(self.corpus.labels))
        except (OSError, DamagedFileError) as error:
            raise StoreError(
                f"{path}: predictions cannot be read: {error}; delete {self.run_folder(run)} and run again"
            ) from error

    def note(self, event: str, run: str, reason: str = "", where: Mapping[str, Any] | None = None) -> None:
        """Append one event to the journal; ``where`` is the pid and host it happened at, this process's unless said.

        Raises:
            StoreError: the folder cannot be written, or the disk is full.
        """
        with naming(self.folder):
            note(self.folder / "journal.jsonl", event, run, reason, where)

    def reconcile(self) -> None:
        """Note as finished what finished while nobody was left to note it."""
        known = {event.run for event in self.events() if event.event == "finished"}
        rest = [run for run in self.runs if run.id not in known]
        for run_id in {stored.id for stored in self.each_result(rest, curves=False)}:
            self.note("finished", run_id)


def _below(folder: Path) -> str:
    """The studies in a folder of studies, as advice."""
    found = sorted(str(path.parent) for path in folder.glob("*/study.json"))
    return f", such as {' or '.join(map(repr, found[:3]))}" if found else ""


def _once(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    first: dict[str, PlannedRun] = {}
    for run in runs:
        first.setdefault(run.id, run)
    return list(first.values())


class _HeaderText(Header, frozen=True, kw_only=True):
    runs: msgspec.Raw  # type: ignore[assignment]


def encoded(header: Header) -> bytes:
    """A header as ``study.json`` has it."""
    return seal_json(msgspec.json.format(msgspec.json.encode(header)))


def _read_header(path: Path) -> Header:
    with naming_damage(path, StoreError, RESTORE):
        text = read_stored(path)
        found = decode_json(text, _HeaderText, STORE_FORMAT)
        try:
            runs = Reader().planned(found.runs)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, CelloError):
            return decode_json(text, Header, STORE_FORMAT)
        header = Header(**{**msgspec.structs.asdict(found), "runs": runs})
        _check_runs(header)
        return header


def _check_runs(header: Header) -> None:
    """Hold a plan to its own table, and its ids to those that Cello makes, for folders are called by them.

    Raises:
        DamagedFileError: what cannot be.
    """
    rows = {row.name for row in header.study.rows}
    columns = {column.name for column in header.study.columns} or {""}
    for run in header.runs:
        if not ID.fullmatch(run.id):
            raise DamagedFileError(f"it names a run {run.id[:40]!r}, and ids are 16 hexadecimal digits")
        if run.row not in rows or run.column not in columns or run.seed != run.config.seed:
            raise DamagedFileError(f"its run {run.id} has no place in the table of its study")
    if len({run.place for run in header.runs}) < len(header.runs):
        raise DamagedFileError("a place of its table has two runs")


def _rewrite_damaged_corpus(folder: Path, manifest: Manifest) -> None:
    """Describe the corpus again where its description is damaged and the very corpus is there."""
    path, known = folder / "corpus.json", _read_header(folder / "study.json").corpus.checksum
    try:
        read_corpus(path)
    except (FileNotFoundError, StoreError) as error:
        damaged = isinstance(error.__cause__, DamagedFileError)
        if known != manifest.checksum or not (damaged or isinstance(error, FileNotFoundError)):
            raise
        reason = f"damaged ({error.__cause__})" if damaged else "missing"
        warnings.warn(f"{path} is {reason} and made again from the corpus", stacklevel=2)
        write_corpus(folder, CorpusSummary.of(manifest))


def check_free(folder: Path) -> None:
    """Hold a folder to being empty, but for what a study that was stopped at its very start leaves.

    Raises:
        StoreError: other files are in it.
    """
    own = {"lock", "corpus.json", "journal.jsonl"}
    foreign = sorted(p.name for p in folder.iterdir() if p.name not in own and not p.name.startswith("."))
    if foreign:
        raise StoreError(
            f"{str(folder)!r} holds no study but other files ({', '.join(foreign[:3])}"
            f"{', …' if len(foreign) > 3 else ''}); choose an empty or new folder with --out"
        )


def _union(old: tuple[Named, ...], new: tuple[Named, ...]) -> tuple[Named, ...]:
    """Old names in their order with their new meaning, then the new names."""
    by_name: dict[str, Any] = {item.name: item for item in (*old, *new)}
    return tuple(by_name.values())


def _opened(before: CorpusSource, now: CorpusSource) -> str:
    """How the same clips came to be another corpus, where the command says so."""
    old, new = (source.options.get("speaker_pattern") for source in (before, now))
    if old == new:
        return ""
    return (
        f"; --speaker-pattern was {old or 'not given'} before and is {new or 'not given'} now, which gives other splits"
    )


def _other_study(folder: Path, difference: str) -> StoreError:
    return StoreError(f"{str(folder)!r} holds another study: {difference}; choose another --out for this one")
