"""Run the same number of trials for every row of a study, judged by validation accuracy alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from cello import __version__
from cello.audio.corpus import Corpus
from cello.audio.folds import NONE
from cello.errors import ConfigError, StoreError, StudyError, unknown
from cello.execution.progress import view
from cello.execution.run import run_tasks, setup_for, where_kept
from cello.execution.session import DEATHS_ALLOWED
from cello.execution.task import Setup, Task, last_failure, open_source
from cello.execution.workers import Workers
from cello.files import decode_json, naming_damage, read_stored, seal_json, write_whole
from cello.study.compatibility import check_clips, check_windows
from cello.study.config import StudyConfig
from cello.study.folder import RESTORE, naming, single_writer
from cello.study.former import as_begun
from cello.study.journal import note
from cello.study.overrides import override
from cello.study.plan import PlannedRun, plan, sample_rate
from cello.study.reading import read_result
from cello.study.settings import changed_settings, shown_name
from cello.study.space import SIZES, TuneConfig, applied
from cello.study.store import CorpusSource, check_free
from cello.training.config import CorpusRef
from cello.training.result import RunResult
from cello.tuning.trials import Trial, TrialBook, need_optuna, round_start

TUNING_FORMAT = 1


class TuneHeader(msgspec.Struct, frozen=True, kw_only=True):
    """``tune.json``: what is tuned, on which data, and each row's run as it is before a trial changes it."""

    format: int = TUNING_FORMAT
    cello: str = __version__
    study: StudyConfig
    tune: TuneConfig
    corpus: CorpusRef
    source: CorpusSource
    rows: tuple[PlannedRun, ...]


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """A tuning that is done: every trial of every row, in the order of the rows and of the trials' numbers."""

    folder: Path
    header: TuneHeader
    trials: tuple[Trial, ...]

    def of(self, row: str) -> list[Trial]:
        """The trials of a row."""
        return [trial for trial in self.trials if trial.row == row]

    def best(self, row: str) -> Trial | None:
        """The row's most accurate trial, the earlier of equals; None where every trial diverged."""
        finished = [trial for trial in self.of(row) if trial.accuracy is not None]
        return max(finished, key=lambda trial: (trial.accuracy or 0.0, -trial.number), default=None)


def run_tuning(
    study: StudyConfig,
    tune: TuneConfig,
    source: CorpusSource | str,
    out: Path | str,
    *,
    workers: int | Workers | None = None,
    cache: Path | None = None,
    train: str = "cello.training.run:trial",
    progress: bool = True,
) -> Tuning:
    """Run the trials that each row still lacks; whatever stops it, the same call goes on to the same trials.

    A trial whose loss becomes NaN or infinite counts in the budget, as the worst; one that failed otherwise is run
    again by the next call.

    Raises:
        StudyError: Optuna is missing, a column or space that is not compatible with the study, or trials that failed.
        ConfigError: a value of the space that a row cannot have.
        StoreError: ``out`` holds another tuning, cannot be written, or is being written.
        KeyboardInterrupt: Ctrl-C; the message says what is finished and that the same command resumes.
    """
    need_optuna()
    workers, rate, out = Workers.of(workers), sample_rate(study), Path(out)
    column = _at_column(study, tune)
    if isinstance(source, str):
        source = CorpusSource(spec=source, options={"rate_hz": rate})
    with single_writer(out):
        corpus = open_source(source, cache)
        with naming(out):
            begun = _begun(out)
        if begun is not None:
            column = as_begun(column, begun.study, begun.rows)
        rows = _rows(column, tune, corpus)
        reference = rows[0].config.corpus
        header = TuneHeader(study=study, tune=tune, corpus=reference, source=source, rows=rows)
        with naming(out):
            _check_same(out, header)
            write_whole(out / "tune.json", seal_json(msgspec.json.format(msgspec.json.encode(header))))
            book = TrialBook(out / "optuna.jsonl", tune.space, tune.seed)
            setup = setup_for(workers, rows, source=source, corpus=reference, cache=cache, train=train)
            session = TuningSession(out, header, book, setup)
            session.run(workers, corpus, progress)
        return Tuning(folder=out, header=header, trials=tuple(session.trials()))


