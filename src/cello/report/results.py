"""A study's store gathered once into the plain record that every reporter works on."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path

import msgspec

from cello.errors import ReportError
from cello.report.evidence import Evidence, evidence
from cello.study.space import Tuned
from cello.study.store import CorpusSummary, Store
from cello.training.result import RunResult


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run and its place in the study's table."""

    row: str
    column: str
    seed: int
    result: RunResult


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One run whose last attempt failed, and why."""

    row: str
    column: str
    seed: int
    reason: str


class StudyResults(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A whole study as reporters see it: ``planned`` holds every (row, column, seed), ``runs`` what is finished of it.

    ``match`` and ``match_to`` say what the hidden sizes were chosen by, and after which row.
    ``stage`` is "windows", "gates" or "" for any other study. A study without columns has one, whose name is empty.
    """

    name: str
    title: str
    stage: str
    protocol: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    seeds: tuple[int, ...]
    planned: tuple[tuple[str, str, int], ...]
    corpus: CorpusSummary
    runs: tuple[Run, ...]
    failures: tuple[Failure, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    match: str = "width"
    match_to: str = ""
    tuned: Tuned | None = None

    def cell(self, row: str, column: str) -> tuple[RunResult, ...]:
        """The finished runs of one table cell, in the order of their seeds."""
        return self._cells.get((row, column), ())

    def planned_seeds(self, row: str, column: str) -> int:
        """How many seeds the plan has for one table cell; 0 where the plan leaves it out."""
        return self._planned_seeds[row, column]

    def cells(self) -> dict[tuple[str, str], tuple[RunResult, ...]]:
        """Every (row, column) with at least one finished run, columns outermost, in the plan's order."""
        found = {(row, column): self.cell(row, column) for column in self.columns for row in self.rows}
        return {place: runs for place, runs in found.items() if runs}

    @cached_property
    def _cells(self) -> dict[tuple[str, str], tuple[RunResult, ...]]:
        groups: dict[tuple[str, str], list[Run]] = {}
        for run in self.runs:
            groups.setdefault((run.row, run.column), []).append(run)
        return {
            place: tuple(run.result for run in sorted(runs, key=lambda run: run.seed)) for place, runs in groups.items()
        }

    @cached_property
    def _planned_seeds(self) -> Counter[tuple[str, str]]:
        return Counter((row, column) for row, column, _ in self.planned)

    @cached_property
    def column_title(self) -> str:
        """What the columns are: windows where each column's runs share one window and no two columns do."""
        windows: dict[str, set[float]] = {column: set() for column in self.columns}
        for (_, column), runs in self.cells().items():
            windows[column] |= {run.config.features.window_ms for run in runs}
        seen = [w for w in windows.values() if w]
        distinct = {w for ws in seen for w in ws}
        return "Window" if all(len(w) == 1 for w in seen) and len(distinct) == len(seen) else "Column"


def place_name(row: str, column: str, seed: int | None = None) -> str:
    """How sentences name a place of the table.

    >>> place_name("GRU", "40 ms", 0)
    'GRU, 40 ms, seed 0'
    """
    return ", ".join(part for part in (row, column, "" if seed is None else f"seed {seed}") if part)


def load_results(folder: str | Path, curves: bool = True) -> StudyResults:
    """The results of the study in an output folder, finished or not; without ``curves`` the histories are left out.

    Histories are most of what a large study takes in memory.

    Raises:
        StoreError: the folder holds no study, or one that cannot be read.
        ReportError: no run of the study is finished yet.
    """
    return gather(Store.open(Path(folder)), curves)


def gather(store: Store, curves: bool = True) -> StudyResults:
    """Everything that reports say of a store; without ``curves`` the histories are left out.

    Raises:
        ReportError: no run is finished yet.
    """
    study = store.study
    stored = list(store.each_result(curves=curves))
    runs = tuple(Run(row=r.row, column=r.column, seed=r.seed, result=r.result) for r in stored)
    failures = store.failures(stored)
    if not runs:
        why = f" ({failures[0].planned}: {failures[0].reason})" if failures else ""
        raise ReportError(
            f"{str(store.folder)!r}: none of the {len(store.runs)} planned runs of study {study.name!r} is finished"
            f"{why}, so there is nothing to report; run or resume the study first (cello study … --out {store.folder})"
        )
    columns = tuple(column.name for column in study.columns) or ("",)
    return StudyResults(
        name=study.name,
        title=study.title or study.name,
        stage=study.stage or "",
        protocol=study.protocol,
        rows=tuple(row.name for row in study.rows),
        columns=columns,
        seeds=study.seeds,
        planned=tuple(run.place for run in store.runs),
        corpus=store.corpus,
        runs=runs,
        failures=tuple(
            Failure(row=f.planned.row, column=f.planned.column, seed=f.planned.seed, reason=f.reason) for f in failures
        ),
        match=study.match,
        match_to=study.reference,
        evidence=evidence(store, columns, stored),
        tuned=study.tuned,
    )