class TuningSession:
    """One call: which trials of which rows may run now, and how they ended. It is the ``RunRecord`` of their runs."""

    def __init__(self, out: Path, header: TuneHeader, book: TrialBook, setup: Setup) -> None:
        self.out, self.header, self.book, self.setup = out, header, book, setup
        self.budget = header.tune.trials
        self.places = {run.row: place for place, run in enumerate(header.rows)}
        self.reasons: dict[str, str] = {}

    def run(self, workers: Workers, corpus: Corpus, progress: bool) -> None:
        """Until every row has had its trials, or a row cannot go on."""
        tasks = [task for run in self.header.rows for task in self._ready(run.row)]
        total = self.budget * len(self.header.rows)
        if tasks:
            ahead = self._left()
            try:
                show = partial(view, progress, ahead, total)
                run_tasks(self, workers, tasks, corpus, len(ahead), show, self._then)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"stopped: {total - len(self._left())} of {total} trials in {str(self.out)!r} are finished, and "
                    f"those under way keep their last whole epoch{where_kept(workers)}; give the same command again to "
                    f"go on"
                ) from None
        left = len(self._left())
        if left:
            listed = "\n".join(f"  {name}: {reason}" for name, reason in self.reasons.items())
            raise StudyError(
                f"{len(self.reasons)} trials failed, so {left} of {total} are not done in {str(self.out)!r}:\n"
                f"{listed}\nGive the same command again to run these again."
            )

    def trials(self) -> list[Trial]:
        """The trials of the budget so far, row by row."""
        return [trial for run in self.header.rows for trial in self.book.trials(run.row)[: self.budget]]

    def note(self, event: str, run: str, reason: str = "", where: Mapping[str, Any] | None = None) -> None:
        """Append to the journal what happened to a trial's run."""
        with naming(self.out):
            note(self.out / "journal.jsonl", event, run, reason, where)

    def result(self, run: PlannedRun) -> RunResult | None:
        """A trial's result, if it is finished."""
        return read_result(self.out / "runs" / run.id, run)

    def planned(self, row: str, number: int, values: Mapping[str, Any]) -> PlannedRun:
        """The run of a trial; its id is the trial's, for two trials may try the same."""
        place = self.places[row]
        config = applied(self.header.rows[place].config, values)
        name = f"row{place + 1}-trial{number:04d}"
        return PlannedRun(id=name, row=row, column=f"trial {number}", seed=config.seed, config=config)

    def _ready(self, row: str) -> list[Task]:
        """Tasks for the trials that an earlier session left running, and for those that may be drawn now."""
        running = [trial for trial in self.book.trials(row)[: self.budget] if trial.state == "running"]
        return [self._task(trial) for trial in running if not self._concluded(trial)] + self._drawn(row)

    def _drawn(self, row: str) -> list[Task]:
        tasks = []
        trials = self.book.trials(row)
        while len(trials) < self.budget:
            if any(trial.state == "running" for trial in trials[: round_start(len(trials))]):
                break
            trials.append(self.book.ask(row))
            tasks.append(self._task(trials[-1]))
        return tasks

    def _task(self, trial: Trial) -> Task:
        run = self.planned(trial.row, trial.number, trial.values)
        return Task(run=run, folder=(self.out / "runs" / run.id).absolute(), setup=self.setup)

    def _then(self, task: Task) -> list[Task]:
        row, number = task.run.row, int(task.run.id.rpartition("trial")[2])
        if not self._concluded(self.book.trials(row)[number]):
            failure = last_failure(task.folder)
            known = failure is not None and failure.session == task.setup.session
            if failure is not None and known and failure.diverged:
                self.book.tell(row, number, None)
            else:
                died = f"its worker process died {DEATHS_ALLOWED + 1} times, or its folder could not be written"
                self.reasons[str(task.run)] = failure.reason if failure is not None and known else died
        return self._drawn(row)

    def _concluded(self, trial: Trial) -> bool:
        """Whether the trial's run is finished; it is then told."""
        result = self.result(self.planned(trial.row, trial.number, trial.values))
        if result is not None:
            self.book.tell(trial.row, trial.number, result.validation.accuracy)
        return result is not None

    def _left(self) -> list[PlannedRun]:
        """The trials that are not over, those not yet drawn with the row's own settings."""
        over = {(trial.row, trial.number) for trial in self.trials() if trial.state != "running"}
        places = [(run.row, number) for number in range(self.budget) for run in self.header.rows]
        return [self.planned(row, number, {}) for row, number in places if (row, number) not in over]


def _at_column(study: StudyConfig, tune: TuneConfig) -> StudyConfig:
    """The study as its rows are tuned: in one column, with one seed, for the epochs of a trial."""
    settings = None if tune.epochs is None else {"optimiser.epochs": tune.epochs}
    columns = study.columns[:1]
    if tune.column is not None:
        columns = tuple(column for column in study.columns if column.name == tune.column)
        if not columns:
            names = [column.name for column in study.columns]
            raise StudyError(f"tune.column: {unknown(f'column of study {study.name!r}:', tune.column, names)}")
    sizes = ", ".join(shown_name(name) for name in SIZES if name in tune.space)
    if study.reference and sizes:
        raise StudyError(
            f"study {study.name!r} gives its rows their size (match = {study.match!r}), so {sizes} cannot "
            f'be tuned; leave it out of [tune.space], or use match = "width"'
        )
    if study.fold_rule != NONE:
        raise StudyError(
            f"study {study.name!r} has folds = {study.fold_rule}, but settings are tuned on one split, whose clips "
            f"other folds would test; tune a study without folds"
        )
    one = msgspec.structs.replace(study, columns=columns)
    return override(one, seeds=[tune.seed], settings=settings)


def _rows(column: StudyConfig, tune: TuneConfig, corpus: Corpus) -> tuple[PlannedRun, ...]:
    """Each row's run before a trial changes it, in the rows' order; all that a trial may try is legal in it."""
    manifest = corpus.manifest
    planned = plan(column, CorpusRef(name=manifest.corpus, checksum=manifest.checksum), len(manifest.labels))
    check_windows(column.name, planned, corpus)
    check_clips(column.name, planned, corpus)
    found = {run.row: run for run in planned}
    for row, run in found.items():
        for name, values in tune.space.items():
            for value in values.ends:
                try:
                    applied(run.config, {name: value})
                except ConfigError as error:
                    raise ConfigError(f"tune.space: {shown_name(name)} in row {row!r}: {error}") from error
    return tuple(found[row.name] for row in column.rows)


def _begun(out: Path) -> TuneHeader | None:
    """The tuning that a folder holds; None where it holds none."""
    path = out / "tune.json"
    if not os.path.lexists(path):
        return None
    with naming_damage(path, StoreError, RESTORE):
        return decode_json(read_stored(path), TuneHeader, TUNING_FORMAT)


def _check_same(out: Path, header: TuneHeader) -> None:
    """Hold a folder to being empty or this tuning's, whose budget may have grown."""
    old = _begun(out)
    if old is None:
        check_free(out)
        return
    changed = [
        f"tune.{field} is {getattr(old.tune, field)!r}, not {getattr(header.tune, field)!r}"
        for field in ("seed", "space", "column", "epochs")
        if getattr(old.tune, field) != getattr(header.tune, field)
    ]
    if old.corpus.checksum != header.corpus.checksum:
        changed.append(f"its corpus is {old.corpus.name} ({old.corpus.checksum[:12]})")
    names = [[run.row for run in one.rows] for one in (old, header)]
    if names[0] != names[1]:
        changed.append(f"its rows are {', '.join(names[0])}")
    elif not changed:
        for before, after in zip(old.rows, header.rows, strict=True):
            changed += [f"in row {before.row!r}, {said}" for said in changed_settings(before.config, after.config)]
    if changed:
        raise StoreError(f"{str(out)!r} holds another tuning: {changed[0]}; choose another --out for this one")
